//! What was found.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use crate::report::Machine;
use crate::turns::{Side, tenths, thousandths};

/// All that one run of the measurement found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// One entry per number of clients.
    pub runs: Vec<Run>,
    /// From node to node and back.
    pub hop: Hop,
    /// Planned moves under load.
    pub moves: Moves,
    /// More commands than can be done.
    pub overload: Option<Overload>,
    /// When a command is acknowledged.
    pub durability: String,
    /// Where it was measured.
    pub machine: Machine,
}

/// Commands at one number of clients: medians of the repetitions.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// How many clients send one command at a time.
    pub clients: usize,
    /// One node without others, asked in its process.
    pub one_node_per_second: f64,
    /// The same node as a cluster of its own, asked by a client outside, as the three are.
    pub outside_per_second: f64,
    /// Three nodes, each command sent to its owner by a client outside.
    pub aware_per_second: f64,
    /// Three nodes, each command given to a node that does not own it.
    pub forwarded_per_second: f64,
    /// Three nodes asked by a client outside, as a share of one node asked so.
    pub aware_to_outside_ratio: f64,
    /// Three nodes asked by a client outside, as a share of one asked in its process.
    pub aware_ratio: f64,
    /// All forwarded, as a share of one node asked in its process.
    pub forwarded_ratio: f64,
    /// Half were answered within this.
    pub one_node_p50_us: f64,
    /// The same from outside.
    pub outside_p50_us: f64,
    /// The same for the owners of three.
    pub aware_p50_us: f64,
    /// And all forwarded.
    pub forwarded_p50_us: f64,
    /// Processor time per command of the whole process, clients and all nodes.
    pub one_node_cpu_us: f64,
    /// The same from outside.
    pub outside_cpu_us: f64,
    /// The same for the owners of three.
    pub aware_cpu_us: f64,
    /// And all forwarded.
    pub forwarded_cpu_us: f64,
}

/// A read from memory, without the store.
#[derive(Clone, Debug, Serialize)]
pub struct Hop {
    /// At the owner.
    pub here_p50_us: f64,
    /// At another node.
    pub there_p50_us: f64,
    /// What the way adds.
    pub added_p50_us: f64,
}

/// The longest wait of a partition's client while its partition moved.
#[derive(Clone, Debug, Serialize)]
pub struct Moves {
    /// How many partitions have moved.
    pub moved: usize,
    /// Commands that failed.
    pub failed: u64,
    /// Half waited less.
    pub p50_ms: f64,
    /// All but a hundredth waited less.
    pub p99_ms: f64,
    /// The longest.
    pub longest_ms: f64,
    /// The same as `p99_ms` of moves from a node that drains, ends and leaves.
    pub leaving_p99_ms: f64,
    /// And of moves to a node that has just joined.
    pub joining_p99_ms: f64,
    /// The longest wait of a client in two seconds without moves, at p99.
    pub calm_p99_ms: f64,
}

/// Commands that arrive by schedule at a client that knows the owners, over three nodes.
#[derive(Clone, Debug, Serialize)]
pub struct Overload {
    /// The most that was done of any number, as far as more than that was asked for.
    pub capacity_per_second: f64,
    /// What was done of twice as many, as a share of the most that was done.
    pub goodput_ratio: f64,
    /// Memory of the process, clients and all nodes, before.
    pub resident_at_start_mib: u64,
    /// As many as can be done.
    pub once: Arrivals,
    /// Twice as many.
    pub twice: Arrivals,
}

/// What became of commands that arrived at one rate.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Arrivals {
    /// The rate, in capacities.
    pub times: f64,
    /// How many have arrived.
    pub arrived: u64,
    /// Acknowledged.
    pub done: u64,
    /// Refused as too much, with a hint.
    pub overloaded: u64,
    /// Failed in another way.
    pub other: u64,
    /// Acknowledged per second while commands arrived.
    pub done_per_second: f64,
    /// Half of the acknowledged waited less, from when they were due.
    pub done_p50_ms: f64,
    /// All but a hundredth of them.
    pub done_p99_ms: f64,
    /// Half of the refused were told to come back sooner.
    pub hint_p50_ms: u64,
    /// The most memory that the process had meanwhile.
    pub resident_peak_mib: u64,
}

