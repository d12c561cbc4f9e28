use everfold::Operation;
use everfold::testing::{Issued, issued, saga};

use super::*;
use crate::transfer::NotDelivered;

fn amount() -> Amount {
    Amount::new(60).unwrap()
}

fn moving() -> Moving {
    Moving::new(Transfer {
        transfer: "t-1".into(),
        from: "{t}a".into(),
        to: "{u}c".into(),
        amount: amount(),
    })
}

fn dispatches() -> Issued {
    let Moving {
        transfer, from, to, ..
    } = moving();
    let amount = amount();
    let dispatch = Dispatch {
        transfer,
        from,
        to,
        amount,
    };
    issued::<Account>("{t}a", dispatch)
}

fn delivers() -> Issued {
    let Moving {
        transfer, from, to, ..
    } = moving();
    let amount = amount();
    let deliver = Deliver {
        transfer,
        from,
        to,
        amount,
    };
    issued::<Account>("{u}c", deliver)
}

fn gives_back() -> Issued {
    let Moving { transfer, from, .. } = moving();
    issued::<Account>("{t}a", GiveBack { transfer, from })
}

fn settles() -> Issued {
    let transfer = moving().transfer;
    issued::<Account>("{t}a", Settle { transfer })
}

#[test]
fn money_leaves_comes_and_the_payer_learns_of_it() {
    let played = saga(between_tags())
        .begins(moving())
        .asks([dispatches()])
        .replies("dispatch", TransferState::InTransit)
        .asks([delivers()])
        .replies("deliver", TransferState::Completed)
        .asks([settles()])
        .replies("settle", TransferState::Completed)
        .ends(SagaEnd::Completed);
    let answer = played.data().answer(SagaEnd::Completed);
    assert_eq!(answer, Ok(TransferState::Completed));
}

#[test]
fn what_does_not_leave_ends_at_once_and_says_why() {
    let refused = TransferRejection::PayerClosed;
    let played = saga(between_tags())
        .begins(moving())
        .asks([dispatches()])
        .rejects("dispatch", refused.clone())
        .asks([])
        .ends(SagaEnd::Undone);
    let answer = played.data().answer(SagaEnd::Undone);
    assert_eq!(answer, Err(SendError::Rejected(refused)));
}

#[test]
fn what_the_payee_refuses_comes_back_and_says_why() {
    let refused = TransferRejection::PayeeClosed;
    let played = saga(between_tags())
        .begins(moving())
        .asks([dispatches()])
        .replies("dispatch", TransferState::InTransit)
        .asks([delivers()])
        .rejects("deliver", refused.clone())
        .asks([gives_back()])
        .replies("dispatch", TransferState::Returned)
        .ends(SagaEnd::Undone);
    let answer = played.data().answer(SagaEnd::Undone);
    assert_eq!(answer, Err(SendError::Rejected(refused)));
}

/// Attacks: a departure that nobody answers for is taken back behind it, and its late answer makes
/// nothing of it.
#[test]
fn what_has_not_left_in_time_does_not_leave_any_more() {
    let played = saga(between_tags())
        .begins(moving())
        .asks([dispatches()])
        .passes(DEPARTURE)
        .asks([gives_back()])
        .replies("dispatch", TransferState::InTransit)
        .asks([])
        .replies("dispatch", TransferState::Returned)
        .ends(SagaEnd::Undone);
    let answer = played.data().answer(SagaEnd::Undone);
    assert_eq!(
        answer,
        Err(SendError::Rejected(TransferRejection::TimedOut))
    );
}

/// Attacks: time alone must never undo what may have been delivered.
#[test]
fn money_that_is_being_brought_is_never_given_back_because_time_passes() {
    saga(between_tags())
        .begins(moving())
        .asks([dispatches()])
        .replies("dispatch", TransferState::InTransit)
        .asks([delivers()])
        .passes(Duration::from_secs(365 * 24 * 3600))
        .asks([])
        .replies("deliver", TransferState::Completed)
        .asks([settles()]);
}

/// Attacks: a person who calls off a transfer that has arrived would pay twice.
#[test]
fn called_off_behind_its_delivery_it_goes_to_its_end_all_the_same() {
    let played = saga(between_tags())
        .begins(moving())
        .replies("dispatch", TransferState::InTransit)
        .asks([dispatches(), delivers()])
        .operated(Operation::Compensate)
        .asks([])
        .replies("deliver", TransferState::Completed)
        .asks([settles()])
        .replies("deliver", TransferState::Completed)
        .asks([gives_back()])
        .rejects("dispatch", NotDelivered::Ended)
        .ends(SagaEnd::Undone);
    let answer = played.data().answer(SagaEnd::Undone);
    assert_eq!(answer, Ok(TransferState::Completed));
}

#[test]
fn called_off_before_it_has_left_it_is_taken_back() {
    let played = saga(between_tags())
        .begins(moving())
        .asks([dispatches()])
        .operated(Operation::Compensate)
        .replies("dispatch", TransferState::InTransit)
        .asks([gives_back()])
        .replies("dispatch", TransferState::Returned)
        .ends(SagaEnd::Undone);
    let answer = played.data().answer(SagaEnd::Undone);
    assert_eq!(
        answer,
        Err(SendError::Rejected(TransferRejection::TakenBack))
    );
}

#[test]
fn what_cannot_be_processed_needs_a_person_in_the_end_and_is_not_guessed() {
    let mut stuck = saga(between_tags())
        .begins(moving())
        .replies("dispatch", TransferState::InTransit)
        .asks([dispatches(), delivers()]);
    for attempt in 1..=ATTEMPTS.0 {
        stuck = stuck.errs("deliver", "broken");
        if attempt < ATTEMPTS.0 {
            stuck = stuck.passes(Duration::from_secs(3600)).asks([delivers()]);
        }
    }
    let forced = stuck
        .needs_help("broken")
        .operated(Operation::Force)
        .ends(SagaEnd::Forced);
    let answer = forced.data().answer(SagaEnd::Forced);
    assert!(matches!(answer, Err(SendError::Failed(_))));
}
