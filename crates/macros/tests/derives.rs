//! What the derives make of a type.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use everfold::prelude::*;
use everfold::{DecodeError, EventSchema};
use serde::{Deserialize, Serialize};

#[derive(Key, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct PersonId(String);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Address {
    town: String,
}

#[derive(Event, Clone, Debug, PartialEq)]
enum PersonEvent {
    #[event(version = 2, was = "Born", was = "Registered")]
    Named {
        #[personal]
        #[serde(rename = "fullName")]
        name: String,
        #[label]
        parent: PersonId,
        #[serde(default)]
        r#type: u8,
    },
    #[event(name = "person-moved")]
    Moved(#[label(name = "town")] Town),
    Housed(#[serde(with = "shout")] Address),
    Gone,
    Back(),
    Seen {},
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Town(String);

impl std::fmt::Display for Town {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

mod shout {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(it: &super::Address, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&it.town.to_uppercase())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<super::Address, D::Error> {
        let town = String::deserialize(from)?.to_lowercase();
        Ok(super::Address { town })
    }
}

fn named() -> PersonEvent {
    PersonEvent::Named {
        name: "Ada".into(),
        parent: "p-0".into(),
        r#type: 3,
    }
}

fn json(event: &PersonEvent) -> String {
    let mut out = b"kept:".to_vec();
    event.encode(&mut out).unwrap();
    String::from_utf8(out)
        .unwrap()
        .strip_prefix("kept:")
        .unwrap()
        .to_owned()
}

#[test]
fn a_payload_is_the_fields_as_json() {
    let cases = [
        (named(), r#"{"fullName":"Ada","parent":"p-0","type":3}"#),
        (PersonEvent::Moved(Town("Bern".into())), r#""Bern""#),
        (
            PersonEvent::Housed(Address {
                town: "bern".into(),
            }),
            r#""BERN""#,
        ),
        (PersonEvent::Gone, "{}"),
        (PersonEvent::Back(), "{}"),
        (PersonEvent::Seen {}, "{}"),
    ];
    for (event, payload) in cases {
        assert_eq!(json(&event), payload);
        let (name, version) = (event.event_type(), event.schema_version());
        assert_eq!(
            PersonEvent::decode(name, version, payload.as_bytes()),
            Ok(event)
        );
    }
}

#[test]
fn schemas_name_versions_shapes_and_personal_fields() {
    let schema = |name, version, shape, personal| EventSchema {
        name,
        version,
        shape,
        personal,
    };
    assert_eq!(
        PersonEvent::SCHEMAS,
        [
            schema(
                "Named",
                2,
                "fullName: String, parent: PersonId, type: u8",
                &["fullName"]
            ),
            schema("person-moved", 1, "Town", &[]),
            schema("Housed", 1, "Address [with=\"shout\"]", &[]),
            schema("Gone", 1, "", &[]),
            schema("Back", 1, "", &[]),
            schema("Seen", 1, "", &[]),
        ]
    );
}

#[test]
fn old_names_missing_defaults_and_unknown_fields_are_read() {
    let payload = br#"{"fullName":"Ada","parent":"p-0","since":1815}"#;
    for name in ["Named", "Born", "Registered"] {
        let expected = PersonEvent::Named {
            name: "Ada".into(),
            parent: "p-0".into(),
            r#type: 0,
        };
        assert_eq!(PersonEvent::decode(name, 1, payload), Ok(expected));
    }
}

#[test]
fn what_this_build_cannot_read_is_said() {
    assert_eq!(
        PersonEvent::decode("Moved", 1, b"{}"),
        Err(DecodeError::UnknownType("Moved".into()))
    );
    assert_eq!(
        PersonEvent::decode("Gone", 2, b"{}"),
        Err(DecodeError::NewerVersion {
            name: "Gone",
            found: 2,
            known: 1
        })
    );
    let error = PersonEvent::decode("Born", 1, b"{}")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("\"Named\" version 1") && error.contains("fullName"),
        "{error}"
    );
}

#[test]
fn labels_carry_names_and_values() {
    assert_eq!(named().labels(), [("parent", "p-0".to_owned())]);
    let moved = PersonEvent::Moved(Town("Bern".into()));
    assert_eq!(moved.labels(), [("town", "Bern".to_owned())]);
    assert_eq!(PersonEvent::Gone.labels(), []);
}

#[derive(Entity, Default, Debug, PartialEq)]
#[entity(name = "person", id = PersonId, event = PersonEvent)]
struct Person {
    name: Option<String>,
    towns: BTreeMap<PersonId, u8>,
    #[serde(skip)]
    cache: u8,
}

#[derive(Entity, Default, Debug, PartialEq)]
#[entity(name = "lamp", id = String, event = PersonEvent)]
enum Lamp {
    #[default]
    Off,
    Dimmed {
        percent: u8,
    },
    Coloured(String),
}

#[test]
fn a_state_survives_its_snapshot() {
    let person = Person {
        name: Some("Ada".into()),
        towns: [("p-0".into(), 1)].into(),
        cache: 0,
    };
    let mut out = Vec::new();
    person.encode_state(&mut out).unwrap();
    assert_eq!(out, br#"{"name":"Ada","towns":{"p-0":1}}"#);
    assert_eq!(Person::decode_state(&out).unwrap(), person);
    assert!(Person::decode_state(br#"{"name":null,"towns":{}} and more"#).is_err());
    assert_eq!(Person::NAME, "person");
    assert_eq!(
        Person::SHAPE,
        "name: Option<String>, towns: BTreeMap<PersonId,u8>, cache: u8 [skip]"
    );

    for lamp in [
        Lamp::Off,
        Lamp::Dimmed { percent: 3 },
        Lamp::Coloured("red".into()),
    ] {
        let mut out = Vec::new();
        lamp.encode_state(&mut out).unwrap();
        assert_eq!(Lamp::decode_state(&out).unwrap(), lamp);
    }
    assert_eq!(Lamp::SHAPE, "Off|Dimmed{percent: u8}|Coloured(String)");
}

#[derive(Command, Debug, PartialEq)]
struct Rename {
    name: String,
}

#[derive(Command, Debug, PartialEq)]
struct Forget;

#[derive(Command, Debug, PartialEq)]
#[command(name = "move")]
struct Move(Town);

#[derive(Command, Debug, PartialEq)]
enum Visit {
    Town { name: String },
    Nobody,
}

fn round_trip<C: Command + PartialEq + std::fmt::Debug>(command: C, name: &str, json: &str) {
    let mut out = Vec::new();
    command.encode(&mut out).unwrap();
    assert_eq!(std::str::from_utf8(&out).unwrap(), json);
    assert_eq!(C::decode(&out).unwrap(), command);
    assert_eq!(C::NAME, name);
}

#[test]
fn commands_have_names_and_survive_json() {
    round_trip(Rename { name: "Ada".into() }, "Rename", r#"{"name":"Ada"}"#);
    round_trip(Forget, "Forget", "{}");
    round_trip(Move(Town("Bern".into())), "move", r#""Bern""#);
    round_trip(
        Visit::Town {
            name: "Bern".into(),
        },
        "Visit",
        r#"{"Town":{"name":"Bern"}}"#,
    );
    round_trip(Visit::Nobody, "Visit", r#""Nobody""#);
}

#[test]
fn a_key_is_its_text_everywhere() {
    let id = PersonId::from("p-1");
    assert_eq!(id, PersonId::from("p-1".to_owned()));
    assert_eq!((id.as_text(), id.to_string().as_str()), ("p-1", "p-1"));
    assert_eq!(format!("{id:>5}|"), "  p-1|");
    assert_eq!(serde_json::to_string(&id).unwrap(), r#""p-1""#);
    assert_eq!(serde_json::from_str::<PersonId>(r#""p-1""#).unwrap(), id);
    let by_id: BTreeMap<PersonId, u8> = [(id, 1)].into();
    assert_eq!(serde_json::to_string(&by_id).unwrap(), r#"{"p-1":1}"#);
}
