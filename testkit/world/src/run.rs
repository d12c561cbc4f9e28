//! One run from beginning to end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use everfold::engine::engine::{Engine, ReadLimit};
use everfold::engine::{Offset, Position, Record, Timestamp};
use everfold::{CommandError, Node};
use everfold_sim::{Random, Settings, Simulation};

use crate::check::{self, Ended, Shown};
use crate::client::{Client, is_passing, said};
use crate::cluster::{Cluster, Ground};
use crate::coverage::{Counts, Coverage};
use crate::disturb::disturb;
use crate::door::Door;
use crate::history::{History, Violation, What};
use crate::ledger::Ticks;
use crate::members;
use crate::network::Network;
use crate::plan::HORIZON;
use crate::scenario::{Scenario, Setup};
use crate::store::Store;
use crate::workload::Workload;

/// Clients of a run.
const CLIENTS: u32 = 5;
/// Processes kept ready for nodes, and for the store.
const PROCESSES: usize = 128;
/// How long the world is given to come to rest once nothing goes wrong any more.
const REST: Duration = Duration::from_secs(300);

/// How long nothing may happen among several nodes before they are taken to be at rest.
const QUIET: Duration = Duration::from_secs(10);

/// Seconds after which every timer is due, by a clock that was never set.
const LONGEST_TIMER: u32 = 100;

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Report {
    /// The run.
    pub scenario: Scenario,
    /// What was broken; nothing if all is well.
    pub violations: Vec<Violation>,
    /// What happened on the way.
    pub coverage: Coverage,
    /// A hash over everything that happened: equal for equal scenarios.
    pub trace_hash: u64,
    /// The beginning of what happened, a line for every decision, if it was asked for.
    pub trace: Vec<u8>,
    /// Decisions of the simulation.
    pub steps: u64,
}

/// Runs a scenario; `trace_bytes` of what happened are kept.
pub fn run<W: Workload>(workload: &Arc<W>, scenario: &Scenario, trace_bytes: usize) -> Report {
    let settings = Settings {
        steps: 2_000_000,
        trace_bytes,
        start: Timestamp::from_date(2030, 1, 1),
        ..Settings::default()
    };
    let simulation = Simulation::with(scenario.seed, settings);
    let counts = Arc::new(Counts::default());
    let live = std::panic::AssertUnwindSafe(|| {
        let life = live(workload, scenario, &simulation, &counts);
        simulation.try_run(life)
    });
    let violations = match std::panic::catch_unwind(live) {
        Ok(Ok(violations)) => violations,
        Ok(Err(stuck)) => vec![Violation::new("progress", stuck.to_string())],
        Err(panic) => vec![Violation::new("panics", said(panic.as_ref()))],
    };
    let places = simulation.reached();
    let places = places.into_iter().map(|(place, n)| (place.to_owned(), n));
    Report {
        scenario: scenario.clone(),
        violations,
        coverage: Coverage {
            faults: counts.taken(),
            places: places.collect(),
        },
        trace_hash: simulation.trace_hash(),
        trace: simulation.trace(),
        steps: simulation.steps(),
    }
}

