//! The demonstration's directory: a marker that says whose it is, and the log.

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use everfold_store::money::Money;
use serde::{Deserialize, Serialize};

use crate::failure::refused;

const MARKER: &str = "everfold-demo.json";
const NEW_MARKER: &str = "everfold-demo.json.new";
const LOCK: &str = "everfold-demo.lock";
/// The log lies in a directory of its own name.
const LOG: &str = "main";

/// What a directory was loaded with; another run has to ask for the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Every customer's limit.
    pub credit_limit: Money,
    /// When an approved order is paid.
    pub payment_days: u32,
    /// The fingerprint of the purchase history.
    pub input: String,
}

#[derive(Serialize, Deserialize)]
struct Marker {
    format: u32,
    #[serde(flatten)]
    settings: Settings,
    /// Whether everything was loaded.
    complete: bool,
}

const FORMAT: u32 = 1;

/// A directory of the demonstration, locked against a second one.
pub struct Directory {
    path: PathBuf,
    settings: Settings,
    complete: bool,
    _lock: File,
}

impl Directory {
    /// Takes a directory for these settings: an empty or absent one, or one that was begun with the
    /// same. `fresh` empties one of the demonstration first.
    ///
    /// # Errors
    /// It holds something else, was begun with other settings, or is in use.
    pub fn take(path: &Path, settings: Settings, fresh: bool) -> anyhow::Result<Self> {
        let shown = path.display();
        fs::create_dir_all(path)
            .with_context(|| format!("{shown} cannot be made; choose another with --data"))?;
        // Nothing is put into a directory that is not ours, not even the lock.
        survey(path)?;
        let lock = lock(path)?;
        // Whoever had the lock until now may have gone on.
        let mut marker = survey(path)?;
        if fresh {
            empty(path)?;
            marker = None;
        }
        let complete = match marker {
            None => {
                write(path, &settings, false)?;
                false
            }
            Some(marker) => {
                compare(path, &marker.settings, &settings)?;
                marker.complete
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

/// Below the user's data directory.
///
/// # Errors
/// The environment names none.
pub fn default_path() -> anyhow::Result<PathBuf> {
    let named = |name: &str| {
        let value = std::env::var_os(name).map(PathBuf::from);
        value.filter(|path| path.is_absolute())
    };
    named("XDG_DATA_HOME")
        .or_else(|| named("HOME").map(|home| home.join(".local/share")))
        .map(|data| data.join("everfold/demo"))
        .context("neither XDG_DATA_HOME nor HOME is set; name a directory with --data")
}

/// The marker of a directory, if it has one; refuses a directory that is not ours.
fn survey(path: &Path) -> anyhow::Result<Option<Marker>> {
    let shown = path.display();
    let file = path.join(MARKER);
    match fs::read(&file) {
        Ok(bytes) => {
            let marker: Marker = serde_json::from_slice(&bytes).map_err(|error| {
                refused(format!(
                    "{} is not as the demonstration writes it ({error}); name another directory \
                     with --data",
                    file.display()
                ))
            })?;
            if marker.format != FORMAT {
                return Err(refused(format!(
                    "{shown} is of another version of the demonstration (format {}); name another \
                     directory with --data",
                    marker.format
                )));
            }
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

fn compare(path: &Path, there: &Settings, asked: &Settings) -> anyhow::Result<()> {
    let mut differences = Vec::new();
    if there.credit_limit != asked.credit_limit {
        let (there, asked) = (there.credit_limit, asked.credit_limit);
        differences.push(format!("--credit-limit {there}, not {asked}"));
    }
    if there.payment_days != asked.payment_days {
        let (there, asked) = (there.payment_days, asked.payment_days);
        differences.push(format!("--payment-days {there}, not {asked}"));
    }
    if there.input != asked.input {
        differences.push("another purchase history".to_owned());
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
fn write(path: &Path, settings: &Settings, complete: bool) -> anyhow::Result<()> {
    let marker = Marker {
        format: FORMAT,
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
