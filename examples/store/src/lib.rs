//! Customers & Orders: customers reserve credit, orders wait for it, and neither waits for the
//! other.
//!
//! - [`money`]: amounts, exact to the cent
//! - [`customer`]: credit limits and reservations
//! - [`order`]: from placed to paid
//! - [`reactions`]: what follows from what; instead of it [`placing`], the same as a saga, or
//!   [`boundary`], the same as one decision
//! - [`views`]: what there is to read
//! - [`http`]: all of it over a network
//! - `simulated`: the store in a world where everything goes wrong (feature `world`)

pub mod boundary;
pub mod customer;
pub mod http;
pub mod money;
pub mod order;
pub mod placing;
pub mod reactions;
pub mod reports;
#[cfg(test)]
mod samples;
#[cfg(feature = "world")]
pub mod simulated;
pub mod views;

use std::time::Duration;

use everfold::prelude::*;

use crate::reactions::DECISION;

/// The whole store, ready to be opened: orders and customers answer each other's events.
pub fn application() -> Application {
    choreographed(DECISION)
}

/// The same store, where a saga leads each order through what it needs.
pub fn orchestrated() -> Application {
    led(DECISION)
}

fn choreographed(decision: Duration) -> Application {
    store()
        .reactor(reactions::reserve_credit())
        .reactor(reactions::decide_order())
        .reactor(reactions::time_out_after(decision))
}

fn led(decision: Duration) -> Application {
    store().saga(placing::placing_within(decision))
}

fn store() -> Application {
    Application::new("store")
        .entity::<customer::Customer>()
        .entity::<order::Order>()
        .reactor(reactions::release_credit())
        .view(views::customer_history())
        .view(views::low_credit())
        .view(views::shipped_orders())
}
