//! Sagas as people see and help them.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use everfold::engine::Timestamp;
use everfold::prelude::*;
use everfold::{DataClock, Node, NodeOptions, TimerClock};
use everfold_node::client;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::commands::lines;
use crate::running::{Place, Server, answer, refused, run};

const SAGAS: &str = "/_inspect/api/logs/main/sagas";

fn serve(place: &Place, form: &str) -> Server {
    let data = place.text("store");
    let listen = ["--listen", "127.0.0.1:0", "--form", form];
    Server::start(&[&["serve", "--data", &data], &listen[..]].concat())
}

fn customer(server: &Server) -> String {
    let body = json!({ "name": "Ann", "credit_limit": "100.00" });
    let opened = server.post("/customers", &body).with(201);
    opened["id"].as_str().unwrap().to_owned()
}

fn order(server: &Server, customer: &str, total: &str) -> String {
    let body = json!({ "customer": customer, "total": total, "delivery": "Main Street 1" });
    let placed = server.post("/orders", &body).with(202);
    placed["id"].as_str().unwrap().to_owned()
}

/// Asks again until there is what is looked for; each answer takes its time, so nothing else waits.
#[track_caller]
fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            begin.elapsed() < Duration::from_secs(60),
            "it does not come"
        );
    }
}

/// An instance once it has ended.
fn ended(server: &Server, id: &str) -> Value {
    until(|| {
        let reply = server.get(&format!("{SAGAS}/placing/{id}"));
        let shown = (reply.status == 200).then_some(reply.body)?;
        (shown["can"] == json!([])).then_some(shown)
    })
}

/// Without the links of the hash chain, which are told only where they are at hand.
fn linkless(mut shown: Value) -> Value {
    for event in shown["history"].as_array_mut().unwrap() {
        event["link"] = Value::Null;
    }
    shown
}

fn order_state(server: &Server, id: &str) -> Value {
    server.get(&format!("/orders/{id}")).with(200)["state"].clone()
}

