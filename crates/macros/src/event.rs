//! `#[derive(Event)]`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::ext::IdentExt;
use syn::{Data, DeriveInput, Error, Fields, LitInt, LitStr, Member, Result, Variant};

use crate::{field, mirror, shape};

pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    field::no_generics(input, "an event")?;
    let types = types(input)?;
    let ident = &input.ident;
    let name = types.iter().map(|one| &one.name);
    let schema_version = types.iter().map(|one| one.version);
    let variant: Vec<_> = types.iter().map(|one| &one.variant.ident).collect();
    let schemas = types.iter().map(EventType::schema);
    let labels = types.iter().map(EventType::labels);
    let encode = types.iter().map(EventType::encode);
    let decode = types
        .iter()
        .enumerate()
        .map(|(index, one)| one.decode(index));
    let write = write_mirror(input, &types);
    Ok(quote! {
        const _: () = {
            #write

            #[automatically_derived]
            impl ::everfold::Event for #ident {
                const SCHEMAS: &'static [::everfold::EventSchema] = &[#(#schemas),*];

                fn event_type(&self) -> &'static str {
                    match self { #(Self::#variant { .. } => #name,)* }
                }

                fn schema_version(&self) -> u32 {
                    match self { #(Self::#variant { .. } => #schema_version,)* }
                }

                fn labels(&self) -> ::std::vec::Vec<(&'static str, ::std::string::String)> {
                    match self { #(#labels,)* }
                }

                fn encode(
                    &self,
                    out: &mut ::std::vec::Vec<u8>,
                ) -> ::core::result::Result<(), ::everfold::__private::serde_json::Error> {
                    match self { #(#encode,)* }
                }

                fn decode(
                    event_type: &str,
                    version: u32,
                    payload: &[u8],
                ) -> ::core::result::Result<Self, ::everfold::DecodeError> {
                    match event_type {
                        #(#decode)*
                        unknown => ::core::result::Result::Err(
                            ::everfold::DecodeError::UnknownType(::std::borrow::ToOwned::to_owned(
                                unknown,
                            )),
                        ),
                    }
                }
            }
        };
    })
}

/// One variant, which is one type of event.
struct EventType<'a> {
    variant: &'a Variant,
    name: String,
    version: u32,
    was: Vec<String>,
    personal: Vec<String>,
    labels: Vec<(String, Member)>,
}

impl<'a> EventType<'a> {
    fn of(variant: &'a Variant) -> Result<Self> {
        if let Some(attribute) = field::serde(&variant.attrs).next() {
            return Err(Error::new_spanned(
                attribute,
                "the payload of an event is its fields: put `#[serde(...)]` on the fields",
            ));
        }
        if variant.fields.len() > 1 && matches!(variant.fields, Fields::Unnamed(_)) {
            let name = &variant.ident;
            return Err(Error::new_spanned(
                variant,
                format!(
                    "fields of events need names, so that old events stay readable: \
                     write `{name} {{ field: Type, ... }}`"
                ),
            ));
        }
        let mut this = Self {
            variant,
            name: variant.ident.unraw().to_string(),
            version: 1,
            was: Vec::new(),
            personal: Vec::new(),
            labels: Vec::new(),
        };
        this.read_attributes()?;
        for (member, field) in variant.fields.members().zip(&variant.fields) {
            this.personal.extend(field::personal(field)?);
            this.labels
                .extend(field::label(field)?.map(|name| (name, member)));
        }
        Ok(this)
    }

