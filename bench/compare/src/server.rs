//! Server programs: found, started on a port of their own, and stopped by their process id.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How long a server may take to answer, and to stop.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where programs are looked for.
#[derive(Clone)]
pub(crate) struct Programs(Vec<PathBuf>);

/// A program that is not on this machine.
#[derive(Debug, thiserror::Error)]
#[error("the program {0} is not installed")]
pub(crate) struct Missing(pub(crate) &'static str);

impl Programs {
    /// `first`, then the search path, then where Debian keeps PostgreSQL.
    pub(crate) fn new(first: Option<PathBuf>) -> Self {
        let mut folders: Vec<_> = first.into_iter().collect();
        folders.extend(std::env::split_paths(
            &std::env::var_os("PATH").unwrap_or_default(),
        ));
        let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
        let mut versions: Vec<_> = versions.flatten().map(|it| it.path().join("bin")).collect();
        versions.sort();
        folders.extend(versions.into_iter().rev());
        Self(folders)
    }

    pub(crate) fn find(&self, program: &'static str) -> anyhow::Result<PathBuf> {
        let mut places = self.0.iter().map(|folder| folder.join(program));
        let found = places.find(|path| path.is_file());
        Ok(found.ok_or(Missing(program))?)
    }
}

impl Programs {
    /// What a program says of its version.
    pub(crate) fn version(&self, program: &'static str) -> Option<String> {
        let said = Command::new(self.find(program).ok()?)
            .arg("--version")
            .output();
        let said = String::from_utf8_lossy(&said.ok()?.stdout).into_owned();
        let line = said.lines().next()?.trim();
        // Some say more than the number; what begins with a digit is it.
        let number = |word: &&str| {
            let word = word.trim_start_matches("v=");
            word.starts_with(|first: char| first.is_ascii_digit())
        };
        let number = line.split_whitespace().find(number)?;
        Some(number.trim_start_matches("v=").to_owned())
    }
}

/// A port of 127.0.0.1 that nobody has at the moment.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

/// Servers that refuse to run as root run as this user then: the one that owns `directory` from now
/// on. `None` if we are not root.
pub(crate) fn lesser_user(name: &str, directory: &Path) -> anyhow::Result<Option<(u32, u32)>> {
    if fs::metadata("/proc/self")?.uid() != 0 {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd")?;
    let line = users
        .lines()
        .find(|line| line.split(':').next() == Some(name));
    let line = line.with_context(|| format!("there is no user {name}"))?;
    let number = |at| line.split(':').nth(at).and_then(|it| it.parse().ok());
    let (user, group) = number(2)
        .zip(number(3))
        .with_context(|| format!("no numbers for the user {name}"))?;
    std::os::unix::fs::chown(directory, Some(user), Some(group))?;
    Ok(Some((user, group)))
}

/// Lets a command run as another user, if there is one.
pub(crate) fn run_as(command: &mut Command, user: Option<(u32, u32)>) {
    if let Some((user, group)) = user {
        command.uid(user).gid(group);
    }
}

/// A running server; stopped when dropped, if nobody has stopped it.
pub(crate) struct Server {
    child: Mutex<Option<Child>>,
    signal: Signal,
}

impl Server {
    /// Starts a server that will listen on `port`, and waits until it does. `signal` ends it.
    pub(crate) fn start(
        mut command: Command,
        directory: &Path,
        port: u16,
        signal: Signal,
    ) -> anyhow::Result<Self> {
        let said = directory.join("server.log");
        let output = File::create(&said)?;
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let server = Self {
            child: Mutex::new(Some(child)),
            signal,
        };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let begin = Instant::now();
        loop {
            let ended = server.ended()?;
            if !ended && TcpStream::connect_timeout(&address, PATIENCE).is_ok() {
                return Ok(server);
            }
            if ended || begin.elapsed() > PATIENCE {
                let said = fs::read_to_string(&said).unwrap_or_default();
                bail!("{command:?} does not listen; it said: {}", said.trim());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn ended(&self) -> anyhow::Result<bool> {
        let mut child = self.child.lock().map_err(|_| anyhow!("a stop panicked"))?;
        match child.as_mut() {
            Some(child) => Ok(child.try_wait()?.is_some()),
            None => Ok(true),
        }
    }

    /// Asks the server to end, waits for it, and kills it if it does not.
    pub(crate) fn stop(&self) -> anyhow::Result<()> {
        let child = self.child.lock().map_or(None, |mut child| child.take());
        let Some(mut child) = child else {
            return Ok(());
        };
        if let Some(pid) = Pid::from_raw(child.id() as i32) {
            // It may have ended already.
            let _ = kill_process(pid, self.signal);
        }
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            if child.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        child.kill()?;
        child.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}
