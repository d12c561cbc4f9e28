//! A private server, started from the installed binaries: for trials, tests and measurements.
//!
//! It has a directory to itself, listens to this machine only unless told otherwise, on a port of its
//! own, and asks for a password that nobody else knows. It ends with the value that stands for it, or with the process,
//! however that ends.
//!
//! Everything here blocks its thread. Linux only.
//!
//! ```no_run
//! use everfold_postgres::server::PrivateServer;
//!
//! let server = PrivateServer::start("./postgres".as_ref(), &[])?;
//! server.create_database("shop")?;
//! println!("{}", server.address("shop"));
//! server.stop()?;
//! # Ok::<(), everfold_postgres::server::ServerError>(())
//! ```

mod account;
mod cluster;
mod error;
mod installed;
mod process;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use cluster::Cluster;
pub use error::ServerError;
use installed::Installed;
use process::Running;

/// How often another port is tried where somebody was faster.
const PORTS: usize = 5;
/// How long a server may take to stop.
const STOPPING: Duration = Duration::from_secs(60);
/// The same where nobody can be told that it did not.
const DROPPING: Duration = Duration::from_secs(10);

/// A network that a server is reached from, beside this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// The server's address in it; it has to be one of this machine's.
    pub address: Ipv4Addr,
    /// How many bits of that address are the network's.
    pub bits: u8,
}

/// A running server of its own; see the [module](self).
#[derive(Debug)]
pub struct PrivateServer {
    installed: Installed,
    cluster: Cluster,
    settings: Vec<(String, String)>,
    network: Option<Network>,
    port: u16,
    running: Option<Running>,
}

impl PrivateServer {
    /// Starts a server on a directory, which is made if it is absent or empty, and opened again if it
    /// holds what an earlier start has left. Returns when it accepts connections.
    ///
    /// `settings` are names and values as in `postgresql.conf`. Without any, what was acknowledged is
    /// durable. A server that a process which was killed has left behind in this directory is stopped
    /// first.
    ///
    /// As root the server runs as the user `postgres`, or `nobody`, because PostgreSQL refuses root.
    ///
    /// # Errors
    /// [`ServerError`]: nothing is installed, the directory is in use or holds something else, or the
    /// server did not start; each says what to do.
    pub fn start(directory: &Path, settings: &[(&str, &str)]) -> Result<Self, ServerError> {
        Self::begin(directory, settings, None)
    }

    /// The same for a server that is reached from a network too.
    ///
    /// # Errors
    /// As for [`PrivateServer::start`]; also if the address is none of this machine's.
    pub fn start_in(
        directory: &Path,
        settings: &[(&str, &str)],
        network: Network,
    ) -> Result<Self, ServerError> {
        Self::begin(directory, settings, Some(network))
    }

    fn begin(
        directory: &Path,
        settings: &[(&str, &str)],
        network: Option<Network>,
    ) -> Result<Self, ServerError> {
        let cluster = Cluster::take(directory)?;
        let installed = Installed::find(cluster.version()?)?;
        process::stop_left_behind(&cluster)?;
        cluster.prepare(&installed)?;
        let settings = settings.iter();
        let mut settings: Vec<_> = settings
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        if let Some(Network { address, bits }) = network {
            let networks = ["127.0.0.1/32".to_owned(), format!("{address}/{bits}")];
            let file = cluster.let_in(&networks)?;
            settings.push(("hba_file".to_owned(), file));
        }
        let mut tries = PORTS;
        loop {
            let port = free_port()?;
            let at = (&*addresses(network), port);
            match process::start(&installed, &cluster, at, &settings) {
                // Between asking for a free port and taking it somebody else may come.
                Err(ServerError::Start { log, .. })
                    if tries > 1 && log.contains("Address already in use") =>
                {
                    tries -= 1;
                }
                running => {
                    return Ok(Self {
                        installed,
                        cluster,
                        settings,
                        network,
                        port,
                        running: Some(running?),
                    });
                }
            }
        }
    }

