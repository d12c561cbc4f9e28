use everfold::engine::Timestamp;
use everfold::testing::{MOMENT, at, view};

use super::*;
use crate::customer::{Customer, CustomerEvent, CustomerId};
use crate::money::Money;
use crate::order::{Order, OrderState, Reason};
use crate::samples::{
    approved, cancel_requested, cancelled, limited, money, opened, paid, placed, refused, rejected,
    released, reserved, shipped,
};

fn customer() -> CustomerId {
    "c-1".into()
}

#[test]
fn customers_and_orders_meet_in_any_order_of_arrival() {
    let day = |number| MOMENT.plus_days(number);
    let row = view(&customer_history())
        .given_at::<Customer>(
            "c-1",
            [
                (day(0), opened("1000.00")),
                (day(1), reserved("o-1", "720.00")),
                (day(2), refused("o-2", "1001.00")),
            ],
        )
        .given_at::<Order>(
            "o-1",
            [
                (day(1), placed("720.00")),
                (day(1), approved("720.00")),
                (day(3), shipped("720.00")),
            ],
        )
        .given_at::<Order>(
            "o-2",
            [
                (day(2), placed("1001.00")),
                (day(2), rejected(Reason::InsufficientCredit)),
            ],
        )
        .row(&customer());

    assert_eq!(
        (row.name.as_str(), row.opened, row.closed),
        ("Ada", Some(day(0)), None)
    );
    assert_eq!(
        (row.credit_limit, row.available()),
        (money("1000.00"), money("280.00"))
    );
    let expected = OrderLine {
        state: OrderState::Shipped,
        total: money("720.00"),
        reason: None,
        approved: true,
        placed: Some(day(1)),
        paid: None,
        version: 3,
    };
    assert_eq!(row.orders[&"o-1".into()], expected);
    let expected = OrderLine {
        state: OrderState::Rejected,
        total: money("1001.00"),
        reason: Some(Reason::InsufficientCredit),
        placed: Some(day(2)),
        version: 2,
        ..OrderLine::default()
    };
    assert_eq!(row.orders[&"o-2".into()], expected);
}

#[test]
fn a_long_life_folds_to_the_same_row_in_any_order_of_arrival() {
    let row = view(&customer_history())
        .given::<Customer>(
            "c-1",
            [
                opened("100.00"),
                reserved("o-1", "10.00"),
                reserved("o-2", "20.00"),
                released("o-1", "10.00"),
                limited("50.00"),
                reserved("o-3", "30.00"),
                released("o-3", "30.00"),
            ],
        )
        .given::<Order>("o-1", [placed("10.00"), approved("10.00"), cancelled(true)])
        .given::<Order>(
            "o-2",
            [placed("20.00"), approved("20.00"), shipped("20.00")],
        )
        .given::<Order>("o-3", [placed("30.00"), approved("30.00"), paid("30.00")])
        .given::<Order>(
            "o-4",
            [placed("40.00"), cancel_requested(), cancelled(false)],
        )
        .row(&customer());
    assert_eq!(
        (row.reserved, row.available()),
        (money("20.00"), money("30.00"))
    );
    let states: Vec<_> = row
        .orders
        .values()
        .map(|line| (line.state, line.approved))
        .collect();
    assert_eq!(
        states,
        [
            (OrderState::Cancelled, true),
            (OrderState::Shipped, true),
            (OrderState::Approved, true),
            (OrderState::Cancelled, false),
        ]
    );
    assert_eq!(row.orders[&"o-3".into()].paid, Some(MOMENT));
}

#[test]
fn a_late_duplicate_does_not_take_an_order_back() {
    let events = [placed("10.00"), approved("10.00"), shipped("10.00")];
    let mut row = CustomerRow::default();
    for (version, event) in (1..).zip(&events) {
        row.order(event, &at::<Order>("o-1", version, event));
    }
    let before = row.clone();
    for (version, event) in (1..).zip(&events) {
        row.order(event, &at::<Order>("o-1", version, event));
        assert_eq!(row, before);
    }
}

