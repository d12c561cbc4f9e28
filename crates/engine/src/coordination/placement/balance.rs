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

/// The fewest moves after which everybody owns its share, rounded down or up.
fn needed(field: &Field<'_>) -> Vec<Move> {
    let total = field.owners.len();
    let shares: Vec<_> = field.nodes().map(|node| field.share(node, total)).collect();
    let mut owned = field.owned.clone();
    let mut owners = field.owners.clone();
    let mut moves = Vec::new();
    loop {
        let nodes = || field.nodes();
        let poor = |node: &usize| owned[*node] < shares[*node].0;
        let over = nodes().filter(|node| owned[*node] > shares[*node].1);
        let excess = |node: &usize| owned[*node].saturating_sub(shares[*node].0);
        let mut from = over.max_by_key(excess);
        if from.is_none() && nodes().any(|node| poor(&node)) {
            from = nodes().filter(|node| excess(node) > 0).max_by_key(excess);
        }
        let Some(from) = from else {
            return moves;
        };
        let is_anybody_poor = nodes().any(|node| poor(&node));
        let receives = |node: &usize| match is_anybody_poor {
            true => poor(node),
            false => owned[*node] < shares[*node].1,
        };
        let receivers: Vec<usize> = nodes().filter(receives).collect();
        let own = field.partitions().filter(|at| owners[*at] == Some(from));
        let pairs = own.flat_map(|partition| receivers.iter().map(move |to| (partition, *to)));
        // Where the state is already, or is on its way to, costs least; and a move that has begun
        // is found again by this.
        let is_there = |(partition, to): (usize, usize)| field.standbys[partition].contains(&to);
        let best = pairs.max_by(|one, other| {
            let order = is_there(*one).cmp(&is_there(*other));
            order.then_with(|| {
                let (one, other) = (field.score(one.0, one.1), field.score(other.0, other.1));
                one.total_cmp(&other)
            })
        });
        let Some((partition, to)) = best else {
            return moves;
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
