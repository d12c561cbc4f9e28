//! Real nodes on this machine, faults that really happen, and what clients may expect all the same.
//!
//! - [`plan`]: what goes wrong, and when; pure
//! - [`history`]: what clients asked for and were told; pure
//! - [`check`]: what must hold of a history and of the log; pure
//! - [`cluster`]: a store and nodes, in [`processes`] and, to be cut off, in a [`net`]work;
//!   [`relay`]: a way to the store that can be slow
//! - [`faults`]: makes a plan come true
//! - [`workload`]: what clients do; [`clients`]: those who do it; [`recorder`]: who writes it down
//! - [`report`]: what came of it

pub mod check;
pub mod clients;
pub mod cluster;
pub mod faults;
pub mod history;
pub mod net;
pub mod plan;
pub mod processes;
pub mod recorder;
pub mod relay;
pub mod report;
pub mod workload;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use everfold::engine::World;
use everfold::engine::world::System;
use tokio::runtime::Handle;
use tokio::sync::watch;

use check::{Violation, ViolationKind};
use clients::Clients;
use cluster::{Cluster, Shape};
use faults::Done;
use history::Entry;
use plan::Planned;
pub use processes::is_running;
use recorder::Recorder;
use report::Report;
use workload::Workload;

use crate::output::{Progress, say};

/// Before the number of the process in the name of a folder.
const FOLDER: &str = "everfold-chaos-";
/// How long the cluster may take to be whole again when all faults have ended.
const RECOVERY: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(200);

/// What a run is to be.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the nodes are made of.
    pub shape: Shape,
    /// How long clients ask.
    pub length: Duration,
    /// What goes wrong.
    pub plan: Vec<Planned>,
    /// How clients ask.
    pub clients: clients::Terms,
    /// Where the history is to be kept.
    pub history: Option<PathBuf>,
    /// What everything was drawn from.
    pub seed: u64,
}

/// Lives through a plan, and judges it. Ends early, in order, when it is asked to.
///
/// # Errors
/// It could not be carried out, whatever the nodes have done.
pub async fn run<W: Workload>(
    workload: W,
    settings: Settings,
    mut interrupt: watch::Receiver<bool>,
) -> anyhow::Result<Report> {
    let workload = Arc::new(workload);
    let world: Arc<dyn World> = System::current();
    let (shape, handle) = (settings.shape.clone(), Handle::current());
    let of_cluster = world.clone();
    say(&format!(
        "starting a store and {} nodes in {}",
        shape.nodes,
        shape.folder.display()
    ));
    let starting = move || Cluster::start(&shape, &handle, of_cluster);
    let cluster = blocking(starting).await?;
    let layout = cluster.view().layout();
    let identity = cluster.client()?;
    let addresses = cluster.addresses().to_vec();
    let clients = Clients::connect(
        workload.clone(),
        &identity,
        &addresses,
        &world,
        settings.clients,
    );
    let clients = clients.await?;
    let recorder = Arc::new(Recorder::new(settings.history.as_deref())?);
    let began = Instant::now();

    let (stop_faults, faults_stop) = mpsc::channel();
    let plan = settings.plan.clone();
    let going_wrong = tokio::task::spawn_blocking(move || {
        let mut cluster = cluster;
        let done = faults::run(&mut cluster, &plan, began, &faults_stop);
        (cluster, done)
    });
    let (stop_clients, clients_stop) = watch::channel(false);
    let asking = tokio::spawn(clients.run(recorder.clone(), clients_stop));
    watch_over(&recorder, settings.length, &mut interrupt).await;
    stop_clients.send_replace(true);
    let length = recorder.elapsed();
    // It may have ended, by an error.
    let _ = stop_faults.send(());
    let (cluster, done) = going_wrong.await?;
    let done = done.context("a fault could not be made")?;
    asking.await?;
    let entries = recorder.finish()?;
    judge(
        workload,
        &settings,
        cluster,
        (entries, done),
        (layout, length),
    )
    .await
}

async fn watch_over(recorder: &Recorder, length: Duration, interrupt: &mut watch::Receiver<bool>) {
    let progress = Progress::new("milliseconds", length.as_millis() as u64);
    while recorder.elapsed() < length {
        let left = length.saturating_sub(recorder.elapsed());
        progress.reach(recorder.elapsed().as_millis() as u64);
        tokio::select! { biased;
            Ok(_) = interrupt.wait_for(|asked| *asked) => {
                say("ending early");
                break;
            }
            () = tokio::time::sleep(TICK.min(left)) => {}
        }
    }
    progress.finish();
}

/// Waits until the cluster is whole, ends it, and checks what is left.
async fn judge<W: Workload>(
    workload: Arc<W>,
    settings: &Settings,
    mut cluster: Cluster,
    (entries, done): (Vec<Entry>, Done),
    (layout, length): (everfold::engine::Layout, Duration),
) -> anyhow::Result<Report> {
    say("all faults have ended; checking");
    let (cluster, whole, restarts) = blocking(move || {
        let whole = cluster.become_whole(RECOVERY);
        let restarts = cluster.supervise()?;
        cluster.stop_nodes();
        Ok((cluster, whole, restarts))
    })
    .await?;
    let mut violations = Vec::new();
    if let Err(error) = whole {
        let what = format!("{error:#}");
        violations.push(Violation::new(ViolationKind::NotWhole, "cluster", what));
    }
    let operations = history::operations(&entries)?;
    let engine = cluster.view().engine().clone();
    violations.extend(workload.check(&engine, &operations).await?);
    engine.close().await;
    // Processes and networks end before the report says that all is over.
    blocking(move || {
        drop(cluster);
        Ok(())
    })
    .await?;
    let faults = report::suffered(&operations, &done.happened, layout, length);
    let (all, by_operation) = report::counts(&operations);
    Ok(Report {
        seed: settings.seed,
        workload: workload.name(),
        nodes: settings.shape.nodes,
        seconds: length.as_secs_f64(),
        operations: all,
        by_operation,
        faults_by_kind: report::by_kind(&faults),
        faults,
        restarts,
        longest_gap_ms: report::longest_gap(&operations, layout, length),
        violations,
        history: report::shown(settings.history.as_deref()),
    })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| anyhow!("a part of the run has panicked: {error}"))?
}

/// A folder for this run, empty.
///
/// # Errors
/// It cannot be made.
pub fn make_folder() -> anyhow::Result<PathBuf> {
    let name = format!("{FOLDER}{}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    let made = fs::create_dir(&folder);
    made.with_context(|| format!("{} cannot be made", folder.display()))?;
    Ok(folder)
}

/// Ends and removes what runs that are gone have left behind: processes, networks, folders. A run
/// whose folder lies elsewhere leaves that one.
pub fn remove_left_behind() {
    let entries = fs::read_dir(std::env::temp_dir()).into_iter().flatten();
    for path in entries.flatten().map(|entry| entry.path()) {
        if maker(&path).is_some_and(|pid| !is_running(pid)) {
            processes::kill_left_behind(&path);
            // A server that was left running is ended first.
            let _ = everfold_postgres::server::PrivateServer::remove(&path.join("postgres"));
            let _ = fs::remove_dir_all(&path);
        }
    }
    net::remove_left_behind();
}

fn maker(folder: &Path) -> Option<u32> {
    let name = folder.file_name()?.to_str()?;
    name.strip_prefix(FOLDER)?.parse().ok()
}
