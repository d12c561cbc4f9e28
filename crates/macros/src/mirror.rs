//! Hidden serde twins, so that users derive serde only for the types of their fields.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Error, Field, Fields, Result};

use crate::field;

/// The path of serde as serde's own attribute wants it.
pub(crate) const SERDE: &str = "::everfold::__private::serde";

/// A hidden `__Mirror` of a struct or enum with `serialize` and `deserialize` for the original.
///
/// This is serde's remote derive: the twin repeats the definition, the original is never touched.
pub(crate) fn of(input: &DeriveInput) -> Result<TokenStream> {
    let remote = input.ident.to_string();
    let attributes = field::serde(&input.attrs);
    let body = match &input.data {
        Data::Struct(data) => {
            let fields = twin(&data.fields);
            match data.fields {
                Fields::Named(_) => quote!(struct __Mirror #fields),
                Fields::Unnamed(_) => quote!(struct __Mirror #fields;),
                // With braces, so that it is written `{}` as all that has no fields.
                Fields::Unit => quote!(
                    struct __Mirror {}
                ),
            }
        }
        Data::Enum(data) => {
            let variants = data.variants.iter().map(|variant| {
                let (attributes, name) = (field::serde(&variant.attrs), &variant.ident);
                let fields = twin(&variant.fields);
                quote!(#(#attributes)* #name #fields)
            });
            quote!(enum __Mirror { #(#variants),* })
        }
        Data::Union(_) => {
            return Err(Error::new_spanned(
                &input.ident,
                "a union cannot be written as JSON: use a struct or an enum",
            ));
        }
    };
    Ok(quote! {
        #[derive(::everfold::__private::serde::Serialize, ::everfold::__private::serde::Deserialize)]
        #[serde(crate = #SERDE, remote = #remote)]
        #(#attributes)*
        #[allow(dead_code)]
        #body
    })
}

/// The functions that write and read JSON through a `__Mirror` in scope.
pub(crate) fn codec(write: TokenStream, read: TokenStream) -> TokenStream {
    quote! {
        fn #write(
            &self,
            out: &mut ::std::vec::Vec<u8>,
        ) -> ::core::result::Result<(), ::everfold::__private::serde_json::Error> {
            __Mirror::serialize(
                self,
                &mut ::everfold::__private::serde_json::Serializer::new(out),
            )
        }

        fn #read(
            bytes: &[u8],
        ) -> ::core::result::Result<Self, ::everfold::__private::serde_json::Error> {
            let mut json = ::everfold::__private::serde_json::Deserializer::from_slice(bytes);
            let value = __Mirror::deserialize(&mut json)?;
            json.end()?;
            ::core::result::Result::Ok(value)
        }
    }
}

/// The same fields with nothing but their serde attributes.
pub(crate) fn twin(fields: &Fields) -> TokenStream {
    let each = fields.iter().map(|field: &Field| {
        let (attributes, ty) = (field::serde(&field.attrs), &field.ty);
        match &field.ident {
            Some(name) => quote!(#(#attributes)* #name: #ty),
            None => quote!(#(#attributes)* #ty),
        }
    });
    match fields {
        Fields::Named(_) => quote!({ #(#each),* }),
        Fields::Unnamed(_) => quote!((#(#each),*)),
        Fields::Unit => quote!(),
    }
}
