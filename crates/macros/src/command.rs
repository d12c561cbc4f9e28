//! `#[derive(Command)]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::ext::IdentExt;
use syn::{DeriveInput, Error, LitStr, Result};

use crate::{field, mirror};

pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    field::no_generics(input, "a command")?;
    let ident = &input.ident;
    let name = name(input)?;
    let mirror = mirror::of(input)?;
    let codec = mirror::codec(quote!(encode), quote!(decode));
    Ok(quote! {
        const _: () = {
            #mirror

            #[automatically_derived]
            impl ::everfold::Command for #ident {
                const NAME: &'static str = #name;
                #codec
            }
        };
    })
}

fn name(input: &DeriveInput) -> Result<String> {
    let mut name = input.ident.unraw().to_string();
    for attribute in input
        .attrs
        .iter()
        .filter(|one| one.path().is_ident("command"))
    {
        attribute.parse_nested_meta(|item| {
            if !item.path.is_ident("name") {
                return Err(item.error("a command has only a name: `#[command(name = \"...\")]`"));
            }
            let text: LitStr = item.value()?.parse()?;
            name = text.value();
            if name.is_empty() {
                return Err(Error::new_spanned(text, "a command's name is not empty"));
            }
            Ok(())
        })?;
    }
    Ok(name)
}
