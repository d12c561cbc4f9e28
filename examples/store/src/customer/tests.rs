use everfold::testing::{Spec, spec};
use proptest::prelude::*;

use super::*;
use crate::samples::{limited, money, opened, refused, released, reserve, reserved};

fn open(name: &str, limit: &str) -> Open {
    Open {
        name: name.into(),
        credit_limit: money(limit),
    }
}

fn release(order: &str) -> ReleaseCredit {
    ReleaseCredit {
        order: order.into(),
    }
}

#[test]
fn credit_is_reserved_up_to_the_limit_and_no_further() {
    spec::<Customer>()
        .given([opened("15.00")])
        .when(reserve("o-1", "12.34"))
        .then([reserved("o-1", "12.34")])
        .replies(Credit::Reserved)
        .when(reserve("o-2", "2.67"))
        .then([refused("o-2", "2.67")])
        .replies(Credit::Refused)
        .when(reserve("o-3", "2.66"))
        .then([reserved("o-3", "2.66")])
        .replies(Credit::Reserved);
}

#[test]
fn refused_credit_takes_nothing() {
    let customer = spec::<Customer>().given([opened("15.00"), refused("o-1", "123.40")]);
    assert_eq!(customer.state().available(), money("15.00"));
}

#[test]
fn released_credit_may_be_used_again() {
    spec::<Customer>()
        .given([opened("15.00"), reserved("o-1", "12.34")])
        .when(release("o-1"))
        .then([released("o-1", "12.34")])
        .replies(Release::Released)
        .when(reserve("o-2", "12.34"))
        .then([reserved("o-2", "12.34")])
        .replies(Credit::Reserved);
}

#[test]
fn a_redelivered_reservation_does_not_count_against_itself() {
    spec::<Customer>()
        .given([opened("15.00"), reserved("o-1", "12.34")])
        .when(reserve("o-1", "12.34"))
        .then_nothing()
        .replies(Credit::Reserved);
}

#[test]
fn a_redelivered_reservation_stays_refused_when_there_is_room_now() {
    spec::<Customer>()
        .given([opened("15.00"), refused("o-1", "20.00"), limited("100.00")])
        .when(reserve("o-1", "20.00"))
        .then_nothing()
        .replies(Credit::Refused);
}

#[test]
fn a_redelivered_reservation_does_not_reserve_again_what_was_released() {
    spec::<Customer>()
        .given([
            opened("15.00"),
            reserved("o-1", "12.34"),
            released("o-1", "12.34"),
        ])
        .when(reserve("o-1", "12.34"))
        .then_nothing()
        .replies(Credit::Released);
}

#[test]
fn settled_orders_are_remembered_within_bounds() {
    let total = "1.00";
    let history = (0..=Settled::LIMIT).flat_map(|number| {
        let order = format!("o-{number}");
        [reserved(&order, total), released(&order, total)]
    });
    let latest = format!("o-{}", Settled::LIMIT);
    let customer = spec::<Customer>().given([opened("1.00")]).given(history);
    customer
        .when(reserve(&latest, total))
        .then_nothing()
        .replies(Credit::Released)
        .when(reserve("o-1", total))
        .then_nothing()
        .replies(Credit::Released)
        .when(reserve("o-0", total))
        .then([reserved("o-0", total)])
        .replies(Credit::Reserved);
}

#[test]
fn releasing_what_nobody_reserved_holds_nothing_up() {
    let histories = [
        vec![],
        vec![opened("15.00")],
        vec![opened("15.00"), refused("o-1", "20.00")],
        vec![
            opened("15.00"),
            reserved("o-1", "12.34"),
            released("o-1", "12.34"),
        ],
        vec![opened("15.00"), CustomerEvent::Closed],
    ];
    for history in histories {
        spec::<Customer>()
            .given(history)
            .when(release("o-1"))
            .then_nothing()
            .replies(Release::NothingReserved);
    }
}

#[test]
fn without_an_open_customer_there_is_no_credit() {
    spec::<Customer>()
        .when(reserve("o-1", "1.00"))
        .rejected(NoCredit::UnknownCustomer);
    spec::<Customer>()
        .given([opened("15.00"), CustomerEvent::Closed])
        .when(reserve("o-1", "1.00"))
        .rejected(NoCredit::CustomerClosed);
}

#[test]
fn amounts_below_zero_are_refused_and_zero_is_not() {
    spec::<Customer>()
        .when(open("Ada", "-0.01"))
        .rejected(CustomerRejection::NegativeLimit);
    spec::<Customer>()
        .when(open("Ada", "0"))
        .then([opened("0")])
        .when(reserve("o-1", "-0.01"))
        .rejected(NoCredit::NegativeTotal)
        .when(reserve("o-1", "0.00"))
        .then([reserved("o-1", "0.00")])
        .replies(Credit::Reserved)
        .when(ChangeCreditLimit {
            credit_limit: money("-1"),
        })
        .rejected(CustomerRejection::NegativeLimit);
}

#[test]
fn a_customer_has_a_name() {
    for name in ["", " \t"] {
        spec::<Customer>()
            .when(open(name, "1.00"))
            .rejected(CustomerRejection::EmptyName);
    }
}

#[test]
fn opening_again_changes_nothing_or_is_refused() {
    let customer = || spec::<Customer>().given([opened("15.00"), limited("20.00")]);
    customer()
        .when(open("Ada", "15.00"))
        .then_nothing()
        .replies(());
    customer()
        .when(open("Ada", "20.00"))
        .rejected(CustomerRejection::OpenedDifferently);
    customer()
        .when(open("Bob", "15.00"))
        .rejected(CustomerRejection::OpenedDifferently);
}

