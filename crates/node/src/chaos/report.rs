//! What came of a run, for programs and for people.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use everfold::engine::Layout;
use serde::Serialize;

use super::check::Violation;
use super::cluster;
use super::faults::Happened;
use super::history::{Operation, Outcome};
use super::plan::{Cut, Fault};

/// The result of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What everything was drawn from.
    pub seed: u64,
    /// What clients did.
    pub workload: &'static str,
    /// How many nodes there were.
    pub nodes: usize,
    /// How long clients asked.
    pub seconds: f64,
    /// Operations by what became of them.
    pub operations: Counts,
    /// The same by what was asked for.
    pub by_operation: BTreeMap<String, Counts>,
    /// What went wrong.
    pub faults: Vec<Suffered>,
    /// How many faults of each sort there were.
    pub faults_by_kind: BTreeMap<&'static str, usize>,
    /// How often a node ended by itself and was started again.
    pub restarts: u32,
    /// The longest time without an operation that was done, in all of the run.
    pub longest_gap_ms: u64,
    /// What does not hold; empty if all does.
    pub violations: Vec<Violation>,
    /// Where the history is, if it was kept.
    pub history: Option<String>,
}

/// Operations by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Done.
    pub ok: u64,
    /// Not done.
    pub fail: u64,
    /// Nobody knows.
    pub info: u64,
}

/// A fault, and how clients felt it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Suffered {
    /// Its sort.
    pub kind: &'static str,
    /// Which node, if it hit one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// From whom it was cut off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Cut>,
    /// When it began.
    pub at_ms: u64,
    /// When it had ended.
    pub until_ms: u64,
    /// How many partitions it hit.
    pub partitions: usize,
    /// The longest time without an operation that was done, until the next fault.
    pub longest_gap_ms: u64,
    /// From its beginning until an operation was done that was asked for after it on one of the
    /// partitions that it hit; nothing if there was none before the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_answer_ms: Option<u64>,
    /// The same until it had happened on every partition that it hit, of those that were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub all_answer_ms: Option<u64>,
}

impl Counts {
    fn count(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Done(_) => self.ok += 1,
            Outcome::Refused => self.fail += 1,
            Outcome::Unknown => self.info += 1,
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The moments at which operations were done, with when and on what they were asked for.
struct Answers {
    /// Ascending by the first.
    all: Vec<(Duration, Duration, usize)>,
    end: Duration,
}

impl Answers {
    fn of(operations: &[Operation], layout: Layout, end: Duration) -> Self {
        let done = operations.iter().filter_map(|operation| {
            let at = operation
                .ended_at
                .filter(|_| matches!(operation.outcome, Outcome::Done(_)))?;
            let partition = layout.partition(&operation.key).index();
            let asked = Duration::from_nanos(operation.begun_at);
            Some((Duration::from_nanos(at), asked, partition))
        });
        let mut all: Vec<_> = done.collect();
        all.sort_unstable();
        Self { all, end }
    }

    /// The longest time without an answer in a stretch.
    fn longest_gap(&self, from: Duration, to: Duration) -> Duration {
        let within = self.all.iter().map(|(at, ..)| *at);
        let within = within.filter(|at| (from..to).contains(at));
        let (mut last, mut longest) = (from, Duration::ZERO);
        for at in within.chain([to]) {
            longest = longest.max(at.saturating_sub(last));
            last = at;
        }
        longest
    }

    /// Per partition that was hit, how long after a moment something asked for after it was done.
    fn recovered(&self, fault: &Happened) -> BTreeMap<usize, Duration> {
        let mut first = BTreeMap::new();
        let hit = |partition: usize| fault.hit.iter().any(|it| it.index() == partition);
        for (at, asked, partition) in &self.all {
            if *asked >= fault.began && hit(*partition) {
                first.entry(*partition).or_insert(*at - fault.began);
            }
        }
        first
    }
}

/// How clients felt each fault.
pub fn suffered(
    operations: &[Operation],
    faults: &[Happened],
    layout: Layout,
    end: Duration,
) -> Vec<Suffered> {
    let answers = Answers::of(operations, layout, end);
    let told = faults.iter().enumerate().map(|(at, fault)| {
        let next = faults.get(at + 1).map_or(answers.end, |next| next.began);
        let recovered = answers.recovered(fault);
        let from = match fault.fault {
            Fault::Partition { from, .. } => Some(from),
            _ => None,
        };
        Suffered {
            kind: fault.fault.kind().name(),
            node: fault.fault.node().map(cluster::name),
            from,
            at_ms: millis(fault.began),
            until_ms: millis(fault.ended.min(answers.end.max(fault.began))),
            partitions: fault.hit.len(),
            longest_gap_ms: millis(answers.longest_gap(fault.began, next)),
            first_answer_ms: recovered.values().min().copied().map(millis),
            all_answer_ms: recovered.values().max().copied().map(millis),
        }
    });
    told.collect()
}

/// The longest time without an answer in all of a run.
pub fn longest_gap(operations: &[Operation], layout: Layout, end: Duration) -> u64 {
    let answers = Answers::of(operations, layout, end);
    millis(answers.longest_gap(Duration::ZERO, end))
}

/// Operations by what was asked for.
pub fn counts(operations: &[Operation]) -> (Counts, BTreeMap<String, Counts>) {
    let (mut all, mut by_operation) = (Counts::default(), BTreeMap::<String, Counts>::new());
    for operation in operations {
        all.count(&operation.outcome);
        let of = by_operation.entry(operation.f.clone()).or_default();
        of.count(&operation.outcome);
    }
    (all, by_operation)
}

/// How many faults of each sort.
pub fn by_kind(faults: &[Suffered]) -> BTreeMap<&'static str, usize> {
    let mut by_kind = BTreeMap::new();
    for fault in faults {
        *by_kind.entry(fault.kind).or_default() += 1;
    }
    by_kind
}

impl Report {
    /// For people.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!(
            "{} over {} nodes for {:.0} s, seed {}",
            self.workload, self.nodes, self.seconds, self.seed
        )];
        let row = |name: &str, counts: &Counts| {
            let Counts { ok, fail, info } = counts;
            format!("{name:<12} {ok:>9} {fail:>9} {info:>9}")
        };
        lines.push(format!(
            "{:<12} {:>9} {:>9} {:>9}",
            "operation", "done", "not done", "unknown"
        ));
        lines.extend(self.by_operation.iter().map(|(f, counts)| row(f, counts)));
        lines.push(row("all", &self.operations));
        lines.push(format!(
            "{:<15} {:<7} {:<9} {:>8} {:>8} {:>10} {:>8} {:>12} {:>12}",
            "fault",
            "node",
            "from",
            "at ms",
            "until",
            "partitions",
            "gap ms",
            "first answer",
            "all answer"
        ));
        for fault in &self.faults {
            let from = match fault.from {
                Some(Cut::Peers) => "peers",
                Some(Cut::Engine) => "engine",
                Some(Cut::Everybody) => "everybody",
                None => "",
            };
            let shown = |millis: Option<u64>| millis.map_or("-".to_owned(), |it| it.to_string());
            lines.push(format!(
                "{:<15} {:<7} {from:<9} {:>8} {:>8} {:>10} {:>8} {:>12} {:>12}",
                fault.kind,
                fault.node.as_deref().unwrap_or_default(),
                fault.at_ms,
                fault.until_ms,
                fault.partitions,
                fault.longest_gap_ms,
                shown(fault.first_answer_ms),
                shown(fault.all_answer_ms),
            ));
        }
        lines.push(format!(
            "longest time without an answer: {} ms; nodes that ended by themselves: {}",
            self.longest_gap_ms, self.restarts
        ));
        if let Some(history) = &self.history {
            lines.push(format!("history: {history}"));
        }
        for violation in &self.violations {
            let Violation { kind, key, what } = violation;
            lines.push(format!("VIOLATION {kind:?} at {key}: {what}"));
        }
        lines.push(match self.violations.len() {
            0 => "nothing that must hold was broken".to_owned(),
            broken => format!("{broken} violations"),
        });
        lines
    }
}

