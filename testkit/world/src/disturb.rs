//! Makes things go wrong as planned.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::cluster::{Cluster, Member};
use crate::network::{Effect, Place, Places};
use crate::plan::{Fault, Kind};
use crate::scenario::Setup;

/// Brings one fault about, from its beginning to its end.
pub(crate) async fn disturb(cluster: Arc<Cluster>, fault: Fault) {
    let world = cluster.main.clone();
    let millis = |millis: u32| Duration::from_millis(u64::from(millis));
    world.sleep(millis(fault.at)).await;
    let lasting = world.sleep(millis(fault.lasting));
    let Some(victim) = cluster.victim(fault.detail) else {
        return;
    };
    let alone = !cluster.store.setup.is_cluster();
    let one = Places::One(Place::Node(victim.number));
    let store = Places::One(Place::Store);
    match fault.kind {
        Kind::Crash => {
            cluster.counts.count("node killed");
            cluster.hold(&victim.name);
            cluster.kill(victim.number);
            lasting.await;
            match alone {
                true => drop(cluster.replace().await),
                false => cluster.let_start(&victim.name, None),
            }
        }
        Kind::Freeze => {
            cluster.counts.count("node frozen");
            victim.process.freeze();
            if alone && cluster.store.setup.is_shared() && fault.detail % 2 == 1 {
                world.sleep(noticed(fault)).await;
                let _ = cluster.replace().await;
            }
            lasting.await;
            victim.process.thaw();
        }
        Kind::Takeover if cluster.store.setup == Setup::Embedded => {
            let _ = cluster.restart_in_order().await;
        }
        Kind::Takeover => {
            cluster.counts.count("node taken over while it ran");
            let _ = cluster.replace().await;
        }
        Kind::Partition if cluster.store.setup.is_shared() => {
            let (nodes, clients) = (Places::Nodes, Places::Clients);
            let mut rules = vec![(one, store), (store, one)];
            if !alone && fault.detail.is_multiple_of(4) {
                rules.extend([(one, nodes), (nodes, one), (one, clients), (clients, one)]);
            }
            cut(&cluster, &rules, &victim, fault, lasting).await;
        }
        Kind::LostRequests => cut(&cluster, &[(one, store)], &victim, fault, lasting).await,
        Kind::LostAnswers => cut(&cluster, &[(store, one)], &victim, fault, lasting).await,
        Kind::ClientsCut | Kind::Partition => {
            let rules = [(one, Places::Clients), (Places::Clients, one)];
            cut(&cluster, &rules, &victim, fault, lasting).await;
        }
        Kind::PeersCut => {
            let rules: &[_] = match fault.detail % 3 {
                0 => &[(one, Places::Nodes), (Places::Nodes, one)],
                1 => &[(one, Places::Nodes)],
                _ => &[(Places::Nodes, one)],
            };
            cluster.counts.count("node cut off from other nodes");
            while_it_lasts(&cluster, rules, Effect::Cut, lasting).await;
        }
        Kind::Drain => {
            cluster.hold(&victim.name);
            cluster
                .take_leave(&victim, !fault.detail.is_multiple_of(3))
                .await;
            lasting.await;
            cluster.let_start(&victim.name, Some(1 + fault.detail % 3));
        }
        Kind::Join => {
            let name = cluster.want_another(1 + fault.detail % 3);
            lasting.await;
            cluster.want_no_more(&name);
            if let Some(member) = cluster.listening(&name) {
                cluster.counts.count("node joined and left");
                cluster
                    .take_leave(&member, fault.detail.is_multiple_of(2))
                    .await;
            }
        }
        Kind::StoreSlow => {
            let rules = [(store, Places::Any), (Places::Any, store)];
            while_it_lasts(&cluster, &rules, Effect::Slow(200), lasting).await;
        }
        Kind::Slow => {
            let rules = [(one, Places::Any), (Places::Any, one)];
            while_it_lasts(&cluster, &rules, Effect::Slow(50), lasting).await;
        }
        Kind::Loss => everywhere(&cluster, Effect::Loss(33), lasting).await,
        Kind::Duplicate => everywhere(&cluster, Effect::Duplicate(50), lasting).await,
        Kind::Reorder => {
            everywhere(&cluster, Effect::Reorder(millis(60)), lasting).await;
        }
        Kind::Clock => {
            let step = clock_step(fault.detail);
            cluster.counts.count(match step {
                ..0 => "clock stepped back",
                0.. => "clock stepped forward",
            });
            victim.process.step_clock(step);
            lasting.await;
            victim.process.step_clock(-step);
        }
        Kind::Disk => {
            cluster.store.fail_disk(fault.detail);
            lasting.await;
            // Whoever runs it sees that the log has stopped, and starts it again.
            let _ = cluster.replace().await;
        }
        Kind::LostAcknowledgement => {
            let to = if cluster.store.setup.is_shared() {
                one
            } else {
                Places::Clients
            };
            let rules = [(Places::Any, to)];
            while_it_lasts(&cluster, &rules, Effect::LoseAcknowledgement, lasting).await;
        }
        Kind::StoreRestart => {
            cluster.counts.count("store restarted");
            cluster.store.stop();
            lasting.await;
            if cluster.store.running().is_none() {
                let _ = cluster.store.start();
            }
        }
        Kind::StoreFreeze => {
            if let Some(running) = cluster.store.running() {
                cluster.counts.count("store frozen");
                running.process.freeze();
                lasting.await;
                running.process.thaw();
            }
        }
        Kind::Full => {
            let full = &cluster.store.refusals.full;
            full.store(true, Ordering::Relaxed);
            lasting.await;
            full.store(false, Ordering::Relaxed);
        }
        Kind::SmallBatches => {
            let small = &cluster.store.refusals.small_batches;
            small.store(true, Ordering::Relaxed);
            lasting.await;
            small.store(false, Ordering::Relaxed);
        }
    }
}

