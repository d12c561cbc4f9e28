use everfold::Key;

#[derive(Key, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Named {
    id: String,
}

#[derive(Key, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Either {
    One(String),
}

#[derive(Key, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Pair(String, String);

fn main() {}
