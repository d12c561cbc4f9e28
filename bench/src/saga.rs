//! What sagas and timers cost beside the appends that they make.

mod alarm;
mod work;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use everfold::engine::{Timestamp, World, world::System};
use everfold::{DataClock, Node, NodeOptions, Open, TimerClock};
use serde::Serialize;

use crate::load::cpu;
use crate::machine::Place;
use crate::output::{Output, say};
use crate::report::{Machine, median};
use crate::turns::{REPETITIONS, hundredths, runtime, tenths};

/// What to measure.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Instances of a saga of four steps, per repetition.
    #[arg(long, default_value_t = 5_000)]
    pub sagas: usize,
    /// Instances at work at once.
    #[arg(long, default_value_t = 64)]
    pub at_once: usize,
    /// Timers that wait at once.
    #[arg(long, default_value_t = 1_000_000)]
    pub timers: u64,
    /// Seconds for which the processor is watched while all of them wait, and before there are any.
    #[arg(long, default_value_t = 5.0)]
    pub idle_seconds: f64,
    /// Where its files are, and how it says what it found.
    #[command(flatten)]
    pub output: Output,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// One thread's time per step of a saga, on a log in memory: everything from asking to the
    /// answer in the saga's stream.
    pub step_us: f64,
    /// The same for the same records, appended as they are, in the same units.
    pub appends_us: f64,
    /// The difference: what a step costs beyond its appends.
    pub beyond_appends_us: f64,
    /// Records per step: the saga's and the participant's.
    pub records_per_step: f64,
    /// Each repetition's cost per step.
    pub step_samples_us: Vec<f64>,
    /// Each repetition's cost of the appends of a step.
    pub append_samples_us: Vec<f64>,
    /// What waited, and what it cost.
    pub timers: Timers,
    /// Where it was measured.
    pub machine: Machine,
}

/// What timers cost.
#[derive(Clone, Debug, Serialize)]
pub struct Timers {
    /// How many waited at once, on the embedded log.
    pub pending: u64,
    /// Commands per second that set one each.
    pub set_per_second: f64,
    /// Processor time of the idle node as a share of one processor, without timers.
    pub idle_before: f64,
    /// The same while all of them waited.
    pub idle_while_pending: f64,
    /// How long a start took with all of them waiting, until handlers were at work.
    pub restart_seconds: f64,
    /// Timers fired per second, their commands durable.
    pub fired_per_second: f64,
    /// Timers that fired before an earlier one of the same entity; must be 0.
    pub out_of_order: u64,
    /// Timers that did not fire exactly once; must be 0.
    pub not_once: u64,
}

/// Measures, and prints what was found to standard output; progress goes to standard error.
///
/// # Errors
/// What kept it from measuring.
///
/// # Panics
/// Inside a tokio runtime: it brings its own.
pub fn run(args: &Args) -> anyhow::Result<()> {
    ensure!(
        args.sagas > 0 && args.at_once > 0,
        "--sagas and --at-once are at least 1"
    );
    let place = Place::find(args.output.data.as_deref())?;
    let (mut step_samples, mut append_samples) = (Vec::new(), Vec::new());
    let mut records_per_step = 0.0;
    for repetition in 1..=REPETITIONS {
        // One thread, so that time is processor time.
        let one = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        let steps = (args.sagas * work::STEPS) as f64;
        let (step, append, records) = one.block_on(async {
            let (taken, units) = work::sagas(args.sagas, args.at_once).await?;
            let records: usize = units.iter().map(|unit| unit.records.len()).sum();
            let appended = work::appends(units, args.at_once).await?;
            anyhow::Ok((taken, appended, records))
        })?;
        step_samples.push(tenths(step.as_secs_f64() * 1e6 / steps));
        append_samples.push(tenths(append.as_secs_f64() * 1e6 / steps));
        records_per_step = hundredths(records as f64 / steps);
        say(format_args!(
            "steps and their appends, {repetition} of {REPETITIONS}"
        ));
    }
    let timers = runtime()?.block_on(timers(args, &place))?;
    let (step, appends) = (
        median(step_samples.iter().copied()),
        median(append_samples.iter().copied()),
    );
    let report = Report {
        step_us: step,
        appends_us: appends,
        beyond_appends_us: tenths(step - appends),
        records_per_step,
        step_samples_us: step_samples,
        append_samples_us: append_samples,
        timers,
        machine: place.machine()?,
    };
    args.output.print(&report, table)
}

