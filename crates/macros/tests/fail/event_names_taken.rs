use everfold::Event;

#[derive(Event)]
enum OrderEvent {
    Placed,
    #[event(name = "Placed")]
    PlacedAgain,
    #[event(was = "Placed")]
    Accepted,
}

fn main() {}
