//! The stores, one file each, and what is said of each in every row.

mod everfold;
mod fjall;
mod postgres;
mod postgres_groups;
mod postgres_rows;
mod redb;
mod redis;
mod sierradb;
mod sqlite;
mod tephra;
mod umadb;

use std::path::Path;
use std::sync::Arc;

use anyhow::bail;

use crate::server::Programs;
use crate::store::Store;

/// One way to keep events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Everfold,
    EverfoldOne,
    Redb,
    Fjall,
    Sqlite,
    Tephra,
    Redis,
    PostgresGroups,
    PostgresRows,
    Uma,
    SierraStock,
    SierraTuned,
}

/// What a store compares before it appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checks {
    /// The entity has exactly the expected version.
    Version,
    /// The entity has no event after the expected position.
    NothingLater,
}

/// What is said of a store.
pub(crate) struct About {
    pub(crate) name: &'static str,
    pub(crate) software: Software,
    /// When an append is acknowledged.
    pub(crate) durability: &'static str,
    /// Who compares the expected version.
    pub(crate) check: &'static str,
    pub(crate) checks: Checks,
    /// What to do if it is not there.
    pub(crate) install: &'static str,
    /// The most events that are loaded for reading; slow loaders have fewer.
    pub(crate) most_events: usize,
    /// The most writers that it is asked to serve.
    pub(crate) most_writers: usize,
}

/// Stores that are measured by turns: what is in one group shares the minutes. Everfold is in each.
#[derive(Clone)]
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) kinds: Vec<Kind>,
}

/// The others, in groups that run at one time; Everfold is the first of every group.
const GROUPS: &[(&str, &[Kind])] = &[
    (
        "embedded",
        &[
            Kind::EverfoldOne,
            Kind::Redb,
            Kind::Fjall,
            Kind::Sqlite,
            Kind::Tephra,
        ],
    ),
    ("redis", &[Kind::Redis]),
    ("postgres", &[Kind::PostgresGroups, Kind::PostgresRows]),
    ("umadb", &[Kind::Uma]),
    ("sierradb", &[Kind::SierraStock, Kind::SierraTuned]),
];

const IN_PROCESS: &str = "a table in memory in front of the store";
const UMADB: &str =
    "cargo install umadb --version 0.7.8 (needs protoc: apt-get install protobuf-compiler)";
const SIERRADB: &str = "cargo install sierradb-server --version 0.3.1";

impl Kind {
    /// What is said of it.
    pub(crate) fn about(self) -> About {
        let embedded = |name, library, durability| About {
            name,
            software: Software::Library(library),
            durability,
            check: IN_PROCESS,
            checks: Checks::Version,
            install: "",
            most_events: usize::MAX,
            most_writers: usize::MAX,
        };
        let server = |name, program, durability, check, install| About {
            software: Software::Program(program),
            check,
            install,
            ..embedded(name, program, durability)
        };
        const DIRECT: &str = "after a durable write of its group (O_DIRECT and O_DSYNC where the file system takes them)";
        const LOG: &str = "everfold-log";
        const PG: &str = "after the commit's fdatasync (fsync=on, synchronous_commit=on)";
        const APT_PG: &str = "apt-get install postgresql";
        const SQL: &str = "the INSERT, over the unique key";
        const SIERRA: &str = "the server, per stream";
        match self {
            Self::Everfold => embedded("everfold", LOG, DIRECT),
            Self::EverfoldOne => embedded("everfold-1-partition", LOG, DIRECT),
            Self::Redb => embedded(
                "redb",
                "redb",
                "after a commit with immediate durability (fdatasync)",
            ),
            Self::Fjall => embedded("fjall", "fjall", "after a batch with PersistMode::SyncData"),
            Self::Sqlite => About {
                software: Software::Sqlite,
                ..embedded(
                    "sqlite",
                    "",
                    "after the commit's sync of the log (WAL, synchronous=FULL)",
                )
            },
            Self::Tephra => About {
                check: "the store: no later event with the entity's tag",
                checks: Checks::NothingLater,
                ..embedded(
                    "tephra",
                    "tephra",
                    "after its writer's fdatasync of the group",
                )
            },
            Self::Redis => server(
                "redis",
                "redis-server",
                "after the sync of its event loop's turn (appendonly yes, appendfsync always)",
                "a script: version in a hash, XADD",
                "apt-get install redis-server",
            ),
            Self::PostgresGroups => server("postgres-unnest", "postgres", PG, SQL, APT_PG),
            Self::PostgresRows => About {
                most_writers: postgres::CONNECTIONS,
                ..server("postgres-rows", "postgres", PG, SQL, APT_PG)
            },
            Self::Uma => About {
                checks: Checks::NothingLater,
                most_events: 300_000,
                ..server(
                    "umadb",
                    "umadb",
                    "after its fdatasync of the group",
                    "the server: no later event with the entity's tag",
                    UMADB,
                )
            },
            Self::SierraStock => About {
                most_events: 20_000,
                ..server(
                    "sierradb",
                    "sierradb",
                    "after its syncer's fdatasync (each 5 ms, 50 events or 4 KiB)",
                    SIERRA,
                    SIERRADB,
                )
            },
            Self::SierraTuned => About {
                most_events: 20_000,
                ..server(
                    "sierradb-tuned",
                    "sierradb",
                    "after its syncer's fdatasync (each 1-2 ms, 1000 events or 64 KiB)",
                    SIERRA,
                    SIERRADB,
                )
            },
        }
    }

