//! Event sourcing in Rust: state is a fold over events, application code is pure, and the same
//! application runs embedded in one process, on many nodes and on many sites.
//!
//! Three things make an application:
//!
//! - an **entity** decides commands on its state and changes by its events ([`Entity`], [`Decide`],
//!   [`Evolve`]);
//! - a **reactor** says which commands should follow from an event ([`Reactor`]);
//! - a **view** keeps rows up to date from events ([`View`]).
//!
//! Where several steps are to be all done or all undone, a **saga** leads them ([`Saga`]).
//!
//! All of them are pure functions over values. [`testing`] runs them without anything around them:
//!
//! ```
//! use everfold::prelude::*;
//! use everfold::testing::spec;
//!
//! #[derive(Key, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
//! struct DoorId(String);
//!
//! #[derive(Event, Clone, Debug, PartialEq)]
//! enum DoorEvent {
//!     Locked,
//!     Unlocked { by: String },
//! }
//!
//! #[derive(Entity, Default)]
//! #[entity(name = "door", id = DoorId, event = DoorEvent)]
//! struct Door {
//!     locked: bool,
//! }
//!
//! impl Evolve for Door {
//!     fn evolve(&mut self, event: &DoorEvent) {
//!         self.locked = matches!(event, DoorEvent::Locked);
//!     }
//! }
//!
//! #[derive(Command)]
//! struct Unlock {
//!     by: String,
//! }
//!
//! impl Decide<Unlock> for Door {
//!     type Reply = ();
//!     type Rejection = Never;
//!
//!     fn decide(&self, command: &Unlock, _: &Context) -> Decision<Self, Unlock> {
//!         if self.locked {
//!             emit(DoorEvent::Unlocked { by: command.by.clone() }).reply(())
//!         } else {
//!             reply(())
//!         }
//!     }
//! }
//!
//! spec::<Door>()
//!     .given([DoorEvent::Locked])
//!     .when(Unlock { by: "ann".into() })
//!     .then([DoorEvent::Unlocked { by: "ann".into() }]);
//! ```

mod never;
mod open;
pub mod prelude;

#[cfg(feature = "cluster")]
pub use everfold_cluster as cluster;
pub use everfold_macros::{Command, Entity, Event, Key};
#[doc(hidden)]
pub use everfold_runtime::__private;
pub use everfold_runtime::*;
pub use never::Never;
pub use open::{Error, Open, engine_at};
