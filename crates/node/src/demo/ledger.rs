//! Transfers, drawn from a seed, played against the ledger.

pub mod figures;
pub mod plan;
pub mod play;

use serde::{Deserialize, Serialize};

use super::directory;

/// What a directory of the ledger was begun with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// How many accounts there are.
    pub accounts: u64,
    /// How many transfers are asked for.
    pub transfers: u64,
    /// Of a hundred transfers, so many are to go from one branch to another.
    pub cross: u64,
    /// What they are drawn from.
    pub seed: u64,
    /// When the directory was begun, in milliseconds since 1970: part of every command's id, so
    /// that a run which goes on asks again under the same ids.
    pub created: i64,
}

impl directory::Settings for Settings {
    const DEMO: &'static str = "ledger";

    fn differences(&self, asked: &Self) -> Vec<String> {
        let options = [
            ("--accounts", self.accounts, asked.accounts),
            ("--transfers", self.transfers, asked.transfers),
            ("--cross", self.cross, asked.cross),
            ("--seed", self.seed, asked.seed),
        ];
        let differ = options.iter().filter(|(_, there, asked)| there != asked);
        differ
            .map(|(option, there, asked)| format!("{option} {there}, not {asked}"))
            .collect()
    }
}
