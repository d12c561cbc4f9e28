//! Events as applications write them.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The events of one kind of entity; derive it on an enum.
///
/// Each variant is one event type. Its name, schema version, labels and personal fields come from
/// the derive; its payload is the variant's fields as JSON.
pub trait Event: Sized + Send + Sync + 'static {
    /// All event types, in the order of declaration.
    const SCHEMAS: &'static [EventSchema];

    /// The name of this event's type.
    fn event_type(&self) -> &'static str;

    /// The version of this event's schema, from 1.
    fn schema_version(&self) -> u32;

    /// Names and values to find the event by.
    fn labels(&self) -> Vec<(&'static str, String)>;

    /// Appends the payload to `out`.
    ///
    /// # Errors
    /// [`serde_json::Error`] if a field cannot be written as JSON.
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), serde_json::Error>;

    /// Reads a payload of this version or, lifted, of an earlier one.
    ///
    /// # Errors
    /// [`DecodeError`]: the type is not known here, or the payload does not fit it.
    fn decode(event_type: &str, version: u32, payload: &[u8]) -> Result<Self, DecodeError>;
}

/// One event type as the code declares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventSchema {
    /// The type's name.
    pub name: &'static str,
    /// The schema's version, from 1. Changing the fields asks for a new one.
    pub version: u32,
    /// Names and types of the fields, to notice a change.
    pub shape: &'static str,
    /// Fields that hold personal data.
    pub personal: &'static [&'static str],
}

/// A stored event that this build cannot read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// No variant of this name.
    #[error(
        "event type {0:?} is not known to this build: add it, or name the variant that replaces it"
    )]
    UnknownType(String),
    /// Written by a later build.
    #[error(
        "event type {name:?} has schema version {found}, this build knows up to {known}: run the newer build"
    )]
    NewerVersion {
        /// The event's type.
        name: &'static str,
        /// The version stored.
        found: u32,
        /// The version of this build.
        known: u32,
    },
    /// Not the JSON that the type's fields ask for.
    #[error("the payload of {name:?} version {version} does not fit its fields: {reason}")]
    BadPayload {
        /// The event's type.
        name: String,
        /// The version stored.
        version: u32,
        /// What JSON said.
        reason: String,
    },
}

impl DecodeError {
    /// Whether the event is likely to be of a later build, which can read it.
    pub(crate) fn is_newer(&self) -> bool {
        matches!(self, Self::UnknownType(_) | Self::NewerVersion { .. })
    }
}

/// Appends JSON; used by derived code.
pub fn encode_json(out: &mut Vec<u8>, value: &impl Serialize) -> Result<(), serde_json::Error> {
    serde_json::to_writer(out, value)
}

/// Reads the JSON payload of an event; used by derived code.
pub fn decode_json<T: DeserializeOwned>(
    schema: &EventSchema,
    version: u32,
    payload: &[u8],
) -> Result<T, DecodeError> {
    if version > schema.version {
        return Err(DecodeError::NewerVersion {
            name: schema.name,
            found: version,
            known: schema.version,
        });
    }
    serde_json::from_slice(payload).map_err(|error| DecodeError::BadPayload {
        name: schema.name.to_owned(),
        version,
        reason: error.to_string(),
    })
}
