//! The program on PostgreSQL: servers of the test, and private ones of the program.

use std::fs;
use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use everfold::engine::{Engine, world::System};
use everfold_postgres::server::PrivateServer;
use everfold_postgres::{Options, Postgres};
use tokio::runtime::Runtime;

use crate::ledger;
use crate::model::{comparable, figures, lines_of_customers};
use crate::running::{Place, Running, Server, answer, refused, run};

/// A database on a server of the test.
struct Database {
    place: Place,
    server: PrivateServer,
}

impl Database {
    fn with(lines: &[String], settings: &[(&str, &str)]) -> Self {
        let place = Place::with_input(lines);
        let server = PrivateServer::start(&place.path("server"), settings).unwrap();
        server.create_database("shop").unwrap();
        Self { place, server }
    }

    /// The address of a log.
    fn log(&self, schema: &str) -> String {
        format!(
            "{}?schema={schema}&partitions=4",
            self.server.address("shop")
        )
    }

    fn password(&self) -> String {
        let address = self.server.address("shop");
        let (user, _) = address.split_once('@').unwrap();
        user.rsplit(':').next().unwrap().to_owned()
    }
}

/// A small run of the store with a directory, and more arguments.
fn store<'a>(input: &'a str, data: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let base = [
        "demo",
        "--exit",
        "--json",
        "--input",
        input,
        "--data",
        data,
        "--credit-limit",
        "80.00",
        "--payment-days",
        "20",
    ];
    base.into_iter().chain(more.iter().copied()).collect()
}

fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8(both).unwrap()
}

/// The processes that work in this directory or below: PostgreSQL does, in its data.
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

#[test]
fn the_store_has_the_same_figures_in_a_database() {
    let lines = lines_of_customers(0..60);
    let database = Database::with(&lines, &[]);
    let place = &database.place;
    let (input, data, log) = (
        place.text("input.txt"),
        place.text("demo"),
        database.log("store"),
    );
    let arguments = store(&input, &data, &["--engine", &log]);
    let first = answer(&arguments);
    assert_eq!(comparable(&first), figures(&lines, 8_000, 20));
    let durability = first["durability"].as_str().unwrap();
    assert!(durability.contains("PostgreSQL"), "{durability}");
    let second = answer(&arguments);
    assert_eq!(comparable(&second), comparable(&first));
    assert_eq!(second["commands"], 0);
    assert_eq!(second["events"], first["events"]);
    // The same events as in the embedded log.
    let embedded = answer(&store(&input, &place.text("embedded"), &[]));
    assert_eq!(embedded["events"], first["events"]);

    let listed = run(&["events", "--engine", &log, "--json"]);
    let count = text(&listed).lines().count();
    assert_eq!(first["events"], count);
    let shown = answer(&["entity", "--engine", &log, "--json", "customer-00001"]);
    let same = answer(&[
        "entity",
        "--data",
        &place.text("embedded"),
        "--json",
        "customer-00001",
    ]);
    assert_eq!(shown["state"], same["state"]);
    assert!(run(&["sagas", "--engine", &log]).status.success());
    // What SQL adds up is what the store says.
    let business = run(&["report", "business", "--engine", &log, "--json"]);
    let months: Vec<serde_json::Value> = text(&business)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let sum = |name: &str| {
        months
            .iter()
            .map(|month| month[name].as_u64().unwrap())
            .sum::<u64>()
    };
    assert_eq!(first["orders"], sum("orders"));
    assert_eq!(first["approved"], sum("approved"));
    assert_eq!(first["rejected"], sum("rejected"));
    let large = [
        "report",
        "large-shipped",
        "50.00",
        "1997-01-01",
        "--engine",
        &log,
    ];
    let table = text(&run(&large));
    assert!(
        table.lines().count() > 1 && table.contains("customer"),
        "{table}"
    );
    let wrong = refused(&["report", "large-shipped", "--engine", &log], 3);
    assert!(wrong.contains("AMOUNT DAY"), "{wrong}");
    // Looking has made nothing.
    let nothing = refused(&["events", "--engine", &database.log("nothing")], 3);
    assert!(nothing.contains("no log"), "{nothing}");
    let nothing = refused(&["events", "--engine", &database.log("nothing")], 3);
    assert!(nothing.contains("no log"), "{nothing}");
}

