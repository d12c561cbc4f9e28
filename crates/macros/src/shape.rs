//! Fields as text, to notice when they change.
//!
//! The compiler may print the same tokens with other spaces tomorrow, and a shape is compared with
//! what an earlier build stored. So the text is made here, token by token.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Fields, Variant};

use crate::field;

/// `name: Type, other: Type`, or the bare types of a tuple.
pub(crate) fn of_fields(fields: &Fields) -> String {
    let all: Vec<String> = fields.iter().map(of_field).collect();
    all.join(", ")
}

/// `One{name: Type}|Two(Type)|Three`.
pub(crate) fn of_variants<'a>(variants: impl IntoIterator<Item = &'a Variant>) -> String {
    let of_variant = |variant: &Variant| {
        let fields = of_fields(&variant.fields);
        match variant.fields {
            Fields::Named(_) => format!("{}{{{fields}}}", variant.ident),
            Fields::Unnamed(_) => format!("{}({fields})", variant.ident),
            Fields::Unit => variant.ident.to_string(),
        }
    };
    let all: Vec<String> = variants.into_iter().map(of_variant).collect();
    all.join("|")
}

fn of_field(field: &syn::Field) -> String {
    let mut text = String::new();
    if let Some(name) = field::json_name(field) {
        text.push_str(&name);
        text.push_str(": ");
    }
    text.push_str(&of_tokens(field.ty.to_token_stream()));
    for encoding in field::encodings(field) {
        text.push_str(&format!(" [{}]", of_tokens(encoding)));
    }
    text
}

/// Tokens with a space only where two words would melt into one.
fn of_tokens(tokens: TokenStream) -> String {
    let mut text = String::new();
    write(tokens, &mut text);
    text
}

fn write(tokens: TokenStream, text: &mut String) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                text.push_str(open);
                write(group.stream(), text);
                text.push_str(close);
            }
            TokenTree::Punct(punct) => text.push(punct.as_char()),
            word => {
                if text.ends_with(|last: char| last.is_alphanumeric() || last == '_') {
                    text.push(' ');
                }
                text.push_str(&word.to_string());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(item: &str) -> syn::Data {
        syn::parse_str::<syn::DeriveInput>(item).unwrap().data
    }

    fn shape(fields: &str) -> String {
        match parse(&format!("struct S {{ {fields} }}")) {
            syn::Data::Struct(data) => of_fields(&data.fields),
            _ => unreachable!("a struct was parsed"),
        }
    }

    #[test]
    fn spaces_do_not_count() {
        assert_eq!(
            shape("a : Vec < (u8 ,String) >,b: &'static  str"),
            "a: Vec<(u8,String)>, b: &'static str"
        );
        assert_eq!(
            shape("a: Vec<(u8, String)>, b: &'static str"),
            shape("a:Vec<(u8,String)>,b:&'static str,")
        );
    }

    #[test]
    fn what_changes_the_json_changes_the_shape() {
        assert_eq!(shape("#[serde(rename = \"n\")] name: String"), "n: String");
        assert_eq!(
            shape("#[serde(with = \"micros\")] when: Time"),
            "when: Time [with=\"micros\"]"
        );
        assert_eq!(shape("#[serde(default)] a: u8"), "a: u8");
        assert_eq!(shape("r#type: u8"), "type: u8");
    }

    #[test]
    fn variants_are_told_apart() {
        let syn::Data::Enum(data) = parse("enum E { One { a: u8 }, Two(String), Three }") else {
            unreachable!("an enum was parsed")
        };
        assert_eq!(of_variants(&data.variants), "One{a: u8}|Two(String)|Three");
    }
}
