//! Names of entities and streams.

use crate::Text;
use crate::slot::Slot;

/// Identifies one entity: tenant, type and id. Its events are one stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct EntityKey {
    /// Empty unless the log is shared by tenants.
    pub tenant: Text,
    /// The entity's type; holds no `-`.
    pub kind: Text,
    /// The entity's id; any text.
    pub id: Text,
}

impl EntityKey {
    /// An entity of the default tenant.
    pub fn new(kind: impl Into<Text>, id: impl Into<Text>) -> Self {
        Self {
            tenant: Text::new(),
            kind: kind.into(),
            id: id.into(),
        }
    }

    /// Reads a stream name, `type-id`. A name without `-` has an empty type, so that every name of
    /// a foreign store maps to a key and back.
    pub fn of_stream(name: &str) -> Self {
        match name.split_once('-') {
            Some((kind, id)) => Self::new(kind, id),
            None => Self::new("", name),
        }
    }

    /// The stream's name, `type-id`, or the id alone where the type is empty.
    pub fn stream(&self) -> String {
        if self.kind.is_empty() {
            self.id.to_string()
        } else {
            format!("{}-{}", self.kind, self.id)
        }
    }

    /// Where the entity lives.
    pub fn slot(&self) -> Slot {
        Slot::of(&self.id)
    }

    /// Whether the key can be stored: a type without `-`, an id that the empty type keeps apart.
    ///
    /// # Errors
    /// [`BadName`] says which rule is broken; choose another name.
    pub fn check(&self) -> Result<(), BadName> {
        const LIMIT: usize = 512;
        let fault = if self.kind.contains('-') {
            "an entity type holds no '-' (the first '-' of a stream name ends the type)"
        } else if self.kind.is_empty() && self.id.contains('-') {
            "an id with '-' needs an entity type in front"
        } else if self.kind.is_empty() && self.id.is_empty() {
            "a stream name is not empty"
        } else if self.kind.len() > LIMIT || self.id.len() > LIMIT || self.tenant.len() > LIMIT {
            "type, id and tenant are 512 bytes long at most"
        } else {
            return Ok(());
        };
        Err(BadName {
            name: self.stream(),
            fault: fault.into(),
        })
    }
}

impl std::fmt::Display for EntityKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.tenant.is_empty() {
            write!(f, "{}/", self.tenant)?;
        }
        f.write_str(&self.stream())
    }
}

/// A name that no stream can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} cannot name a stream: {fault}")]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct BadName {
    name: String,
    fault: std::borrow::Cow<'static, str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_names_map_both_ways() {
        for name in [
            "customer-1",
            "order-a-b",
            "plain",
            "$all",
            "x-",
            "-x",
            "a-{t}-b",
        ] {
            assert_eq!(
                EntityKey::of_stream(name).stream(),
                name.trim_start_matches('-'),
                "{name}"
            );
        }
    }

    #[test]
    fn a_type_with_a_dash_is_refused() {
        assert!(EntityKey::new("a-b", "c").check().is_err());
        assert!(EntityKey::new("ab", "c-d").check().is_ok());
        assert!(EntityKey::new("", "c-d").check().is_err());
    }
}
