//! `#[derive(Entity)]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::Parse;
use syn::{Data, DeriveInput, Error, LitStr, Result, Token, Type};

use crate::{field, mirror, shape};

struct Declared {
    name: LitStr,
    id: Type,
    event: Type,
    commands: Vec<Type>,
    remembered: bool,
}

pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    field::no_generics(input, "an entity's state")?;
    let ident = &input.ident;
    let Declared {
        name,
        id,
        event,
        commands,
        remembered,
    } = declared(input)?;
    let mirror = mirror::of(input)?;
    let codec = mirror::codec(quote!(encode_state), quote!(decode_state));
    let shape = match &input.data {
        Data::Struct(data) => shape::of_fields(&data.fields),
        Data::Enum(data) => shape::of_variants(&data.variants),
        Data::Union(_) => String::new(),
    };
    Ok(quote! {
        const _: () = {
            #mirror

            #[automatically_derived]
            impl ::everfold::Entity for #ident {
                const NAME: &'static str = #name;
                const SHAPE: &'static str = #shape;
                const REMEMBERED: bool = #remembered;
                type Id = #id;
                type Event = #event;
                #codec

                fn accepts(accepting: &mut ::everfold::Accepting<Self>) {
                    let _ = &accepting;
                    #(accepting.and::<#commands>();)*
                }
            }
        };
    })
}

fn declared(input: &DeriveInput) -> Result<Declared> {
    let (mut name, mut id, mut event) = (None, None, None);
    let mut commands = Vec::new();
    let mut remembered = false;
    for attribute in input
        .attrs
        .iter()
        .filter(|one| one.path().is_ident("entity"))
    {
        attribute.parse_nested_meta(|item| {
            if item.path.is_ident("name") {
                name = Some(checked_name(item.value()?.parse()?)?);
            } else if item.path.is_ident("id") {
                id = Some(item.value()?.parse()?);
            } else if item.path.is_ident("event") {
                event = Some(item.value()?.parse()?);
            } else if item.path.is_ident("commands") {
                let listed;
                syn::parenthesized!(listed in item.input);
                commands.extend(listed.parse_terminated(Type::parse, Token![,])?);
            } else if item.path.is_ident("remembered") {
                remembered = true;
            } else {
                return Err(item.error(
                    "an entity has a `name`, an `id`, an `event`, perhaps `commands`, and may be `remembered`",
                ));
            }
            Ok(())
        })?;
    }
    match (name, id, event) {
        (Some(name), Some(id), Some(event)) => Ok(Declared {
            name,
            id,
            event,
            commands,
            remembered,
        }),
        (name, id, event) => Err(missing(
            input,
            name.is_none(),
            id.is_none(),
            event.is_none(),
        )),
    }
}

/// The name starts the stream's name, and the first `-` there ends it.
fn checked_name(name: LitStr) -> Result<LitStr> {
    const LIMIT: usize = 512;
    let text = name.value();
    let fault = if text.is_empty() {
        "an entity's name is not empty: it starts the names of its streams, as in `customer-7`"
            .to_owned()
    } else if text.contains('-') {
        format!(
            "an entity's name holds no '-', which ends it in the names of its streams: \
             write \"{}\"",
            text.replace('-', "_")
        )
    } else if text.len() > LIMIT {
        format!("an entity's name is {LIMIT} bytes long at most")
    } else {
        return Ok(name);
    };
    Err(Error::new_spanned(name, fault))
}

fn missing(input: &DeriveInput, name: bool, id: bool, event: bool) -> Error {
    let ident = &input.ident;
    let lower = ident.to_string().to_lowercase();
    let parts = [
        (name, format!("name = \"{lower}\"")),
        (id, format!("id = {ident}Id")),
        (event, format!("event = {ident}Event")),
    ];
    let missing: Vec<String> = parts
        .into_iter()
        .filter_map(|(is_missing, part)| is_missing.then_some(part))
        .collect();
    let message = format!("add `#[entity({})]`", missing.join(", "));
    Error::new_spanned(ident, message)
}
