//! The shape of every partition: offsets and stamps grow, units are whole, versions have no gaps,
//! the hash chain holds.

use std::collections::BTreeMap;

use everfold::engine::record::{Kind, Link};
use everfold::engine::{EntityKey, Offset, Stamp};

use super::Log;

/// Offsets, stamps, units and versions.
///
/// # Errors
/// The first record that is out of order.
pub fn check(log: &Log) -> Result<(), String> {
    for (partition, records) in log.iter().enumerate() {
        let (mut offset, mut stamp, mut index) = (Offset(0), Stamp::default(), 0);
        let mut versions: BTreeMap<&EntityKey, u64> = BTreeMap::new();
        for record in records {
            let (local, unit) = (&record.local, record.portable.unit);
            let at = format!("partition {partition}, offset {}", local.offset);
            if local.offset <= offset || local.stamp <= stamp {
                return Err(format!("{at}: offset or stamp do not grow"));
            }
            (offset, stamp) = (local.offset, local.stamp);
            if unit.index != index {
                return Err(format!("{at}: its unit is not whole"));
            }
            index = if unit.is_last() { 0 } else { index + 1 };
            if record.kind == Kind::Event {
                let version = versions.entry(&record.portable.entity).or_default();
                *version += 1;
                if local.version != *version {
                    let entity = &record.portable.entity;
                    return Err(format!(
                        "{at}: version {} of {entity} where {version} was due",
                        local.version
                    ));
                }
            }
        }
        if index != 0 {
            return Err(format!("partition {partition} ends within a unit"));
        }
    }
    Ok(())
}

/// The hash chain of every partition, if the log has one.
///
/// # Errors
/// The first record whose link does not follow.
pub fn check_chain(log: &Log, chained: bool) -> Result<(), String> {
    for (partition, records) in log.iter().enumerate() {
        let mut link = Link::default();
        for record in records {
            if chained && record.kind != Kind::Claim && record.link_after(link) != record.local.link
            {
                let offset = record.local.offset;
                return Err(format!(
                    "partition {partition}: the chain breaks at offset {offset}"
                ));
            }
            link = record.local.link;
        }
    }
    Ok(())
}
