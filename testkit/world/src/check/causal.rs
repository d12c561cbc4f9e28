//! Causes come before effects, in the one order that all readers of a merge see.

use std::collections::BTreeMap;

use super::Log;
use super::twice::is_timer;

/// Every record lies above what caused it: the event that its command answers, the event that its
/// handler read, and the dots that it names.
///
/// # Errors
/// The first effect before its cause, or without one.
pub fn check(log: &Log) -> Result<(), String> {
    let all = || log.iter().flatten();
    let by_id: BTreeMap<_, _> = all()
        .filter(|record| record.local.version > 0)
        .map(|record| (record.portable.event_id, record.local.stamp))
        .collect();
    let by_dot: BTreeMap<_, _> = all()
        .filter_map(|record| Some((record.portable.dot.clone()?, record.local.stamp)))
        .collect();
    let by_place: BTreeMap<_, _> = log
        .iter()
        .enumerate()
        .flat_map(|(partition, records)| {
            let place = move |offset| (partition, offset);
            records
                .iter()
                .map(move |r| (place(r.local.offset), r.local.stamp))
        })
        .collect();
    for (partition, records) in log.iter().enumerate() {
        for record in records {
            let (portable, local) = (&record.portable, &record.local);
            let at = || format!("partition {partition}, offset {}", local.offset);
            let source = local.reply.as_ref().and_then(|reply| reply.source.as_ref());
            // A timer has a number of its own in place of its event's offset.
            let timed = source.is_some_and(is_timer);
            let causes = source
                .filter(|_| !timed)
                .map(|source| by_place.get(&(source.partition.index(), source.offset)))
                .into_iter()
                .chain(portable.causes.iter().map(|dot| by_dot.get(dot)))
                .chain(
                    portable
                        .causation
                        .filter(|_| portable.hops > 0 || timed)
                        .map(|id| by_id.get(&id)),
                );
            for cause in causes {
                match cause {
                    Some(cause) if *cause < local.stamp => {}
                    Some(_) => return Err(format!("{} does not lie above its cause", at())),
                    None => return Err(format!("{} has a cause that the log does not have", at())),
                }
            }
        }
    }
    Ok(())
}
