use everfold::testing::view;

use super::*;
use crate::account::{Account, AccountEvent};
use crate::amount::Balance;
use crate::samples::{
    amount, captured, credited, debited, dispatched, opened, placed, received, released, returned,
};
use crate::transit::{Transit, TransitEvent};

#[test]
fn a_row_shows_where_an_account_stands() {
    let row = view(&balances())
        .given::<Account>(
            "{t}a",
            [
                opened(100),
                credited("t-1", 50, "{t}b"),
                placed("h", 60),
                placed("g", 5),
                captured("h", 60, "t-2", 20),
                released("g", 5),
                placed("k", 7),
                debited("t-3", 10, "{t}b"),
                dispatched("t-4", 9, "{u}c"),
                returned("t-4", 9),
            ],
        )
        .row(&"{t}a".into());
    let expected = BalanceRow {
        balance: Balance::new(20),
        held: Balance::new(7),
        overdraft: Balance::new(100),
        opened: true,
        closed: false,
        credits: 2,
        debits: 3,
        holds: 1,
        version: 10,
    };
    assert_eq!(row, expected);
    assert_eq!(row.available(), Balance::new(113));
}

#[test]
fn the_books_sum_up_all_accounts_in_any_order_of_arrival() {
    let taken_in = TransitEvent::TakenIn {
        transfer: "t-2".into(),
        amount: amount(30),
        from: "{t}a".into(),
    };
    let paid_out = TransitEvent::PaidOut {
        transfer: "t-2".into(),
        amount: amount(30),
        from: "{t}a".into(),
        to: "{u}c".into(),
    };
    let row = view(&books())
        .given::<Account>(
            "{t}a",
            [
                opened(100),
                debited("t-1", 10, "{t}b"),
                dispatched("t-2", 30, "{u}c"),
            ],
        )
        .given::<Account>("{t}b", [opened(0), credited("t-1", 10, "{t}a")])
        .given::<Transit>("{t}in-transit", [taken_in])
        .given::<Transit>("{u}in-transit", [paid_out])
        .given::<Account>("{u}c", [opened(0), received("t-2", 30, "{t}a")])
        .given::<Account>("{u}d", [opened(0), AccountEvent::Closed])
        .row(&the_books());
    let expected = BooksRow {
        debits: Balance::new(70),
        credits: Balance::new(70),
        in_transit: Balance::ZERO,
        transfers: 2,
        between_tags: 1,
        accounts: 4,
        closed: 1,
    };
    assert_eq!(row, expected);
    assert!(row.balance());
}
