//! The simulated world in which whole applications are proven.
//!
//! One seed makes a world: nodes that run an application, one after the other or several as a cluster
//! (by the code that real nodes join, beat and plan with), the store that they share or have inside,
//! clients, a network between them, clocks, disks, and everything that goes wrong with these. Clients
//! ask for random operations; when all is over, checkers look at what they were answered, at the log,
//! and at what the last node shows. Two runs of one seed are equal byte by byte, so a failure is
//! repeated by its seed and made smaller until little is left of it.
//!
//! What is checked of every application: entities are linearizable, nothing acknowledged is lost,
//! nothing is decided twice, every epoch has one owner, who was replaced answers no linearizable read,
//! several nodes agree and leave nothing undone once nothing goes wrong, causes come before effects, views and states
//! are what the log folds to, the hash chain holds, everything comes to rest. A [`Workload`] brings
//! the application and what its own domain promises:
//!
//! ```
//! use std::sync::Arc;
//! use everfold::prelude::*;
//! use everfold_world::{Client, Random, Scenario, Workload, run};
//!
//! #[derive(Key, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
//! struct CounterId(String);
//!
//! #[derive(Event, Clone, Debug, PartialEq)]
//! enum CounterEvent {
//!     Counted,
//! }
//!
//! #[derive(Entity, Default)]
//! #[entity(name = "counter", id = CounterId, event = CounterEvent, commands(Count))]
//! struct Counter {
//!     count: u64,
//! }
//!
//! impl Evolve for Counter {
//!     fn evolve(&mut self, _: &CounterEvent) {
//!         self.count += 1;
//!     }
//! }
//!
//! #[derive(Command)]
//! struct Count;
//!
//! impl Decide<Count> for Counter {
//!     type Reply = u64;
//!     type Rejection = Never;
//!
//!     fn decide(&self, _: &Count, _: &Context) -> Decision<Self, Count> {
//!         emit(CounterEvent::Counted).reply(self.count + 1)
//!     }
//! }
//!
//! struct Counting;
//!
//! impl Workload for Counting {
//!     fn name(&self) -> &'static str {
//!         "counting"
//!     }
//!
//!     fn application(&self, _: Random) -> Application {
//!         Application::new("counting").entity::<Counter>()
//!     }
//!
//!     async fn operate(&self, client: &mut Client) {
//!         let id = format!("counter {}", client.random().below(3));
//!         match client.random().below(2) {
//!             0 => drop(client.send::<Counter, _>(id, Count).await),
//!             _ => drop(client.read::<Counter>(id).await),
//!         }
//!     }
//! }
//!
//! for seed in 0..5 {
//!     let report = run(&Arc::new(Counting), &Scenario::new(seed), 0);
//!     assert_eq!(report.violations, []);
//! }
//! ```
//!
//! # How a failure is repeated
//! `everfold sim WORKLOAD --seed N` runs seed N again. After a failure it prints the same command with
//! `--faults` and `--operations` for the smallest run that still fails; [`Scenario::reproduction`] is
//! that text. Seeds that once failed are kept in `seeds/`, with the reason, and run first.
//!
//! # What is not modelled
//! Several nodes at once share the engine's model in memory only, not a log on a disk, and between two
//! nodes a connection brings a call once or breaks: certificates, frames and limits of the real
//! transport stay outside. Disks
//! do not lie and their bits do not turn over here: the log's own tests do that, for nothing that was
//! acknowledged could be asked of such a disk. Effects that leave the log do not exist in the runtime
//! yet, so at-most-once is checked of the commands of reactors only.

pub mod check;
mod client;
mod cluster;
mod coverage;
mod disturb;
mod door;
pub mod history;
mod kept;
pub mod ledger;
mod many;
mod members;
mod mutation;
mod network;
mod places;
mod plan;
mod remote;
mod road;
mod roster;
mod run;
mod scenario;
mod shrink;
mod store;
mod watched;
pub mod workload;

pub use check::Ended;
pub use client::Client;
pub use coverage::Coverage;
pub use everfold_sim::Random;
pub use history::Violation;
pub use kept::kept;
pub use many::{Summary, run_many};
pub use mutation::{BadMutation, Mutation};
pub use places::PLACES;
pub use plan::{BadPlan, Fault, Kind, Plan};
pub use run::{Report, run};
pub use scenario::{BadSetup, OPERATIONS, Scenario, Setup};
pub use shrink::shrink;
pub use workload::accounts::Accounts;
pub use workload::{Auditor, Workload};
