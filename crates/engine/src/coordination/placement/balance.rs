//! Planned moves: from nodes that own more than their share, or drain, to those that own less.

use crate::Text;
use crate::coordination::placement::MOVES;
use crate::coordination::placement::field::Field;

struct Move {
    partition: usize,
    from: usize,
    to: usize,
}

/// Takes the next steps of the moves that are needed: the next owner first becomes a standby, and the
/// owner once it is warm. No more than `at_once` are on their way.
pub(super) fn move_owners(field: &mut Field<'_>, at_once: usize) {
    let moves = needed(field);
    for it in &moves {
        field.next[it.partition] = Some(it.to);
    }
    let arriving = (field.partitions())
        .filter(|partition| !field.is_settled(*partition))
        .count();
    let is_warming = |field: &Field<'_>, it: &Move| {
        field.standbys[it.partition].contains(&it.to) && !field.is_warm(it.partition, it.to)
    };
    let warming = moves.iter().filter(|it| is_warming(field, it)).count();
    let mut left = at_once.saturating_sub(arriving + warming);
    for it in &moves {
        if left == 0 || !field.is_settled(it.partition) || is_warming(field, it) {
            continue;
        }
        left -= 1;
        let (from, to) = (field.name(it.from).clone(), field.name(it.to).clone());
        let why = match field.takes(it.from) {
            true => format!("{from} owned more than its share"),
            false => format!("{from} drains"),
        };
        if field.is_warm(it.partition, it.to) {
            let standbys = &mut field.standbys[it.partition];
            let place = standbys.iter().position(|standby| *standby == it.to);
            // Its state is warm: the former owner is the best standby there is.
            standbys.insert(place.unwrap_or(standbys.len()), it.from);
            field.give(it.partition, it.to);
            field.next[it.partition] = None;
            field.reasons[it.partition] = Some(Text::from(format!("moved here: {why}")));
        } else {
            field.standbys[it.partition].push(it.to);
            let reason = format!("{MOVES}{to} when it is warm there: {why}");
            field.reasons[it.partition] = Some(Text::from(reason));
        }
    }
}

/// Takes partitions from nodes that cannot serve them, whatever anybody's share: work waits there. To who
/// is warm, which somebody becomes first.
pub(super) fn move_from_unable(field: &mut Field<'_>) {
    for partition in field.partitions() {
        let Some(from) = field.owners[partition] else {
            continue;
        };
        if field.is_able(partition, from) || !field.is_settled(partition) {
            continue;
        }
        let able = |node: &usize| field.is_able(partition, *node) && field.takes(*node);
        let stands_by = |node: &usize| field.standbys[partition].contains(node);
        let room = |node: usize| usize::MAX - field.owned[node];
        let preference = |node: &usize| {
            let warm = stands_by(node) && field.is_warm(partition, *node);
            (warm, stands_by(node), room(*node))
        };
        let Some(to) = field.nodes().filter(able).max_by_key(preference) else {
            continue;
        };
        let why = format!("{} cannot read what a later build wrote", field.name(from));
        if stands_by(&to) && field.is_warm(partition, to) {
            field.give(partition, to);
            field.reasons[partition] = Some(Text::from(format!("moved here: {why}")));
            continue;
        }
        field.next[partition] = Some(to);
        if !stands_by(&to) {
            field.standbys[partition].push(to);
            let name = field.name(to);
            let reason = format!("{MOVES}{name} when it is warm there: {why}");
            field.reasons[partition] = Some(Text::from(reason));
        }
    }
}

/// The fewest moves after which everybody owns its share, rounded down or up.
fn needed(field: &Field<'_>) -> Vec<Move> {
    let total = field.owners.len();
    let shares: Vec<_> = field.nodes().map(|node| field.share(node, total)).collect();
    let mut owned = field.owned.clone();
    let mut owners = field.owners.clone();
    let mut moves = Vec::new();
    // Nodes that nobody can take anything from.
    let mut stuck = vec![false; field.nodes().len()];
    loop {
        let nodes = || field.nodes();
        let poor = |node: &usize| owned[*node] < shares[*node].0;
        let over = nodes().filter(|node| !stuck[*node] && owned[*node] > shares[*node].1);
        let excess = |node: &usize| owned[*node].saturating_sub(shares[*node].0);
        let mut from = over.max_by_key(excess);
        if from.is_none() && nodes().any(|node| poor(&node)) {
            from = nodes()
                .filter(|node| !stuck[*node] && excess(node) > 0)
                .max_by_key(excess);
        }
        let Some(from) = from else {
            return moves;
        };
        let is_anybody_poor = nodes().any(|node| poor(&node));
        let receives = |node: &usize| match is_anybody_poor {
            true => poor(node),
            false => owned[*node] < shares[*node].1,
        };
        let movable = |partition: &usize| {
            owners[*partition] == Some(from)
                && field.next[*partition].is_none()
                && field.is_able(*partition, from)
        };
        let own: Vec<usize> = field.partitions().filter(movable).collect();
        let pairs_to = |receives: &dyn Fn(&usize) -> bool| {
            let pairs = own.iter().flat_map(|partition| {
                let receivers = nodes().filter(|to| *to != from && receives(to));
                receivers.map(|to| (*partition, to))
            });
            let pairs = pairs.filter(|(partition, to)| field.is_able(*partition, *to));
            pairs.collect::<Vec<_>>()
        };
        let mut pairs = pairs_to(&receives);
        if pairs.is_empty() && !field.takes(from) {
            // Who leaves cannot wait until somebody of the poor can read it.
            pairs = pairs_to(&|to| field.takes(*to));
        }
        // Where the state is already, or is on its way to, costs least; and a move that has begun
        // is found again by this.
        let is_there = |(partition, to): (usize, usize)| field.standbys[partition].contains(&to);
        let best = pairs.into_iter().max_by(|one, other| {
            let order = is_there(*one).cmp(&is_there(*other));
            order.then_with(|| {
                let (one, other) = (field.score(one.0, one.1), field.score(other.0, other.1));
                one.total_cmp(&other)
            })
        });
        let Some((partition, to)) = best else {
            stuck[from] = true;
            continue;
        };
        owners[partition] = Some(to);
        owned[from] -= 1;
        owned[to] += 1;
        moves.push(Move {
            partition,
            from,
            to,
        });
    }
}
