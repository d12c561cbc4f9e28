//! Instances of sagas: listed, shown, and helped by people.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use everfold::engine::{EntityKey, Record};
use everfold::{
    LiveSaga, Node, Operation, Parked, SagaEvent, SagaRejection, SagaStatus, SendError, TimerStatus,
};
use everfold_store::http::{Body, Failure, Name};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answers::{Answer, limit, query};
use super::events;
use super::record;

/// Instances read from the view at once.
const CHUNK: usize = 1000;
/// The longest name of whoever acts.
const LONGEST_NAME: usize = 256;

/// Which instances.
#[derive(Clone, Debug, Default, Deserialize, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// Of one saga only
    #[arg(long, value_name = "NAME")]
    pub saga: Option<String>,
    /// In one state only
    #[arg(long, value_name = "STATE", value_parser = ["needs_help", "running", "undoing"])]
    pub state: Option<String>,
    /// The `next` of the page before.
    #[arg(skip)]
    pub after: Option<String>,
    /// End after so many
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
}

/// Instances in order, those that need help first, and where to go on.
pub struct Page {
    /// In order.
    pub live: Vec<LiveSaga>,
    /// Where the next page begins, if there is one. An instance whose state changes between two
    /// pages may be in both or in none.
    pub next: Option<String>,
}

/// A page of all instances that have not ended.
pub fn page(mut live: Vec<LiveSaga>, asked: &Asked, limit: usize) -> Page {
    live.retain(|live| {
        let of_saga = asked.saga.as_ref().is_none_or(|s| *s == live.status.saga);
        of_saga && asked.state.as_ref().is_none_or(|s| *s == live.status.state)
    });
    live.sort_by_cached_key(place);
    if let Some(after) = &asked.after {
        let seen = live.partition_point(|live| place(live) <= *after);
        live.drain(..seen);
    }
    let more = live.len() > limit;
    live.truncate(limit);
    let next = live.last().filter(|_| more).map(place);
    Page { live, next }
}

fn place(live: &LiveSaga) -> String {
    let rank = u8::from(live.status.state != "needs_help");
    format!("{rank}:{}-{}", live.status.saga, live.status.id)
}

/// What a person can do about an instance now.
pub fn possible(status: &SagaStatus) -> Vec<Operation> {
    let mut possible = Vec::new();
    if status.has_ended() {
        return possible;
    }
    if status.state == "needs_help" {
        possible.extend([Operation::Retry, Operation::Skip]);
    }
    if !status.undoing {
        possible.push(Operation::Compensate);
    }
    possible.push(Operation::Force);
    possible
}

/// An instance that has not ended, as an object.
pub fn listed(live: &LiveSaga, parked: &[Parked]) -> Value {
    let mut shown = serde_json::to_value(live).unwrap_or_default();
    complete(&mut shown, &live.status, parked);
    shown
}

/// An instance with its history, as an object.
pub fn detailed(status: &SagaStatus, history: &[Arc<Record>], parked: &[Parked]) -> Value {
    let mut shown = serde_json::to_value(status).unwrap_or_default();
    complete(&mut shown, status, parked);
    let timers = status.timers.iter().map(|timer| waiting(timer, history));
    shown["timers"] = timers.collect();
    let history = history.iter().map(|record| record::shown(record));
    shown["history"] = history.collect();
    shown
}

fn complete(shown: &mut Value, status: &SagaStatus, parked: &[Parked]) {
    shown["can"] = json!(possible(status));
    let own = parked.iter().filter(|one| belongs(one, status));
    let own = own.map(|one| json!({ "work": one.key, "reason": one.reason }));
    shown["parked"] = own.collect();
}

/// Whether parked work of its saga is an instance's.
fn belongs(parked: &Parked, status: &SagaStatus) -> bool {
    parked.entity == format!("{}-{}", status.saga, status.id)
}

/// A timer with the moment at which it was set, where that is still known, and how long it lasts.
fn waiting(timer: &TimerStatus, history: &[Arc<Record>]) -> Value {
    let mut shown = serde_json::to_value(timer).unwrap_or_default();
    for record in history.iter().rev() {
        let portable = &record.portable;
        let (name, version) = (&portable.event_type, portable.schema_version);
        let event = <SagaEvent as everfold::Event>::decode(name, version, &portable.payload);
        if let Ok(SagaEvent::TimerSet {
            timer: set, millis, ..
        }) = event
            && set == timer.timer
        {
            shown["set"] = record.recorded().to_string().into();
            shown["millis"] = millis.into();
            break;
        }
    }
    shown
}

/// What is set aside of the work of sagas, by saga.
fn parked(node: &Node) -> Vec<(String, Parked)> {
    let all = node.parked().into_iter();
    all.filter_map(|parked| {
        let saga = parked.handler.strip_prefix("saga ")?.to_owned();
        Some((saga, parked))
    })
    .collect()
}

fn parked_of(node: &Node, saga: &str) -> Vec<Parked> {
    let all = parked(node).into_iter().filter(|(name, _)| name == saga);
    all.map(|(_, parked)| parked).collect()
}

fn all_live(node: &Node) -> Vec<LiveSaga> {
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let some = node.sagas(&after, CHUNK);
        let Some(last) = some.last() else {
            return all;
        };
        after = format!("{}-{}", last.status.saga, last.status.id);
        all.extend(some);
    }
}

