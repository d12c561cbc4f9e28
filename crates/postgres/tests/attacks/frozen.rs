//! Guarantee: an owner that is frozen anywhere holds up its successor for less than a lease, and when
//! it wakes up it can neither append nor confirm.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use everfold_engine::engine::{AppendError, OwnerError};
use everfold_engine::{Engine, Partition};
use tokio::sync::Notify;

use crate::owner::{Owner, names, sound};
use crate::proxy::{Fate, Proxy};
use crate::servers::{Server, open, open_with};

/// A successor that takes longer than this was held up: half a lease.
const IN_TIME: Duration = Duration::from_secs(5);

/// The log that the process of [`owner_process`] appends to.
const LOG: &str = "EVERFOLD_TEST_APPEND_TO";

/// Run by itself this does nothing; the tests below start it as a process of its own.
#[tokio::test(flavor = "multi_thread")]
async fn owner_process() {
    let Some(address) = std::env::var_os(LOG) else {
        return;
    };
    let log = open(address.to_str().unwrap()).await;
    let mut owner = Owner::claim(log, 0).await.unwrap();
    for number in 0_u64.. {
        let name = format!("{}-{number}", owner.epoch().0);
        match owner.append(&[&name, "all", &name]).await {
            Ok(_) => eprintln!("acknowledged {name}"),
            Err(error) => {
                eprintln!("failed {error:?}");
                break;
            }
        }
    }
    let again = owner.append(&["again"]).await;
    let confirmed = owner.confirm().await;
    eprintln!("again {again:?}; confirmed {confirmed:?}");
}

struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
}

impl Process {
    fn start(address: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "frozen::owner_process", "--nocapture"])
            .env(LOG, address)
            .env("RUST_BACKTRACE", "0")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, lines }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([name, &pid]).status();
        assert!(sent.unwrap().success());
    }

    fn line(&mut self) -> String {
        self.lines.next().unwrap().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_was_stopped_anywhere_is_fenced_when_it_goes_on() {
    let server = Server::shared();
    let address = server.fresh();
    let successor = open(&address).await;
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    for round in 0..7 {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let mut process = Process::start(&address);
        let mut acknowledged = Vec::new();
        for _ in 0..1 + seed % 40 {
            acknowledged.push(process.line());
        }
        process.signal("-STOP");
        let begin = Instant::now();
        let mut owner = Owner::claim(successor.clone(), 0).await.unwrap();
        let mine = format!("successor-{round}");
        owner.append(&[&mine]).await.unwrap();
        assert!(
            begin.elapsed() < IN_TIME,
            "round {round}: {:?}",
            begin.elapsed()
        );
        process.signal("-CONT");
        let failed = loop {
            let line = process.line();
            match line.starts_with("acknowledged ") {
                true => acknowledged.push(line),
                false => break line,
            }
        };
        assert!(
            failed.starts_with("failed Fenced") || failed.starts_with("failed Unknown"),
            "{failed}"
        );
        let last = process.line();
        assert!(
            last.starts_with("again Err(Fenced") && last.contains("confirmed Err(Fenced"),
            "{last}"
        );
        owner.append(&["successor goes on"]).await.unwrap();
        owner.confirm().await.unwrap();
        let records = sound(&*successor, Partition(0)).await;
        let found = names(&records);
        let taken = found.iter().position(|name| *name == mine).unwrap();
        for line in acknowledged {
            let name = line.strip_prefix("acknowledged ").unwrap().to_owned();
            let copies = found[..taken]
                .iter()
                .filter(|found| **found == name)
                .count();
            assert_eq!(copies, 2, "round {round}: {name}");
        }
        assert_eq!(
            found[taken..].len(),
            2,
            "round {round}: the fenced one went on"
        );
    }
}

/// The server has run the append and waits for the end of the request: a row lock is held by a
/// transaction that no time-out of the server ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_never_ends_does_not_hold_up_a_successor() {
    let server = Server::shared();
    let address = server.fresh();
    let proxy = Proxy::before(&address).await;
    let frozen = open(&proxy.address(&address)).await;
    let mut former = Owner::claim(frozen.clone(), 0).await.unwrap();
    former.append(&["first"]).await.unwrap();
    proxy.next([Fate::Freeze]);
    let lost = tokio::spawn(async move {
        let outcome = former.append(&["lost"]).await;
        (former, outcome)
    });
    proxy.met.notified().await;
    let successor = open(&address).await;
    let begin = Instant::now();
    let mut owner = Owner::claim(successor.clone(), 0).await.unwrap();
    owner.append(&["second"]).await.unwrap();
    assert!(begin.elapsed() < IN_TIME, "{:?}", begin.elapsed());
    let (mut former, outcome) = lost.await.unwrap();
    assert!(
        matches!(outcome, Err(AppendError::Unknown(_))),
        "{outcome:?}"
    );
    let again = former.append(&["again"]).await;
    assert!(matches!(again, Err(AppendError::Fenced(_))), "{again:?}");
    let confirmed = former.confirm().await;
    assert!(
        matches!(confirmed, Err(OwnerError::Fenced { .. })),
        "{confirmed:?}"
    );
    let records = sound(&*successor, Partition(0)).await;
    assert_eq!(names(&records), ["first", "second"]);
}

