//! The demonstration's directory: a marker that says whose it is, and the log.

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use everfold_postgres::server::PrivateServer;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::failure::refused;
use crate::place::{self, Choice, PRIVATE, Place};

mod begun;

const MARKER: &str = "everfold-demo.json";
const NEW_MARKER: &str = "everfold-demo.json.new";
const LOCK: &str = "everfold-demo.lock";
/// The log lies in a directory of its own name.
pub(crate) const LOG: &str = "main";

/// What a directory was loaded with; another run has to ask for the same.
pub trait Settings: Clone + Serialize + DeserializeOwned {
    /// The demonstration's name.
    const DEMO: &'static str;

    /// Where these differ from what somebody asks for, in words that follow "loaded with".
    fn differences(&self, asked: &Self) -> Vec<String>;
}

/// What every marker says, whichever demonstration wrote it.
#[derive(Serialize, Deserialize)]
struct Head {
    format: u32,
    /// Markers without it are of the store, once the only demonstration.
    #[serde(default = "store")]
    demo: String,
    /// Where the log is if not in the directory: `--engine`, without a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    engine: Option<String>,
    /// The incarnation of that log, once it is known to be ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    log: Option<String>,
    /// What is in that log is to go.
    #[serde(default)]
    emptying: bool,
}

fn store() -> String {
    "store".to_owned()
}

#[derive(Serialize, Deserialize)]
struct Marker<S> {
    #[serde(flatten)]
    head: Head,
    #[serde(flatten)]
    settings: S,
    /// Whether everything was loaded.
    complete: bool,
}

/// All versions read the first; the second is of a log that is elsewhere, which earlier ones would
/// not look for.
const FORMATS: [u32; 2] = [1, 2];

/// A directory of a demonstration, locked against a second one.
pub struct Directory<S> {
    path: PathBuf,
    engine: Option<Choice>,
    marker: Marker<S>,
    _lock: File,
}

impl<S: Settings> Directory<S> {
    /// Takes a directory for these settings: an empty or absent one, or one that was begun with the
    /// same. `fresh` empties one of the demonstration first; a log that is elsewhere is emptied when
    /// it is opened.
    ///
    /// # Errors
    /// It holds something else, was begun with other settings, or is in use.
    pub fn take(
        path: &Path,
        settings: S,
        engine: Option<Choice>,
        fresh: bool,
    ) -> anyhow::Result<Self> {
        place::no_database(path, "name it with --engine, and a directory with --data")?;
        let shown = path.display();
        fs::create_dir_all(path)
            .with_context(|| format!("{shown} cannot be made; choose another with --data"))?;
        // Nothing is put into a directory that is not ours, not even the lock.
        survey::<S>(path)?;
        let lock = lock(path)?;
        // Whoever had the lock until now may have gone on.
        let mut marker = survey(path)?;
        let asked = Marker::new(settings, engine.as_ref());
        if fresh {
            let before = marker.take().map(|marker| marker.head);
            empty(path, before.as_ref())?;
            marker = before.and_then(|before| asked.emptying(before));
            if let Some(marker) = &marker {
                write(path, marker)?;
            }
        }
        let marker = match marker {
            None => {
                write(path, &asked)?;
                asked
            }
            Some(marker) => {
                compare(path, &marker, &asked)?;
                marker
            }
        };
        Ok(Self {
            path: path.to_owned(),
            engine,
            marker,
            _lock: lock,
        })
    }

    /// Where the log lies.
    pub fn place(&self) -> Place {
        match &self.engine {
            None => Place::Directory(self.path.join(LOG)),
            Some(Choice::Private) => Place::Private(self.path.join(PRIVATE)),
            Some(Choice::Database(address)) => Place::Database(address.clone()),
        }
    }

    /// What it was begun with.
    pub fn settings(&self) -> &S {
        &self.marker.settings
    }

    /// Whether everything was loaded.
    pub fn is_complete(&self) -> bool {
        self.marker.complete
    }

    /// Notes that everything was loaded.
    ///
    /// # Errors
    /// What the system says.
    pub fn complete(&mut self) -> anyhow::Result<()> {
        self.marker.complete = true;
        write(&self.path, &self.marker)
    }
}

impl<S: Settings> Marker<S> {
    fn new(settings: S, engine: Option<&Choice>) -> Self {
        let head = Head {
            format: FORMATS[usize::from(engine.is_some())],
            demo: S::DEMO.to_owned(),
            engine: engine.map(Choice::to_string),
            log: None,
            emptying: false,
        };
        Self {
            head,
            settings,
            complete: false,
        }
    }

    /// The same over a database that a marker before this one was about, and that is to be emptied.
    fn emptying(&self, before: Head) -> Option<Self> {
        let engine = before.engine?;
        let same = self.head.engine.as_ref() == Some(&engine) && engine != PRIVATE;
        same.then(|| Self {
            head: Head {
                engine: Some(engine),
                emptying: true,
                ..before
            },
            settings: self.settings.clone(),
            complete: false,
        })
    }
}

