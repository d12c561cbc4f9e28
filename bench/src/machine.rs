//! What the figures were measured on.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use everfold_log::Disk as _;
use tempfile::TempDir;

use crate::report::Machine;

/// Where the files of a run are; removed at the end.
pub(crate) struct Place {
    directory: TempDir,
}

impl Place {
    /// A fresh directory below `data`, or else below the current directory's `target`, or else
    /// below the user's data directory. Refuses memory: its writes are durable for free.
    pub(crate) fn find(data: Option<&Path>) -> anyhow::Result<Self> {
        let parent = match data {
            Some(data) => data.to_owned(),
            None => default_parent()?,
        };
        std::fs::create_dir_all(&parent)
            .with_context(|| format!("cannot make {}", parent.display()))?;
        let directory = tempfile::Builder::new()
            .prefix("everfold-bench-")
            .tempdir_in(&parent)
            .with_context(|| format!("cannot make a directory in {}", parent.display()))?;
        let place = Self { directory };
        let (file_system, loses_data) = place.file_system()?;
        if loses_data {
            bail!(
                "{} is on {file_system}, which forgets everything with the machine: give --data a directory on a disk",
                parent.display()
            );
        }
        Ok(place)
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    fn file_system(&self) -> anyhow::Result<(String, bool)> {
        let disk = everfold_log::Directory::new(self.path())?;
        let description = disk.description();
        Ok((description.file_system, description.loses_data))
    }

    pub(crate) fn machine(&self) -> anyhow::Result<Machine> {
        Ok(Machine {
            cpu: cpu(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: read_line("/proc/sys/kernel/osrelease"),
            file_system: self.file_system()?.0,
            path: self.path().display().to_string(),
            load_before: read_line("/proc/loadavg"),
        })
    }
}

fn default_parent() -> anyhow::Result<PathBuf> {
    let target = Path::new("target");
    if target.is_dir() {
        return Ok(std::env::current_dir()?.join(target));
    }
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share"));
    let data = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
    data.or(home)
        .context("no place for the data: give --data a directory on a disk")
}

fn cpu() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find(|line| line.starts_with("model name"));
    let name = model.and_then(|line| line.split_once(':'));
    name.map_or_else(|| "unknown".into(), |(_, name)| name.trim().to_owned())
}

fn read_line(path: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_else(|_| "unknown".into());
    text.trim().to_owned()
}
