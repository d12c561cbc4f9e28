//! The derives of Everfold. Use them through the `everfold` crate.
//!
//! They write down what the compiler already knows (names, fields, types) as the constants and
//! functions that the traits of the same names ask for. Nothing is registered: a type that the
//! application does not mention does not exist for it.

mod command;
mod entity;
mod event;
mod field;
mod key;
mod mirror;
mod shape;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Makes an enum the events of an entity: each variant is one type of event.
///
/// The payload is the variant's fields as a JSON object: `{}` without fields, the bare value for
/// `Variant(value)`. The field's types need serde, the enum itself does not.
///
/// | attribute | on | means |
/// | --- | --- | --- |
/// | `#[event(name = "...")]` | variant | the type's name in the log; the variant's name otherwise |
/// | `#[event(version = 2)]` | variant | the schema's version; 1 otherwise |
/// | `#[event(was = "...")]` | variant | a name the type had before; may be repeated |
/// | `#[personal]` | named field | holds personal data |
/// | `#[label]`, `#[label(name = "...")]` | field | the event can be found by its value |
/// | `#[serde(...)]` | field | as in serde |
#[proc_macro_derive(Event, attributes(event, personal, label, serde))]
pub fn event(input: TokenStream) -> TokenStream {
    expand(parse_macro_input!(input as DeriveInput), event::expand)
}

/// Makes a type the state of an entity: `#[entity(name = "...", id = ..., event = ...)]`.
///
/// The fields' types need serde, the state itself does not.
#[proc_macro_derive(Entity, attributes(entity, serde))]
pub fn entity(input: TokenStream) -> TokenStream {
    expand(parse_macro_input!(input as DeriveInput), entity::expand)
}

/// Makes a type a command, named after the type or by `#[command(name = "...")]`.
///
/// The fields' types need serde, the command itself does not.
#[proc_macro_derive(Command, attributes(command, serde))]
pub fn command(input: TokenStream) -> TokenStream {
    expand(parse_macro_input!(input as DeriveInput), command::expand)
}

/// Makes a new type over `String` a typed id: with `Display`, `From<&str>`, `From<String>` and the
/// same form as the text in serde.
///
/// Ids are also compared and copied: `#[derive(Key, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]`.
#[proc_macro_derive(Key)]
pub fn key(input: TokenStream) -> TokenStream {
    expand(parse_macro_input!(input as DeriveInput), key::expand)
}

fn expand(
    input: DeriveInput,
    with: fn(&DeriveInput) -> syn::Result<proc_macro2::TokenStream>,
) -> TokenStream {
    with(&input)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
