use everfold::Entity;

#[derive(Entity, Default)]
struct Customer {
    open: bool,
}

#[derive(Entity, Default)]
#[entity(name = "order", event = String)]
struct Order {
    open: bool,
}

#[derive(Entity, Default)]
#[entity(name = "cart", events = String)]
struct Cart {
    open: bool,
}

fn main() {}