impl Run {
    pub(super) fn of(clients: usize, sides: &[Side; 4]) -> Self {
        let [one, outside, aware, forwarded] = sides;
        let rate = |side: &Side| side.median(|found| found.per_second);
        let p50 = |side: &Side| tenths(side.median(|found| found.p50_us));
        Self {
            clients,
            one_node_per_second: rate(one).round(),
            outside_per_second: rate(outside).round(),
            aware_per_second: rate(aware).round(),
            forwarded_per_second: rate(forwarded).round(),
            aware_to_outside_ratio: thousandths(rate(aware) / rate(outside)),
            aware_ratio: thousandths(rate(aware) / rate(one)),
            forwarded_ratio: thousandths(rate(forwarded) / rate(one)),
            one_node_p50_us: p50(one),
            outside_p50_us: p50(outside),
            aware_p50_us: p50(aware),
            forwarded_p50_us: p50(forwarded),
            one_node_cpu_us: tenths(one.cpu_us()),
            outside_cpu_us: tenths(outside.cpu_us()),
            aware_cpu_us: tenths(aware.cpu_us()),
            forwarded_cpu_us: tenths(forwarded.cpu_us()),
        }
    }
}

impl Moves {
    pub(super) fn of(
        mut leaving: Vec<Duration>,
        mut joining: Vec<Duration>,
        mut calm: Vec<Duration>,
        failed: u64,
    ) -> Self {
        let mut pauses = [&leaving[..], &joining[..]].concat();
        for times in [&mut pauses, &mut leaving, &mut joining, &mut calm] {
            times.sort();
        }
        let at = |times: &[Duration], share: f64| {
            let place = (times.len() as f64 * share).ceil() as usize;
            let time = times.get(place.clamp(1, times.len().max(1)) - 1);
            tenths(time.map_or(0.0, |time| time.as_secs_f64() * 1000.0))
        };
        Self {
            moved: pauses.len(),
            failed,
            p50_ms: at(&pauses, 0.5),
            p99_ms: at(&pauses, 0.99),
            longest_ms: at(&pauses, 1.0),
            leaving_p99_ms: at(&leaving, 0.99),
            joining_p99_ms: at(&joining, 0.99),
            calm_p99_ms: at(&calm, 0.99),
        }
    }
}

impl Report {
    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "clients   one node/s   from outside/s   three, aware/s   to outside   to one   all forwarded/s   to one   p50 us"
        );
        for run in &self.runs {
            let _ = writeln!(
                text,
                "{:>7} {:>12} {:>16} {:>16} {:>12} {:>8} {:>17} {:>8}   {} / {} / {} / {}",
                run.clients,
                run.one_node_per_second,
                run.outside_per_second,
                run.aware_per_second,
                run.aware_to_outside_ratio,
                run.aware_ratio,
                run.forwarded_per_second,
                run.forwarded_ratio,
                run.one_node_p50_us,
                run.outside_p50_us,
                run.aware_p50_us,
                run.forwarded_p50_us
            );
        }
        let (hop, moves) = (&self.hop, &self.moves);
        let _ = writeln!(
            text,
            "a hop adds {:.1} us at p50 ({:.1} here, {:.1} there)",
            hop.added_p50_us, hop.here_p50_us, hop.there_p50_us
        );
        let _ = writeln!(
            text,
            "{} moves: pause p50 {} ms, p99 {} ms (leaving {}, joining {}), longest {} ms (without moves p99 {} ms); {} commands failed",
            moves.moved,
            moves.p50_ms,
            moves.p99_ms,
            moves.leaving_p99_ms,
            moves.joining_p99_ms,
            moves.longest_ms,
            moves.calm_p99_ms,
            moves.failed
        );
        if let Some(overload) = &self.overload {
            let _ = writeln!(
                text,
                "overload: of {} commands/s {} are done of twice as many (goodput {}); {} MiB at the start",
                overload.capacity_per_second,
                overload.twice.done_per_second,
                overload.goodput_ratio,
                overload.resident_at_start_mib
            );
            for part in [&overload.once, &overload.twice] {
                let _ = writeln!(
                    text,
                    "  x{}: {} arrived, {} done, {} overloaded (hint p50 {} ms), {} other; {}/s, p50 {} ms, p99 {} ms; at most {} MiB",
                    part.times,
                    part.arrived,
                    part.done,
                    part.overloaded,
                    part.hint_p50_ms,
                    part.other,
                    part.done_per_second,
                    part.done_p50_ms,
                    part.done_p99_ms,
                    part.resident_peak_mib
                );
            }
        }
        let _ = writeln!(text, "{}\n{}", self.durability, self.machine.line());
        text
    }
}
