//! A device that fills up: appends are refused before anything is hurt, go on by themselves when
//! there is room, and the log opens while there is none.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use everfold_engine::engine::{AppendError, Refusal};
use everfold_engine::world::System;
use everfold_engine::{Engine, Partition};
use everfold_log::{Directory, Disk, Log, MemoryDisk, verify};

use crate::appending::{Owner, numbers, options};

/// A small device.
trait Device {
    fn disk(&self) -> Arc<dyn Disk>;
    /// Leaves no room at all.
    fn fill(&self);
    /// Gives the room back.
    fn free(&self);
}

/// An ext4 file system of 32 MiB in a file.
struct Mounted {
    at: PathBuf,
    _files: tempfile::TempDir,
}

fn system(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "{program}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}

impl Mounted {
    fn new() -> Result<Self, String> {
        let files = tempfile::tempdir().map_err(|error| error.to_string())?;
        let (image, at) = (files.path().join("image"), files.path().join("mounted"));
        let sized = fs::File::create(&image).and_then(|file| file.set_len(32 << 20));
        sized
            .and_then(|()| fs::create_dir(&at))
            .map_err(|error| error.to_string())?;
        let text = |path: &Path| path.display().to_string();
        system("mkfs.ext4", &["-q", "-F", "-m", "0", &text(&image)])?;
        system("mount", &["-o", "loop", &text(&image), &text(&at)])?;
        Ok(Self { at, _files: files })
    }

    fn ballast(&self) -> PathBuf {
        self.at.join("ballast")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let at = self.at.display().to_string();
        // The log's threads may still hold a file: lazily then.
        if system("umount", &[&at]).is_err() {
            let _ = system("umount", &["-l", &at]);
        }
    }
}

impl Device for Mounted {
    fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(Directory::new(self.at.join("log")).unwrap())
    }

    fn fill(&self) {
        let mut ballast = fs::File::create(self.ballast()).unwrap();
        let piece = vec![1; 64 << 10];
        while ballast.write_all(&piece).is_ok() {}
        // The last pieces, byte by byte: a block less than the log wants would be room.
        while ballast.write_all(&piece[..512]).is_ok() {}
        ballast.sync_all().unwrap();
    }

    fn free(&self) {
        fs::remove_file(self.ballast()).unwrap();
        system("sync", &["-f", &self.at.display().to_string()]).unwrap();
    }
}

/// The stand-in where nothing can be mounted.
impl Device for MemoryDisk {
    fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    fn fill(&self) {
        self.set_capacity(Some(0));
    }

    fn free(&self) {
        self.set_capacity(None);
    }
}

async fn fills_up(device: &dyn Device) {
    let log = Log::open(device.disk(), System::current(), options()).unwrap();
    let mut owner = Owner::of(&log, Partition(0)).await;
    for _ in 0..20 {
        owner.append().await.unwrap();
    }
    let mut refusals = 0;
    for _ in 0..2 {
        device.fill();
        // Into what was prepared; then no more, however often.
        let refusal = loop {
            if let Err(error) = owner.append().await {
                break error;
            }
            assert!(owner.last < 20_000, "the device is never full");
        };
        assert!(
            matches!(refusal, AppendError::Refused(Refusal::Full(_))),
            "{refusal}"
        );
        for _ in 0..5 {
            match owner.append().await {
                Err(AppendError::Refused(Refusal::Full(_))) => refusals += 1,
                // A smaller one may still fit.
                Ok(_) => {}
                Err(error) => panic!("{error}"),
            }
        }
        let found = numbers(&log, Partition(0)).await;
        assert_eq!(found, (1..=owner.last).collect::<Vec<_>>());
        device.free();
        for _ in 0..600 {
            owner.append().await.unwrap();
        }
    }
    assert!(refusals > 0);
    // Opened, read and closed without any room.
    let description = device.disk().description();
    device.fill();
    assert_eq!(
        device.disk().description(),
        description,
        "written otherwise when full"
    );
    let last = owner.last;
    log.close().await;
    drop(log);
    let found = verify(&*device.disk(), &mut |_, _| {}).unwrap();
    assert!(found.damage.is_empty(), "{:?}", found.damage);
    let log = Log::open(device.disk(), System::current(), options()).unwrap();
    assert_eq!(
        numbers(&log, Partition(0)).await,
        (1..=last).collect::<Vec<_>>()
    );
    device.free();
    let mut owner = Owner::of(&log, Partition(0)).await;
    assert_eq!(owner.last, last);
    for _ in 0..600 {
        owner.append().await.unwrap();
    }
    log.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_device_refuses_and_goes_on_when_there_is_room() {
    match Mounted::new() {
        Ok(mounted) => {
            let description = mounted.disk().description();
            assert_eq!(description.file_system, "ext4");
            fills_up(&mounted).await;
        }
        Err(why) => {
            // Past the harness, which would keep it back.
            let say = format!(
                "\n*** NO REAL DEVICE WAS FILLED: nothing can be mounted here ({why}).\n*** A disk in memory with a limit stands in for it.\n"
            );
            std::io::stderr().write_all(say.as_bytes()).unwrap();
        }
    }
    fills_up(&MemoryDisk::new()).await;
}
