use everfold::Event;

#[derive(Event)]
struct Placed {
    total: u64,
}

fn main() {}
