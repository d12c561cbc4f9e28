//! One process writes and is killed; another one reads meanwhile.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use everfold_engine::engine::ReadLimit;
use everfold_engine::world::System;
use everfold_engine::{Engine, EntityKey, Offset, Record, World};
use everfold_log::{Directory, Disk, Log, MemoryDisk, backup, restore};

use support::*;

const WRITE: &str = "--write-to";

/// Without a harness: this program is also the process that writes.
#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().position(|argument| argument == WRITE) {
        Some(at) => write(Path::new(&arguments[at + 1])).await,
        // Listing tests runs none.
        None if arguments.iter().any(|argument| argument == "--list") => {}
        None => {
            what_was_acknowledged_is_read_and_what_is_read_survives().await;
            println!("test what_was_acknowledged_is_read_and_what_is_read_survives ... ok");
        }
    }
}

/// What a job that blocks comes to, beside the tasks.
async fn aside<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = tokio::sync::oneshot::channel();
    let run = move || {
        let _ = done.send(job());
    };
    System::current().block("aside", Box::new(run));
    result.await.unwrap()
}

/// Appends for ever, and says what was acknowledged.
async fn write(path: &Path) {
    let mut options = small();
    options.plain_segments = 1;
    let log = Log::open_directory(path, System::current(), options).unwrap();
    let mut owner = Owner::after(log.claim(P0).await.unwrap(), P0);
    for version in 1.. {
        let batch = owner.batch(vec![event("a", version, vec![version as u8; 900])]);
        let done = log.append(P0, owner.epoch, batch).await.unwrap();
        writeln!(std::io::stdout().lock(), "{}", done.last).unwrap();
    }
}

async fn what_was_acknowledged_is_read_and_what_is_read_survives() {
    for round in 1..=3 {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("log");
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args([WRITE, path.to_str().unwrap()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(writer.stdout.take().unwrap()).lines();
        said.next().unwrap().unwrap();
        let options = small();
        let reader =
            Log::open_directory_read_only(&path, System::current(), options.clone()).unwrap();
        let mut read: Vec<Arc<Record>> = Vec::new();
        let mut after = Offset(0);
        let entity = EntityKey::new("thing", "a");
        let copies: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
        for count in 0..300 * round {
            let acknowledged: u64 = said.next().unwrap().unwrap().parse().unwrap();
            if count % 7 == 0 {
                assert!(reader.safe_head(P0).await.unwrap() >= Offset(acknowledged));
            }
            if count % 50 == 0 {
                let version = acknowledged - 1;
                let found = reader
                    .read_entity(P0, &entity, version - 1, 1)
                    .await
                    .unwrap();
                assert_eq!(found[0].local.offset, Offset(acknowledged));
            }
            if count % 100 == 0 {
                let (path, copies) = (path.clone(), Arc::clone(&copies));
                let job = move || {
                    let source = Directory::read_only(&path).unwrap();
                    backup(&source, &copies, &mut |_, _| {}).unwrap()
                };
                let done = aside(job).await;
                assert!(done.records >= acknowledged);
            }
            let chunk = reader.read(P0, after, ReadLimit::default()).await.unwrap();
            after = chunk.next;
            read.extend(chunk.records);
        }
        // In the middle of whatever it does.
        writer.kill().unwrap();
        writer.wait().unwrap();
        let acknowledged = said
            .map_while(Result::ok)
            .filter_map(|line| line.parse().ok())
            .last();
        let acknowledged: u64 = acknowledged.unwrap_or_default();
        loop {
            let chunk = reader.read(P0, after, ReadLimit::default()).await.unwrap();
            if chunk.next == after {
                break;
            }
            after = chunk.next;
            read.extend(chunk.records);
        }
        assert!(after >= Offset(acknowledged));
        assert!(
            read.iter()
                .map(|record| record.local.offset.0)
                .eq(1..=after.0)
        );
        let names = reader.report();
        assert!(names.segments > 3, "{names:?}");
        let log = Log::open_directory(&path, System::current(), options).unwrap();
        let mut kept = Vec::new();
        let mut at = Offset(0);
        while at < log.safe_head(P0).await.unwrap() {
            let chunk = log.read(P0, at, ReadLimit::default()).await.unwrap();
            at = chunk.next;
            kept.extend(chunk.records);
        }
        assert_eq!(kept, read, "what was shown is what is left");
        // The reader goes on with the next writer.
        log.claim(P0).await.unwrap();
        assert_eq!(reader.wait(P0, after).await.unwrap(), Offset(after.0 + 1));
        log.close().await;
        let job = move || {
            let back = MemoryDisk::new();
            restore(&copies, &back, &mut |_, _| {}).unwrap();
            let log = Log::open(Arc::new(back), Still::eager(), small()).unwrap();
            all(&log, P0)
        };
        let restored = aside(job).await;
        assert_eq!(restored[..], kept[..restored.len()]);
    }
}
