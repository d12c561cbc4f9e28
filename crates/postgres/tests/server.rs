//! Private servers, started from the installed binaries.

#![allow(clippy::unwrap_used, reason = "what supports a test fails with it")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use everfold_postgres::server::{Network, PrivateServer, ServerError};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

fn place() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn start(directory: &Path) -> PrivateServer {
    PrivateServer::start(directory, &[]).unwrap()
}

async fn connect(server: &PrivateServer, database: &str) -> Client {
    let address = server.address(database);
    let (client, connection) = tokio_postgres::connect(&address, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn show(client: &Client, setting: &str) -> String {
    let row = client.query_one(&format!("SHOW {setting}"), &[]).await;
    row.unwrap().get(0)
}

/// The processes that work in this directory or below: servers do, in their data.
fn processes_in(directory: &Path) -> Vec<String> {
    let directory = directory.canonicalize().unwrap();
    let all = fs::read_dir("/proc").unwrap().flatten();
    let within = all.filter(|process| {
        let place = fs::read_link(process.path().join("cwd"));
        place.is_ok_and(|place| place.starts_with(&directory))
    });
    within
        .map(|process| process.file_name().into_string().unwrap())
        .collect()
}

#[tokio::test]
async fn it_starts_durably_and_leaves_no_process() {
    let place = place();
    let directory = place.path().join("new/server");
    let server = start(&directory);
    server.create_database("shop").unwrap();
    // One that exists stays.
    server.create_database("shop").unwrap();
    let client = connect(&server, "shop").await;
    let encoding = show(&client, "server_encoding").await;
    assert_eq!(encoding, "UTF8");
    for durable in ["fsync", "synchronous_commit", "full_page_writes"] {
        assert_eq!(show(&client, durable).await, "on", "{durable}");
    }
    assert_eq!(show(&client, "listen_addresses").await, "127.0.0.1");
    assert!(processes_in(place.path()).contains(&server.pid().unwrap().to_string()));
    // A connection that is open keeps nobody.
    server.stop().unwrap();
    assert_eq!(processes_in(place.path()), Vec::<String>::new());
    let dropped = start(&directory);
    assert!(!processes_in(place.path()).is_empty());
    drop(dropped);
    assert_eq!(processes_in(place.path()), Vec::<String>::new());
}

#[tokio::test]
async fn what_was_committed_outlives_restarts_kills_and_another_start() {
    let place = place();
    let mut server = start(place.path());
    let address = server.address("postgres");
    let client = connect(&server, "postgres").await;
    let made = "CREATE TABLE kept (number int); INSERT INTO kept VALUES (1)";
    client.batch_execute(made).await.unwrap();

    server.restart().unwrap();
    assert_eq!(server.address("postgres"), address);
    let client = connect(&server, "postgres").await;
    let more = "INSERT INTO kept VALUES (2)";
    client.batch_execute(more).await.unwrap();

    let busy = connect(&server, "postgres").await;
    let unfinished = "BEGIN; INSERT INTO kept VALUES (3)";
    busy.batch_execute(unfinished).await.unwrap();
    server.kill();
    assert_eq!(server.pid(), None);
    assert_eq!(processes_in(place.path()), Vec::<String>::new());
    assert!(busy.simple_query("COMMIT").await.is_err());
    let gone = tokio_postgres::connect(&address, NoTls).await;
    assert!(gone.is_err(), "nobody answers");
    // Killing what is dead is nothing.
    server.kill();

    server.restart().unwrap();
    assert_eq!(numbers(&server).await, [1, 2]);
    server.stop().unwrap();
    let server = start(place.path());
    assert_eq!(numbers(&server).await, [1, 2]);
}

async fn numbers(server: &PrivateServer) -> Vec<i32> {
    let client = connect(server, "postgres").await;
    let asked = "SELECT number FROM kept ORDER BY number";
    let rows = client.query(asked, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn two_run_side_by_side_and_one_directory_has_one() {
    let (first, second) = (place(), place());
    let (one, two) = (start(first.path()), start(second.path()));
    assert_ne!(one.address("postgres"), two.address("postgres"));
    let refused = PrivateServer::start(first.path(), &[]).unwrap_err();
    assert!(matches!(refused, ServerError::InUse(_)), "{refused}");
    drop(two);
    assert_eq!(processes_in(second.path()), Vec::<String>::new());
    let client = connect(&one, "postgres").await;
    assert_eq!(show(&client, "fsync").await, "on");
}

#[tokio::test]
async fn settings_hold_and_the_password_is_asked_for() {
    let place = place();
    let settings = [("fsync", "off"), ("max_connections", "17")];
    let server = PrivateServer::start(place.path(), &settings).unwrap();
    let client = connect(&server, "postgres").await;
    assert_eq!(show(&client, "fsync").await, "off");
    assert_eq!(show(&client, "max_connections").await, "17");
    let address = server.address("postgres");
    let (_, password) = address.split_once("postgres:").unwrap();
    let password = password.split('@').next().unwrap();
    let guessed = address.replace(password, "guessed");
    assert!(tokio_postgres::connect(&guessed, NoTls).await.is_err());
}

#[tokio::test]
async fn one_with_a_network_is_reached_there_with_its_password_only() {
    let place = place();
    let network = Network {
        address: Ipv4Addr::new(127, 0, 0, 2),
        bits: 24,
    };
    let mut server = PrivateServer::start_in(place.path(), &[], network).unwrap();
    server.create_database("shop").unwrap();
    let address = server.address_in_network("shop");
    assert!(address.contains("@127.0.0.2:"), "{address}");
    server.restart().unwrap();
    for address in [&address, &server.address("shop")] {
        let reached = tokio_postgres::connect(address, NoTls).await;
        assert!(reached.is_ok(), "{address}");
    }
    let (before, after) = address.split_once('@').unwrap();
    let (user, _) = before.rsplit_once(':').unwrap();
    let stranger = tokio_postgres::connect(&format!("{user}:guess@{after}"), NoTls).await;
    assert!(stranger.is_err());
}

#[test]
fn what_keeps_it_from_starting_is_told_with_the_words_of_the_server() {
    let place = place();
    let refused = PrivateServer::start(place.path(), &[("fsnyc", "off")]).unwrap_err();
    let words = refused.to_string();
    assert!(matches!(refused, ServerError::Start { .. }), "{words}");
    assert!(words.contains("fsnyc"), "{words}");
    assert_eq!(processes_in(place.path()), Vec::<String>::new());
    // Nothing is broken by it.
    drop(start(place.path()));

    let server = start(place.path());
    let refused = server.create_database("").unwrap_err();
    assert!(matches!(refused, ServerError::Database { .. }), "{refused}");
    drop(server);

    let strange = tempfile::tempdir().unwrap();
    fs::write(strange.path().join("letters.txt"), "dear").unwrap();
    let refused = PrivateServer::start(strange.path(), &[]).unwrap_err();
    assert!(refused.to_string().contains("letters.txt"), "{refused}");
    assert_eq!(fs::read_dir(strange.path()).unwrap().count(), 1);
}

#[test]
fn what_a_crash_during_the_first_start_leaves_is_made_anew() {
    let place = place();
    let unfinished = place.path().join("data.new");
    fs::create_dir(&unfinished).unwrap();
    fs::write(unfinished.join("PG_VERSION"), "15").unwrap();
    fs::write(place.path().join("password"), "half").unwrap();
    drop(start(place.path()));
    assert!(!unfinished.exists());
}

#[test]
fn it_is_removed_with_its_data_and_nothing_else_is() {
    let place = place();
    let directory = place.path().join("server");
    PrivateServer::remove(&directory).unwrap();
    let server = start(&directory);
    let refused = PrivateServer::remove(&directory).unwrap_err();
    assert!(matches!(refused, ServerError::InUse(_)), "{refused}");
    drop(server);
    fs::write(directory.join("letters.txt"), "dear").unwrap();
    let refused = PrivateServer::remove(&directory).unwrap_err();
    assert!(matches!(refused, ServerError::Strange { .. }), "{refused}");
    assert!(directory.join("data/PG_VERSION").exists());
    fs::remove_file(directory.join("letters.txt")).unwrap();
    PrivateServer::remove(&directory).unwrap();
    assert!(!directory.exists());
}

#[test]
fn data_of_a_version_that_is_not_installed_are_not_opened_by_another() {
    let place = place();
    drop(start(place.path()));
    fs::write(place.path().join("data/PG_VERSION"), "9999\n").unwrap();
    let refused = PrivateServer::start(place.path(), &[]).unwrap_err();
    let words = refused.to_string();
    assert!(
        words.contains("9999") && words.contains("apt install postgresql"),
        "{words}"
    );
}

/// The name of the variable that makes this test program start a server and wait to be killed.
const OWNER: &str = "EVERFOLD_TEST_OWNER_OF";

/// Starts a server from a process of its own, and kills that process.
fn orphan(directory: &Path) {
    let mut owner = Command::new(std::env::current_exe().unwrap());
    let arguments = ["--exact", "it_ends_with_a_process_that_is_killed"];
    owner.args(arguments).arg("--nocapture");
    owner.env(OWNER, directory);
    owner.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut owner = owner.spawn().unwrap();
    let mut lines = BufReader::new(owner.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("started postgres://")));
    owner.kill().unwrap();
    owner.wait().unwrap();
}

#[test]
fn it_ends_with_a_process_that_is_killed() {
    if let Some(directory) = std::env::var_os(OWNER) {
        let server = start(directory.as_ref());
        println!("started {}", server.address("postgres"));
        // Until killed: nobody writes.
        let _ = std::io::stdin().read_line(&mut String::new());
        return;
    }
    let place = place();
    orphan(place.path());
    let begin = Instant::now();
    while !processes_in(place.path()).is_empty() {
        assert!(begin.elapsed() < Duration::from_secs(60), "it lives on");
        std::thread::yield_now();
    }
}

#[test]
fn one_that_was_left_behind_gives_way_to_the_next() {
    let place = place();
    orphan(place.path());
    // Whether it has noticed yet or not, the next start has the directory to itself.
    let server = start(place.path());
    let pid = server.pid().unwrap().to_string();
    assert!(processes_in(place.path()).contains(&pid));
    drop(server);
    assert_eq!(processes_in(place.path()), Vec::<String>::new());
}
