//! The directory of a private server.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::ServerError;
use super::account::Account;
use super::installed::Installed;
use super::process;

/// The user that `initdb` makes.
pub(super) const SUPERUSER: &str = "postgres";

const LOCK: &str = "lock";
const PASSWORD: &str = "password";
const LOG: &str = "log";
const DATA: &str = "data";
/// Where its processes find the data; see [`Cluster::command`].
const HANDED_OVER: &str = "/proc/self/fd/9";
/// Who may connect, for a server that others than this machine reach.
const LET_IN: &str = "let_in.conf";
/// What `initdb` has not finished; a crash leaves it, the next start removes it.
const UNFINISHED: &str = "data.new";

/// A directory that is ours and locked.
#[derive(Debug)]
pub(super) struct Cluster {
    directory: PathBuf,
    password: String,
    account: Option<Account>,
    _lock: File,
}

impl Cluster {
    /// Takes a directory, which is made if it is absent.
    pub(super) fn take(directory: &Path) -> Result<Self, ServerError> {
        let account = Account::to_become()?;
        let made = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory);
        made.map_err(failed(directory, "cannot be made"))?;
        // The server is found again by where it runs.
        let found = directory.canonicalize();
        let directory = found.map_err(failed(directory, "cannot be read"))?;
        survey(&directory)?;
        let lock = lock(&directory)?;
        let password = password(&directory)?;
        Ok(Self {
            directory,
            password,
            account,
            _lock: lock,
        })
    }

    /// The major version that wrote the data, if there are any.
    pub(super) fn version(&self) -> Result<Option<u32>, ServerError> {
        let file = self.data().join("PG_VERSION");
        match fs::read_to_string(&file) {
            Ok(text) => {
                let version = text.trim().parse().map(Some);
                version.map_err(|_| ServerError::Strange {
                    directory: self.data(),
                    holds: format!("PG_VERSION {text:?}"),
                })
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(&file, "cannot be read")(error)),
        }
    }

    /// Makes the data if there are none.
    pub(super) fn prepare(&self, installed: &Installed) -> Result<(), ServerError> {
        if self.version()?.is_some() {
            return Ok(());
        }
        let unfinished = self.directory.join(UNFINISHED);
        match fs::remove_dir_all(&unfinished) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(failed(&unfinished, "cannot be removed")(error));
            }
            _ => {}
        }
        let made = DirBuilder::new().mode(0o700).create(&unfinished);
        let owned = made.and_then(|()| self.give(&unfinished));
        owned.map_err(failed(&unfinished, "cannot be made"))?;
        let initialize = |source| ServerError::System {
            what: "initdb cannot be run".to_owned(),
            source,
        };
        // The one who runs `initdb` may be unable to reach our directory.
        let mut secret = tempfile::NamedTempFile::new().map_err(initialize)?;
        let told = secret.write_all(self.password.as_bytes());
        let told = told.and_then(|()| self.give(secret.path()));
        told.map_err(initialize)?;
        let mut command = self
            .command(&installed.binary("initdb"), &unfinished)
            .map_err(initialize)?;
        command
            .args(["--encoding=UTF8", "--no-locale", "--no-instructions"])
            .args(["--username", SUPERUSER, "--auth=scram-sha-256", "--pwfile"])
            .arg(secret.path());
        let done = command.output().map_err(initialize)?;
        if !done.status.success() {
            return Err(ServerError::Initialize {
                directory: self.directory.clone(),
                log: String::from_utf8_lossy(&done.stderr).trim().to_owned(),
            });
        }
        let renamed = fs::rename(&unfinished, self.data())
            .and_then(|()| File::open(&self.directory)?.sync_all());
        renamed.map_err(failed(&unfinished, "cannot be renamed"))
    }

    /// Removes the directory and everything in it.
    pub(super) fn remove(self) -> Result<(), ServerError> {
        // Without a version there is no server in it, should this be interrupted.
        let gone = fs::rename(self.data(), self.directory.join(UNFINISHED));
        match gone {
            Err(error)
                if !matches!(
                    error.kind(),
                    ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty
                ) =>
            {
                return Err(failed(&self.data(), "cannot be removed")(error));
            }
            _ => {}
        }
        let removed = fs::remove_dir_all(&self.directory);
        removed.map_err(failed(&self.directory, "cannot be removed"))
    }

    /// A program of PostgreSQL on a directory, under the right user, with `-D` given.
    ///
    /// That user need not be able to reach the directory, which may lie in somebody's home: it is
    /// handed over open, as standard input, and moved to a number that children inherit.
    pub(super) fn command(
        &self,
        program: &Path,
        data: &Path,
    ) -> std::io::Result<std::process::Command> {
        let mut command = std::process::Command::new("/bin/sh");
        process::without_settings_of_others(&mut command);
        command
            .args(["-c", "exec 9<&0 </dev/null; exec \"$@\"", "sh"])
            .arg(program)
            .args(["-D", HANDED_OVER])
            .current_dir("/")
            .stdin(File::open(data)?);
        if let Some(account) = self.account {
            account.run(&mut command);
        }
        Ok(command)
    }

    /// Writes who may connect from where into a file in the data, and gives the name by which the server
    /// finds it.
    pub(super) fn let_in(&self, networks: &[String]) -> Result<String, ServerError> {
        let path = self.data().join(LET_IN);
        let lines = networks
            .iter()
            .map(|network| format!("host all all {network} scram-sha-256\n"));
        let written = fs::write(&path, lines.collect::<String>()).and_then(|()| self.give(&path));
        written.map_err(failed(&path, "cannot be written"))?;
        Ok(format!("{HANDED_OVER}/{LET_IN}"))
    }

    fn give(&self, path: &Path) -> std::io::Result<()> {
        self.account.map_or(Ok(()), |account| account.own(path))
    }

    /// The directory of it all.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// What the server calls its data directory.
    pub(super) fn data(&self) -> PathBuf {
        self.directory.join(DATA)
    }

    /// Where the server writes its log.
    pub(super) fn log(&self) -> PathBuf {
        self.directory.join(LOG)
    }

    /// What the server asks for.
    pub(super) fn password(&self) -> &str {
        &self.password
    }
}