#[test]
fn each_order_is_led_by_an_instance_that_tells_its_story() {
    let place = Place::new();
    let server = serve(&place, "saga");
    let ann = customer(&server);
    let (small, large) = (order(&server, &ann, "60.00"), order(&server, &ann, "60.01"));
    let done = ended(&server, &small);
    assert_eq!(done["state"], "completed");
    assert_eq!(done["data"]["customer"], ann.as_str());
    let history = done["history"].as_array().unwrap();
    assert_eq!(history[0]["type"], "Begun");
    assert_eq!(history.last().unwrap()["payload"]["end"], "completed");
    let undone = linkless(ended(&server, &large));
    assert_eq!(undone["state"], "undone");
    assert_eq!(undone["reason"], "InsufficientCredit");
    let placed = &undone["steps"].as_array().unwrap()[0];
    assert_eq!(
        (&placed["step"], &placed["undo"]),
        (&json!("placed"), &json!("done"))
    );
    assert_eq!(order_state(&server, &large), "REJECTED");

    // From the command line, by the server and by the directory, in use or not.
    let (url, data) = (
        format!("http://127.0.0.1:{}", server.port),
        place.text("store"),
    );
    let both = format!("placing-{large}");
    let by_url = ["sagas", "show", "--json", "--url", &url, &both];
    assert_eq!(linkless(answer(&by_url)), undone);
    let by_data = [
        "sagas", "show", "--json", "--data", &data, "placing", &large,
    ];
    assert_eq!(linkless(answer(&by_data)), undone);
    let shown = run(&["sagas", "show", "--url", &url, &both]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    for part in [
        "undone",
        "reason  InsufficientCredit",
        "step    placed: done; undoing it: done",
        "Ended",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    until(|| {
        lines(&["sagas", "--json", "--url", &url])
            .is_empty()
            .then_some(())
    });
    assert!(lines(&["sagas", "list", "--json", "--data", &data]).is_empty());

    let unknown = refused(&["sagas", "show", "--url", &url, "placin", &small], 1);
    assert!(unknown.contains("there is placing"), "{unknown}");
    let unknown = refused(&["sagas", "--data", &data, "--saga", "placin"], 1);
    assert!(unknown.contains("there is placing"), "{unknown}");
    for source in [["--url", &url], ["--data", &data]] {
        let nobody = [&["sagas", "show"][..], &source, &["placing-nobody"]].concat();
        assert!(refused(&nobody, 1).contains("never begun"));
    }
    let late = refused(&["sagas", "skip", "--url", &url, "placing", &small], 3);
    assert!(late.contains("has ended"), "{late}");
    let owner = refused(&["sagas", "skip", "--data", &data, "placing", &small], 3);
    assert!(owner.contains("--url"), "{owner}");
    let sure = refused(&["sagas", "force", "--url", &url, "placing", &small], 3);
    assert!(
        sure.contains("no way back") && sure.contains("--yes"),
        "{sure}"
    );
    refused(&["sagas", "show", "--url", &url, "placing"], 1);
    refused(&["sagas"], 2);
    refused(&["sagas", "list", "--data", &data, "--state", "asleep"], 2);
}

#[test]
fn what_cannot_be_asked_is_refused_with_its_kind() {
    let place = Place::new();
    let server = serve(&place, "saga");
    let ann = customer(&server);
    let id = order(&server, &ann, "1.00");
    ended(&server, &id);
    let of = |path: &str| format!("{SAGAS}/{path}");
    let known = server.get(SAGAS).with(200)["known"].clone();
    assert_eq!(known, json!(["placing"]));
    let retry = json!({ "operation": "retry" });
    for (path, kind) in [
        ("none/1", "UNKNOWN_SAGA"),
        ("placing/none", "UNKNOWN_INSTANCE"),
    ] {
        assert_eq!(server.get(&of(path)).failed(404), kind);
        assert_eq!(server.post(&of(path), &retry).failed(404), kind);
    }
    assert_eq!(
        server.get(&format!("{SAGAS}?saga=none")).failed(404),
        "UNKNOWN_SAGA"
    );
    assert_eq!(
        server.get(&format!("{SAGAS}?state=x")).failed(400),
        "BAD_REQUEST"
    );
    let instance = of(&format!("placing/{id}"));
    assert_eq!(server.post(&instance, &retry).failed(409), "ENDED");
    let nonsense = server.post(&instance, &json!({ "operation": "dance" }));
    assert_eq!(nonsense.failed(400), "BAD_BODY");
    // A form of a page of somewhere else sends no JSON, and a name of somewhere else is not ours.
    let form = [("Content-Type", "text/plain")];
    let body = retry.to_string();
    let reply = server.call("POST", &instance, &form, Some(body.as_bytes()));
    assert_eq!(reply.failed(415), "UNSUPPORTED_MEDIA_TYPE");
    let foreign = [("Host", "evil.example")];
    let reply = server.call("POST", &instance, &foreign, Some(body.as_bytes()));
    assert_eq!(reply.failed(403), "UNKNOWN_HOST");
}

/// Attacks: another form of the store on the same directory must not decide again.
#[test]
fn a_directory_goes_on_in_another_form() {
    let place = Place::new();
    let (approved, rejected, pending);
    let ann = {
        let server = serve(&place, "choreography");
        let ann = customer(&server);
        (approved, rejected) = (order(&server, &ann, "60.00"), order(&server, &ann, "60.00"));
        for id in [&approved, &rejected] {
            until(|| (order_state(&server, id) != "PENDING").then_some(()));
        }
        assert_eq!(order_state(&server, &rejected), "REJECTED");
        assert!(server.get(SAGAS).with(200)["known"] == json!([]));
        let url = format!("http://127.0.0.1:{}", server.port);
        let none = refused(&["sagas", "show", "--url", &url, "placing-1"], 1);
        assert!(none.contains("--form saga"), "{none}");
        // Killed, so that it may not have decided.
        pending = order(&server, &ann, "40.00");
        ann
    };
    let history = |server: &Server, stream: &str, what: &str| {
        let path = format!("/_inspect/api/logs/main/events?limit=1000&entity={stream}&type={what}");
        server.get(&path).with(200)["events"]
            .as_array()
            .unwrap()
            .len()
    };
    for form in ["saga", "choreography", "saga"] {
        let server = serve(&place, form);
        until(|| {
            let handlers = server.get("/_inspect/api/logs/main/handlers").with(200);
            let handlers = handlers["handlers"].as_array().unwrap().clone();
            let done = handlers.iter().all(|one| one["behind"] == 0);
            (done && order_state(&server, &pending) == "APPROVED").then_some(())
        });
        for (id, state, what) in [
            (&approved, "APPROVED", "Approved"),
            (&rejected, "REJECTED", "Rejected"),
            (&pending, "APPROVED", "Approved"),
        ] {
            if form == "saga" {
                ended(&server, id);
            }
            assert_eq!(order_state(&server, id), state);
            assert_eq!(history(&server, &format!("order-{id}"), what), 1);
        }
        let credit = server.get(&format!("/customers/{ann}")).with(200);
        assert_eq!(credit["available_credit"], "0.00");
        assert_eq!(
            history(&server, &format!("customer-{ann}"), "CreditReserved"),
            2
        );
    }
}

#[derive(Key, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct MachineId(String);

#[derive(Event, Clone, Debug, PartialEq)]
enum MachineEvent {
    Turned { way: String },
}

#[derive(Entity, Default)]
#[entity(name = "machine", id = MachineId, event = MachineEvent)]
struct Machine {
    turns: usize,
}

impl Evolve for Machine {
    fn evolve(&mut self, _: &MachineEvent) {
        self.turns += 1;
    }
}

#[derive(Command, Clone, Debug)]
struct Turn {
    way: String,
}

static BROKEN: AtomicBool = AtomicBool::new(true);

impl Decide<Turn> for Machine {
    type Reply = usize;
    type Rejection = String;

    fn decide(&self, command: &Turn, _: &Context) -> Decision<Self, Turn> {
        let way = command.way.clone();
        assert!(
            way != "left" || !BROKEN.load(Ordering::SeqCst),
            "it is broken"
        );
        emit(MachineEvent::Turned { way }).reply(self.turns + 1)
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct Job {
    machine: MachineId,
}

fn turning() -> Saga<Job> {
    let turn = |way: &'static str| {
        ask(move |job: &Job| {
            command::<Machine, _>(
                &job.machine,
                Turn {
                    way: way.to_owned(),
                },
            )
        })
    };
    Saga::named("turning")
        .step(Step::named("right", turn("right")).undo(turn("back")))
        .step(Step::named("left", turn("left")).attempts(1, Duration::ZERO))
        .deadline(Duration::from_secs(3600))
}

/// Rests for as long as the clock of its timers takes for this.
fn resting(version: u32, night: Duration) -> Saga<Job> {
    Saga::named("resting")
        .version(version)
        .step(Step::pause("night", night))
}

const HOUR: Duration = Duration::from_secs(3600);
const MOMENT: Duration = Duration::from_millis(1);

/// An application served in this process, on a port of its own.
struct Workshop {
    runtime: tokio::runtime::Runtime,
    node: Arc<Node>,
    url: String,
}

impl Workshop {
    fn open(data: &str, sagas: impl IntoIterator<Item = Saga<Job>>, timers: TimerClock) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let mut workshop = Application::new("workshop").entity::<Machine>();
        for saga in sagas {
            workshop = workshop.saga(saga);
        }
        let options = NodeOptions {
            timers,
            ..NodeOptions::default()
        };
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let url = format!("http://{}", socket.local_addr().unwrap());
        let node = runtime.block_on(async {
            let world = everfold::engine::world::System::current();
            let engine = everfold::engine_at(data, world.clone()).await.unwrap();
            let node = workshop.open_on(engine, world, options).await;
            let node = Arc::new(node.unwrap());
            let socket = tokio::net::TcpListener::from_std(socket).unwrap();
            let router = everfold_node::serve::router(node.clone(), axum::Router::new());
            tokio::spawn(axum::serve(socket, router).into_future());
            node
        });
        Self { runtime, node, url }
    }

    fn begin(&self, saga: &Saga<Job>, id: &str) {
        let machine = MachineId::from(id);
        let starting = self.node.saga(saga).start(id, Job { machine });
        self.runtime.block_on(starting.into_future()).unwrap();
    }

    fn list(&self, more: &[&str]) -> Vec<Value> {
        lines(&[&["sagas", "--json", "--url", &self.url], more].concat())
    }

    fn path(&self) -> String {
        let log = &self.node.engine().identity().log;
        format!("/_inspect/api/logs/{log}/sagas")
    }

    fn close(self) {
        self.runtime.block_on(self.node.close());
    }
}

#[test]
fn an_instance_that_cannot_go_on_is_listed_first_and_helped() {
    let place = Place::new();
    let sagas = [turning(), resting(1, HOUR)];
    let workshop = Workshop::open(&place.text("main"), sagas, TimerClock::World);
    for id in ["a", "b", "c", "d"] {
        workshop.begin(&turning(), id);
    }
    workshop.begin(&resting(1, HOUR), "e");
    let list = |more: &[&str]| workshop.list(more);
    let url = &workshop.url[..];
    let helpless = until(|| {
        let helpless = list(&["--state", "needs_help"]);
        (helpless.len() == 4).then_some(helpless)
    });
    let reason = helpless[0]["reason"].as_str().unwrap();
    assert!(
        reason.starts_with("left: ") && reason.contains("panicked"),
        "{reason}"
    );
    assert_eq!(
        helpless[0]["can"],
        json!(["retry", "skip", "compensate", "force"])
    );
    let all = until(|| Some(list(&[])).filter(|all| all.len() == 5));
    let ids: Vec<_> = all.iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(
        ids,
        ["a", "b", "c", "d", "e"],
        "`resting` comes before `turning`, but needs no help"
    );
    assert_eq!(list(&["--limit", "3"]), all[..3]);
    assert_eq!(list(&["--saga", "resting"]), all[4..]);
    // Over pages it is the same.
    let server = client::Server::at(url).unwrap();
    let path = workshop.path();
    let (mut paged, mut next) = (Vec::new(), String::new());
    loop {
        let page = server.get(&format!("{path}?limit=2{next}")).unwrap();
        paged.extend(page["sagas"].as_array().unwrap().clone());
        let Some(after) = page["next"].as_str() else {
            break;
        };
        next = format!("&after={}", client::escaped(after));
    }
    assert_eq!(paged, all);
    let words = run(&["sagas", "--url", url]);
    let words = String::from_utf8(words.stdout).unwrap();
    let first = words.lines().next().unwrap();
    assert!(
        first.contains("turning-a") && first.contains("needs_help"),
        "{words}"
    );

    let idle = refused(&["sagas", "retry", "--url", url, "resting-e"], 3);
    assert!(idle.contains("needs no help"), "{idle}");
    let act = |operation: &str, id: &str, more: &[&str]| {
        let arguments = ["sagas", operation, "--json", "--url", url, "turning", id];
        answer(&[&arguments, more].concat())
    };
    let skipped = act("skip", "a", &["--by", "ann"]);
    assert_eq!(skipped["state"], "completed");
    let mut history = skipped["history"].as_array().unwrap().iter();
    let operated = history.find(|event| event["type"] == "Operated").unwrap();
    assert_eq!(operated["principal"], "ann");
    act("compensate", "b", &[]);
    let forced = act("force", "c", &["--yes"]);
    assert_eq!(
        (&forced["state"], &forced["timers"]),
        (&json!("forced"), &json!([]))
    );
    let stuck = server.get(&format!("{path}/turning/d")).unwrap();
    assert_eq!(stuck["timers"][0]["purpose"], "deadline");
    assert_eq!(stuck["timers"][0]["millis"], 3_600_000);
    BROKEN.store(false, Ordering::SeqCst);
    act("retry", "d", &[]);
    let state = |id: &str| server.get(&format!("{path}/turning/{id}")).unwrap()["state"].clone();
    until(|| (state("b") == "undone" && state("d") == "completed").then_some(()));
    until(|| (list(&[]).len() == 1).then_some(()));
    workshop.close();
}

#[test]
fn an_instance_without_its_definition_says_so_and_names_what_waits() {
    let place = Place::new();
    let data = place.text("main");
    let standing = TimerClock::Driven(DataClock::at(Timestamp(0)));
    let workshop = Workshop::open(&data, [resting(1, MOMENT)], standing);
    workshop.begin(&resting(1, MOMENT), "e");
    workshop.begin(&resting(1, MOMENT), "e 2");
    workshop.close();

    let workshop = Workshop::open(&data, [resting(2, MOMENT)], TimerClock::World);
    let orphans = until(|| {
        let orphans = workshop.list(&["--state", "needs_help"]);
        let named = |one: &Value| one["parked"].as_array().is_some_and(|all| !all.is_empty());
        (orphans.len() == 2 && orphans.iter().all(named)).then_some(orphans)
    });
    let reason = orphans[0]["reason"].as_str().unwrap();
    assert!(reason.contains("version 1"), "{reason}");
    let url = &workshop.url[..];
    let shown = answer(&["sagas", "show", "--json", "--url", url, "resting", "e"]);
    assert_eq!(shown["parked"].as_array().unwrap().len(), 1, "{shown}");
    let skip = refused(&["sagas", "skip", "--url", url, "resting", "e"], 3);
    assert!(
        skip.contains("version 1") && skip.contains("force"),
        "{skip}"
    );
    let words = run(&["sagas", "--url", url]);
    assert!(
        String::from_utf8(words.stdout)
            .unwrap()
            .contains("set aside: ")
    );
    workshop.close();

    let both = [resting(1, MOMENT), resting(2, MOMENT)];
    let workshop = Workshop::open(&data, both, TimerClock::World);
    for id in ["e", "e 2"] {
        let url = &workshop.url[..];
        answer(&["sagas", "retry", "--json", "--url", url, "resting", id]);
        let done = || answer(&["sagas", "show", "--json", "--url", url, "resting", id]);
        until(|| (done()["state"] == "completed").then_some(()));
    }
    workshop.close();
}