#[test]
fn a_late_duplicate_does_not_reserve_twice() {
    let events = [opened("10.00"), reserved("o-1", "1.00")];
    let mut row = CustomerRow::default();
    for (version, event) in (1..).zip(&events).chain((1..).zip(&events)) {
        row.customer(event, &at::<Customer>("c-1", version, event));
    }
    assert_eq!(row.reserved, money("1.00"));
}

#[test]
fn totals_count_what_was_ever_approved() {
    let rows = view(&customer_history())
        .given::<Customer>(
            "c-1",
            [
                opened("100.00"),
                reserved("o-1", "10.00"),
                reserved("o-2", "20.00"),
                released("o-1", "10.00"),
            ],
        )
        .given::<Order>("o-1", [placed("10.00"), approved("10.00"), cancelled(true)])
        .given::<Order>("o-2", [placed("20.00"), approved("20.00")])
        .given::<Order>(
            "o-3",
            [placed("500.00"), rejected(Reason::InsufficientCredit)],
        )
        .rows();
    // Nobody ever opened this one: its order waits, and is rejected in the end.
    let stranger = view(&customer_history())
        .given::<Order>("o-4", [placed("5.00"), rejected(Reason::UnknownCustomer)])
        .row(&customer());
    let totals = Totals::of(rows.values().chain([&stranger]));
    assert_eq!(
        totals,
        Totals {
            customers: 1,
            orders: 4,
            approved: 2,
            approved_total: money("30.00"),
            rejected: 2,
            reserved: money("20.00"),
        }
    );
}

#[test]
fn low_credit_is_found() {
    let row = |events: Vec<CustomerEvent>| {
        view(&low_credit())
            .given::<Customer>("c-1", events)
            .row(&customer())
    };
    let spent = vec![
        opened("100.00"),
        reserved("o-1", "70.00"),
        refused("o-2", "40.00"),
        reserved("o-3", "20.00"),
        released("o-1", "70.00"),
        limited("25.00"),
    ];
    let low = row(spent.clone());
    assert_eq!(
        (low.credit_limit, low.available),
        (money("25.00"), money("5.00"))
    );
    assert!(low.is_below(money("5.01")) && !low.is_below(money("5.00")));
    let negative = row([spent, vec![limited("10.00")]].concat());
    assert_eq!(negative.available, money("-10.00"));
    let closed = row(vec![opened("0.00"), CustomerEvent::Closed]);
    assert!(!closed.is_below(Money::MAX));
}

#[test]
fn shipped_orders_above_an_amount_of_new_customers_are_found() {
    let opened_on = |day: Timestamp| {
        view(&shipped_orders())
            .given_at::<Customer>("c-1", [(day, opened("1000.00"))])
            .given::<Order>(
                "o-1",
                [placed("50.00"), approved("50.00"), shipped("50.00")],
            )
            .given::<Order>(
                "o-2",
                [placed("60.00"), approved("60.00"), shipped("60.00")],
            )
            .given::<Order>("o-3", [placed("70.00"), approved("70.00")])
            .row(&customer())
    };
    let found = |row: &ShippedRow, total: &str| -> Vec<String> {
        row.above(money(total), MOMENT)
            .map(|(order, _)| order.to_string())
            .collect()
    };
    let new = opened_on(MOMENT.plus_days(1));
    assert_eq!(found(&new, "49.99"), ["o-1", "o-2"]);
    assert_eq!(found(&new, "50.00"), ["o-2"]);
    assert_eq!(found(&opened_on(MOMENT), "0.00"), [""; 0]);
}

#[test]
fn rows_stay_small() {
    let row = view(&customer_history())
        .given::<Customer>("c-1", [opened("100.00"), reserved("o-1", "10.00")])
        .given::<Order>("o-1", [placed("10.00"), approved("10.00")])
        .row(&customer());
    let json = serde_json::to_string(&row).unwrap();
    assert!(json.len() < 300, "{} bytes: {json}", json.len());
}
