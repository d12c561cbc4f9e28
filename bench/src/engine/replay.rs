//! Reading the whole log, against a bare copy of the same columns.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use everfold_engine::engine::ReadLimit;
use everfold_engine::{Engine, Offset};
use everfold_postgres::Postgres;
use futures_util::{StreamExt as _, pin_mut};

use super::report::Replay;
use crate::load::cpu;
use crate::output::say;
use crate::report::median;
use crate::turns::{REPETITIONS, hundredths, thousandths};

/// The columns that the engine reads of a row.
const COLUMNS: &str = "log_offset, epoch, batch, tenant, entity_type, entity_id, event_type, \
                       payload, payload_bytes, link, rest";

/// Both sides by turns, after one pass of each that does not count.
pub(super) async fn measure(log: &Arc<Postgres>, schema: &str) -> anyhow::Result<Replay> {
    let (events, _) = replay(log).await?;
    copy(log, schema).await?;
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    let (mut cpus, mut bare_cpus, mut bare_bytes) = (Vec::new(), Vec::new(), 0);
    for repetition in 1..=REPETITIONS {
        let before = cpu();
        let (copied, bytes, taken) = copy(log, schema).await?;
        bare_cpus.push(per_event(cpu() - before, events));
        bare.push(rate(events, taken));
        bare_bytes = bytes;
        let before = cpu();
        let (read, taken) = replay(log).await?;
        cpus.push(per_event(cpu() - before, events));
        ours.push(rate(events, taken));
        ensure!(
            read == events && copied == events,
            "a side did not read all events: {read} and {copied} of {events}"
        );
        say(format_args!(
            "replay, {repetition} of {REPETITIONS}: {:.0}/s, bare copy {:.0}/s",
            rate(events, taken),
            bare.last().copied().unwrap_or_default()
        ));
    }
    let per_second = median(ours.iter().copied());
    let bare_per_second = median(bare.iter().copied());
    Ok(Replay {
        events,
        events_per_second: per_second,
        bare_per_second,
        bare_bytes_per_event: (bare_bytes as f64 / events.max(1) as f64).round(),
        ratio: thousandths(per_second / bare_per_second),
        cpu_us_per_event: hundredths(median(cpus)),
        bare_cpu_us: hundredths(median(bare_cpus)),
        samples: ours,
        bare_samples: bare,
    })
}

/// Every partition through the contract, one after the other, with the limits that handlers use.
async fn replay(log: &Arc<Postgres>) -> anyhow::Result<(u64, Duration)> {
    let engine: Arc<dyn Engine> = log.clone();
    let mut events = 0;
    let begin = Instant::now();
    for partition in engine.identity().layout.all() {
        let head = engine.safe_head(partition).await?;
        let mut after = Offset(0);
        while after < head {
            let chunk = engine.read(partition, after, ReadLimit::default()).await?;
            ensure!(chunk.next > after, "a read brought nothing");
            events += chunk.records.len() as u64;
            after = chunk.next;
        }
    }
    Ok((events, begin.elapsed()))
}

/// Rows, bytes and time of the same, copied to this process and thrown away.
async fn copy(log: &Arc<Postgres>, schema: &str) -> anyhow::Result<(u64, u64, Duration)> {
    let session = log.session().await?;
    let (mut rows, mut bytes) = (0, 0);
    let begin = Instant::now();
    for partition in log.identity().layout.all() {
        let sql = format!(
            "copy (select {COLUMNS} from {schema}.event where partition = {partition} \
             order by log_offset) to stdout (format binary)"
        );
        let stream = session.copy_out(&sql).await?;
        pin_mut!(stream);
        let mut pieces = 0;
        while let Some(piece) = stream.next().await {
            bytes += piece?.len() as u64;
            pieces += 1;
        }
        // The server sends a piece for each row, and one for the end.
        rows += pieces - 1;
    }
    Ok((rows, bytes, begin.elapsed()))
}

fn rate(events: u64, taken: Duration) -> f64 {
    (events as f64 / taken.as_secs_f64()).round()
}

fn per_event(cpu: Duration, events: u64) -> f64 {
    cpu.as_secs_f64() * 1e6 / events.max(1) as f64
}
