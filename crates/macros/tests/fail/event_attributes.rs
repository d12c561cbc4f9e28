use everfold::Event;

#[derive(Event)]
enum OrderEvent {
    #[event(version = 0)]
    Placed,
    #[event(name = "")]
    Approved,
    #[event(nmae = "OrderRejected")]
    Rejected,
    #[serde(rename_all = "camelCase")]
    Cancelled { by_whom: String },
}

#[derive(Event)]
#[serde(rename_all = "camelCase")]
enum CustomerEvent {
    Opened,
}

#[derive(Event)]
enum Generic<T> {
    Happened(T),
}

fn main() {}
