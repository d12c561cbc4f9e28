//! Changes of inputs, drawn from a seed.

use everfold_sim::Random;

/// Numbers that tend to be edges.
const EDGES: [u64; 10] = [
    0,
    1,
    7,
    8,
    0x7f,
    0x80,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    u64::MAX,
];
/// The longest input that is made.
const LONGEST: usize = 40 << 10;

/// Another input like `input`; parts may come from `other`.
pub fn mutate(input: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=random.below(5) {
        change(&mut bytes, other, random);
    }
    bytes.truncate(LONGEST);
    bytes
}

fn change(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let at = random.index(bytes.len() + 1);
    let end = (at + 1 + random.index(32)).min(bytes.len());
    match random.below(9) {
        0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
        1 if at < bytes.len() => bytes[at] = random.bits() as u8,
        2 if at < bytes.len() => {
            bytes[at] = bytes[at]
                .wrapping_add(random.below(9) as u8)
                .wrapping_sub(4)
        }
        3 => {
            let edge = random.pick(&EDGES).to_le_bytes();
            let width = *random.pick(&[1, 2, 4, 8]);
            for (byte, edge) in bytes.iter_mut().skip(at).zip(&edge[..width]) {
                *byte = *edge;
            }
        }
        4 => drop(bytes.drain(at..end)),
        5 => {
            let part = bytes[at..end].to_vec();
            let to = random.index(bytes.len() + 1);
            bytes.splice(to..to, part);
        }
        6 => {
            let part: Vec<_> = (0..random.below(16)).map(|_| random.bits() as u8).collect();
            bytes.splice(at..at, part);
        }
        7 if !other.is_empty() => {
            let from = random.index(other.len());
            let part = &other[from..(from + 1 + random.index(200)).min(other.len())];
            let replaced = if random.one_in(2) {
                at
            } else {
                (at + part.len()).min(bytes.len())
            };
            bytes.splice(at..replaced, part.iter().copied());
        }
        _ => bytes.truncate(at.max(1)),
    }
}