/// Where the demonstration of a directory keeps its log, if the directory is one's; and if that is not
/// in the directory, what `--engine` was.
pub fn engine_of(path: &Path) -> Option<Option<String>> {
    let bytes = fs::read(path.join(MARKER)).ok()?;
    let head = serde_json::from_slice::<Head>(&bytes);
    Some(head.ok().and_then(|head| head.engine))
}

/// Below the user's data directory, under a name.
///
/// # Errors
/// The environment names none.
pub fn default_path(name: &str) -> anyhow::Result<PathBuf> {
    let named = |name: &str| {
        let value = std::env::var_os(name).map(PathBuf::from);
        value.filter(|path| path.is_absolute())
    };
    named("XDG_DATA_HOME")
        .or_else(|| named("HOME").map(|home| home.join(".local/share")))
        .map(|data| data.join("everfold").join(name))
        .context("neither XDG_DATA_HOME nor HOME is set; name a directory with --data")
}

/// The marker of a directory, if it has one; refuses a directory that is not ours.
fn survey<S: Settings>(path: &Path) -> anyhow::Result<Option<Marker<S>>> {
    let shown = path.display();
    let file = path.join(MARKER);
    match fs::read(&file) {
        Ok(bytes) => {
            let strange = |error| {
                refused(format!(
                    "{} is not as the demonstration writes it ({error}); name another directory \
                     with --data",
                    file.display()
                ))
            };
            let head: Head = serde_json::from_slice(&bytes).map_err(strange)?;
            if !FORMATS.contains(&head.format) {
                return Err(refused(format!(
                    "{shown} is of another version of the demonstration (format {}); name another \
                     directory with --data",
                    head.format
                )));
            }
            if head.demo != S::DEMO {
                return Err(refused(format!(
                    "{shown} is of another demonstration, the {}, and this is the {}; name another \
                     directory with --data",
                    head.demo,
                    S::DEMO
                )));
            }
            let marker = serde_json::from_slice(&bytes).map_err(strange)?;
            return Ok(Some(marker));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => {
            return Err(error).with_context(|| format!("{} cannot be read", file.display()));
        }
    }
    // A start that was cut off before the marker leaves these, and nothing else.
    for entry in fs::read_dir(path).with_context(|| format!("{shown} cannot be read"))? {
        let name = entry?.file_name();
        if name != LOCK && name != NEW_MARKER {
            return Err(refused(format!(
                "{shown} is not a directory of the demonstration: it holds {name:?} and no \
                 {MARKER}; nothing was touched, name an empty or new directory with --data"
            )));
        }
    }
    Ok(None)
}

fn lock(path: &Path) -> anyhow::Result<File> {
    let name = path.join(LOCK);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&name)
        .with_context(|| format!("{} cannot be made", name.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(in_use(path)),
        Err(TryLockError::Error(error)) => Err(error).context(format!(
            "{} cannot be locked; name a directory of a local file system with --data",
            name.display()
        )),
    }
}

fn in_use(path: &Path) -> anyhow::Error {
    refused(format!(
        "{} is in use by another process; stop that one first, or name another directory with \
         --data",
        path.display()
    ))
}

/// Removes the log of a directory that is ours and locked, then the marker.
fn empty(path: &Path, before: Option<&Head>) -> anyhow::Result<()> {
    if before.is_some_and(|before| before.engine.as_deref() == Some(PRIVATE)) {
        PrivateServer::remove(&path.join(PRIVATE))?;
    }
    // Another command may have the log open without being a demonstration.
    let log = path.join(LOG);
    if let Ok(file) = File::options().write(true).open(log.join("lock"))
        && let Err(TryLockError::WouldBlock) = file.try_lock()
    {
        return Err(in_use(path));
    }
    let removed = match fs::remove_dir_all(&log) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => match fs::remove_file(path.join(MARKER)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        },
    };
    removed.with_context(|| format!("{} cannot be emptied", path.display()))
}

fn compare<S: Settings>(path: &Path, there: &Marker<S>, asked: &Marker<S>) -> anyhow::Result<()> {
    let mut differences = there.settings.differences(&asked.settings);
    if there.head.engine != asked.head.engine {
        let shown = |engine: &Option<String>| match engine {
            Some(engine) => format!("--engine {engine}"),
            None => "the embedded log".to_owned(),
        };
        let (there, asked) = (shown(&there.head.engine), shown(&asked.head.engine));
        differences.push(format!("{there}, not {asked}"));
    }
    if differences.is_empty() {
        return Ok(());
    }
    Err(refused(format!(
        "{} was loaded with {}; ask for the same, empty it with --fresh, or name another directory \
         with --data",
        path.display(),
        differences.join(" and ")
    )))
}

/// Writes the marker: a crash leaves the old one or the new one.
fn write<S: Settings>(path: &Path, marker: &Marker<S>) -> anyhow::Result<()> {
    let json = serde_json::to_vec(marker)?;
    let (new, target) = (path.join(NEW_MARKER), path.join(MARKER));
    let written = File::create(&new).and_then(|mut file| {
        file.write_all(&json)?;
        file.sync_all()?;
        fs::rename(&new, &target)?;
        File::open(path)?.sync_all()
    });
    written.with_context(|| format!("{} cannot be written", target.display()))
}