fn table(report: &Report) -> String {
    let timers = &report.timers;
    format!(
        "a step of a saga        {:>10.1} us, {:.2} records\n\
         its appends alone       {:>10.1} us\n\
         beyond its appends      {:>10.1} us\n\
         timers waiting          {:>10}\n\
         set per second          {:>10.0}\n\
         idle without timers     {:>10.4} of a processor\n\
         idle while they wait    {:>10.4} of a processor\n\
         start with them         {:>10.2} s\n\
         fired per second        {:>10.0}\n\
         out of order, not once  {:>10} {}\n",
        report.step_us,
        report.records_per_step,
        report.appends_us,
        report.beyond_appends_us,
        timers.pending,
        timers.set_per_second,
        timers.idle_before,
        timers.idle_while_pending,
        timers.restart_seconds,
        timers.fired_per_second,
        timers.out_of_order,
        timers.not_once,
    )
}

const START: Timestamp = Timestamp(1_000_000_000_000_000);

async fn open(place: &Place, clock: &DataClock) -> anyhow::Result<Arc<Node>> {
    let address = format!("file:{}", place.path().join("timers").display());
    let options = NodeOptions {
        timers: TimerClock::Driven(clock.clone()),
        ..NodeOptions::default()
    };
    let node = alarm::application().open_with(&address, options).await?;
    Ok(Arc::new(node))
}

async fn timers(args: &Args, place: &Place) -> anyhow::Result<Timers> {
    let clock = DataClock::at(START);
    let node = open(place, &clock).await?;
    let idle_time = Duration::from_secs_f64(args.idle_seconds);
    let idle_before = idle(idle_time).await;
    say(format_args!("setting {} timers", args.timers));
    let begin = Instant::now();
    alarm::set(&node, args.timers, START).await?;
    node.caught_up().await?;
    let set_per_second = args.timers as f64 / begin.elapsed().as_secs_f64();
    node.close().await;
    drop(node);

    let begin = Instant::now();
    let node = open(place, &clock).await?;
    // Nobody can be told when a node has read its timers: it is asked how many it has.
    while alarm::pending(&node).await? < args.timers {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let restart_seconds = begin.elapsed().as_secs_f64();
    // What the start has left to do must not count.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let idle_while_pending = idle(idle_time).await;
    say("firing them");
    let begin = Instant::now();
    clock.advance(Timestamp(i64::MAX));
    node.caught_up().await?;
    let fired_per_second = args.timers as f64 / begin.elapsed().as_secs_f64();
    let (out_of_order, not_once) = alarm::check(&node, args.timers).await?;
    node.close().await;
    Ok(Timers {
        pending: args.timers,
        set_per_second: set_per_second.round(),
        idle_before,
        idle_while_pending,
        restart_seconds: hundredths(restart_seconds),
        fired_per_second: fired_per_second.round(),
        out_of_order,
        not_once,
    })
}

/// The share of a processor that the process takes while nobody asks it for anything.
async fn idle(time: Duration) -> f64 {
    let before = (Instant::now(), cpu());
    tokio::time::sleep(time).await;
    let share = (cpu() - before.1).as_secs_f64() / before.0.elapsed().as_secs_f64();
    (share * 10_000.0).round() / 10_000.0
}

/// The world of the current runtime.
fn world() -> Arc<dyn World> {
    System::current()
}
