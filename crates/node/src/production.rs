//! Whether an engine, as it is configured, may carry production.

use everfold::engine::engine::Finding;

use crate::failure::refused;

/// Refuses an engine on which an acknowledged event could be lost.
///
/// # Errors
/// What it is lost by.
pub fn check(findings: &[Finding]) -> anyhow::Result<()> {
    let losing: Vec<String> = findings
        .iter()
        .filter(|finding| finding.loses_data)
        .map(|finding| format!("{} = {}", finding.name, finding.value))
        .collect();
    if losing.is_empty() {
        return Ok(());
    }
    Err(refused(format!(
        "not for production: an acknowledged event could be lost because of {}; change that where \
         the log is kept, or leave --production out",
        losing.join(", ")
    )))
}
