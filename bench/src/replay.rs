//! Reading a log: all of it, one entity, as it is written, and when it is opened.

mod files;
mod history;
mod live;
mod load;
mod opening;
mod report;
mod whole;

use std::path::Path;

use anyhow::ensure;
use everfold_engine::Layout;
use everfold_log::Options;

use crate::machine::Place;
use crate::order::ORDERS;
use crate::output::{Output, say};
use crate::turns::runtime;
use crate::unit::Ids;
use files::Files;

pub use report::{History, Live, Opening, Report, Store, Whole};

/// How many events an entity has, unless there are more than ten for each.
const HISTORY: usize = 10;

/// What to measure.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// How many events the log holds.
    #[arg(long, default_value_t = 1_000_000)]
    pub events: usize,
    /// Over how many partitions.
    #[arg(long, default_value_t = 16)]
    pub partitions: u16,
    /// In batches of so many.
    #[arg(long, default_value_t = 100)]
    pub batch: usize,
    /// Which of an event's ids are the same.
    #[arg(long, value_enum, default_value_t = Ids::Distinct)]
    pub ids: Ids,
    /// Appends that a waiting reader is timed with.
    #[arg(long, default_value_t = 1000)]
    pub live: usize,
    /// Entities whose history is read.
    #[arg(long, default_value_t = 500)]
    pub entities: usize,
    /// Where its files are, and how it says what it found.
    #[command(flatten)]
    pub output: Output,
}

/// Measures, and prints what was found to standard output; progress goes to standard error.
///
/// # Errors
/// What kept it from measuring.
///
/// # Panics
/// Inside a tokio runtime: it brings its own.
pub fn run(args: &Args) -> anyhow::Result<()> {
    args.output.print(&report(args)?, Report::table)
}

/// Measures.
///
/// # Errors
/// As for [`run`].
///
/// # Panics
/// As for [`run`].
pub fn report(args: &Args) -> anyhow::Result<Report> {
    ensure!(
        (HISTORY..=1_000_000_000).contains(&args.events),
        "--events are 10 to a thousand million"
    );
    ensure!((1..=4096).contains(&args.batch), "--batch is 1 to 4096");
    ensure!(args.entities > 0, "--entities are 1 at least");
    ensure!(args.live > 0, "--live is 1 append at least");
    let place = Place::find(args.output.data.as_deref())?;
    let machine = place.machine()?;
    let mut plain = Options::default();
    plain.partitions = Some(Layout::first(args.partitions)?.partitions);
    plain.compression = None;
    let compressed = match compressed(&plain) {
        Some(options) => Some(store(args, &place.path().join("compressed"), &options)?),
        None => None,
    };
    Ok(Report {
        plain: store(args, &place.path().join("plain"), &plain)?,
        compressed,
        cold_by: "posix_fadvise(POSIX_FADV_DONTNEED) on every file",
        machine,
    })
}

/// The options of a log that compresses all that it has sealed.
fn compressed(plain: &Options) -> Option<Options> {
    let mut options = plain.clone();
    options.compression = Options::default().compression;
    options.plain_segments = 0;
    Some(options)
}

/// One log from its first event to its last reading.
fn store(args: &Args, directory: &Path, options: &Options) -> anyhow::Result<Store> {
    let entities = (args.events / HISTORY).min(ORDERS);
    let events = args.events / entities * entities;
    say(format_args!(
        "loading {events} events into {}",
        directory.display()
    ));
    let load = load::Load {
        entities,
        rounds: args.events / entities,
        batch: args.batch,
        ids: args.ids,
    };
    let loaded_per_second = runtime()?.block_on(load::load(directory, options, &load))?;
    let files = Files::of(directory)?;
    say("opening");
    let opening = runtime()?.block_on(opening::measure(directory, options, &files))?;
    // Opening appended a little.
    let files = Files::of(directory)?;
    say("reading all of it");
    let whole = whole::measure(directory, options, &files, events)?;
    say("reading entities");
    let history = history::measure(directory, options, &files, &load, args.entities);
    let history = runtime()?.block_on(history)?;
    say("reading what is being written");
    let live = runtime()?.block_on(live::measure(directory, options, args.live))?;
    Ok(Store {
        events,
        partitions: args.partitions,
        events_per_batch: args.batch,
        ids: args.ids,
        loaded_per_second: loaded_per_second.round(),
        stored_bytes: files.bytes(),
        stored_bytes_per_event: crate::turns::tenths(files.bytes() as f64 / events as f64),
        index_bytes: files.index_bytes(),
        whole,
        history,
        live,
        opening,
    })
}
