//! What the figures were measured on, and where the files are.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use everfold_log::Disk as _;
use serde::Serialize;
use tempfile::TempDir;

/// The machine of a run.
#[derive(Serialize)]
pub(crate) struct Machine {
    cpu: String,
    cores: usize,
    kernel: String,
    file_system: String,
    /// The load averages before the run: other work makes the figures worth less.
    load_before: String,
}

/// Where the files of a run are; removed at the end, and nothing before the end: deleting large
/// files stalls writes elsewhere on the same file system.
pub(crate) struct Place {
    directory: TempDir,
    file_system: String,
}

impl Place {
    /// A fresh directory below `data`, or else below the current directory's `target`. Refuses
    /// memory: its writes are durable for free.
    pub(crate) fn find(data: Option<&Path>) -> anyhow::Result<Self> {
        let parent = match data {
            Some(data) => data.to_owned(),
            None => PathBuf::from("target"),
        };
        let cannot = || format!("cannot use {}", parent.display());
        fs::create_dir_all(&parent).with_context(cannot)?;
        let parent = parent.canonicalize().with_context(cannot)?;
        let mut builder = tempfile::Builder::new();
        let directory = builder.prefix("everfold-compare-").tempdir_in(&parent);
        let directory = directory.with_context(cannot)?;
        // Servers may run as another user.
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755))?;
        let disk = everfold_log::Directory::new(directory.path())?.description();
        if disk.loses_data {
            bail!(
                "{} is on {}, which forgets everything with the machine: give --data a directory on a disk",
                parent.display(),
                disk.file_system
            );
        }
        Ok(Self {
            directory,
            file_system: disk.file_system,
        })
    }

    /// A fresh directory in it.
    pub(crate) fn folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.directory.path().join(name);
        fs::create_dir(&path)?;
        Ok(path)
    }

    pub(crate) fn machine(&self) -> Machine {
        Machine {
            cpu: cpu(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: read_line("/proc/sys/kernel/osrelease"),
            file_system: self.file_system.clone(),
            load_before: read_line("/proc/loadavg"),
        }
    }
}

impl Machine {
    pub(crate) fn line(&self) -> String {
        let Self {
            cpu,
            cores,
            kernel,
            file_system,
            load_before,
        } = self;
        format!("{cpu}, {cores} cores, Linux {kernel}, {file_system}, load before {load_before}")
    }
}

fn cpu() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find(|line| line.starts_with("model name"));
    let name = model.and_then(|line| line.split_once(':'));
    name.map_or_else(|| "unknown".into(), |(_, name)| name.trim().to_owned())
}

fn read_line(path: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_else(|_| "unknown".into());
    text.trim().to_owned()
}

/// The bytes that files below a directory take on the disk.
pub(crate) fn disk_bytes(directory: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            bytes += disk_bytes(&entry.path())?;
        } else {
            bytes += entry.metadata()?.blocks() * 512;
        }
    }
    Ok(bytes)
}
