//! `everfold sagas`.

use anyhow::{anyhow, bail};
use clap::Subcommand;
use everfold::engine::EntityKey;
use everfold::{Inspector, LiveSaga, Operation};
use serde_json::{Value, json};

use super::source::Source;
use crate::client::{Server, escaped};
use crate::failure::refused;
use crate::inspect::{events, sagas};
use crate::output;

/// Lists instances of sagas that have not ended, those that need help first; shows one with its
/// history, or helps one.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    list: List,
}

#[derive(Subcommand)]
enum Action {
    /// List the instances that have not ended, those that need help first
    List(List),
    /// Show an instance, also one that has ended: state, steps, timers, data, history
    Show(Show),
    /// Ask again for what needs help
    Retry(Act),
    /// Go on as if what needs help were done, or undone
    Skip(Act),
    /// Go no further, and undo what was done
    Compensate(Act),
    /// End it as it stands: nothing more is sent, nothing is undone, and there is no way back
    Force(Force),
}

#[derive(clap::Args)]
struct List {
    #[command(flatten)]
    source: Source,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    asked: sagas::Asked,
}

#[derive(clap::Args)]
struct Show {
    #[command(flatten)]
    source: Source,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    instance: Instance,
}

#[derive(clap::Args)]
struct Instance {
    /// The saga and the instance's id, or both as one: placing o-2, or placing-o-2
    #[arg(value_name = "SAGA ID", num_args = 1..=2, required = true)]
    instance: Vec<String>,
}

impl Instance {
    fn key(&self) -> anyhow::Result<EntityKey> {
        match &self.instance[..] {
            [saga, id] => Ok(EntityKey::new(saga.as_str(), id.as_str())),
            [both] if both.contains('-') => Ok(EntityKey::of_stream(both)),
            _ => bail!("give a saga and the id of an instance: placing o-2, or placing-o-2"),
        }
    }
}

#[derive(clap::Args)]
struct Act {
    #[command(flatten)]
    source: Source,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    instance: Instance,
    /// Who does it; noted with the event
    #[arg(long, value_name = "WHO", default_value = "")]
    by: String,
}

#[derive(clap::Args)]
struct Force {
    #[command(flatten)]
    act: Act,
    /// Really
    #[arg(long)]
    yes: bool,
}

/// Instances asked for at once.
const PAGE: usize = 1000;

/// Runs it.
///
/// # Errors
/// See the messages.
pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    match arguments.action.unwrap_or(Action::List(arguments.list)) {
        Action::List(list) => run_list(&list),
        Action::Show(show) => run_show(&show),
        Action::Retry(act) => run_act(&act, Operation::Retry),
        Action::Skip(act) => run_act(&act, Operation::Skip),
        Action::Compensate(act) => run_act(&act, Operation::Compensate),
        Action::Force(Force { act, yes: true }) => run_act(&act, Operation::Force),
        Action::Force(Force { act, .. }) => {
            let name = output::plain(&act.instance.key()?.stream());
            Err(refused(format!(
                "{name} would end as it stands: nothing more is sent, what was done stays done, \
                 what is under way is left alone, and there is no way back; repeat with --yes"
            )))
        }
    }
}

fn run_list(list: &List) -> anyhow::Result<()> {
    let Some(url) = &list.source.url else {
        return list_directory(list);
    };
    let server = Server::at(url)?;
    let mut left = list.asked.limit.unwrap_or(usize::MAX);
    let mut after: Option<String> = None;
    while left > 0 {
        let mut path = format!("{}?limit={}", base(&list.source), left.min(PAGE));
        let parts = [
            ("saga", &list.asked.saga),
            ("state", &list.asked.state),
            ("after", &after),
        ];
        for (name, value) in parts {
            if let Some(value) = value {
                path.push_str(&format!("&{name}={}", escaped(value)));
            }
        }
        let answer = server.get(&path)?;
        if after.is_none() {
            print_parked(list, &answer)?;
        }
        let found = answer["sagas"].as_array().cloned().unwrap_or_default();
        for one in &found {
            print_listed(list, one)?;
        }
        left -= found.len().min(left);
        after = answer["next"].as_str().map(str::to_owned);
        if after.is_none() {
            break;
        }
    }
    Ok(())
}

/// What the first page says about all.
fn print_parked(list: &List, answer: &Value) -> anyhow::Result<()> {
    if answer["known"].as_array().is_some_and(Vec::is_empty) {
        output::say(&sagas::no_such_saga(&[], ""));
    }
    if list.json {
        return Ok(());
    }
    for one in answer["parked"].as_array().into_iter().flatten() {
        let (saga, work, reason) = (text(one, "saga"), text(one, "work"), text(one, "reason"));
        output::say(&format!("set aside for saga {saga}: {work}: {reason}"));
    }
    Ok(())
}

fn list_directory(list: &List) -> anyhow::Result<()> {
    let live = list.source.look(async |store| {
        if let Some(saga) = &list.asked.saga {
            check(store, saga)?;
        }
        anyhow::Ok(store.sagas().await?)
    })?;
    let limit = list.asked.limit.unwrap_or(usize::MAX);
    let page = sagas::page(live, &list.asked, limit);
    let print = |live: &LiveSaga| print_listed(list, &sagas::listed(live, &[]));
    page.live.iter().try_for_each(print)
}

