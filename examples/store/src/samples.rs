//! Short words for tests.

use crate::customer::{CustomerEvent, ReserveCredit};
use crate::money::Money;
use crate::order::{Item, OrderEvent, PaymentMethod, Place, Reason};

pub(crate) fn money(text: &str) -> Money {
    text.parse().unwrap()
}

pub(crate) fn opened(limit: &str) -> CustomerEvent {
    CustomerEvent::Opened {
        name: "Ada".into(),
        credit_limit: money(limit),
    }
}

pub(crate) fn limited(limit: &str) -> CustomerEvent {
    CustomerEvent::CreditLimitChanged {
        credit_limit: money(limit),
    }
}

pub(crate) fn reserve(order: &str, total: &str) -> ReserveCredit {
    ReserveCredit {
        order: order.into(),
        total: money(total),
    }
}

pub(crate) fn reserved(order: &str, total: &str) -> CustomerEvent {
    CustomerEvent::CreditReserved {
        order: order.into(),
        total: money(total),
    }
}

pub(crate) fn refused(order: &str, total: &str) -> CustomerEvent {
    CustomerEvent::CreditRefused {
        order: order.into(),
        total: money(total),
    }
}

pub(crate) fn released(order: &str, total: &str) -> CustomerEvent {
    CustomerEvent::CreditReleased {
        order: order.into(),
        total: money(total),
    }
}

/// An order of customer `c-1` over two items, one of which costs 2.00.
pub(crate) fn place(total: &str) -> Place {
    let item = |name: &str, amount| Item {
        name: name.into(),
        quantity: 1,
        amount,
    };
    let rest = money(total).checked_sub(money("2.00")).unwrap();
    Place {
        customer: "c-1".into(),
        items: vec![item("single", money("2.00")), item("album", rest)],
        total: money(total),
        delivery: "1 Main Street".into(),
    }
}

pub(crate) fn placed(total: &str) -> OrderEvent {
    let Place {
        customer,
        items,
        total,
        delivery,
    } = place(total);
    OrderEvent::Placed {
        customer,
        items,
        total,
        delivery,
    }
}

pub(crate) fn approved(total: &str) -> OrderEvent {
    OrderEvent::Approved {
        customer: "c-1".into(),
        total: money(total),
    }
}

pub(crate) fn rejected(reason: Reason) -> OrderEvent {
    OrderEvent::Rejected {
        customer: "c-1".into(),
        reason,
    }
}

pub(crate) fn cancel_requested() -> OrderEvent {
    OrderEvent::CancelRequested {
        customer: "c-1".into(),
    }
}

pub(crate) fn cancelled(reserved: bool) -> OrderEvent {
    OrderEvent::Cancelled {
        customer: "c-1".into(),
        reserved,
    }
}

pub(crate) fn shipped(total: &str) -> OrderEvent {
    OrderEvent::Shipped {
        customer: "c-1".into(),
        total: money(total),
    }
}

pub(crate) fn paid(total: &str) -> OrderEvent {
    OrderEvent::Paid {
        customer: "c-1".into(),
        total: money(total),
        method: PaymentMethod::Card,
    }
}
