//! Copies under the names that they have in a log, to be read as one.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::manifest::Stored;
use crate::disk::{Access, Description, Disk, File, Held};
use crate::verify::file_name;

pub(super) struct View {
    disk: Arc<dyn Disk>,
    /// What a file is called here, and there.
    names: BTreeMap<String, String>,
}

impl View {
    pub(super) fn new(disk: Arc<dyn Disk>, segments: &[Stored]) -> Self {
        let named = |stored: &Stored| {
            let name = file_name(stored.generation, stored.form);
            (name, stored.name.clone())
        };
        Self {
            disk,
            names: segments.iter().map(named).collect(),
        }
    }
}

fn refused<T>() -> io::Result<T> {
    let reason = "a backup is not written to as a log";
    Err(io::Error::new(io::ErrorKind::PermissionDenied, reason))
}

struct Nobody;

impl Held for Nobody {}

impl Disk for View {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.names.keys().cloned().collect())
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn File>> {
        if access != Access::Read {
            return refused();
        }
        let stored = self.names.get(name);
        let stored = stored.ok_or(io::Error::from(io::ErrorKind::NotFound))?;
        self.disk.open(stored, access)
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        refused()
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        refused()
    }

    fn sync_directory(&self) -> io::Result<()> {
        refused()
    }

    fn lock(&self, _: &str) -> io::Result<Option<Box<dyn Held>>> {
        Ok(Some(Box::new(Nobody)))
    }

    fn description(&self) -> Description {
        self.disk.description()
    }
}
