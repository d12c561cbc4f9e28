//! Entities that come back into memory by themselves.

use std::sync::Arc;
use std::time::Duration;

use everfold::engine::World;
use everfold::engine::engine::Engine;
use everfold::engine::memory::Memory;
use everfold::prelude::*;
use everfold::{Node, NodeOptions, PartitionPolicy, StateOptions};

use crate::cluster::*;

#[derive(Event, Clone, Debug, PartialEq)]
pub enum Noted {
    Noted { text: String },
}

#[derive(Entity, Default)]
#[entity(name = "note", id = String, event = Noted, commands(Write), remembered)]
pub struct Note {
    text: String,
}

impl Evolve for Note {
    fn evolve(&mut self, Noted::Noted { text }: &Noted) {
        self.text.clone_from(text);
    }
}

#[derive(Command, Clone, Debug)]
pub struct Write {
    pub text: String,
}

impl Decide<Write> for Note {
    type Reply = ();
    type Rejection = Never;

    fn decide(&self, command: &Write, _: &Context) -> Decision<Self, Write> {
        let text = command.text.clone();
        emit(Noted::Noted { text }).reply(())
    }
}

fn notes() -> Application {
    Application::new("notes").entity::<Note>()
}

async fn write(node: &Node, id: &str) {
    let text = "a text of some length".to_owned();
    let sent = node.entity::<Note>(id.to_owned()).send(Write { text });
    sent.await.unwrap();
}

async fn in_memory(node: &Node) -> u64 {
    let owners = node.owners().await.unwrap();
    owners.iter().map(|owner| owner.entities).sum()
}

async fn until_in_memory(node: &Node, world: &Arc<dyn World>, wanted: u64) {
    let mut looks = 0;
    while in_memory(node).await != wanted {
        looks += 1;
        assert!(looks < 5000, "{} in memory", in_memory(node).await);
        world.sleep(Duration::from_millis(1)).await;
    }
}

/// Waits out the time between two notes, and lets the owners take note.
async fn noted(node: &Node, world: &Arc<dyn World>, ids: &[&str]) {
    world.sleep(Duration::from_secs(3)).await;
    for id in ids {
        let seen = node.entity::<Note>((*id).to_owned()).read(|_, _| ());
        seen.await.unwrap();
    }
    world.sleep(Duration::from_secs(1)).await;
}

async fn open(engine: &Arc<dyn Engine>, world: &Arc<dyn World>, memory_bytes: usize) -> Node {
    let state = StateOptions {
        memory_bytes,
        ..StateOptions::default()
    };
    let options = NodeOptions {
        state,
        ..NodeOptions::default()
    };
    let opened = notes().open_on(engine.clone(), world.clone(), options);
    opened.await.unwrap()
}

/// Attacks: entities in memory are forgotten by a restart; those that had left memory come back.
#[test]
fn what_was_in_memory_is_there_again_after_a_start() {
    let reached = in_a_world(async |world| {
        let memory = Memory::new(world.clone(), 1).unwrap();
        let engine: Arc<dyn Engine> = Arc::new(memory);
        let node = open(&engine, &world, 4000).await;
        for number in 0..100 {
            write(&node, &format!("note {number}")).await;
        }
        let kept = in_memory(&node).await;
        assert!(kept > 3 && kept < 50, "{kept}");
        noted(&node, &world, &["note 99"]).await;
        // Not closed: it ends without a word, fenced by the next one.
        let next = open(&engine, &world, 4_000_000).await;
        until_in_memory(&next, &world, kept).await;
        let loads: u64 = next.owners().await.unwrap().iter().map(|it| it.loads).sum();
        let seen = next
            .entity::<Note>("note 99")
            .read(|note, _| note.text.clone());
        assert_eq!(seen.await.unwrap(), "a text of some length");
        let after: u64 = next.owners().await.unwrap().iter().map(|it| it.loads).sum();
        assert_eq!(loads, after);
    });
    assert!(
        reached["owner: remembered entity came back"] > 3,
        "{reached:?}"
    );
}

/// Attacks: a standby lacks what was only read at the owner.
#[test]
fn a_standby_has_what_its_owner_remembers() {
    let reached = in_a_world(async |world| {
        let state = StateOptions {
            partitions: PartitionPolicy {
                records: 1,
                bytes: 1,
            },
            ..StateOptions::default()
        };
        let options = NodeOptions {
            state,
            ..NodeOptions::default()
        };
        let engine = Arc::new(Memory::new(world.clone(), 1).unwrap());
        let cluster = Cluster::over(engine, notes, 2, world.clone(), options).await;
        let owner = cluster.node(1);
        for number in 0..20 {
            write(&owner, &format!("note {number}")).await;
        }
        noted(&owner, &world, &["note 3"]).await;
        // It begins with what is stored, and is owed no event.
        cluster.plan(0, 1, &[2], &[1, 2]);
        let standby = cluster.node(2);
        until_in_memory(&standby, &world, 20).await;
        cluster.plan(0, 2, &[], &[1, 2]);
        let seen = standby.entity::<Note>("note 3").read(|_, version| version);
        assert_eq!(seen.await.unwrap(), 1);
    });
    let fetched = "owner: standby fetched a remembered entity";
    assert!(reached[fetched] > 10, "{reached:?}");
}
