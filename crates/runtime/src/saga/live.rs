//! The instances that have not ended, as a view.

use everfold_engine::{EntityKey, Timestamp};
use serde::{Deserialize, Serialize};

use super::event::SagaEvent;
use super::instance::SagaStatus;
use super::instance::{Instance, Phase};
use crate::reactor::At;
use crate::view::View;

/// An instance that has not ended.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Live {
    pub(crate) instance: Instance,
    pub(crate) entity: String,
    /// When it has begun and when something happened last, in microseconds since 1970.
    pub(crate) begun: i64,
    pub(crate) changed: i64,
}

impl Live {
    fn fold(&mut self, event: &SagaEvent, at: &At) {
        let entity: &EntityKey = &at.record().portable.entity;
        let Timestamp(recorded) = at.recorded();
        if self.entity.is_empty() {
            self.entity = entity.stream();
            self.begun = recorded;
        }
        self.changed = recorded;
        self.instance.evolve(event);
    }
}

/// The view of an application with sagas.
pub(crate) fn live_sagas() -> View<String, Live> {
    View::named("sagas")
        .on(
            |_: &SagaEvent, at| Some(at.record().portable.entity.to_string()),
            Live::fold,
        )
        .forgets(|row| matches!(row.instance.phase, Phase::New | Phase::Ended(_)))
}

/// An instance that has not ended, and since when.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LiveSaga {
    /// How it stands.
    #[serde(flatten)]
    pub status: SagaStatus,
    /// When it has begun.
    #[serde(serialize_with = "as_text")]
    pub begun: Timestamp,
    /// When something happened to it last.
    #[serde(serialize_with = "as_text")]
    pub changed: Timestamp,
}

fn as_text<S: serde::Serializer>(moment: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(moment)
}

impl Live {
    pub(crate) fn shown(&self) -> LiveSaga {
        LiveSaga {
            status: self.instance.status(&EntityKey::of_stream(&self.entity)),
            begun: Timestamp(self.begun),
            changed: Timestamp(self.changed),
        }
    }
}