async fn live<W: Workload>(
    workload: &Arc<W>,
    scenario: &Scenario,
    simulation: &Simulation,
    counts: &Arc<Counts>,
) -> Vec<Violation> {
    let main = simulation.world();
    let processes = |name: &str| {
        let named = (1..=PROCESSES).map(|number| simulation.process(&format!("{name} {number}")));
        named.collect::<Vec<_>>()
    };
    let seed = scenario.random(3).bits();
    let network = Arc::new(Network::new(seed, main.clone(), counts.clone()));
    let ticks = Ticks::default();
    let about = (counts.clone(), ticks.clone());
    let store = match Store::new(scenario, &main, processes("store"), about) {
        Ok(store) => store,
        Err(error) => return vec![Violation::new("opening", error)],
    };
    let (made, drawn) = (workload.clone(), scenario.random(6));
    let cluster = Cluster::new(
        Box::new(move || made.application(drawn.clone())),
        (scenario.node_options(), scenario.shape()),
        main.clone(),
        (network, store, counts.clone()),
        processes("node"),
    );
    let history = Arc::new(History::new(ticks));
    if let Err(violation) = begin(scenario, &cluster).await {
        return vec![violation];
    }
    let mut first = client(0, scenario, simulation, &cluster, &history);
    workload.prepare(&mut first).await;
    let running = Arc::new(AtomicU32::new(CLIENTS));
    // Some crowd together, some take their time.
    let pace = *scenario.random(5).pick(&[10, 200, 1000, 4000]);
    for number in 1..=CLIENTS {
        let mut client = client(number, scenario, simulation, &cluster, &history);
        let (workload, running) = (workload.clone(), running.clone());
        let operations: Vec<u32> = scenario.operations.clone();
        let scenario = scenario.clone();
        let work = async move {
            let mine = operations.into_iter().filter(|n| n % CLIENTS == number - 1);
            for operation in mine {
                client.operation = operation;
                client.random = scenario.random(1000 + u64::from(operation));
                let pause = Duration::from_millis(client.random.below(pace));
                client.world.sleep(pause).await;
                workload.operate(&mut client).await;
            }
            running.fetch_sub(1, Ordering::Relaxed);
        };
        main.spawn("client", Box::pin(work));
    }
    let faults = Arc::new(AtomicU32::new(scenario.plan.faults().len() as u32));
    for fault in scenario.plan.faults() {
        let (cluster, fault, faults) = (cluster.clone(), *fault, faults.clone());
        let disturbed = async move {
            disturb(cluster, fault).await;
            faults.fetch_sub(1, Ordering::Relaxed);
        };
        main.spawn("fault", Box::pin(disturbed));
    }
    if !scenario.setup.is_cluster() {
        main.spawn("supervisor", Box::pin(cluster.clone().supervise()));
    }
    let over = main.elapsed() + Duration::from_millis(u64::from(HORIZON)) + REST;
    while running.load(Ordering::Relaxed) > 0 || faults.load(Ordering::Relaxed) > 0 {
        if main.elapsed() > over {
            return vec![Violation::new("progress", "clients or faults never end")];
        }
        main.sleep(Duration::from_millis(100)).await;
    }
    let end = tokio::select! { biased;
        end = finish(scenario, &cluster, &history) => end,
        () = main.sleep(REST) => {
            Err(Violation::new("progress", "handlers never catch up though nothing goes wrong"))
        }
    };
    cluster.store.count_disk_faults();
    let (operations, mut violations) = {
        let mut book = history.book();
        counts.add("operation answered", book.again.len() as u64);
        counts.add("view read", book.view_reads);
        counts.add("operation given up", book.given_up);
        let operations = std::mem::take(&mut book.operations);
        (operations, std::mem::take(&mut book.violations))
    };
    match end {
        Err(violation) => violations.push(violation),
        Ok(mut ended) => {
            ended.operations = operations;
            ended.notes = cluster.store.ledger.taken();
            violations.extend(check::all(workload.as_ref(), &ended));
        }
    }
    violations
}

fn client(
    number: u32,
    scenario: &Scenario,
    simulation: &Simulation,
    cluster: &Arc<Cluster>,
    history: &Arc<History>,
) -> Client {
    Client {
        number,
        operation: 0,
        random: scenario.random(100 + u64::from(number)),
        world: simulation.process(&format!("client {number}")).world(),
        cluster: cluster.clone(),
        history: history.clone(),
        token: None,
        outside: None,
    }
}

/// Opens a node, or all of several.
async fn begin(scenario: &Scenario, cluster: &Arc<Cluster>) -> Result<(), Violation> {
    if !scenario.setup.is_cluster() {
        let opened = cluster.open(Ground::Usual).await;
        return opened
            .map(drop)
            .map_err(|error| Violation::new("opening", error));
    }
    let mut random = scenario.random(8);
    for number in 1..=cluster.shape.nodes {
        cluster.want(&members::name(number), 1 + random.below(3) as u32);
    }
    let tend = cluster.clone().tend();
    cluster.main.spawn("supervisor", Box::pin(tend));
    cluster.agreed().await
}

