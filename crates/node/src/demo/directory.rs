//! The demonstration's directory: a marker that says whose it is, and the log.

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::failure::refused;

const MARKER: &str = "everfold-demo.json";
const NEW_MARKER: &str = "everfold-demo.json.new";
const LOCK: &str = "everfold-demo.lock";
/// The log lies in a directory of its own name.
const LOG: &str = "main";

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

const FORMAT: u32 = 1;

/// A directory of a demonstration, locked against a second one.
pub struct Directory<S> {
    path: PathBuf,
    settings: S,
    complete: bool,
    _lock: File,
}

impl<S: Settings> Directory<S> {
    /// Takes a directory for these settings: an empty or absent one, or one that was begun with the
    /// same. `fresh` empties one of the demonstration first.
    ///
    /// # Errors
    /// It holds something else, was begun with other settings, or is in use.
    pub fn take(path: &Path, settings: S, fresh: bool) -> anyhow::Result<Self> {
        let shown = path.display();
        fs::create_dir_all(path)
            .with_context(|| format!("{shown} cannot be made; choose another with --data"))?;
        // Nothing is put into a directory that is not ours, not even the lock.
        survey::<S>(path)?;
        let lock = lock(path)?;
        // Whoever had the lock until now may have gone on.
        let mut marker = survey(path)?;
        if fresh {
            empty(path)?;
            marker = None;
        }
        let (settings, complete) = match marker {
            None => {
                write(path, &settings, false)?;
                (settings, false)
            }
            Some(Marker {
                settings: there,
                complete,
                ..
            }) => {
                compare(path, &there, &settings)?;
                (there, complete)
            }
        };
        Ok(Self {
            path: path.to_owned(),
            settings,
            complete,
            _lock: lock,
        })
    }

    /// Where the log lies.
    pub fn log(&self) -> PathBuf {
        self.path.join(LOG)
    }

    /// What it was begun with.
    pub fn settings(&self) -> &S {
        &self.settings
    }

    /// Whether everything was loaded.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Notes that everything was loaded.
    ///
    /// # Errors
    /// What the system says.
    pub fn complete(&mut self) -> anyhow::Result<()> {
        self.complete = true;
        write(&self.path, &self.settings, true)
    }
}

/// The log in a directory that somebody names: the directory itself, or the demonstration's.
pub fn log_in(path: &Path) -> PathBuf {
    if path.join(MARKER).is_file() {
        path.join(LOG)
    } else {
        path.to_owned()
    }
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
            if head.format != FORMAT {
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
fn empty(path: &Path) -> anyhow::Result<()> {
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

fn compare<S: Settings>(path: &Path, there: &S, asked: &S) -> anyhow::Result<()> {
    let differences = there.differences(asked);
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
fn write<S: Settings>(path: &Path, settings: &S, complete: bool) -> anyhow::Result<()> {
    let head = Head {
        format: FORMAT,
        demo: S::DEMO.to_owned(),
    };
    let marker = Marker {
        head,
        settings: settings.clone(),
        complete,
    };
    let json = serde_json::to_vec(&marker)?;
    let (new, target) = (path.join(NEW_MARKER), path.join(MARKER));
    let written = File::create(&new).and_then(|mut file| {
        file.write_all(&json)?;
        file.sync_all()?;
        fs::rename(&new, &target)?;
        File::open(path)?.sync_all()
    });
    written.with_context(|| format!("{} cannot be written", target.display()))
}
