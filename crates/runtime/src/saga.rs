//! Sagas: several steps, each a command to some entity, that are all done or all undone.
//!
//! An instance of a saga is an entity. What happens to it, which commands it sends and which timers
//! it sets are the events of its stream, so it survives whatever the log survives, moves like any
//! entity, and can be read like one. A handler of its stream sends what the events say and brings
//! the answers back as commands with derived ids.

mod ask;
mod definition;
mod dispatch;
mod event;
mod instance;
mod live;
mod look;
mod refer;
mod step;
pub(crate) mod turn;
mod work;

pub use ask::{Asks, Question, ask, ask_together};
pub(crate) use definition::{Begins, Definition, Definitions};
pub use definition::{Saga, SagaData};
pub(crate) use dispatch::dispatcher;
pub use event::{Json, Operation, SagaEnd, SagaEvent, StepOutcome, TimerPurpose};
pub(crate) use instance::{Instance, SHAPE};
pub use instance::{SagaStatus, StepStatus, TimerStatus};
pub use live::LiveSaga;
pub(crate) use live::live_sagas;
pub use refer::{Acting, SagaOutcome, SagaRef, Starting};
pub(crate) use step::StepAnswer;
pub use step::{Next, Step, again, done, fail, help};
pub use work::SagaRejection;
pub(crate) use work::SagaWork;
