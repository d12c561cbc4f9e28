use everfold::Event;

#[derive(Event)]
enum CustomerEvent {
    Opened {
        #[personal]
        #[label]
        name: String,
    },
}

fn main() {}