fn print_listed(list: &List, one: &Value) -> anyhow::Result<()> {
    if list.json {
        return output::json(one);
    }
    let name = format!("{}-{}", text(one, "saga"), text(one, "id"));
    let (state, changed) = (text(one, "state"), text(one, "changed"));
    let reason = text(one, "reason");
    output::line(format!("{changed:<27} {name:<28} {state:<10} {reason}").trim_end())?;
    for parked in one["parked"].as_array().into_iter().flatten() {
        output::line(&format!("{:<27} set aside: {}", "", text(parked, "reason")))?;
    }
    Ok(())
}

fn run_show(show: &Show) -> anyhow::Result<()> {
    let key = show.instance.key()?;
    let shown = match &show.source.url {
        Some(url) => Server::at(url)?.get(&one(&show.source, &key))?,
        None => show.source.look(async |store| {
            check(store, &key.kind)?;
            let status = store.saga(&key.kind, &key.id).await?;
            let status = status.ok_or_else(|| anyhow!(sagas::never_begun(&key.kind, &key.id)))?;
            let history = events::of_entity(&**store.engine(), &key, 0, usize::MAX).await?;
            Ok(sagas::detailed(&status, &history, &[]))
        })?,
    };
    print_shown(show.json, &shown)
}

fn run_act(act: &Act, operation: Operation) -> anyhow::Result<()> {
    let key = act.instance.key()?;
    let Some(url) = &act.source.url else {
        return Err(refused(
            "only the process that has a log open acts on its sagas; serve it with \
             `everfold serve --form saga --data DIR`, and give the server's address with --url",
        ));
    };
    let server = Server::at(url)?;
    let body = json!({ "operation": operation });
    let shown = server.post(&one(&act.source, &key), &act.by, &body)?;
    print_shown(act.json, &shown)
}

fn print_shown(json: bool, shown: &Value) -> anyhow::Result<()> {
    if json {
        return output::json(shown);
    }
    let of = |value: &Value, name: &str| text(value, name);
    let (saga, id, state) = (of(shown, "saga"), of(shown, "id"), of(shown, "state"));
    let undoing = match shown["undoing"].as_bool() {
        Some(true) if state == "needs_help" => ", while it is being undone",
        _ => "",
    };
    output::line(&format!(
        "{saga}-{id} {state}{undoing}, version {} of its definition",
        shown["version"]
    ))?;
    if !shown["reason"].is_null() {
        output::line(&format!("  reason  {}", of(shown, "reason")))?;
    }
    for step in all(shown, "steps") {
        let undo = match step["undo"].as_str() {
            Some(undo) => format!("; undoing it: {}", output::plain(undo)),
            None => String::new(),
        };
        let (name, state) = (of(step, "step"), of(step, "state"));
        output::line(&format!("  step    {name}: {state}{undo}"))?;
    }
    for timer in all(shown, "timers") {
        let step = match timer["step"].as_str() {
            Some(step) => output::plain(step),
            None => "the whole saga".to_owned(),
        };
        let mut line = format!("  timer   {} of {step}", of(timer, "purpose"));
        if let (Some(millis), Some(_)) = (timer["millis"].as_u64(), timer["set"].as_str()) {
            line.push_str(&format!(": {millis} ms from {}", of(timer, "set")));
        }
        output::line(&line)?;
    }
    for parked in all(shown, "parked") {
        output::line(&format!("  aside   {}", of(parked, "reason")))?;
    }
    output::line(&format!(
        "  data    {}",
        output::plain(&shown["data"].to_string())
    ))?;
    let can: Vec<&str> = all(shown, "can").filter_map(Value::as_str).collect();
    if !can.is_empty() {
        output::line(&format!("  can     {}", can.join(", ")))?;
    }
    for event in all(shown, "history") {
        let (when, by) = (of(event, "recorded"), of(event, "principal"));
        let (what, payload) = (
            of(event, "type"),
            output::plain(&event["payload"].to_string()),
        );
        let version = event["version"].to_string();
        output::line(&format!(
            "{when:<27} {version:>4}  {by:<12} {what:<11} {payload}"
        ))?;
    }
    Ok(())
}

fn text(value: &Value, name: &str) -> String {
    output::plain(value[name].as_str().unwrap_or_default())
}

fn all<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value[name].as_array().into_iter().flatten()
}

fn base(source: &Source) -> String {
    format!("/_inspect/api/logs/{}/sagas", escaped(&source.log))
}

fn one(source: &Source, key: &EntityKey) -> String {
    let (saga, id) = (escaped(&key.kind), escaped(&key.id));
    format!("{}/{saga}/{id}", base(source))
}

fn check(store: &Inspector, saga: &str) -> anyhow::Result<()> {
    let names = store.saga_names();
    if names.iter().any(|name| **name == *saga) {
        return Ok(());
    }
    let names: Vec<&str> = names.iter().map(|name| &**name).collect();
    Err(anyhow!(sagas::no_such_saga(&names, saga)))
}