#[test]
fn an_id_is_not_used_again_after_closing() {
    spec::<Customer>()
        .given([opened("15.00"), CustomerEvent::Closed])
        .when(open("Ada", "15.00"))
        .rejected(CustomerRejection::Closed)
        .when(ChangeCreditLimit {
            credit_limit: money("20.00"),
        })
        .rejected(CustomerRejection::Closed)
        .when(Close)
        .then_nothing();
}

#[test]
fn an_order_that_costs_nothing_ties_no_credit() {
    spec::<Customer>()
        .given([opened("15.00"), reserved("o-1", "0.00")])
        .when(Close)
        .then([CustomerEvent::Closed]);
}

#[test]
fn a_customer_with_reserved_credit_is_not_closed() {
    spec::<Customer>()
        .given([
            opened("15.00"),
            reserved("o-1", "1.00"),
            reserved("o-2", "1.00"),
        ])
        .when(Close)
        .rejected(CustomerRejection::CreditReserved { orders: 2 })
        .when(release("o-1"))
        .then([released("o-1", "1.00")])
        .when(release("o-2"))
        .then([released("o-2", "1.00")])
        .when(Close)
        .then([CustomerEvent::Closed])
        .replies(());
}

#[test]
fn a_customer_that_was_never_opened_is_neither_closed_nor_limited() {
    spec::<Customer>()
        .when(Close)
        .rejected(CustomerRejection::UnknownCustomer);
    spec::<Customer>()
        .when(ChangeCreditLimit {
            credit_limit: money("1.00"),
        })
        .rejected(CustomerRejection::UnknownCustomer);
}

#[test]
fn the_limit_may_be_lowered_below_what_is_reserved() {
    let lowered = spec::<Customer>()
        .given([opened("15.00"), reserved("o-1", "12.34")])
        .when(ChangeCreditLimit {
            credit_limit: money("10.00"),
        })
        .then([limited("10.00")])
        .replies(())
        .when(ChangeCreditLimit {
            credit_limit: money("10.00"),
        })
        .then_nothing()
        .when(reserve("o-2", "0.00"))
        .then([refused("o-2", "0.00")])
        .replies(Credit::Refused);
    assert_eq!(lowered.state().available(), money("-2.34"));
}

#[test]
fn totals_beyond_all_amounts_exceed_every_limit() {
    let largest = Money::MAX.to_string();
    spec::<Customer>()
        .given([opened(&largest), reserved("o-1", &largest)])
        .when(reserve("o-2", "0.01"))
        .then([refused("o-2", "0.01")]);
}

#[test]
fn a_customer_keeps_its_name() {
    let customer = spec::<Customer>().given([opened("15.00"), limited("20.00")]);
    let opening = customer.state().opening.as_ref().unwrap();
    assert_eq!(opening.name, "Ada");
}

#[test]
fn every_event_survives_the_log() {
    let every = [
        opened("15.00"),
        limited("20.00"),
        reserved("o-1", "12.34"),
        refused("o-2", "12.34"),
        released("o-1", "12.34"),
        CustomerEvent::Closed,
    ];
    assert_eq!(every.len(), CustomerEvent::SCHEMAS.len());
    let _ = spec::<Customer>().given(every);
}

#[derive(Clone, Debug)]
enum Step {
    Reserve(u8, i64),
    Release(u8),
    Limit(i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u8..8, 0i64..40).prop_map(|(order, cents)| Step::Reserve(order, cents)),
        2 => (0u8..8).prop_map(Step::Release),
        1 => (0i64..100).prop_map(Step::Limit),
    ]
}

fn after<C: Command>(customer: Spec<Customer>, command: C) -> (Spec<Customer>, Vec<CustomerEvent>)
where
    Customer: Decide<C>,
{
    customer.when(command).outcome()
}

proptest! {
    /// Against a model that only knows which orders hold credit.
    #[test]
    fn nothing_is_ever_reserved_beyond_the_limit_of_that_moment(
        steps in proptest::collection::vec(step(), 0..40),
    ) {
        let mut customer = spec::<Customer>().given([opened("1.00")]);
        let mut limit = 100;
        let mut held: BTreeMap<OrderId, i64> = BTreeMap::new();
        for step in steps {
            let events;
            (customer, events) = match step {
                Step::Reserve(order, cents) => {
                    let total = Money::from_cents(cents).to_string();
                    after(customer, reserve(&format!("o-{order}"), &total))
                }
                Step::Release(order) => after(customer, release(&format!("o-{order}"))),
                Step::Limit(cents) => {
                    let credit_limit = Money::from_cents(cents);
                    after(customer, ChangeCreditLimit { credit_limit })
                }
            };
            for event in events {
                match event {
                    CustomerEvent::CreditReserved { order, total } => {
                        prop_assert_eq!(held.insert(order, total.cents()), None);
                        prop_assert!(held.values().sum::<i64>() <= limit);
                    }
                    CustomerEvent::CreditReleased { order, total } => {
                        prop_assert_eq!(held.remove(&order), Some(total.cents()));
                    }
                    CustomerEvent::CreditLimitChanged { credit_limit } => {
                        limit = credit_limit.cents();
                    }
                    _ => {}
                }
            }
            let available = Money::from_cents(limit - held.values().sum::<i64>());
            prop_assert_eq!(customer.state().available(), available);
        }
    }
}
