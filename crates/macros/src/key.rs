//! `#[derive(Key)]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Error, Fields, Result};

use crate::field;

pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    field::no_generics(input, "a key")?;
    let name = &input.ident;
    let inner = match &input.data {
        Data::Struct(data) => match &data.fields {
            Fields::Unnamed(fields) if fields.unnamed.len() == 1 => &fields.unnamed[0].ty,
            _ => return Err(not_a_new_type(input)),
        },
        _ => return Err(not_a_new_type(input)),
    };
    let serde = quote!(::everfold::__private::serde);
    Ok(quote! {
        #[automatically_derived]
        impl ::everfold::Key for #name {
            fn from_text(text: &str) -> Self {
                Self(<#inner as ::everfold::Key>::from_text(text))
            }

            fn as_text(&self) -> &str {
                <#inner as ::everfold::Key>::as_text(&self.0)
            }
        }

        #[automatically_derived]
        impl ::core::fmt::Display for #name {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.pad(<Self as ::everfold::Key>::as_text(self))
            }
        }

        #[automatically_derived]
        impl ::core::convert::From<&str> for #name {
            fn from(text: &str) -> Self {
                <Self as ::everfold::Key>::from_text(text)
            }
        }

        #[automatically_derived]
        impl ::core::convert::From<::std::string::String> for #name {
            fn from(text: ::std::string::String) -> Self {
                Self(<#inner as ::core::convert::From<::std::string::String>>::from(text))
            }
        }

        #[automatically_derived]
        impl #serde::Serialize for #name {
            fn serialize<S: #serde::Serializer>(
                &self,
                serializer: S,
            ) -> ::core::result::Result<S::Ok, S::Error> {
                serializer.serialize_str(<Self as ::everfold::Key>::as_text(self))
            }
        }

        #[automatically_derived]
        impl<'de> #serde::Deserialize<'de> for #name {
            fn deserialize<D: #serde::Deserializer<'de>>(
                deserializer: D,
            ) -> ::core::result::Result<Self, D::Error> {
                <::std::string::String as #serde::Deserialize>::deserialize(deserializer)
                    .map(<Self as ::core::convert::From<::std::string::String>>::from)
            }
        }
    })
}

fn not_a_new_type(input: &DeriveInput) -> Error {
    let name = &input.ident;
    Error::new_spanned(
        name,
        format!("a key is text: write `struct {name}(String);`"),
    )
}