pub(super) fn failed(path: &Path, what: &str) -> impl FnOnce(std::io::Error) -> ServerError {
    let what = format!("{} {what}", path.display());
    move |source| ServerError::System { what, source }
}

/// Refuses a directory that is none of ours, before anything is put into it.
fn survey(directory: &Path) -> Result<(), ServerError> {
    let entries = fs::read_dir(directory).map_err(failed(directory, "cannot be read"))?;
    for entry in entries {
        let entry = entry.map_err(failed(directory, "cannot be read"))?;
        let name = entry.file_name();
        let ours = [LOCK, PASSWORD, LOG, DATA, UNFINISHED];
        if !ours.iter().any(|ours| name == *ours) {
            return Err(ServerError::Strange {
                directory: directory.to_owned(),
                holds: format!("{name:?}"),
            });
        }
    }
    Ok(())
}

fn lock(directory: &Path) -> Result<File, ServerError> {
    let path = directory.join(LOCK);
    let opened = private().truncate(false).open(&path);
    let file = opened.map_err(failed(&path, "cannot be made"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ServerError::InUse(directory.to_owned())),
        Err(TryLockError::Error(error)) => Err(failed(&path, "cannot be locked")(error)),
    }
}

/// The password, made and kept when it is first asked for.
fn password(directory: &Path) -> Result<String, ServerError> {
    let path = directory.join(PASSWORD);
    match fs::read_to_string(&path) {
        Ok(text) if text.len() == 32 => return Ok(text),
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(failed(&path, "cannot be read")(error));
        }
        // Cut off before anything could depend on it.
        Ok(_) if !directory.join(DATA).exists() => {}
        Ok(_) => {
            return Err(ServerError::Strange {
                directory: path,
                holds: "something that is no password of ours".to_owned(),
            });
        }
        Err(_) => {}
    }
    let mut random = [0; 16];
    let drawn = File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut random));
    drawn.map_err(failed(Path::new("/dev/urandom"), "cannot be read"))?;
    let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let written = private().truncate(true).open(&path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(failed(&path, "cannot be written"))?;
    Ok(text)
}

/// Files that nobody else may read.
pub(super) fn private() -> OpenOptions {
    let mut options = File::options();
    options.create(true).write(true).mode(0o600);
    options
}
