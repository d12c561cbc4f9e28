//! In which order everything is measured.

mod reading;

use std::path::PathBuf;
use std::time::Duration;

use crate::check;
use crate::load::{Measured, Subject};
use crate::machine::Place;
use crate::report::{Append, Failed, LeftOut, Missing, Report, median};
use crate::server::{self, Programs};
use crate::stores::{Group, Kind};
use crate::workload::mix;

/// Between turns, so that what one leaves to do falls less into the next one's time.
const PAUSE: Duration = Duration::from_millis(100);

/// What is to be measured.
pub(crate) struct Plan {
    pub(crate) time: Duration,
    pub(crate) warm_up: Duration,
    pub(crate) repetitions: usize,
    pub(crate) writers: Vec<usize>,
    pub(crate) events: usize,
    pub(crate) stores: Vec<Group>,
    pub(crate) data: Option<PathBuf>,
    pub(crate) programs: Programs,
}

/// A store that is open, and all that is known of it so far.
struct Open {
    kind: Kind,
    subject: Subject,
    folder: PathBuf,
}

impl Plan {
    /// One group after the other; the stores of a group by turns.
    pub(crate) async fn run(&self) -> anyhow::Result<Report> {
        let place = Place::find(self.data.as_deref())?;
        let mut report = Report::new(place.machine());
        for group in &self.stores {
            self.appends(group, &place, &mut report).await?;
            if self.events > 0 {
                self.reading(group, &place, &mut report).await?;
            }
        }
        report.compare();
        Ok(report)
    }

    /// Opens every store of a group; says of those that cannot be opened why.
    async fn open(
        &self,
        group: &Group,
        what: &str,
        place: &Place,
        report: &mut Report,
    ) -> anyhow::Result<Vec<Open>> {
        let mut opened = Vec::new();
        for kind in group.kinds.iter().copied() {
            if report.lacks(kind) {
                continue;
            }
            let about = kind.about();
            let folder = place.folder(&format!("{}-{}-{what}", group.name, about.name))?;
            match kind.open(&folder, &self.programs).await {
                Ok(store) => opened.push(Open {
                    kind,
                    subject: Subject::new(store),
                    folder,
                }),
                Err(error) => match error.downcast_ref::<server::Missing>() {
                    Some(server::Missing(program)) => report.missing.push(Missing {
                        store: about.name,
                        program,
                        install: about.install,
                    }),
                    None => report.failed.push(Failed::new(kind, what, &error)),
                },
            }
        }
        Ok(opened)
    }

    async fn appends(
        &self,
        group: &Group,
        place: &Place,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let mut opened = self.open(group, "append", place, report).await?;
        let mut checked = Vec::new();
        for open in opened.drain(..) {
            let checks = open.kind.about().checks;
            match check::refuses_conflicts(&*open.subject.store, checks).await {
                Ok(()) => checked.push(open),
                Err(error) => {
                    report
                        .failed
                        .push(Failed::new(open.kind, "conflicts", &error));
                    open.close(report).await;
                }
            }
        }
        for writers in &self.writers {
            for open in &checked {
                report.left_out.extend(too_many(open.kind, *writers));
            }
            let mut turns: Vec<Vec<Measured>> = checked.iter().map(|_| Vec::new()).collect();
            for repetition in 0..self.repetitions {
                for (open, turns) in checked.iter().zip(&mut turns) {
                    if too_many(open.kind, *writers).is_some() || report.lacks(open.kind) {
                        continue;
                    }
                    tokio::time::sleep(PAUSE).await;
                    let seed = mix((*writers as u64) << 32 | repetition as u64);
                    let (warm_up, time) = (self.warm_up, self.time);
                    match open.subject.measure(*writers, warm_up, time, seed).await {
                        Ok(turn) => turns.push(turn),
                        Err(error) => report.failed.push(Failed::new(open.kind, "append", &error)),
                    }
                }
            }
            for (open, turns) in checked.iter().zip(turns) {
                if turns.len() == self.repetitions {
                    let row = self.row(group, open, *writers, &turns);
                    report.appends.push(row);
                }
            }
        }
        for open in checked {
            open.close(report).await;
        }
        Ok(())
    }

    fn row(&self, group: &Group, open: &Open, writers: usize, turns: &[Measured]) -> Append {
        let about = open.kind.about();
        let samples: Vec<f64> = turns.iter().map(|it| it.per_second).collect();
        Append {
            group: group.name,
            store: about.name,
            version: about.software.version(&self.programs),
            writers,
            appends_per_second: median(samples.iter().copied()),
            everfold_times: None,
            p50_us: median(turns.iter().map(|it| it.p50_us)),
            p99_us: median(turns.iter().map(|it| it.p99_us)),
            samples,
            durability: open.durability(),
            check: about.check,
        }
    }
}

/// Whether a store is not asked to serve so many.
fn too_many(kind: Kind, writers: usize) -> Option<LeftOut> {
    let about = kind.about();
    (writers > about.most_writers).then(|| LeftOut {
        store: about.name,
        writers,
        why: format!("a connection per writer, {} at most", about.most_writers),
    })
}

impl Open {
    fn durability(&self) -> String {
        let about = self.kind.about();
        let found = self.subject.store.durability();
        found.unwrap_or_else(|| about.durability.to_owned())
    }

    async fn close(self, report: &mut Report) {
        if let Err(error) = self.subject.store.close().await {
            report.failed.push(Failed::new(self.kind, "close", &error));
        }
    }
}
