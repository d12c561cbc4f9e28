use everfold::Command;

#[derive(Command)]
struct Rename<T> {
    name: T,
}

#[derive(Command)]
#[command(named = "move")]
struct Move;

fn main() {}