pub(super) async fn list(State(node): State<Arc<Node>>, uri: Uri) -> Answer {
    let asked: Asked = query(&uri)?;
    let limit = limit(asked.limit, 100)?;
    if let Some(saga) = &asked.saga {
        known(&node, saga)?;
    }
    let states = ["needs_help", "running", "undoing"];
    if let Some(state) = asked.state.as_deref().filter(|s| !states.contains(s)) {
        let message = format!("state {state:?}: needs_help, running or undoing");
        return Err(Failure::bad_request(message));
    }
    let parked = parked(&node);
    let all = all_live(&node);
    let is_live = |saga: &str, parked: &Parked| {
        let mut same = all.iter().filter(|live| live.status.saga == saga);
        same.any(|live| belongs(parked, &live.status))
    };
    // What is set aside for an instance that has ended, or that never came to be.
    let others: Vec<Value> = parked
        .iter()
        .filter(|(saga, _)| asked.saga.as_ref().is_none_or(|asked| asked == saga))
        .filter(|(saga, parked)| !is_live(saga, parked))
        .map(|(saga, one)| json!({ "saga": saga, "work": one.key, "reason": one.reason }))
        .collect();
    let page = page(all, &asked, limit);
    let shown = page.live.iter().map(|live| {
        let mine = parked.iter().filter(|(saga, _)| *saga == live.status.saga);
        let mine: Vec<Parked> = mine.map(|(_, parked)| parked.clone()).collect();
        listed(live, &mine)
    });
    Ok(Json(json!({
        "known": node.saga_names(),
        "sagas": shown.collect::<Vec<_>>(),
        "parked": others,
        "next": page.next,
    })))
}

pub(super) async fn show(
    State(node): State<Arc<Node>>,
    Name((saga, id)): Name<(String, String)>,
) -> Answer {
    Ok(Json(shown(&node, &saga, &id).await?))
}

async fn shown(node: &Node, saga: &str, id: &str) -> Result<Value, Failure> {
    known(node, saga)?;
    let instances = node
        .saga_named(saga)
        .ok_or_else(|| unknown(&node.saga_names(), saga))?;
    let status = instances.status(id).await?;
    let status = status.ok_or_else(|| no_instance(saga, id))?;
    let entity = EntityKey::new(saga, id);
    let history = events::of_entity(&**node.engine(), &entity, 0, usize::MAX).await?;
    Ok(detailed(&status, &history, &parked_of(node, saga)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Act {
    operation: Operation,
}

pub(super) async fn act(
    State(node): State<Arc<Node>>,
    Name((saga, id)): Name<(String, String)>,
    headers: HeaderMap,
    Body(Act { operation }): Body<Act>,
) -> Answer {
    known(&node, &saga)?;
    let by = headers.get("x-principal").map(|by| by.to_str());
    let by = by.transpose().ok().flatten().unwrap_or_default().to_owned();
    if by.len() > LONGEST_NAME || (by.is_empty() && headers.contains_key("x-principal")) {
        let message = format!("the header X-Principal: 1 to {LONGEST_NAME} plain characters");
        return Err(Failure::bad_request(message));
    }
    let instances = node
        .saga_named(&saga)
        .ok_or_else(|| unknown(&node.saga_names(), &saga))?;
    match instances.act(&id, operation).by(by).await {
        Ok(_) => Ok(Json(shown(&node, &saga, &id).await?)),
        Err(SendError::Rejected(rejection)) => Err(refusal(&saga, &id, &rejection)),
        Err(SendError::Failed(error)) => Err(error.into()),
    }
}

fn known(node: &Node, saga: &str) -> Result<(), Failure> {
    let names = node.saga_names();
    if names.contains(&saga) {
        return Ok(());
    }
    Err(unknown(&names, saga))
}

fn unknown(names: &[&str], saga: &str) -> Failure {
    let message = no_such_saga(names, saga);
    Failure::new(StatusCode::NOT_FOUND, "UNKNOWN_SAGA", message)
}

/// Names the sagas that there are, the most similar first.
pub fn no_such_saga(names: &[&str], saga: &str) -> String {
    if names.is_empty() {
        return "the application has no sagas; the store has one as `everfold serve --form saga`"
            .to_owned();
    }
    let mut names = names.to_vec();
    names.sort_by_key(|name| strsim::damerau_levenshtein(name, saga));
    format!("there is no saga {saga:?}; there is {}", names.join(", "))
}

fn no_instance(saga: &str, id: &str) -> Failure {
    Failure::new(
        StatusCode::NOT_FOUND,
        "UNKNOWN_INSTANCE",
        never_begun(saga, id),
    )
}

/// Says that there is no such instance.
pub fn never_begun(saga: &str, id: &str) -> String {
    format!(
        "saga {saga:?} has no instance {id:?}: it was never begun; the list names those that run"
    )
}

fn refusal(saga: &str, id: &str, rejection: &SagaRejection) -> Failure {
    let (kind, next) = match rejection {
        SagaRejection::NotBegun => return no_instance(saga, id),
        SagaRejection::Ended => ("ENDED", "; its history says how"),
        SagaRejection::NeedsNoHelp => {
            ("NEEDS_NO_HELP", "; compensate or force it if it is to stop")
        }
        SagaRejection::UndoneAlready => (
            "UNDONE_ALREADY",
            "; retry or skip what needs help, or force its end",
        ),
        SagaRejection::NoDefinition { .. } => ("NO_DEFINITION", ""),
        SagaRejection::BegunDifferently => ("BEGUN_DIFFERENTLY", ""),
    };
    let message = format!("{saga}-{id}: {rejection}{next}");
    Failure::new(StatusCode::CONFLICT, kind, message)
}
