//! `everfold cluster`.

use everfold::engine::coordination::{Living, NodeId, Role, Roster};
use serde::Serialize;

use crate::failure::refused;
use crate::output;
use crate::place::{Choice, ENVIRONMENT, Parser, Place, Reached};

/// Shows the nodes of a cluster, and where each partition is and why.
#[derive(clap::Args)]
pub struct Arguments {
    /// The database, postgres://user:password@host/database?schema=NAME
    #[arg(long, value_name = "ADDRESS", env = ENVIRONMENT, hide_env_values = true, value_parser = Parser)]
    engine: Choice,
    /// Print JSON: one object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Shown {
    plan: u64,
    nodes: Vec<Member>,
    partitions: Vec<Partition>,
}

#[derive(Serialize)]
struct Member {
    name: String,
    id: String,
    address: String,
    zone: String,
    build: String,
    application: String,
    weight: u32,
    assigner: bool,
    owns: usize,
    stands_by: usize,
    lease_left_ms: i64,
}

#[derive(Serialize)]
struct Partition {
    partition: u16,
    owner: Option<String>,
    epoch: Option<u64>,
    /// The last offset that the owner has told of.
    offset: Option<u64>,
    standbys: Vec<Standby>,
    /// The owner does not hold it yet.
    moving: bool,
    since: String,
    reason: String,
}

#[derive(Serialize)]
struct Standby {
    name: String,
    /// Offsets behind the owner; nothing while it is not warm.
    behind: Option<u64>,
}

/// Runs it.
///
/// # Errors
/// The database cannot be read, or there is no log.
pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    let place = Place::named(Some(&arguments.engine), None)?;
    let reached = Reached::to_look_at(place)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let shown = runtime.block_on(async {
        let engine = reached.look().await?;
        let coordinator = engine.coordinator().ok_or_else(|| {
            refused("this engine is one node's: there is no cluster to show".to_owned())
        })?;
        let roster = coordinator.look().await?;
        engine.close().await;
        anyhow::Ok(shown(&roster))
    })?;
    drop(runtime);
    reached.close()?;
    if arguments.json {
        return output::json(&shown);
    }
    print(&shown)
}

fn name(roster: &Roster, node: NodeId) -> String {
    let living = roster.members.iter().find(|it| it.member.node == node);
    living.map_or_else(
        || "a node that has ended".to_owned(),
        |it| it.member.name.to_string(),
    )
}

fn shown(roster: &Roster) -> Shown {
    let count = |living: &Living, role| living.held.iter().filter(|it| it.role == role).count();
    let nodes = roster.members.iter().map(|living| Member {
        name: living.member.name.to_string(),
        id: living.member.node.to_string(),
        address: living.member.address.to_string(),
        zone: living.member.zone.to_string(),
        build: living.member.build.to_string(),
        application: living.member.application.to_string(),
        weight: living.member.weight,
        assigner: roster.assigner == Some(living.member.node),
        owns: count(living, Role::Owner),
        stands_by: count(living, Role::Standby),
        lease_left_ms: (living.lease_until.0 - roster.time.0) / 1000,
    });
    let held = |node: NodeId, partition| {
        let living = roster.members.iter().find(|it| it.member.node == node)?;
        living.holds(partition).copied()
    };
    let partitions = roster.plan.iter().map(|(partition, place)| {
        let owner = place.owner.and_then(|owner| held(owner, partition));
        let owner = owner.filter(|held| held.role == Role::Owner);
        let standbys = place.standbys.iter().map(|standby| Standby {
            name: name(roster, *standby),
            behind: match (owner, held(*standby, partition)) {
                (Some(owner), Some(held)) => Some(owner.offset.0.saturating_sub(held.offset.0)),
                _ => None,
            },
        });
        Partition {
            partition: partition.0,
            owner: place.owner.map(|owner| name(roster, owner)),
            epoch: owner.map(|held| held.epoch.0),
            offset: owner.map(|held| held.offset.0),
            standbys: standbys.collect(),
            moving: place.owner.is_some() && owner.is_none(),
            since: place.since.to_string(),
            reason: place.reason.to_string(),
        }
    });
    Shown {
        plan: roster.plan.number,
        nodes: nodes.collect(),
        partitions: partitions.collect(),
    }
}

fn print(shown: &Shown) -> anyhow::Result<()> {
    if shown.nodes.is_empty() {
        output::line("no node lives; `everfold serve --engine ... --identity ...` starts one")?;
    }
    for node in &shown.nodes {
        let role = if node.assigner { ", assigns" } else { "" };
        output::line(&format!(
            "{}  {}  owns {}, stands by for {}{role}  (build {}, weight {}{}{}, lease {} ms)",
            node.name,
            node.address,
            node.owns,
            node.stands_by,
            node.build,
            node.weight,
            if node.zone.is_empty() { "" } else { ", zone " },
            node.zone,
            node.lease_left_ms,
        ))?;
    }
    for at in &shown.partitions {
        let standbys = at.standbys.iter().map(|standby| match standby.behind {
            Some(behind) => format!("{} ({behind} behind)", standby.name),
            None => format!("{} (not warm)", standby.name),
        });
        let standbys: Vec<_> = standbys.collect();
        output::line(&format!(
            "{:>4}  {}{}  epoch {}  standby {}  since {}: {}",
            at.partition,
            at.owner.as_deref().unwrap_or("nobody"),
            if at.moving { " (takes over)" } else { "" },
            at.epoch
                .map_or_else(|| "-".to_owned(), |epoch| epoch.to_string()),
            if standbys.is_empty() {
                "none".to_owned()
            } else {
                standbys.join(", ")
            },
            at.since,
            at.reason,
        ))?;
    }
    Ok(())
}
