use everfold::Event;

#[derive(Event)]
enum CustomerEvent {
    Renamed(#[personal] String),
    Moved {
        #[personal]
        #[serde(flatten)]
        address: Address,
    },
    Opened {
        #[personal(yes)]
        name: String,
    },
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Address {
    town: String,
}

fn main() {}
