use everfold::Event;

#[derive(Event)]
enum CustomerEvent {
    Renamed(#[label] String),
    Moved {
        #[label("town")]
        town: String,
    },
}

fn main() {}