type Lasting = everfold::engine::engine::BoxFuture<'static, ()>;

/// Half of the time somebody opens another node meanwhile, as whoever watches over nodes would.
async fn cut(
    cluster: &Arc<Cluster>,
    rules: &[(Places, Places)],
    cut_off: &Member,
    fault: Fault,
    lasting: Lasting,
) {
    let numbers: Vec<u64> = rules
        .iter()
        .map(|(from, to)| cluster.network.disturb(*from, *to, Effect::Cut))
        .collect();
    let alone = !cluster.store.setup.is_cluster();
    if alone && cluster.store.setup.is_shared() && fault.detail % 2 == 1 {
        cluster.main.sleep(noticed(fault)).await;
        let newest = cluster.newest();
        if newest.is_some_and(|newest| newest.number == cut_off.number) {
            cluster.counts.count("node taken over while it was cut off");
            let _ = cluster.replace().await;
        }
    }
    lasting.await;
    numbers.into_iter().for_each(|n| cluster.network.calm(n));
}

/// When somebody sees that a node is not there.
fn noticed(fault: Fault) -> Duration {
    Duration::from_millis(u64::from(fault.lasting / 2).min(400))
}

async fn everywhere(cluster: &Cluster, effect: Effect, lasting: Lasting) {
    while_it_lasts(cluster, &[(Places::Any, Places::Any)], effect, lasting).await;
}

async fn while_it_lasts(
    cluster: &Cluster,
    rules: &[(Places, Places)],
    effect: Effect,
    lasting: Lasting,
) {
    let disturb = |(from, to): &(Places, Places)| cluster.network.disturb(*from, *to, effect);
    let numbers: Vec<u64> = rules.iter().map(disturb).collect();
    lasting.await;
    numbers.into_iter().for_each(|n| cluster.network.calm(n));
}

/// Microseconds: mostly seconds, seldom more than the window in which ids are known.
fn clock_step(detail: u32) -> i64 {
    let sign = if detail.is_multiple_of(2) { 1 } else { -1 };
    let seconds = match detail % 10 {
        0..6 => 1 + i64::from(detail % 97),
        6..8 => 240 + i64::from(detail % 50),
        8 => 3600 * (1 + i64::from(detail % 20)),
        _ => 3600 * 25,
    };
    sign * seconds * 1_000_000
}
