//! Who keeps the state of a partition warm beside its owner.

use crate::coordination::placement::field::Field;

/// Chooses standbys for every partition. Whoever is replaced stays until the others are warm.
pub(super) fn place(field: &mut Field<'_>) {
    let mut wanted: Vec<Vec<usize>> = field.partitions().map(|at| kept(field, at)).collect();
    let mut load = vec![0; field.nodes().len()];
    for node in wanted.iter().flatten() {
        load[*node] += 1;
    }
    for partition in field.partitions() {
        fill(field, partition, &mut wanted[partition], &mut load);
    }
    spread(field, &mut wanted, &mut load);
    for (partition, wanted) in wanted.into_iter().enumerate() {
        let are_warm = wanted.iter().all(|node| field.is_warm(partition, *node));
        let mut standbys = wanted;
        for node in &field.standbys[partition] {
            let is_next = field.next[partition] == Some(*node);
            if !standbys.contains(node) && (is_next || !are_warm) {
                standbys.push(*node);
            }
        }
        field.standbys[partition] = standbys;
    }
}

fn count(field: &Field<'_>, partition: usize) -> usize {
    let able = field.nodes().filter(|node| may(field, partition, *node));
    able.count().min(field.settings.standbys)
}

fn may(field: &Field<'_>, partition: usize, node: usize) -> bool {
    let is_owner = field.owners[partition] == Some(node);
    field.takes(node) && field.is_able(partition, node) && !is_owner
}

/// In another zone than the owner: what ends the one should not end the other.
fn is_apart(field: &Field<'_>, partition: usize, node: usize) -> bool {
    field.owners[partition].is_some_and(|owner| field.zone(owner) != field.zone(node))
}

/// Those of before who stay: no more than needed, and none in the owner's zone if others could be.
fn kept(field: &Field<'_>, partition: usize) -> Vec<usize> {
    let before = &field.standbys[partition];
    let is_next = |node: usize| field.next[partition] == Some(node);
    // Who is to be the owner is a standby beside the others, unless it was one anyway.
    let others = before.iter().copied().filter(|node| !is_next(*node));
    let all = others.chain(before.iter().copied().filter(|node| is_next(*node)));
    let able: Vec<usize> = all.filter(|node| may(field, partition, *node)).collect();
    let candidates = field.nodes().filter(|node| may(field, partition, *node));
    let apart = candidates
        .filter(|node| is_apart(field, partition, *node))
        .count();
    let needed = count(field, partition);
    let mut kept: Vec<usize> = able.clone();
    kept.retain(|node| is_apart(field, partition, *node));
    kept.truncate(needed);
    let beside = able
        .iter()
        .filter(|node| !is_apart(field, partition, **node));
    kept.extend(beside.take(needed.saturating_sub(apart)));
    kept
}

/// Adds who is missing: in other zones, with the least load for its weight, then by rank.
fn fill(field: &Field<'_>, partition: usize, wanted: &mut Vec<usize>, load: &mut [usize]) {
    let total = field.owners.len() * field.settings.standbys;
    while wanted.len() < count(field, partition) {
        let able = field
            .nodes()
            .filter(|node| may(field, partition, *node) && !wanted.contains(node));
        let rank = |node: usize| {
            let has_room = load[node] < field.share(node, total).1;
            (is_apart(field, partition, node), has_room)
        };
        let best = able.max_by(|one, other| {
            let order = rank(*one).cmp(&rank(*other));
            let score = |node: &usize| field.score(partition, *node);
            order.then_with(|| score(one).total_cmp(&score(other)))
        });
        let Some(best) = best else { return };
        wanted.push(best);
        load[best] += 1;
    }
}

/// Hands standbys of nodes that have more than their share to nodes that have less, a few at a time.
fn spread(field: &Field<'_>, wanted: &mut [Vec<usize>], load: &mut [usize]) {
    let cold = |(partition, nodes): (usize, &Vec<usize>)| {
        let nodes = nodes.iter();
        nodes
            .filter(|node| !field.is_warm(partition, **node))
            .count()
    };
    let cold: usize = wanted.iter().enumerate().map(cold).sum();
    let total: usize = wanted.iter().map(Vec::len).sum();
    for _ in cold..field.settings.moves_at_once {
        let full = |node: &usize| load[*node] > field.share(*node, total).1;
        let poor = |node: usize| load[node] < field.share(node, total).0;
        let found = field.partitions().find_map(|partition| {
            let index = wanted[partition].iter().position(full)?;
            let from = wanted[partition][index];
            let able = field.nodes().filter(|to| {
                let is_new = may(field, partition, *to) && !wanted[partition].contains(to);
                let is_no_nearer =
                    is_apart(field, partition, *to) || !is_apart(field, partition, from);
                is_new && is_no_nearer && poor(*to)
            });
            let score = |node: &usize| field.score(partition, *node);
            let to = able.max_by(|one, other| score(one).total_cmp(&score(other)))?;
            Some((partition, index, from, to))
        });
        let Some((partition, index, from, to)) = found else {
            return;
        };
        wanted[partition][index] = to;
        load[from] -= 1;
        load[to] += 1;
    }
}
