//! Seeds that once failed, as they are kept in files.

use crate::scenario::Scenario;

/// The scenarios of a list: one a line, written as [`Scenario::reproduction`] prints them but for
/// the command itself; `#` begins a reason.
///
/// # Errors
/// The first line that is none.
pub fn kept(list: &str) -> Result<Vec<Scenario>, String> {
    let lines = list.lines().map(|line| match line.split_once('#') {
        Some((scenario, _reason)) => scenario.trim(),
        None => line.trim(),
    });
    lines
        .filter(|line| !line.is_empty())
        .map(|line| read(line).ok_or_else(|| format!("{line:?} is no scenario")))
        .collect()
}

fn read(line: &str) -> Option<Scenario> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let named = |name: &str| {
        let place = words.iter().position(|word| *word == name)?;
        words.get(place + 1).copied()
    };
    let seed = named("--seed")?.parse().ok()?;
    let mut scenario = match named("--setup") {
        Some(setup) => Scenario::in_setup(seed, setup.parse().ok()?),
        None => Scenario::new(seed),
    };
    if let Some(plan) = named("--faults") {
        scenario.plan = plan.parse().ok()?;
    }
    if let Some(numbers) = named("--operations") {
        let listed = numbers.split(',').filter(|number| *number != "none");
        let listed: Result<_, _> = listed.map(str::parse).collect();
        scenario.operations = listed.ok()?;
    }
    if let Some(mutation) = named("--mutation") {
        scenario.mutation = Some(mutation.parse().ok()?);
    }
    Some(scenario)
}
