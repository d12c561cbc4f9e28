//! What attributes say about a field.

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::punctuated::Punctuated;
use syn::{Attribute, Error, Field, LitStr, Meta, MetaNameValue, Result, Token};

/// The `#[serde(...)]` attributes among these.
pub(crate) fn serde(attributes: &[Attribute]) -> impl Iterator<Item = &Attribute> {
    attributes.iter().filter(|one| one.path().is_ident("serde"))
}

/// Everything inside the field's `#[serde(...)]`. What does not parse is left to serde to report.
fn serde_items(field: &Field) -> Vec<Meta> {
    serde(&field.attrs)
        .filter_map(|attribute| {
            attribute
                .parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated)
                .ok()
        })
        .flatten()
        .collect()
}

/// The field's name in JSON; none in a tuple.
pub(crate) fn json_name(field: &Field) -> Option<String> {
    let name = field.ident.as_ref()?.unraw().to_string();
    let renamed = serde_items(field).into_iter().find_map(|item| match item {
        Meta::NameValue(pair) if pair.path.is_ident("rename") => {
            syn::parse2::<LitStr>(pair.value.into_token_stream()).ok()
        }
        _ => None,
    });
    Some(renamed.map_or(name, |renamed| renamed.value()))
}

/// The serde attributes that decide how the field is written, apart from a plain new name.
/// Leniency in reading (`default`, `alias`) is no such thing.
pub(crate) fn encodings(field: &Field) -> Vec<TokenStream> {
    let decides = |item: &Meta| match item {
        Meta::NameValue(pair) => !["rename", "alias", "default"]
            .iter()
            .any(|name| pair.path.is_ident(name)),
        other => !other.path().is_ident("default"),
    };
    serde_items(field)
        .into_iter()
        .filter(decides)
        .map(ToTokens::into_token_stream)
        .collect()
}

/// Whether the field holds personal data, and the JSON name to find it by.
pub(crate) fn personal(field: &Field) -> Result<Option<String>> {
    let Some(mark) = find(field, "personal") else {
        return Ok(None);
    };
    mark.meta.require_path_only().map_err(|_| {
        Error::new_spanned(
            mark,
            "`#[personal]` takes no arguments: write just `#[personal]`",
        )
    })?;
    let Some(name) = json_name(field) else {
        return Err(Error::new_spanned(
            field,
            "personal data needs a name to be found by: make this a struct variant, \
             `Variant { field: Type }`",
        ));
    };
    let unnamed = |item: &Meta| {
        item.path().is_ident("flatten")
            || matches!(item, Meta::List(list) if list.path.is_ident("rename"))
    };
    match serde_items(field).iter().find(|item| unnamed(item)) {
        Some(item) => Err(Error::new_spanned(
            item,
            "personal data needs one name in JSON to be found by: \
             remove this, or rename with `#[serde(rename = \"...\")]`",
        )),
        None => Ok(Some(name)),
    }
}

/// The name of the field's label, if it is one.
pub(crate) fn label(field: &Field) -> Result<Option<String>> {
    let Some(mark) = find(field, "label") else {
        return Ok(None);
    };
    if let Some(personal) = find(field, "personal") {
        return Err(Error::new_spanned(
            personal,
            "a label is never encrypted, so personal data cannot be one: \
             remove `#[label]`, or label an id that says nothing about the person",
        ));
    }
    let name = match &mark.meta {
        Meta::Path(_) => field.ident.as_ref().map(|ident| ident.unraw().to_string()),
        _ => Some(label_name(mark)?),
    };
    name.map(Some).ok_or_else(|| {
        Error::new_spanned(
            mark,
            "this field has no name: write `#[label(name = \"...\")]`",
        )
    })
}

fn label_name(mark: &Attribute) -> Result<String> {
    let given = mark.parse_args::<MetaNameValue>().ok();
    given
        .filter(|pair| pair.path.is_ident("name"))
        .and_then(|pair| syn::parse2::<LitStr>(pair.value.into_token_stream()).ok())
        .map(|name| name.value())
        .filter(|name| !name.is_empty())
        .ok_or_else(|| Error::new_spanned(mark, "write `#[label]` or `#[label(name = \"...\")]`"))
}

fn find<'a>(field: &'a Field, name: &str) -> Option<&'a Attribute> {
    field.attrs.iter().find(|one| one.path().is_ident(name))
}

/// Derived types are concrete: what is stored has one form.
pub(crate) fn no_generics(input: &syn::DeriveInput, what: &str) -> Result<()> {
    if input.generics.params.is_empty() {
        return Ok(());
    }
    Err(Error::new_spanned(
        &input.generics,
        format!("{what} has one form in the log: remove the generic parameters"),
    ))
}
