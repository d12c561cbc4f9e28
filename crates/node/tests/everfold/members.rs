//! Nodes of a cluster as processes: what is refused, what is waited for, and what is told.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};

use everfold_postgres::server::PrivateServer;

use crate::running::{Place, Running, Server, answer, everfold, refused};

struct Scene {
    place: Place,
    server: PrivateServer,
    log: String,
    identity: String,
}

impl Scene {
    fn new() -> Self {
        let place = Place::new();
        let server = PrivateServer::start(&place.path("server"), &[]).unwrap();
        server.create_database("shop").unwrap();
        let log = format!("{}?partitions=4", server.address("shop"));
        let dir = place.text("everfold.d");
        answer(&["init", "--json", "--dir", &dir, "--nodes", "node-1"]);
        let identity = format!("{dir}/node-1");
        Self {
            place,
            server,
            log,
            identity,
        }
    }

    fn node(&self) -> [&str; 7] {
        [
            "serve",
            "--engine",
            &self.log,
            "--identity",
            &self.identity,
            "--listen",
            "127.0.0.1:0",
        ]
    }
}

/// What a process says.
struct Words(Receiver<String>);

impl Words {
    fn of(running: &mut Running) -> Self {
        let (tell, words) = channel();
        let said = BufReader::new(running.0.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in said.lines().map_while(Result::ok) {
                let _ = tell.send(line);
            }
        });
        Self(words)
    }

    /// Reads on to a line that holds this.
    fn until(&self, wanted: &str) -> String {
        let mut said = Vec::new();
        while let Ok(line) = self.0.recv() {
            if line.contains(wanted) {
                return line;
            }
            said.push(line);
        }
        panic!("it ended without {wanted:?}: {said:?}");
    }
}

#[test]
fn one_that_serves_alone_is_seen_and_left_alone() {
    let scene = Scene::new();
    let alone = ["serve", "--engine", &scene.log, "--listen", "127.0.0.1:0"];
    let served = Server::start(&alone);
    let words = refused(&scene.node(), 3);
    assert!(
        words.contains("a node alone") && words.contains("stop it first"),
        "{words}"
    );
    // It is shown, by whoever knows the database from the environment.
    let shown = everfold(&["cluster", "--json"])
        .env("EVERFOLD_ENGINE", &scene.log)
        .output()
        .unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("\"name\":\"alone\""), "{shown}");
    let second = refused(&alone, 3);
    assert!(second.contains("a node alone"), "{second}");
    assert!(served.running.end("-TERM").success());

    let node = Server::start(&scene.node());
    let words = refused(&alone, 3);
    assert!(words.contains("--identity"), "{words}");
    assert!(node.running.end("-TERM").success());
}

#[test]
fn a_store_that_is_away_is_waited_for_and_a_lost_identity_is_told() {
    let mut scene = Scene::new();
    scene.server.kill();
    let arguments = [
        "serve",
        "--identity",
        &scene.identity,
        "--listen",
        "127.0.0.1:0",
    ];
    let mut command = everfold(&arguments);
    command.env("EVERFOLD_ENGINE", &scene.log);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut node = Running(command.spawn().unwrap());
    let words = Words::of(&mut node);
    let waiting = words.until("waiting for the store");
    let password = scene.log.split(':').nth(2).unwrap();
    let password = password.split('@').next().unwrap();
    assert!(!waiting.contains(password), "{waiting}");
    scene.server.restart().unwrap();
    words.until("one of 1 nodes");
    words.until("listening on");
    fs::rename(&scene.identity, scene.place.path("elsewhere")).unwrap();
    words.until("the identity cannot be read any more");
    fs::rename(scene.place.path("elsewhere"), &scene.identity).unwrap();
    words.until("the identity can be read again");
    assert!(node.end("-TERM").success());
    // What will not be right by waiting is refused at once.
    let wrong = scene.log.replace(password, "wrong");
    let mut node = scene.node();
    node[2] = &wrong;
    let words = refused(&node, 1);
    assert!(!words.contains("waiting"), "{words}");
}