/// Lets the world come to rest, asks everything again, and looks at what there is: once as the last
/// node has it, once folded afresh from the log alone.
async fn finish(
    scenario: &Scenario,
    cluster: &Arc<Cluster>,
    history: &History,
) -> Result<Ended, Violation> {
    cluster.clients_are_gone();
    let mut random = scenario.random(4);
    if random.one_in(3) {
        // Zombies go on beside the others for a while, and store what they have.
        cluster.main.sleep(Duration::from_secs(6)).await;
    }
    cluster.network.heal();
    cluster.thaw_all();
    if cluster.store.setup == Setup::SharedDisk || random.one_in(3) {
        cluster.store.stop();
    }
    let quiet = match scenario.setup.is_cluster() {
        true => Some(together(scenario, cluster, history, &mut random).await?),
        false => None,
    };
    let node = last_node(cluster, &mut random).await?;
    cluster.kill_zombies();
    at_rest(scenario, cluster, &node).await?;
    if let Err(violation) = ask_again(scenario, cluster, history, || Some(node.clone())).await {
        history.violated(violation);
    }
    at_rest(scenario, cluster, &node).await?;
    let log = whole_log(node.engine().as_ref()).await?;
    if let Some(quiet) = quiet
        && let Err(what) = check::left_undone(&log, &quiet)
    {
        history.violated(Violation::new("progress", what));
    }
    let shown = look(&node, &log).await;
    let parked = node.parked();
    if let Some(parked) = parked.first() {
        history.violated(Violation::new("parked", format!("{parked:?}")));
    }
    let identity = node.engine().identity().clone();
    drop(node);
    cluster.kill_all();
    let fresh = cluster.open(Ground::WithoutAreas).await;
    let fresh = fresh.map_err(|error| Violation::new("opening", error))?;
    caught_up(cluster, &fresh).await?;
    let log_afresh = whole_log(fresh.engine().as_ref()).await?;
    let afresh = look(&fresh, &log_afresh).await;
    Ok(Ended {
        identity,
        log,
        log_afresh,
        shown,
        afresh,
        operations: Vec::new(),
        notes: Default::default(),
    })
}

/// Several nodes by themselves, with nothing in their way: they agree, repeat what they have said,
/// do what is left to do, and show the same. Where the log ended by then.
async fn together(
    scenario: &Scenario,
    cluster: &Arc<Cluster>,
    history: &History,
    random: &mut Random,
) -> Result<Position, Violation> {
    if cluster.store.running().is_none()
        && let Err(error) = cluster.store.start()
    {
        return Err(Violation::new("opening", error));
    }
    cluster.agreed().await?;
    let mut draws = random.fork();
    let anybody = || cluster.node(cluster.choose(&mut draws)?.number);
    if let Err(violation) = ask_again(scenario, cluster, history, anybody).await {
        history.violated(violation);
    }
    let quiet = quiet(cluster).await?;
    let mut views: Option<(u32, BTreeMap<_, _>)> = None;
    for member in cluster.running() {
        let Some(node) = cluster.node(member.number) else {
            continue;
        };
        let mut rows = BTreeMap::new();
        for (view, _) in node.views() {
            let shown = node.view_rows(&view, "", usize::MAX);
            rows.insert(view, shown.unwrap_or_default());
        }
        match &views {
            Some((other, same)) if *same != rows => {
                let number = member.number;
                let what = format!("nodes {other} and {number} show {same:?} and {rows:?}");
                history.violated(Violation::new("views", what));
            }
            Some(_) => {}
            None => views = Some((member.number, rows)),
        }
    }
    cluster.tend_no_more();
    for member in cluster.running() {
        match random.one_in(2) {
            true => cluster.take_leave(&member, false).await,
            false => cluster.kill(member.number),
        }
    }
    Ok(quiet)
}

/// Waits until nothing has come to the log for long, and all nodes show all of it.
async fn quiet(cluster: &Cluster) -> Result<Position, Violation> {
    let mut reason = String::from("the log cannot be read");
    let mut last = None;
    for _ in 0..20 {
        cluster.main.sleep(QUIET).await;
        let nodes = cluster.running().into_iter();
        let nodes: Vec<_> = nodes.filter_map(|it| cluster.node(it.number)).collect();
        let Some(first) = nodes.first() else {
            continue;
        };
        let Ok(position) = first.position().await else {
            continue;
        };
        if last.replace(position.clone()) != Some(position.clone()) {
            reason = "something is always appended".to_owned();
            continue;
        }
        let mut behind = Vec::new();
        for node in &nodes {
            let handlers = node.handlers().await.unwrap_or_default();
            let late = handlers
                .into_iter()
                .filter(|it| it.kind == "view" && it.behind > 0);
            behind.extend(late.map(|it| it.name));
        }
        if behind.is_empty() {
            return Ok(position);
        }
        reason = format!("views stay behind: {behind:?}");
    }
    let what = format!("several nodes never come to rest though nothing goes wrong: {reason}");
    Err(Violation::new("progress", what))
}

async fn last_node(cluster: &Arc<Cluster>, random: &mut Random) -> Result<Arc<Node>, Violation> {
    let in_order = random.one_in(2);
    let mut reason = String::new();
    for _ in 0..8 {
        if cluster.store.setup.is_shared() && cluster.store.running().is_none() {
            // A fault of the disk may be left over for the first try.
            if let Err(error) = cluster.store.start() {
                reason = error;
                continue;
            }
        }
        let opened = match cluster.store.setup {
            Setup::Embedded if in_order => cluster.restart_in_order().await,
            Setup::Embedded => cluster.replace().await,
            Setup::Shared | Setup::SharedDisk | Setup::Cluster => cluster.open(Ground::Usual).await,
        };
        match opened {
            Ok(node) => return Ok(node),
            Err(error) => reason = error,
        }
        cluster.main.sleep(Duration::from_secs(1)).await;
    }
    Err(Violation::new("opening", reason))
}

