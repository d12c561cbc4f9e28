use everfold::Event;

#[derive(Event)]
enum OrderEvent {}

fn main() {}