#[test]
fn events_of_a_database_are_followed_while_another_process_writes() {
    let lines = lines_of_customers(0..5);
    let database = Database::with(&lines, &[]);
    let log = database.log("followed");
    let served = Server::start(&["serve", "--engine", &log, "--listen", "127.0.0.1:0"]);
    let arguments = [
        "events", "--engine", &log, "--json", "--follow", "--limit", "2",
    ];
    let following = Running::start(&arguments);
    for customer in ["ann", "bob"] {
        let body = serde_json::json!({ "name": customer, "credit_limit": "10.00" });
        served.post("/customers", &body).with(201);
    }
    let mut child = following;
    let begin = Instant::now();
    while child.0.try_wait().unwrap().is_none() {
        assert!(begin.elapsed() < Duration::from_secs(60), "it does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut printed = String::new();
    let mut stdout = child.0.stdout.take().unwrap();
    std::io::Read::read_to_string(&mut stdout, &mut printed).unwrap();
    assert!(
        printed.contains("\"ann\"") && printed.contains("\"bob\""),
        "{printed}"
    );
    served.running.end("-TERM");
}

#[test]
fn the_ledger_balances_in_a_database() {
    let database = Database::with(&[], &[]);
    let (data, log) = (database.place.text("ledger"), database.log("ledger"));
    let more = ["--engine", &log, "--concurrency", "100"];
    let arguments = ledger::arguments(&data, &more);
    let first = answer(&arguments);
    ledger::check_books(&["--engine", &log], &first);
    let again = answer(&arguments);
    assert_eq!(again["accepted"], first["accepted"]);
    assert_eq!(again["transfers_per_second"], 0);
}

/// How far the log has come; nothing while there is none.
fn length(runtime: &Runtime, address: &str) -> u64 {
    runtime.block_on(async {
        let world = System::current();
        let opened = Postgres::open_read_only(address, world, Options::default()).await;
        let Ok(log) = opened else {
            return 0;
        };
        let mut length = 0;
        for partition in log.identity().layout.all() {
            length += log.safe_head(partition).await.map_or(0, |head| head.0);
        }
        log.close().await;
        length
    })
}

#[test]
fn a_run_that_is_killed_goes_on_in_the_database() {
    let lines = lines_of_customers(0..100);
    let expected = figures(&lines, 8_000, 20);
    let database = Database::with(&lines, &[]);
    let place = &database.place;
    let (input, data, log) = (
        place.text("input.txt"),
        place.text("demo"),
        database.log("killed"),
    );
    let more = ["--engine", &log, "--concurrency", "5"];
    let arguments = store(&input, &data, &more);
    let runtime = Runtime::new().unwrap();
    let mut kills = 0;
    for more in [1, 7, 150, 90, 300, 210] {
        let goal = length(&runtime, &log) + more;
        let mut running = Running::start(&arguments);
        let begin = Instant::now();
        while length(&runtime, &log) < goal && running.0.try_wait().unwrap().is_none() {
            assert!(begin.elapsed() < Duration::from_secs(120), "no progress");
        }
        running.0.kill().unwrap();
        kills += u32::from(!running.0.wait().unwrap().success());
    }
    assert!(kills > 3, "{kills}");
    assert_eq!(comparable(&answer(&arguments)), expected);
    let after = answer(&arguments);
    assert_eq!(
        (comparable(&after), &after["commands"]),
        (expected, &0.into())
    );
    // Nothing was done twice: the same events as without a kill.
    let calm = answer(&store(&input, &place.text("calm"), &[]));
    assert_eq!(after["events"], calm["events"]);
}

#[test]
fn a_private_server_comes_and_goes_with_the_program() {
    let lines = lines_of_customers(0..30);
    let place = Place::with_input(&lines);
    let (input, data) = (place.text("input.txt"), place.text("demo"));
    let engine = ["--engine", "postgres"];
    let arguments = store(&input, &data, &engine);
    let first = answer(&arguments);
    assert_eq!(comparable(&first), figures(&lines, 8_000, 20));
    let here = place.path("demo");
    assert_eq!(processes_in(&here), Vec::<String>::new());
    // Others find it by the directory alone, and end it when they have seen enough.
    let listed = run(&["events", "--data", &data, "--json"]);
    assert_eq!(first["events"], text(&listed).lines().count());
    let shown = answer(&["entity", "--data", &data, "--json", "customer-00001"]);
    assert_eq!(shown["entity"], "customer-00001");
    let found = answer(&["doctor", "--data", &data, "--json", "--production"]);
    assert_eq!(found["loses_data"], false);
    assert_eq!(processes_in(&here), Vec::<String>::new());
    // A refusal, Ctrl-C and a polite end leave nothing.
    let other = store(
        &input,
        &data,
        &["--engine", "postgres", "--payment-days", "21"],
    );
    let other: Vec<&str> = [&other[..9], &other[11..]].concat();
    refused(&other, 3);
    let serving: Vec<&str> = arguments
        .iter()
        .copied()
        .filter(|word| *word != "--exit")
        .collect();
    let serving = [&serving[..], &["--port", "0"]].concat();
    for signal in ["-INT", "-TERM"] {
        let served = Server::start(&serving);
        assert!(!processes_in(&here).is_empty());
        let busy = refused(&arguments, 3);
        assert!(busy.contains("in use"), "{busy}");
        let busy = refused(&["events", "--data", &data], 3);
        assert!(busy.contains("--url"), "{busy}");
        assert!(served.running.end(signal).success());
        assert_eq!(processes_in(&here), Vec::<String>::new());
    }
    // After kill -9 the next run goes on with it, and the log is whole.
    let mut served = Server::start(&serving);
    served.running.0.kill().unwrap();
    served.running.0.wait().unwrap();
    let after = answer(&arguments);
    assert_eq!(
        (comparable(&after), &after["commands"]),
        (comparable(&first), &0.into())
    );
    assert_eq!(processes_in(&here), Vec::<String>::new());
    let again = answer(&[&arguments[..], &["--fresh"]].concat());
    assert_eq!(again["commands"], first["commands"]);
    // Back to the embedded log: the server's data are gone.
    answer(&store(&input, &data, &["--fresh"]));
    assert!(!place.path("demo/postgres").exists());
}

#[test]
fn a_killed_program_takes_its_server_with_it() {
    let place = Place::with_input(&lines_of_customers(0..5));
    let (data, here) = (place.text("shop"), place.path("shop"));
    let serve = [
        "serve",
        "--data",
        &data,
        "--engine",
        "postgres",
        "--listen",
        "127.0.0.1:0",
    ];
    let mut served = Server::start(&serve);
    assert!(!processes_in(&here).is_empty());
    served.running.0.kill().unwrap();
    served.running.0.wait().unwrap();
    let begin = Instant::now();
    while !processes_in(&here).is_empty() {
        assert!(begin.elapsed() < Duration::from_secs(60), "it lives on");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_server_that_may_lose_what_was_acknowledged_is_not_for_production() {
    let database = Database::with(&[], &[("fsync", "off")]);
    let log = database.log("risky");
    assert!(run(&["migrate", "--engine", &log]).status.success());
    let serve = [
        "serve",
        "--production",
        "--engine",
        &log,
        "--listen",
        "127.0.0.1:0",
    ];
    let words = refused(&serve, 3);
    assert!(
        words.contains("fsync = off") && !words.contains("listening"),
        "{words}"
    );
    let found = answer(&["doctor", "--engine", &log, "--json"]);
    assert_eq!(found["loses_data"], true);
    let findings = found["findings"].as_array().unwrap();
    let fsync = findings
        .iter()
        .find(|finding| finding["name"] == "fsync")
        .unwrap();
    assert_eq!(
        (&fsync["value"], &fsync["loses_data"]),
        (&"off".into(), &true.into())
    );
    let words = refused(&["doctor", "--engine", &log, "--production"], 3);
    assert!(words.contains("fsync = off"), "{words}");
    let shown = run(&["doctor", "--engine", &log]);
    assert!(shown.status.success() && text(&shown).contains("LOSES DATA"));
    // Without the flag it serves.
    let served = Server::start(&["serve", "--engine", &log, "--listen", "127.0.0.1:0"]);
    assert!(served.running.end("-TERM").success());
}

#[test]
fn fresh_empties_nothing_that_the_demonstration_did_not_write() {
    let lines = lines_of_customers(0..5);
    let database = Database::with(&lines, &[]);
    let place = &database.place;
    let (input, mine, log) = (
        place.text("input.txt"),
        place.text("mine"),
        database.log("mine"),
    );
    let (one, engine) = (place.text("one"), ["--engine", log.as_str()]);
    let first = answer(&store(&input, &one, &engine));
    // Another directory has no business with that log, even if told to empty it.
    for more in [&[][..], &["--fresh"]] {
        let words = refused(&[&store(&input, &mine, &engine)[..], more].concat(), 3);
        assert!(
            words.contains("?schema=") && words.contains("left alone"),
            "{words}"
        );
    }
    assert_eq!(answer(&store(&input, &one, &engine))["commands"], 0);
    let fresh = answer(&[&store(&input, &one, &engine)[..], &["--fresh"]].concat());
    assert_eq!(fresh["commands"], first["commands"]);
    assert_eq!(fresh["events"], first["events"]);
    // Neither is it taken for the embedded log, or for one in another schema.
    let other = database.log("other");
    for more in [&[][..], &["--engine", &other], &["--engine", "postgres"]] {
        let words = refused(&store(&input, &one, more), 3);
        assert!(
            words.contains("--engine") && words.contains("--fresh"),
            "{words}"
        );
    }
    // Whoever names the directory is told where the log is.
    let words = refused(&["events", "--data", &one], 3);
    assert!(words.contains("schema=mine"), "{words}");
    // The log was replaced behind its back.
    assert!(run(&["adopt", "--yes", "--engine", &log]).status.success());
    let words = refused(&store(&input, &one, &engine), 3);
    assert!(words.contains("left alone"), "{words}");
}

#[test]
fn who_looks_after_a_database_can_prepare_and_adopt_a_log() {
    let database = Database::with(&[], &[]);
    let log = database.log("kept");
    let printed = run(&["migrate", "--print", "--engine", &log]);
    let sql = text(&printed);
    assert!(
        sql.contains("create schema") && sql.contains("kept.event"),
        "{sql}"
    );
    refused(&["doctor", "--engine", &log], 3);
    for _ in 0..2 {
        assert!(run(&["migrate", "--engine", &log]).status.success());
    }
    let served = Server::start(&["serve", "--engine", &log, "--listen", "127.0.0.1:0"]);
    served.running.end("-TERM");
    let words = refused(&["adopt", "--engine", &log], 3);
    assert!(
        words.contains("--yes") && words.contains("no way back"),
        "{words}"
    );
    let adopted = run(&["adopt", "--yes", "--engine", &log]);
    assert!(adopted.status.success() && text(&adopted).contains("incarnation"));
    for bad in ["Upper", "a;b", ""] {
        let address = format!("postgres://ann:secret@localhost/db?schema={bad}");
        refused(&["migrate", "--print", "--engine", &address], 3);
    }
}

#[test]
fn what_is_for_files_says_so_and_no_password_is_ever_shown() {
    let database = Database::with(&lines_of_customers(0..3), &[]);
    let place = &database.place;
    let (log, secret) = (database.log("files"), database.password());
    let (input, data) = (place.text("input.txt"), place.text("demo"));
    let shown = run(&store(&input, &data, &["--engine", &log]));
    assert!(shown.status.success() && !text(&shown).contains(&secret));
    let marker = fs::read_to_string(place.path("demo/everfold-demo.json")).unwrap();
    assert!(
        marker.contains("schema=files") && !marker.contains(&secret),
        "{marker}"
    );
    let elsewhere = place.text("elsewhere");
    let old = "2020-01-01";
    for (code, arguments) in [
        (2, vec!["verify", "--engine", &log]),
        (2, vec!["verify", "--data", &log]),
        (3, vec!["backup", "--engine", &log, &elsewhere]),
        (3, vec!["backup", "--data", &log, &elsewhere]),
        (3, vec!["restore", "--engine", &log, &elsewhere]),
        (3, vec!["restore", "--data", &log, &elsewhere]),
        (3, vec!["trim", "--before", old, "--engine", &log]),
        (3, vec!["trim", "--before", old, "--data", &log]),
    ] {
        let words = refused(&arguments, code);
        assert!(words.contains("no files of its own"), "{words}");
        assert!(!words.contains(&secret), "{words}");
        assert!(!Path::new(&elsewhere).exists());
    }
    let unknown = log.replacen("postgres", "postgers", 1);
    let wrong = log.replacen(&secret, "guessed", 1);
    let words = refused(&["events", "--engine", &unknown], 2);
    assert!(
        words.contains("postgres://") && !words.contains(&secret),
        "{words}"
    );
    for (code, arguments) in [
        (3, vec!["events", "--data", &log]),
        (3, vec!["serve", "--data", &data, "--engine", &log]),
        (1, vec!["events", "--engine", &wrong]),
        (1, vec!["serve", "--engine", &wrong]),
    ] {
        let words = refused(&arguments, code);
        assert!(
            !words.contains(&secret) && !words.contains("guessed"),
            "{words}"
        );
    }
    let words = refused(&["serve", "--engine", "postgres"], 3);
    assert!(words.contains("--data"), "{words}");
}
