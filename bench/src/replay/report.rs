//! What a run found, as JSON and as a table.

use serde::Serialize;

use crate::report::Machine;
use crate::unit::Ids;

/// All that one run of the measurement found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// A log as it is by default.
    pub plain: Store,
    /// A log that compresses what it has sealed; `None` while there is no such option.
    pub compressed: Option<Store>,
    /// How the page cache was emptied before whatever is called cold.
    pub cold_by: &'static str,
    /// Where it was measured.
    pub machine: Machine,
}

/// One log.
#[derive(Clone, Debug, Serialize)]
pub struct Store {
    /// How many it holds.
    pub events: usize,
    /// Over how many partitions.
    pub partitions: u16,
    /// How many were appended at a time.
    pub events_per_batch: usize,
    /// Which of an event's ids are the same.
    pub ids: Ids,
    /// How fast they were appended, one batch per partition under way.
    pub loaded_per_second: f64,
    /// Bytes of its files, without the space that was filled ahead.
    pub stored_bytes: u64,
    /// The same per event.
    pub stored_bytes_per_event: f64,
    /// Bytes of indexes on disk, which can be made again from the others.
    pub index_bytes: u64,
    /// All of it, in order of partitions.
    pub whole: Whole,
    /// One entity's events.
    pub history: History,
    /// A reader that waits for what is appended.
    pub live: Live,
    /// Opening it after it was closed in order.
    pub opening: Opening,
}

/// Reading all events on one core: medians of five by turns.
#[derive(Clone, Debug, Serialize)]
pub struct Whole {
    /// Through the log, files in the page cache.
    pub warm_events_per_second: f64,
    /// The same in bytes of the files.
    pub warm_mb_per_second: f64,
    /// Processor time per event.
    pub warm_cpu_us_per_event: f64,
    /// The same bytes read in order, with one CRC-32 over all of them.
    pub bare_warm_events_per_second: f64,
    /// The same in bytes of the files.
    pub bare_warm_mb_per_second: f64,
    /// Ours as a share of the bare reading.
    pub warm_ratio: f64,
    /// Through the log, the page cache empty.
    pub cold_events_per_second: f64,
    /// The same in bytes of the files.
    pub cold_mb_per_second: f64,
    /// The same bytes read in order from the device, without a checksum.
    pub device_mb_per_second: f64,
    /// Ours as a share of the device's.
    pub cold_ratio: f64,
    /// Bytes that came from the device in a cold pass, as a share of the files': 1 if it was cold.
    pub cold_from_device: f64,
}

/// Reading the events of entities at random.
#[derive(Clone, Debug, Serialize)]
pub struct History {
    /// How many each has, far apart.
    pub events_per_entity: usize,
    /// Files in the page cache: half of the entities were read within this.
    pub warm_p50_us: f64,
    /// All but a hundredth were.
    pub warm_p99_us: f64,
    /// As many blocks of 4 KiB at random places, in the page cache.
    pub bare_warm_p50_us: f64,
    /// The page cache emptied before each entity.
    pub cold_p50_us: f64,
    /// The 99th percentile of it.
    pub cold_p99_us: f64,
    /// As many blocks of 4 KiB at random places, one after the other, from the device.
    pub bare_cold_p50_us: f64,
}

/// One append at a time, and a reader in a task of its own.
#[derive(Clone, Debug, Serialize)]
pub struct Live {
    /// How many.
    pub appends: usize,
    /// From the call to the acknowledgement.
    pub ack_p50_us: f64,
    /// The 99th percentile of it.
    pub ack_p99_us: f64,
    /// From the call until the reader holds the event.
    pub held_p50_us: f64,
    /// The 99th percentile of it.
    pub held_p99_us: f64,
    /// From the acknowledgement until the reader holds the event; negative if the reader was first.
    pub ack_to_held_p50_us: f64,
    /// The 99th percentile of it.
    pub ack_to_held_p99_us: f64,
}

/// From the call to a log that takes appends: medians of five.
#[derive(Clone, Debug, Serialize)]
pub struct Opening {
    /// Open, files in the page cache.
    pub open_warm_ms: f64,
    /// Until a partition was claimed and the first append was durable.
    pub first_append_warm_ms: f64,
    /// Open, the page cache empty.
    pub open_cold_ms: f64,
    /// Until the first append was durable.
    pub first_append_cold_ms: f64,
}

impl Report {
    /// A table for people.
    pub fn table(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::new();
        let _ = writeln!(text, "{}", self.machine.line());
        let _ = writeln!(
            text,
            "cold: {}\n\n{}",
            self.cold_by,
            self.plain.table("plain")
        );
        match &self.compressed {
            Some(store) => text.push_str(&store.table("compressed")),
            None => text.push_str("compressed: this version has no such option\n"),
        }
        text
    }
}

impl Store {
    fn table(&self, name: &str) -> String {
        let (whole, history, live, opening) =
            (&self.whole, &self.history, &self.live, &self.opening);
        let head = format!(
            "{name}: {} events in batches of {}, {} partitions, loaded at {:.0}/s",
            self.events, self.events_per_batch, self.partitions, self.loaded_per_second
        );
        let lines = [
            head,
            format!(
                "  stored            {:>12.1} bytes per event",
                self.stored_bytes_per_event
            ),
            format!(
                "  replay warm       {:>12.0} events/s, {:.0} MB/s; bare {:.0} MB/s, ratio {:.3}; {:.2} us of processor per event",
                whole.warm_events_per_second,
                whole.warm_mb_per_second,
                whole.bare_warm_mb_per_second,
                whole.warm_ratio,
                whole.warm_cpu_us_per_event
            ),
            format!(
                "  replay cold       {:>12.0} events/s, {:.0} MB/s; device {:.0} MB/s, ratio {:.3}; {:.0} % from the device",
                whole.cold_events_per_second,
                whole.cold_mb_per_second,
                whole.device_mb_per_second,
                whole.cold_ratio,
                whole.cold_from_device * 100.0
            ),
            format!(
                "  {:>3} of an entity {:>12.1} us warm (p99 {:.1}, bare {:.1}), {:.1} us cold (p99 {:.1}, bare {:.1})",
                history.events_per_entity,
                history.warm_p50_us,
                history.warm_p99_us,
                history.bare_warm_p50_us,
                history.cold_p50_us,
                history.cold_p99_us,
                history.bare_cold_p50_us
            ),
            format!(
                "  live reader       {:>12.1} us after the acknowledgement (p99 {:.1}); acknowledged {:.1} us, held {:.1} us after the call",
                live.ack_to_held_p50_us, live.ack_to_held_p99_us, live.ack_p50_us, live.held_p50_us
            ),
            format!(
                "  first append      {:>12.1} ms after the start warm (open {:.1}), {:.1} ms cold (open {:.1})",
                opening.first_append_warm_ms,
                opening.open_warm_ms,
                opening.first_append_cold_ms,
                opening.open_cold_ms
            ),
        ];
        lines.join("\n") + "\n"
    }
}