/// A path for a report.
pub fn shown(path: Option<&Path>) -> Option<String> {
    path.map(|path| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn layout() -> Layout {
        Layout::first(4).unwrap()
    }

    fn asked(key: &str, begun_ms: u64, ended_ms: u64, outcome: Outcome) -> Operation {
        Operation {
            process: 0,
            f: "read".to_owned(),
            key: key.to_owned(),
            asked: Value::Null,
            outcome,
            begun: 0,
            ended: Some(1),
            begun_at: begun_ms * 1_000_000,
            ended_at: Some(ended_ms * 1_000_000),
        }
    }

    fn done(key: &str, begun_ms: u64, ended_ms: u64) -> Operation {
        asked(key, begun_ms, ended_ms, Outcome::Done(Value::Null))
    }

    #[test]
    fn a_fault_is_measured_by_what_was_asked_for_after_it() {
        let (hit, other) = ("k1", "k2");
        let partition = layout().partition(hit);
        assert_ne!(partition, layout().partition(other));
        let second = |number: u64| Duration::from_secs(number);
        let fault = |at| Happened {
            fault: Fault::Kill { node: 1 },
            began: second(at),
            ended: second(at + 1),
            hit: vec![partition],
        };
        let operations = [
            done(other, 100, 200),
            // Under way when the fault came: says nothing of a recovery.
            done(hit, 900, 1_100),
            done(other, 1_200, 1_300),
            asked(hit, 1_200, 1_500, Outcome::Refused),
            done(hit, 1_600, 2_800),
            done(hit, 9_000, 9_100),
        ];
        let faults = [fault(1), fault(5)];
        let told = suffered(&operations, &faults, layout(), second(10));
        assert_eq!(told[0].first_answer_ms, Some(1_800));
        assert_eq!(told[0].longest_gap_ms, 2_200);
        assert_eq!(told[0].node.as_deref(), Some("node-2"));
        assert_eq!(told[1].first_answer_ms, Some(4_100));
        assert_eq!(told[1].longest_gap_ms, 4_100);
        assert_eq!(longest_gap(&operations, layout(), second(10)), 6_300);
        let none = suffered(&operations[..1], &faults, layout(), second(10));
        assert_eq!(none[0].first_answer_ms, None);
    }

    #[test]
    fn operations_are_counted_by_what_became_of_them() {
        let operations = [
            done("k", 0, 1),
            asked("k", 1, 2, Outcome::Refused),
            asked("k", 2, 3, Outcome::Unknown),
        ];
        let (all, by_operation) = counts(&operations);
        let one = Counts {
            ok: 1,
            fail: 1,
            info: 1,
        };
        assert_eq!(all, one);
        assert_eq!(by_operation["read"], one);
    }
}
