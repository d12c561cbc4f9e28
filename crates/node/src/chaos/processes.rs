//! Processes of a run: started, stopped, frozen and killed by their numbers, and never left behind.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

/// Names the processes of a run, one number a line.
const NUMBERS: &str = "processes";
const PAUSE: Duration = Duration::from_millis(5);

/// Whether there is a process of this number.
pub fn is_running(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

/// Between two starts of a process that ends by itself.
const REST: Duration = Duration::from_millis(250);

/// A process that is started again under the same command.
#[derive(Debug)]
pub struct Process {
    command: Vec<String>,
    /// What it says.
    words: PathBuf,
    folder: PathBuf,
    child: Option<Child>,
    started: Instant,
}

impl Process {
    /// Starts a command; what it says goes to a file, and its number into the list of a folder.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn start(command: Vec<String>, words: PathBuf, folder: &Path) -> anyhow::Result<Self> {
        let mut process = Self {
            command,
            words,
            folder: folder.to_owned(),
            child: None,
            started: Instant::now(),
        };
        process.again()?;
        Ok(process)
    }

    /// Starts it again once it has ended.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn again(&mut self) -> anyhow::Result<()> {
        use std::os::unix::process::CommandExt;
        self.kill();
        let Some((program, arguments)) = self.command.split_first() else {
            bail!("no command was named");
        };
        let words = appended(&self.words)?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(words.try_clone()?)
            .stderr(words)
            // Ctrl-C is for us, and we stop it when we have finished.
            .process_group(0)
            .spawn()
            .with_context(|| format!("{program} cannot be run"))?;
        let pid = child.id();
        self.child = Some(child);
        self.started = Instant::now();
        writeln!(appended(&self.folder.join(NUMBERS))?, "{pid}")?;
        Ok(())
    }

    /// Kills it at once, as a loss of power would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Stops it where it stands.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// How it has ended, if it has though nobody asked it to.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        let child = self.child.as_mut()?;
        child.try_wait().ok().flatten()
    }

    /// Whether its last start is a while ago.
    pub fn rests(&self) -> bool {
        self.started.elapsed() > REST
    }

    /// Asks all to end, and kills those that do not.
    pub fn stop_all(processes: &mut [Self], patience: Duration) {
        for process in processes.iter() {
            process.thaw();
            process.signal(Signal::TERM);
        }
        let begin = Instant::now();
        for process in processes {
            while process.is_there() && begin.elapsed() < patience {
                thread::sleep(PAUSE);
            }
            process.kill();
        }
    }

    /// The end of what it has said.
    pub fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.words).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }

    fn is_there(&mut self) -> bool {
        matches!(self.child.as_mut().map(Child::try_wait), Some(Ok(None)))
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.as_ref().map(Child::id);
        let pid = pid.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        if let Some(pid) = pid {
            // It may have ended by itself; its number is ours until it is waited for.
            let _ = kill_process(pid, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn appended(path: &Path) -> anyhow::Result<File> {
    let opened = OpenOptions::new().create(true).append(true).open(path);
    opened.with_context(|| format!("{} cannot be written", path.display()))
}

/// Kills what a run that is gone has left running: processes of its list that were started with
/// something in its folder.
pub fn kill_left_behind(folder: &Path) {
    let numbers = fs::read_to_string(folder.join(NUMBERS)).unwrap_or_default();
    let folder = folder.to_string_lossy().into_owned();
    for pid in numbers.lines().filter_map(|line| line.parse::<i32>().ok()) {
        // The number may have gone to another process.
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let is_ours = String::from_utf8_lossy(&command).contains(&folder);
        if let Some(pid) = Pid::from_raw(pid).filter(|_| is_ours) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}
