//! Processes of a server: started, watched, stopped, killed.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::ServerError;
use super::cluster::{Cluster, failed, private};
use super::installed::Installed;

/// How long a start may take, recovery after a crash included.
const STARTING: Duration = Duration::from_secs(300);
/// How long a server that was left behind may take to stop.
const LEAVING: Duration = Duration::from_secs(30);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);
/// Of a log, so many lines are shown, of the last so many bytes.
const LINES: usize = 12;
const BYTES: u64 = 64 * 1024;

/// Stops the server when whoever started it is gone, however that came about: the pipe that it reads
/// closes. The server's own file has to name the process, whose number may have gone to another one;
/// it does so soon after the start.
const WATCH: &str = r#"
read -r _
for _ in 1 2 3 4 5 6 7 8 9 10; do
    read -r pid < "$1"
    if [ "$pid" = "$2" ]; then kill -INT "$2"; exit; fi
    kill -0 "$2" || exit
    sleep 1
done
"#;

/// A running server.
#[derive(Debug)]
pub(super) struct Running {
    leader: Child,
    /// Ends by itself when this process does; see [`WATCH`].
    watch: Child,
}

/// Nothing that somebody set for another server, and words in one language.
pub(super) fn without_settings_of_others(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command.env("LC_ALL", "C");
}

/// Starts a server and waits until it accepts connections.
pub(super) fn start(
    installed: &Installed,
    cluster: &Cluster,
    (addresses, port): (&str, u16),
    settings: &[(String, String)],
) -> Result<Running, ServerError> {
    let path = cluster.log();
    let opened = private().append(true).open(&path);
    let mut log = opened.map_err(failed(&path, "cannot be made"))?;
    let begin = log.seek(SeekFrom::End(0)).unwrap_or_default();
    let failed = |source| ServerError::System {
        what: "postgres cannot be run".to_owned(),
        source,
    };
    let program = installed.binary("postgres");
    let mut command = cluster.command(&program, &cluster.data()).map_err(failed)?;
    // No socket, for which a directory all can write to is usual.
    let ours = [
        ("listen_addresses", addresses),
        ("unix_socket_directories", ""),
        ("port", &port.to_string()),
    ];
    let theirs = settings.iter().map(|(name, value)| (&**name, &**value));
    for (name, value) in theirs.chain(ours) {
        command.arg("-c").arg(format!("{name}={value}"));
    }
    // Ctrl-C is for us, and we stop the server when we have finished.
    command.process_group(0);
    command.stdout(log.try_clone().map_err(failed)?).stderr(log);
    let mut leader = command.spawn().map_err(failed)?;
    let watch = match watch(cluster, leader.id()) {
        Ok(watch) => watch,
        Err(error) => {
            kill_all(&leader_of(&leader));
            let _ = leader.wait();
            return Err(failed(error));
        }
    };
    let mut running = Running { leader, watch };
    if running.is_ready(cluster) {
        return Ok(running);
    }
    running.kill();
    Err(ServerError::Start {
        directory: cluster.directory().to_owned(),
        log: last_lines(&path, begin),
    })
}