/// One request carries all partitions of a node, so all their rows are held at once, and the
/// successor takes all of them at once, with fewer sessions than that.
#[tokio::test(flavor = "multi_thread")]
async fn all_partitions_of_a_frozen_node_are_taken_at_once() {
    const MANY: u16 = 24;
    let server = Server::shared();
    let address = server.fresh();
    let proxy = Proxy::before(&address).await;
    let frozen = open_with(&proxy.address(&address), MANY).await;
    let mut former = Vec::new();
    for partition in 0..MANY {
        former.push(Owner::claim(frozen.clone(), partition).await.unwrap());
    }
    // While both writers are busy with one batch each, the others gather.
    let go_on = [Arc::new(Notify::new()), Arc::new(Notify::new())];
    proxy.next(go_on.clone().map(Fate::Pause));
    proxy.next([Fate::Freeze, Fate::Freeze]);
    let mut appends = Vec::new();
    for (index, mut owner) in former.into_iter().enumerate() {
        appends.push(tokio::spawn(async move {
            let outcome = owner.append(&["lost"]).await;
            (owner, outcome)
        }));
        if index < go_on.len() {
            proxy.met.notified().await;
        }
    }
    go_on.iter().for_each(|paused| paused.notify_one());
    proxy.met.notified().await;
    let successor = open_with(&address, MANY).await;
    let begin = Instant::now();
    let mut taken = Vec::new();
    for partition in 0..MANY {
        taken.push(tokio::spawn(Owner::claim(successor.clone(), partition)));
    }
    for claim in taken {
        let mut owner = claim.await.unwrap().unwrap();
        owner.append(&["mine"]).await.unwrap();
    }
    assert!(begin.elapsed() < IN_TIME, "{:?}", begin.elapsed());
    for append in appends {
        let (owner, outcome) = append.await.unwrap();
        let records = sound(&*successor, owner.partition).await;
        match outcome {
            Ok(_) => assert_eq!(names(&records), ["lost", "mine"]),
            Err(AppendError::Unknown(_) | AppendError::Fenced(_)) => {
                assert_eq!(names(&records), ["mine"]);
            }
            other => panic!("{other:?}"),
        }
    }
}

/// People give sessions names of their own in addresses, and long ones to schemas: owners are told
/// from others all the same.
#[tokio::test(flavor = "multi_thread")]
async fn the_names_of_sessions_and_schemas_do_not_matter() {
    let server = Server::shared();
    let address = server.log(&format!("a_schema_with_a_long_name_{}", "x".repeat(37)));
    let proxy = Proxy::before(&address).await;
    let former = format!("{}&application_name=first", proxy.address(&address));
    let frozen = open(&former).await;
    let mut former = Owner::claim(frozen, 0).await.unwrap();
    former.append(&["first"]).await.unwrap();
    proxy.next([Fate::Freeze]);
    let lost = tokio::spawn(async move { former.append(&["lost"]).await });
    proxy.met.notified().await;
    let successor = open(&format!("{address}&application_name=second")).await;
    let begin = Instant::now();
    let mut owner = Owner::claim(successor, 0).await.unwrap();
    owner.append(&["second"]).await.unwrap();
    assert!(begin.elapsed() < IN_TIME, "{:?}", begin.elapsed());
    assert!(lost.await.unwrap().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_that_meet_get_epochs_of_their_own_and_the_last_one_owns() {
    let server = Server::shared();
    let address = server.fresh();
    let logs = [open(&address).await, open(&address).await];
    let mut claims = Vec::new();
    for number in 0..40 {
        let log = logs[number % 2].clone();
        claims.push(tokio::spawn(async move {
            (number % 2, log.claim(Partition(0)).await.unwrap().epoch)
        }));
    }
    let mut epochs = Vec::new();
    for claim in claims {
        epochs.push(claim.await.unwrap());
    }
    epochs.sort_by_key(|(_, epoch)| *epoch);
    assert!(epochs.windows(2).all(|pair| pair[0].1 < pair[1].1));
    let (last, rest) = epochs.split_last().unwrap();
    for (log, epoch) in rest {
        assert!(logs[*log].confirm(Partition(0), *epoch).await.is_err());
    }
    logs[last.0].confirm(Partition(0), last.1).await.unwrap();
}
