//! What the functions of the schema answer.

use everfold_engine::coordination::{Held, Living, Member, NodeId, Place, Plan, Role, Roster};
use everfold_engine::engine::Epoch;
use everfold_engine::{Layout, Offset, Partition, Text, Timestamp, Uuid};
use serde::Deserialize;

use super::Silent;
use crate::text::restore;

#[derive(Debug, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub(super) enum Answer {
    Roster(Came),
    Done,
    Expired,
    Replaced,
    OtherLayout { number: u32, partitions: u16 },
    OtherCluster { living: String },
    OtherApplication { living: String },
    Taken { address: String, until: i64 },
    NotAssigner { assigner: Option<String> },
    Superseded { stored: u64 },
}

/// A roster as it comes.
#[derive(Debug, Deserialize)]
pub(super) struct Came {
    time: i64,
    number: u64,
    made: i64,
    /// None if the plan is the one that was known.
    places: Option<Vec<CamePlace>>,
    members: Vec<CameMember>,
}

#[derive(Debug, Deserialize)]
struct CamePlace {
    owner: Option<String>,
    standbys: Vec<String>,
    since: i64,
    reason: String,
}

#[derive(Debug, Deserialize)]
struct CameMember {
    node: String,
    name: String,
    cluster: String,
    application: String,
    address: String,
    zone: String,
    weight: u32,
    build: String,
    joined: i64,
    until: i64,
    partitions: Vec<u16>,
    as_owner: Vec<Option<bool>>,
    offsets: Vec<u64>,
    epochs: Vec<u64>,
}

/// A plan that came, and when it was stored: a promoted server that had not received the last plan may
/// give its number to another one.
pub(super) struct Known {
    pub(super) plan: Plan,
    pub(super) made: i64,
}

impl Came {
    /// The roster. Its plan is kept in `known`, or taken from there.
    pub(super) fn roster(
        self,
        layout: Layout,
        known: &mut Option<Known>,
    ) -> Result<Roster, Silent> {
        let members = self.members.into_iter().map(|came| came.living(layout));
        let members: Vec<Living> = members.collect::<Result<_, _>>()?;
        let plan = match self.places {
            Some(places) => {
                let plan = plan(self.number, places, layout)?;
                // Calls beside each other may be answered in any order: the later plan is kept.
                if known.as_ref().is_none_or(|known| known.made <= self.made) {
                    *known = Some(Known {
                        plan: plan.clone(),
                        made: self.made,
                    });
                }
                plan
            }
            // Known when it was asked for; a later one may have come meanwhile.
            None => match known {
                Some(known) => known.plan.clone(),
                None => return Err(Silent("a roster came without its plan".to_owned())),
            },
        };
        Ok(Roster {
            assigner: members.first().map(|living| living.member.node),
            members,
            plan,
            time: Timestamp(self.time),
        })
    }
}

fn plan(number: u64, places: Vec<CamePlace>, layout: Layout) -> Result<Plan, Silent> {
    if number == 0 {
        return Ok(Plan::unplaced(layout));
    }
    let places = places.into_iter().map(|came| {
        let standbys = came.standbys.iter().map(|text| node(text));
        Ok(Place {
            owner: came.owner.as_deref().map(node).transpose()?,
            standbys: standbys.collect::<Result<_, Silent>>()?,
            since: Timestamp(came.since),
            reason: text(&came.reason),
        })
    });
    Ok(Plan {
        number,
        places: places.collect::<Result<_, Silent>>()?,
    })
}

impl CameMember {
    fn living(self, layout: Layout) -> Result<Living, Silent> {
        let roles = self.as_owner.into_iter().map(|as_owner| match as_owner {
            Some(true) => Role::Owner,
            Some(false) => Role::Standby,
            None => Role::Unable,
        });
        let places = self.partitions.into_iter().zip(roles);
        let states = self.offsets.into_iter().zip(self.epochs);
        let held = places
            .zip(states)
            .map(|((partition, role), (offset, epoch))| Held {
                partition: Partition(partition),
                role,
                offset: Offset(offset),
                epoch: Epoch(epoch),
            });
        Ok(Living {
            held: held.collect(),
            joined: Timestamp(self.joined),
            lease_until: Timestamp(self.until),
            member: Member {
                node: node(&self.node)?,
                name: text(&self.name),
                cluster: text(&self.cluster),
                application: text(&self.application),
                address: text(&self.address),
                zone: text(&self.zone),
                weight: self.weight,
                build: text(&self.build),
                // Nobody joins with another one.
                layout,
            },
        })
    }
}

pub(super) fn node(text: &str) -> Result<NodeId, Silent> {
    let id = Uuid::try_parse(text);
    id.map(NodeId)
        .map_err(|_| Silent(format!("{text:?} is no id of a node")))
}

fn text(text: &str) -> Text {
    restore(text).into_owned().into()
}