    /// Opens it in a fresh directory; starts its server, if it has one.
    pub(crate) async fn open(
        self,
        directory: &Path,
        programs: &Programs,
    ) -> anyhow::Result<Arc<dyn Store>> {
        match self {
            Self::Everfold => everfold::open(directory, 16).await,
            Self::EverfoldOne => everfold::open(directory, 1).await,
            Self::Redb => redb::open(directory),
            Self::Fjall => fjall::open(directory),
            Self::Sqlite => sqlite::open(directory),
            Self::Tephra => tephra::open(directory),
            Self::Redis => redis::open(directory, programs).await,
            Self::PostgresGroups => postgres::open_groups(directory, programs).await,
            Self::PostgresRows => postgres::open_rows(directory, programs).await,
            Self::Uma => umadb::open(directory, programs).await,
            Self::SierraStock => sierradb::open(directory, programs, false).await,
            Self::SierraTuned => sierradb::open(directory, programs, true).await,
        }
    }
}

/// Every store once.
pub(crate) fn all() -> impl Iterator<Item = Kind> {
    let others = GROUPS.iter().flat_map(|(_, kinds)| kinds.iter());
    std::iter::once(Kind::Everfold).chain(others.copied())
}

/// The groups with nothing but these stores and, to compare with, Everfold; all if there are none.
pub(crate) fn chosen(names: &[String]) -> anyhow::Result<Vec<Group>> {
    if let Some(unknown) = names
        .iter()
        .find(|name| !all().any(|kind| kind.about().name == **name))
    {
        bail!("there is no store {unknown}; --list says which there are");
    }
    let wanted = |kind: Kind| names.is_empty() || names.iter().any(|it| it == kind.about().name);
    let mut chosen = Vec::new();
    for (name, kinds) in GROUPS {
        let others = kinds.iter().copied().filter(|kind| wanted(*kind));
        let kinds: Vec<Kind> = std::iter::once(Kind::Everfold).chain(others).collect();
        let alone = chosen.is_empty() && wanted(Kind::Everfold);
        if kinds.len() > 1 || alone {
            chosen.push(Group { name, kinds });
        }
    }
    Ok(chosen)
}

/// Which program or library a store is.
#[derive(Clone, Copy)]
pub(crate) enum Software {
    Library(&'static str),
    /// SQLite comes within a library that has versions of its own.
    Sqlite,
    Program(&'static str),
}

impl Software {
    /// Its version: the one in this crate's lock file, or what the program says.
    pub(crate) fn version(self, programs: &Programs) -> String {
        match self {
            Self::Library(name) => locked(name).unwrap_or("unknown").to_owned(),
            Self::Sqlite => {
                let library = locked("rusqlite").unwrap_or("unknown");
                format!("{} in rusqlite {library}", rusqlite::version())
            }
            Self::Program(name) => programs.version(name).unwrap_or_else(|| "unknown".into()),
        }
    }
}

fn locked(name: &str) -> Option<&'static str> {
    let entry = format!("name = \"{name}\"\nversion = \"");
    let (_, rest) = include_str!("../Cargo.lock").split_once(&entry)?;
    rest.split('"').next()
}
