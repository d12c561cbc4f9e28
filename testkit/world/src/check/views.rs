//! Views and states are what the log folds to.

use super::Shown;

/// What a node shows that has lived through everything is what another one folds from the log alone.
///
/// # Errors
/// The first difference.
pub fn check(shown: &Shown, afresh: &Shown) -> Result<(), String> {
    for (view, rows) in &afresh.views {
        let Some(found) = shown.views.get(view) else {
            return Err(format!("view {view} is missing"));
        };
        for key in rows.keys().chain(found.keys()) {
            let (row, fresh) = (found.get(key), rows.get(key));
            if row != fresh {
                let show = |row: Option<&serde_json::Value>| match row {
                    Some(row) => row.to_string(),
                    None => "nothing".to_owned(),
                };
                return Err(format!(
                    "view {view} has for {key} {}, the log folds to {}",
                    show(row),
                    show(fresh)
                ));
            }
        }
    }
    for (entity, state) in &afresh.states {
        let found = shown.states.get(entity);
        if found != Some(state) {
            return Err(format!("{entity} is {found:?}, the log folds to {state:?}"));
        }
    }
    Ok(())
}