    /// Removes what a server has left in a directory, with all of its databases; stops one that was
    /// left behind first. A directory that does not exist is removed already.
    ///
    /// # Errors
    /// [`ServerError`]: it is in use, or holds something else; nothing was touched then.
    pub fn remove(directory: &Path) -> Result<(), ServerError> {
        if !directory.exists() {
            return Ok(());
        }
        let cluster = Cluster::take(directory)?;
        process::stop_left_behind(&cluster)?;
        cluster.remove()
    }

    /// The address of one of its databases, password included: not for logs.
    pub fn address(&self, database: &str) -> String {
        self.address_through(self.socket(), database)
    }

    /// Where it listens on this machine.
    pub fn socket(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The same as it is reached from its network; from this machine only, if it has none.
    pub fn address_in_network(&self, database: &str) -> String {
        let network = self.network.map(|network| network.address);
        let host = network.unwrap_or(Ipv4Addr::LOCALHOST);
        self.address_through((host, self.port).into(), database)
    }

    /// The same for somebody who reaches it by way of another place.
    pub fn address_through(&self, place: SocketAddr, database: &str) -> String {
        let (user, password) = (cluster::SUPERUSER, self.cluster.password());
        format!("postgres://{user}:{password}@{place}/{database}")
    }

    /// Makes a database; one that exists stays as it is.
    ///
    /// # Errors
    /// [`ServerError::Database`]: the server does not run, or the name is none.
    pub fn create_database(&self, name: &str) -> Result<(), ServerError> {
        let refused = |reason: String| ServerError::Database {
            name: name.to_owned(),
            reason,
        };
        let mut command = Command::new(self.installed.binary("createdb"));
        process::without_settings_of_others(&mut command);
        let done = command
            .args(["--host=127.0.0.1", "--username", cluster::SUPERUSER])
            .args(["--port", &self.port.to_string()])
            .args(["--maintenance-db=postgres", "--no-password", "--", name])
            .env("PGPASSWORD", self.cluster.password())
            .stdin(Stdio::null())
            .output()
            .map_err(|error| refused(error.to_string()))?;
        let words = String::from_utf8_lossy(&done.stderr);
        if done.status.success() || words.contains("already exists") {
            return Ok(());
        }
        Err(refused(words.trim().to_owned()))
    }

    /// The process that leads the server; `None` after [`PrivateServer::kill`].
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(Running::pid)
    }

    /// Ends all its processes at once by SIGKILL, as a crash would, and waits until they are gone.
    pub fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            running.kill();
        }
    }

    /// Stops it if it runs, and starts it again, on the same port and with the same settings.
    ///
    /// # Errors
    /// As for [`PrivateServer::start`] and [`PrivateServer::stop`].
    pub fn restart(&mut self) -> Result<(), ServerError> {
        self.end(STOPPING)?;
        let at = (&*addresses(self.network), self.port);
        let running = process::start(&self.installed, &self.cluster, at, &self.settings)?;
        self.running = Some(running);
        Ok(())
    }

    /// Stops it: what is under way is aborted, everything acknowledged stays.
    ///
    /// # Errors
    /// [`ServerError::Stop`]: it had to be killed. Nothing acknowledged is lost; the next start
    /// recovers.
    pub fn stop(mut self) -> Result<(), ServerError> {
        self.end(STOPPING)
    }

    fn end(&mut self, patience: Duration) -> Result<(), ServerError> {
        match self.running.take() {
            Some(running) => running.stop(patience, &self.cluster),
            None => Ok(()),
        }
    }
}

impl Drop for PrivateServer {
    fn drop(&mut self) {
        // It was killed if it did not stop; there is nobody to be told.
        let _ = self.end(DROPPING);
    }
}

/// As in `listen_addresses`.
fn addresses(network: Option<Network>) -> String {
    match network {
        None => Ipv4Addr::LOCALHOST.to_string(),
        Some(Network { address, .. }) => format!("{},{address}", Ipv4Addr::LOCALHOST),
    }
}

fn free_port() -> Result<u16, ServerError> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let address = bound.and_then(|listener| listener.local_addr());
    address
        .map(|address| address.port())
        .map_err(|source| ServerError::System {
            what: "no port of this machine is free".to_owned(),
            source,
        })
}