fn watch(cluster: &Cluster, pid: u32) -> std::io::Result<Child> {
    Command::new("/bin/sh")
        .args(["-c", WATCH, "sh"])
        .arg(cluster.data().join("postmaster.pid"))
        .arg(pid.to_string())
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

impl Running {
    /// Of the process that leads.
    pub(super) fn pid(&self) -> u32 {
        self.leader.id()
    }

    /// Waits until the server says that it accepts connections; false if it ended instead.
    fn is_ready(&mut self, cluster: &Cluster) -> bool {
        let pid = self.pid().to_string();
        let begin = Instant::now();
        while begin.elapsed() < STARTING {
            let said = fs::read_to_string(cluster.data().join("postmaster.pid"));
            let said = said.unwrap_or_default();
            let mut lines = said.lines().map(str::trim);
            // A file of an earlier server may lie there until this one has looked at it.
            if lines.next() == Some(&*pid) && lines.nth(6) == Some("ready") {
                return true;
            }
            if !matches!(self.leader.try_wait(), Ok(None)) {
                return false;
            }
            thread::sleep(PAUSE);
        }
        false
    }

    /// Asks the server to stop, and kills it if it does not.
    pub(super) fn stop(mut self, patience: Duration, cluster: &Cluster) -> Result<(), ServerError> {
        if matches!(self.leader.try_wait(), Ok(None)) {
            send(&leader_of(&self.leader), Signal::INT);
        }
        let begin = Instant::now();
        while begin.elapsed() < patience {
            if !matches!(self.leader.try_wait(), Ok(None)) {
                self.kill();
                return Ok(());
            }
            thread::sleep(PAUSE);
        }
        self.kill();
        Err(ServerError::Stop {
            directory: cluster.directory().to_owned(),
            log: last_lines(&cluster.log(), 0),
        })
    }

    /// Ends what is left of it at once.
    pub(super) fn kill(mut self) {
        if matches!(self.leader.try_wait(), Ok(None)) {
            kill_all(&leader_of(&self.leader));
            let _ = self.leader.wait();
        }
        let _ = self.watch.kill();
        let _ = self.watch.wait();
    }
}

fn leader_of(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

fn send(pid: &Option<Pid>, signal: Signal) {
    if let Some(pid) = pid {
        // It may have ended by itself.
        let _ = kill_process(*pid, signal);
    }
}

/// Kills a server's processes, and waits until the children of its leader are gone. While the leader
/// is stopped it makes no new ones, and the numbers of those that end go to nobody else.
fn kill_all(leader: &Option<Pid>) {
    send(leader, Signal::STOP);
    while leader.is_some_and(|pid| matches!(state(pid), Some(state) if !"TtZX".contains(state))) {
        thread::sleep(PAUSE);
    }
    let children = leader.map(children).unwrap_or_default();
    for child in &children {
        send(&Some(*child), Signal::KILL);
    }
    send(leader, Signal::KILL);
    while children.iter().any(|child| is_alive(*child)) {
        thread::sleep(PAUSE);
    }
}

/// Stops a server that a process which is gone has left on this directory.
pub(super) fn stop_left_behind(cluster: &Cluster) -> Result<(), ServerError> {
    let file = cluster.data().join("postmaster.pid");
    let said = fs::read_to_string(&file).unwrap_or_default();
    let pid = said.lines().next().and_then(|pid| pid.trim().parse().ok());
    let Some(pid) = pid.and_then(Pid::from_raw) else {
        return Ok(());
    };
    // The number may have gone to another process; a server works within its data.
    let is_ours = || {
        let place = fs::read_link(format!("/proc/{}/cwd", pid.as_raw_nonzero()));
        place.is_ok_and(|place| place == cluster.data())
    };
    if !is_ours() {
        return Ok(());
    }
    send(&Some(pid), Signal::INT);
    let begin = Instant::now();
    while is_ours() && is_alive(pid) {
        if begin.elapsed() > LEAVING {
            kill_all(&Some(pid));
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

fn is_alive(pid: Pid) -> bool {
    // One that nobody has waited for does nothing any more.
    !matches!(state(pid), None | Some('Z' | 'X'))
}

/// The state of a process, by its letter.
fn state(pid: Pid) -> Option<char> {
    let (state, _) = status(&pid.as_raw_nonzero().to_string())?;
    Some(state)
}

/// The state of a process, and its parent.
fn status(pid: &str) -> Option<(char, i32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it, in brackets, may hold anything.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.next()?.parse().ok()?))
}

fn children(of: Pid) -> Vec<Pid> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let names = all.filter_map(|entry| entry.file_name().into_string().ok());
    let numbers = names.filter(|name| name.starts_with(|first: char| first.is_ascii_digit()));
    let ours = numbers.filter(|pid| {
        let status = status(pid);
        status.is_some_and(|(_, parent)| parent == of.as_raw_nonzero().get())
    });
    ours.filter_map(|pid| Pid::from_raw(pid.parse().ok()?))
        .collect()
}

/// The end of a log, from a place on.
fn last_lines(path: &Path, begin: u64) -> String {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|mut file| {
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(begin.max(length.saturating_sub(BYTES))))?;
        file.read_to_end(&mut bytes)
    });
    if let Err(error) = read {
        return format!("({} cannot be read: {error})", path.display());
    }
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
