//! Running a target over its corpus and over mutations of it.

use std::collections::BTreeSet;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use everfold_sim::Random;

use crate::mutate::mutate;
use crate::{Target, corpus};

/// The most inputs of one run that led to something new and are built upon.
const KEPT: usize = 2000;

/// What a run did.
#[derive(Clone, Debug, Default)]
pub struct Ran {
    /// How many inputs were tried.
    pub executions: u64,
    /// How many different things they led to.
    pub outcomes: usize,
    /// Inputs of the corpus that fail, by name, and where mutations that fail were saved.
    pub failures: Vec<PathBuf>,
}

/// Tries the corpus, then mutations, as long as `more` says so, which is told how many were tried.
/// Stops at the first mutation that fails, which is saved in `failures`.
///
/// # Errors
/// What the system says about the corpus.
pub fn run(
    target: &Target,
    seed: u64,
    failures: &Path,
    more: &mut dyn FnMut(u64) -> bool,
) -> io::Result<Ran> {
    let mut ran = Ran::default();
    let mut seen = BTreeSet::new();
    let mut pool = vec![Vec::new()];
    for (name, input) in corpus::load(target.name)? {
        ran.executions += 1;
        match attempt(target, &input) {
            Some(outcome) => drop(seen.insert(outcome)),
            None => ran.failures.push(corpus::folder(target.name).join(name)),
        }
        pool.push(input);
    }
    let mut random = Random::new(seed);
    while ran.failures.is_empty() && more(ran.executions) {
        let [one, other] = [(); 2].map(|()| random.index(pool.len()));
        let input = mutate(&pool[one], &pool[other], &mut random);
        ran.executions += 1;
        match attempt(target, &input) {
            Some(outcome) => {
                if pool.len() < KEPT && seen.insert(outcome) {
                    pool.push(input);
                }
            }
            None => ran.failures.push(corpus::save(failures, &input)?),
        }
    }
    ran.outcomes = seen.len();
    Ok(ran)
}

/// What an input leads to; `None` if it fails.
fn attempt(target: &Target, input: &[u8]) -> Option<u64> {
    catch_unwind(AssertUnwindSafe(|| (target.run)(input))).ok()
}