    fn read_attributes(&mut self) -> Result<()> {
        let variant = self.variant;
        for attribute in variant
            .attrs
            .iter()
            .filter(|one| one.path().is_ident("event"))
        {
            attribute.parse_nested_meta(|item| {
                if item.path.is_ident("name") {
                    self.name = non_empty(item.value()?.parse()?)?;
                } else if item.path.is_ident("was") {
                    self.was.push(non_empty(item.value()?.parse()?)?);
                } else if item.path.is_ident("version") {
                    let number: LitInt = item.value()?.parse()?;
                    self.version = number.base10_parse()?;
                    if self.version == 0 {
                        return Err(Error::new_spanned(number, "versions count from 1"));
                    }
                } else {
                    return Err(item.error("an event has a `name`, a `version` and `was` names"));
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    fn schema(&self) -> TokenStream {
        let Self {
            name,
            version,
            personal,
            ..
        } = self;
        let shape = shape::of_fields(&self.variant.fields);
        quote! {
            ::everfold::EventSchema {
                name: #name,
                version: #version,
                shape: #shape,
                personal: &[#(#personal),*],
            }
        }
    }

    fn labels(&self) -> TokenStream {
        let variant = &self.variant.ident;
        let (names, members): (Vec<_>, Vec<_>) = self.labels.iter().cloned().unzip();
        let bound: Vec<_> = (0..members.len())
            .map(|index| format_ident!("label_{index}"))
            .collect();
        quote! {
            Self::#variant { #(#members: #bound,)* .. } => ::std::vec::Vec::from([
                #((#names, ::std::string::ToString::to_string(#bound)),)*
            ])
        }
    }

    /// Without fields there is nothing to write but `{}`; serde would say `null`.
    fn encode(&self) -> TokenStream {
        let variant = &self.variant.ident;
        if self.variant.fields.is_empty() {
            return quote! {
                Self::#variant { .. } => {
                    out.extend_from_slice(b"{}");
                    ::core::result::Result::Ok(())
                }
            };
        }
        quote! {
            Self::#variant { .. } => __Write::serialize(
                self,
                &mut ::everfold::__private::serde_json::Serializer::new(out),
            )
        }
    }

    fn decode(&self, index: usize) -> TokenStream {
        let Self { name, was, .. } = self;
        let variant = &self.variant.ident;
        let fields = mirror::twin(&self.variant.fields);
        let definition = match self.variant.fields {
            Fields::Named(_) => quote!(struct __Read #fields),
            // An empty tuple is read like no fields at all.
            Fields::Unnamed(_) if !self.variant.fields.is_empty() => quote!(struct __Read #fields;),
            _ => quote!(
                struct __Read {}
            ),
        };
        let members: Vec<_> = self.variant.fields.members().collect();
        let serde = mirror::SERDE;
        quote! {
            #name #(| #was)* => {
                #[derive(::everfold::__private::serde::Deserialize)]
                #[serde(crate = #serde)]
                #definition

                let schema = &<Self as ::everfold::Event>::SCHEMAS[#index];
                ::everfold::__private::decode_json::<__Read>(schema, version, payload)
                    .map(|_read| Self::#variant { #(#members: _read.#members),* })
            }
        }
    }
}

fn non_empty(text: LitStr) -> Result<String> {
    match text.value() {
        name if name.is_empty() => Err(Error::new_spanned(text, "an event's name is not empty")),
        name => Ok(name),
    }
}

/// All variants, with every fault of every one of them.
fn types(input: &DeriveInput) -> Result<Vec<EventType<'_>>> {
    let Data::Enum(data) = &input.data else {
        let name = &input.ident;
        let message = format!("events are the variants of an enum: write `enum {name} {{ ... }}`");
        return Err(Error::new_spanned(name, message));
    };
    let misplaced = input
        .attrs
        .iter()
        .find(|one| one.path().is_ident("event") || one.path().is_ident("serde"));
    if let Some(attribute) = misplaced {
        return Err(Error::new_spanned(
            attribute,
            "each variant is an event of its own: \
             put `#[event(...)]` on variants and `#[serde(...)]` on fields",
        ));
    }
    if data.variants.is_empty() {
        let message = "nothing can happen: add a variant";
        return Err(Error::new_spanned(&input.ident, message));
    }
    let mut types: Vec<EventType<'_>> = Vec::new();
    let mut faults: Option<Error> = None;
    for variant in &data.variants {
        let checked = EventType::of(variant).and_then(|one| unlike(one, &types));
        match (checked, &mut faults) {
            (Ok(one), _) => types.push(one),
            (Err(fault), Some(faults)) => faults.combine(fault),
            (Err(fault), none) => *none = Some(fault),
        }
    }
    faults.map_or(Ok(types), Err)
}

/// No two variants answer to one name.
fn unlike<'a>(one: EventType<'a>, others: &[EventType<'_>]) -> Result<EventType<'a>> {
    let names = |of: &EventType<'_>| {
        let mut names = of.was.clone();
        names.push(of.name.clone());
        names
    };
    let mut taken: Vec<String> = others.iter().flat_map(names).collect();
    for name in names(&one) {
        if taken.contains(&name) {
            return Err(Error::new_spanned(
                one.variant,
                format!("{name:?} already names an event here: give this one another name"),
            ));
        }
        taken.push(name);
    }
    Ok(one)
}

/// An untagged twin of the enum, which writes the fields of whichever variant it is.
fn write_mirror(input: &DeriveInput, types: &[EventType<'_>]) -> TokenStream {
    if types.iter().all(|one| one.variant.fields.is_empty()) {
        return TokenStream::new();
    }
    let (remote, serde) = (input.ident.to_string(), mirror::SERDE);
    let variants = types.iter().map(|one| {
        let (name, fields) = (&one.variant.ident, mirror::twin(&one.variant.fields));
        quote!(#name #fields)
    });
    quote! {
        #[derive(::everfold::__private::serde::Serialize)]
        #[serde(crate = #serde, remote = #remote, untagged)]
        #[allow(dead_code)]
        enum __Write { #(#variants),* }
    }
}
