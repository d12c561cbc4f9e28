//! Finding the binaries.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::ServerError;

/// The oldest version that will do.
const OLDEST: u32 = 15;
/// Where Debian keeps all versions, each in a folder of its own.
const DEBIAN: &str = "/usr/lib/postgresql";

/// The binaries of one version.
#[derive(Debug)]
pub(super) struct Installed {
    version: u32,
    folder: PathBuf,
}

impl Installed {
    /// The newest there is, or this version: the files of one cannot be read by another.
    pub(super) fn find(version: Option<u32>) -> Result<Self, ServerError> {
        let wanted = |found: &Self| match version {
            Some(version) => found.version == version,
            None => found.version >= OLDEST,
        };
        let newest = candidates()
            .into_iter()
            .filter_map(Self::of)
            .filter(wanted)
            .max_by_key(|found| found.version);
        newest.ok_or_else(|| ServerError::NotInstalled {
            wanted: match version {
                Some(version) => format!("{version}, with which the directory was made,"),
                None => format!("{OLDEST} or later"),
            },
        })
    }

    fn of(folder: PathBuf) -> Option<Self> {
        let all = ["postgres", "initdb", "createdb"];
        if !all.iter().all(|name| folder.join(name).is_file()) {
            return None;
        }
        let said = said(&folder.join("postgres"), "--version")?;
        Some(Self {
            version: version_in(&said)?,
            folder,
        })
    }

    /// Where one of them is.
    pub(super) fn binary(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

fn candidates() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = std::env::var_os("PATH")
        .map(|path| std::env::split_paths(&path).collect())
        .unwrap_or_default();
    if let Some(folder) = said(Path::new("pg_config"), "--bindir") {
        folders.push(folder.into());
    }
    let versions = std::fs::read_dir(DEBIAN).into_iter().flatten().flatten();
    folders.extend(versions.map(|version| version.path().join("bin")));
    folders
}

fn said(program: &Path, argument: &str) -> Option<String> {
    let mut command = Command::new(program);
    let done = command.arg(argument).stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8(done.stdout).ok()?;
    done.status.success().then(|| text.trim().to_owned())
}

/// The major version in `postgres (PostgreSQL) 15.18 (Debian ...)`, or in `16beta1`.
fn version_in(text: &str) -> Option<u32> {
    let words = text.split_whitespace();
    let mut numbers = words.filter(|word| word.starts_with(|first: char| first.is_ascii_digit()));
    let number = numbers.next()?;
    let end = number.find(|other: char| !other.is_ascii_digit());
    number[..end.unwrap_or(number.len())].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::version_in;

    #[test]
    fn the_major_version_is_found_in_what_the_server_says_of_itself() {
        for (said, version) in [
            ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", 15),
            ("postgres (PostgreSQL) 17.2", 17),
            ("postgres (PostgreSQL) 19beta2", 19),
            ("postgres (PostgreSQL) 18devel", 18),
        ] {
            assert_eq!(version_in(said), Some(version), "{said}");
        }
        assert_eq!(version_in("something else"), None);
    }
}
