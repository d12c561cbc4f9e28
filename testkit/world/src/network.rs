//! Messages between clients, nodes and the store: they take time, get lost, come twice.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use everfold::engine::World;
use everfold_sim::Random;

use crate::coverage::Counts;

/// Who sends and receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Client(u32),
    Node(u32),
    Store,
}

/// Some of the places.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Places {
    Any,
    Clients,
    Nodes,
    One(Place),
}

impl Places {
    fn holds(self, place: Place) -> bool {
        match self {
            Self::Any => true,
            Self::Clients => matches!(place, Place::Client(_)),
            Self::Nodes => matches!(place, Place::Node(_)),
            Self::One(one) => one == place,
        }
    }
}

/// What a message is about, where that makes a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Request,
    Answer,
    /// The answer to an append, or to a command.
    Acknowledgement,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Effect {
    Cut,
    /// Takes so many times as long.
    Slow(u32),
    /// Percent.
    Loss(u64),
    /// Percent.
    Duplicate(u64),
    /// Some take up to so much longer.
    Reorder(Duration),
    /// The next acknowledgement is lost.
    LoseAcknowledgement,
}

struct Rule {
    number: u64,
    from: Places,
    to: Places,
    effect: Effect,
}

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    numbers: u64,
    links: BTreeMap<(Place, Place), Link>,
    /// Who has a connection to whom.
    connections: BTreeSet<(Place, Place)>,
    /// Who waits for an answer that was lost finds out by its patience alone.
    unanswered: Vec<Box<dyn Any + Send>>,
}

struct Link {
    random: Random,
    latest: Duration,
}

pub(crate) struct Network {
    seed: u64,
    world: Arc<dyn World>,
    counts: Arc<Counts>,
    state: Mutex<State>,
}

impl Network {
    pub(crate) fn new(seed: u64, world: Arc<dyn World>, counts: Arc<Counts>) -> Self {
        Self {
            seed,
            world,
            counts,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on; the number ends it.
    pub(crate) fn disturb(&self, from: Places, to: Places, effect: Effect) -> u64 {
        let mut state = self.state();
        state.numbers += 1;
        let number = state.numbers;
        state.rules.push(Rule {
            number,
            from,
            to,
            effect,
        });
        number
    }

    pub(crate) fn calm(&self, number: u64) {
        self.state().rules.retain(|rule| rule.number != number);
    }

    /// Nothing goes wrong any more.
    pub(crate) fn heal(&self) {
        self.state().rules.clear();
    }

    /// After which delays a message arrives: never, once or twice.
    pub(crate) fn travel(&self, from: Place, to: Place, message: Message) -> Vec<Duration> {
        let now = self.world.elapsed();
        let mut state = self.state();
        let State { rules, links, .. } = &mut *state;
        let link = links.entry((from, to)).or_insert_with(|| Link {
            random: Random::new(self.seed ^ place_number(from) << 24 ^ place_number(to)),
            latest: Duration::ZERO,
        });
        let mut delay = Duration::from_micros(150 + link.random.below(1000));
        let (mut lost, mut copies, mut used) = (None, 1, None);
        for rule in rules
            .iter()
            .filter(|rule| rule.from.holds(from) && rule.to.holds(to))
        {
            match rule.effect {
                Effect::Cut => lost = Some("message cut off"),
                Effect::Loss(percent) if link.random.below(100) < percent => {
                    lost = Some("message lost");
                }
                Effect::LoseAcknowledgement if message == Message::Acknowledgement => {
                    lost = Some("acknowledgement lost");
                    used = Some(rule.number);
                }
                Effect::Slow(times) => {
                    delay *= times;
                    self.counts.count("message slowed down");
                }
                Effect::Duplicate(percent) if link.random.below(100) < percent => copies = 2,
                Effect::Reorder(most) if link.random.one_in(2) => {
                    delay += Duration::from_micros(link.random.below(most.as_micros() as u64));
                }
                _ => {}
            }
        }
        rules.retain(|rule| Some(rule.number) != used);
        if let Some(lost) = lost {
            self.counts.count(lost);
            return Vec::new();
        }
        if now + delay < link.latest {
            self.counts.count("message overtook another");
        }
        link.latest = link.latest.max(now + delay);
        let mut ways = vec![delay];
        if copies == 2 {
            self.counts.count("message came twice");
            ways.push(delay + Duration::from_micros(link.random.below(20_000)));
        }
        ways
    }

    /// Carries on after a delay, beside everything else: what is under way outlives its sender.
    pub(crate) fn after(&self, delay: Duration, then: impl FnOnce() + Send + 'static) {
        let sleep = self.world.sleep(delay);
        let carry = async move {
            sleep.await;
            then();
        };
        self.world.spawn("message", Box::pin(carry));
    }

    pub(crate) fn is_connected(&self, from: Place, to: Place) -> bool {
        self.state().connections.contains(&(from, to))
    }

    pub(crate) fn connect(&self, from: Place, to: Place) {
        self.state().connections.insert((from, to));
    }

    pub(crate) fn disconnect(&self, from: Place, to: Place) {
        self.state().connections.remove(&(from, to));
    }

    /// Keeps what would tell somebody that nothing will come.
    pub(crate) fn never_answer(&self, sender: impl Any + Send) {
        self.state().unanswered.push(Box::new(sender));
    }
}

fn place_number(place: Place) -> u64 {
    match place {
        Place::Client(number) => 0x1000 + u64::from(number),
        Place::Node(number) => 0x2000 + u64::from(number),
        Place::Store => 0x3000,
    }
}
