use everfold::{Entity, Event};

#[derive(Event)]
enum AccountEvent {
    Opened,
}

#[derive(Entity, Default)]
#[entity(name = "savings-account", id = String, event = AccountEvent)]
struct Account {
    open: bool,
}

#[derive(Entity, Default)]
#[entity(name = "", id = String, event = AccountEvent)]
struct Nameless {
    open: bool,
}

fn main() {}