async fn caught_up(cluster: &Cluster, node: &Node) -> Result<(), Violation> {
    for _ in 0..20 {
        if node.caught_up().await.is_ok() {
            return Ok(());
        }
        cluster.main.sleep(Duration::from_secs(1)).await;
    }
    Err(Violation::new(
        "progress",
        "the log cannot be read though nothing goes wrong",
    ))
}

/// Until everything has happened that is still to come by itself: timers too.
async fn at_rest(scenario: &Scenario, cluster: &Cluster, node: &Node) -> Result<(), Violation> {
    for seconds in 1.. {
        caught_up(cluster, node).await?;
        let timers = match node.handlers().await {
            Ok(handlers) => handlers.iter().map(|handler| handler.timers).sum::<u64>(),
            Err(error) => return Err(Violation::new("progress", error.to_string())),
        };
        if timers == 0 {
            return Ok(());
        }
        if seconds % LONGEST_TIMER == 0
            && stepped(scenario)
            && let Some(newest) = cluster.newest()
        {
            // A clock that was ahead has recorded what timers are measured from: its day is over.
            newest.process.step_clock(26 * 3600 * 1_000_000);
        }
        cluster.main.sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}

/// Whatever was answered is answered the same again.
async fn ask_again(
    scenario: &Scenario,
    cluster: &Cluster,
    history: &History,
    mut node: impl FnMut() -> Option<Arc<Node>>,
) -> Result<(), Violation> {
    let again = history.book().again.clone();
    for (place, ask) in again {
        let operation = history.book().operations[place].clone();
        let What::Command {
            answer: Some(before),
            ..
        } = &operation.what
        else {
            continue;
        };
        let mut tries = 0;
        let now = loop {
            tries += 1;
            let answer = match node() {
                Some(node) => ask(Door::Node(node)).await,
                None => Err(CommandError::Closed),
            };
            match answer {
                Err(error) if is_passing(&error) && tries < 100 => {
                    cluster.main.sleep(Duration::from_millis(100)).await;
                }
                answer => break answer,
            }
        };
        match now {
            Ok(now) => {
                let same = (now.rejected, &now.body) == (before.rejected, &before.body);
                if !same {
                    let what = format!("{operation:?}, and later {}", now.body);
                    return Err(Violation::new("repeats", what));
                }
                cluster.counts.count("answer asked for again");
            }
            // A clock that stepped over the window has let the table forget.
            Err(CommandError::IdExpired { .. }) if stepped(scenario) => {}
            Err(error) => {
                let what = format!("{operation:?}, and later {error}");
                return Err(Violation::new("repeats", what));
            }
        }
    }
    Ok(())
}

fn stepped(scenario: &Scenario) -> bool {
    let faults = scenario.plan.faults();
    faults
        .iter()
        .any(|fault| fault.kind == crate::plan::Kind::Clock)
}

/// Every record of every partition.
async fn whole_log(engine: &dyn Engine) -> Result<Vec<Vec<Arc<Record>>>, Violation> {
    let mut partitions = Vec::new();
    for partition in engine.identity().layout.all() {
        let (mut records, mut after) = (Vec::new(), Offset(0));
        loop {
            let chunk = engine.read_chained(partition, after, ReadLimit::default());
            let chunk = chunk.await.map_err(|error| {
                let what = format!("partition {partition} cannot be read: {error}");
                Violation::new("loss", what)
            })?;
            if chunk.next == after {
                break;
            }
            after = chunk.next;
            records.extend(chunk.records);
        }
        partitions.push(records);
    }
    Ok(partitions)
}

/// All rows of all views, and all states, as JSON.
async fn look(node: &Node, log: &[Vec<Arc<Record>>]) -> Shown {
    let mut shown = Shown::default();
    for (view, _) in node.views() {
        let rows = node.view_rows(&view, "", usize::MAX).unwrap_or_default();
        shown.views.insert(view, rows.into_iter().collect());
    }
    let entities = log.iter().flatten().filter(|r| r.local.version > 0);
    for record in entities {
        let entity = &record.portable.entity;
        if shown.states.contains_key(entity) {
            continue;
        }
        let state = match node.inspect(entity, None).await {
            Ok(state) => state,
            Err(error) => Some((error.to_string().into(), 0)),
        };
        shown.states.insert(entity.clone(), state);
    }
    shown
}
