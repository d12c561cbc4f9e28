//! Processes that are killed, and two at once.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use everfold_engine::Partition;
use everfold_engine::world::System;
use everfold_log::{Directory, Log, OpenError, verify};

use crate::appending::{PARTITIONS, append, numbers, options};

/// Where the process that is to be killed appends.
const DIRECTORY: &str = "EVERFOLD_APPEND_IN";

/// Run by itself this appends a little; the tests below start it as a process of its own, told by
/// the environment where to go on until it is killed.
#[tokio::test(flavor = "multi_thread")]
async fn appending_process() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        // Not through the harness, which keeps output back.
        append(Path::new(&directory), u64::MAX, &mut std::io::stderr()).await;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut told = Vec::new();
    append(directory.path(), 6, &mut told).await;
    let expected = "ready\n0 1\n1 1\n2 1\n0 2\n1 2\n2 2\n";
    assert_eq!(String::from_utf8(told).unwrap(), expected);
}

fn start(directory: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "processes::appending_process", "--nocapture"])
        .env(DIRECTORY, directory)
        .env("RUST_BACKTRACE", "0")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_process_acknowledged_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = [0u64; PARTITIONS as usize];
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    for round in 0..12 {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        // Some are killed while they open the log.
        let lines = if round % 4 == 3 { 0 } else { 1 + seed % 150 };
        let mut child = start(directory.path());
        let mut out = BufReader::new(child.stderr.take().unwrap());
        let mut told = String::new();
        for _ in 0..lines {
            assert!(
                out.read_line(&mut told).unwrap() > 0,
                "round {round} ended: {told}"
            );
        }
        child.kill().unwrap();
        // What it told between the last line and its end counts too.
        out.read_to_string(&mut told).unwrap();
        assert!(!child.wait().unwrap().success());
        assert!(!told.contains("panicked"), "{told}");
        for line in told.lines().filter(|line| *line != "ready") {
            let (partition, number) = line.split_once(' ').unwrap();
            acknowledged[partition.parse::<usize>().unwrap()] = number.parse().unwrap();
        }
        let disk = Directory::new(directory.path()).unwrap();
        if acknowledged != [0; PARTITIONS as usize] {
            let found = verify(&disk, &mut |_, _| {}).unwrap();
            assert!(found.damage.is_empty(), "round {round}: {:?}", found.damage);
        }
        let log = Log::open_directory(directory.path(), System::current(), options()).unwrap();
        for (partition, acknowledged) in (0..).map(Partition).zip(acknowledged) {
            let found = numbers(&log, partition).await;
            let last = found.last().copied().unwrap_or_default();
            assert_eq!(found, (1..=last).collect::<Vec<_>>(), "round {round}");
            // One append was under way at most.
            let fits = (acknowledged..=acknowledged + 1).contains(&last);
            assert!(
                fits,
                "round {round}: {acknowledged} acknowledged, {last} found"
            );
        }
        everfold_engine::Engine::close(&*log).await;
    }
    assert!(
        acknowledged.iter().all(|number| *number > 50),
        "{acknowledged:?}"
    );
}

#[test]
fn a_second_process_is_refused_by_the_name_of_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("the log");
    let mut child = start(&path);
    let mut out = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    let open = || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let _inside = runtime.enter();
        Log::open_directory(&path, System::current(), options()).map(drop)
    };
    match open() {
        Err(OpenError::InUse { directory }) => assert_eq!(Path::new(&directory), path),
        other => panic!("{other:?}"),
    }
    let disk = Directory::new(&path).unwrap();
    assert!(matches!(
        verify(&disk, &mut |_, _| {}),
        Err(OpenError::InUse { .. })
    ));
    child.kill().unwrap();
    let mut rest = Vec::new();
    out.read_to_end(&mut rest).unwrap();
    child.wait().unwrap();
    open().unwrap();
    std::io::stderr().flush().unwrap();
}
