//! The impl: a schema put together from `offset_of!`, `size_of` and the schemas of the fields, and a check that
//! goes through the fields.
//!
//! Nothing that is proved here rests on the tokens. Offsets and sizes are the compiler's, a field's check is tied
//! to the field's type by inference, and no trait that safe code could implement serves as a proof.

use proc_macro2::{Group, Span, TokenStream, TokenTree};
use quote::{ToTokens as _, quote, quote_spanned};
use syn::spanned::Spanned as _;
use syn::{DeriveInput, Generics, Member, Type, parse_quote};

use crate::ast::{Body, Field, Input, Variant};
use crate::valid::Errors;
use crate::{fallback, krate};

pub(crate) fn derive(input: &DeriveInput) -> TokenStream {
    let mut errors = Errors::default();
    let input = Input::from_syn(input, &mut errors);
    input.validate(&mut errors);
    let fallback = fallback::expand(&input, &errors);
    match errors.into_error() {
        None => expand(&input),
        Some(error) => {
            let errors = error.into_compile_error();
            quote!(#errors #fallback)
        }
    }
}

fn expand(input: &Input<'_>) -> TokenStream {
    let krate = krate::path(input.attrs.krate.as_ref());
    let private = quote!(#krate::__private);
    let (schema, check) = match &input.body {
        Body::Struct(fields) => (
            struct_schema(input, fields, &private),
            struct_check(fields, &private),
        ),
        Body::Enum(variants) => enum_body(input, variants, &private),
        Body::Union(_) => unreachable!("validation refuses unions"),
    };

    let ident = input.ident;
    let generics = with_bounds(input.generics, &private);
    let (impl_generics, ty_generics, where_clause) = generics.split_for_impl();
    // Evaluates the schema at the derive if that is possible, rather than at the first ring of the type.
    let evaluate = generics
        .params
        .is_empty()
        .then(|| quote!(const _: () = { let _ = <#ident as #private::ShmMessage>::SCHEMA; };));

    // `unsafe` has no span of the user's, so that it passes under `#![forbid(unsafe_code)]`.
    quote! {
        #[automatically_derived]
        unsafe impl #impl_generics #private::ShmMessage for #ident #ty_generics #where_clause {
            const SCHEMA: #private::Schema = #schema;

            #[inline]
            unsafe fn check(
                candidate: &#private::core::mem::MaybeUninit<Self>,
            ) -> #private::core::result::Result<(), #private::Invalid> {
                #check
            }
        }
        #evaluate
    }
}

fn with_bounds(generics: &Generics, private: &TokenStream) -> Generics {
    let mut generics = generics.clone();
    for param in generics.type_params_mut() {
        param.bounds.push(parse_quote!(#private::ShmMessage));
    }
    generics
}

fn struct_schema(input: &Input<'_>, fields: &[Field<'_>], private: &TokenStream) -> TokenStream {
    let name = input.name();
    let described = fields.iter().map(|field| {
        let Field { member, ty } = field;
        let name = field.name();
        let schema = constant(ty, private);
        quote! {
            #private::Field::new(
                #name,
                #private::core::mem::offset_of!(Self, #member),
                const { &#schema },
            )
        }
    });
    // The compiler points at the call in which a constant fails, so each call stands where its subject does.
    let begin = at(
        input.ident.span(),
        quote!(#private::StructSchema::<Self>::new(#name, fields)),
    );
    let pad = unused_name(fields);
    let checks = fields
        .iter()
        .map(|field| at(field.span(), quote!(schema.no_padding_after_next(#pad))));
    let finish = at(input.ident.span(), quote!(schema.schema()));
    quote! {{
        let fields = const { &[#(#described),*] };
        let schema = #begin;
        #(let schema = #checks;)*
        #finish
    }}
}

/// The tokens as if written at `span`, but still known to come from a macro: errors are shown there, and lints of
/// the user's don't apply.
fn at(span: Span, tokens: TokenStream) -> TokenStream {
    let span = span.resolved_at(Span::call_site());
    tokens
        .into_iter()
        .map(|mut token| {
            if let TokenTree::Group(group) = &token {
                let mut moved = Group::new(group.delimiter(), at(span, group.stream()));
                moved.set_span(span);
                return TokenTree::Group(moved);
            }
            token.set_span(span);
            token
        })
        .collect()
}

/// The schema of a field's type; that the type is no message is said at the type.
fn constant(ty: &Type, private: &TokenStream) -> TokenStream {
    quote_spanned!(ty.span()=> <#ty as #private::ShmMessage>::SCHEMA)
}

/// A name for padding that no field has, or an empty one if fields have no names.
fn unused_name(fields: &[Field<'_>]) -> String {
    if let Some(Member::Unnamed(_)) = fields.first().map(|field| &field.member) {
        return String::new();
    }
    let taken: Vec<String> = fields.iter().map(Field::name).collect();
    (1..)
        .map(|i| {
            if i == 1 {
                "_pad".to_owned()
            } else {
                format!("_pad{i}")
            }
        })
        .find(|name| !taken.contains(name))
        .unwrap_or_default()
}

fn struct_check(fields: &[Field<'_>], private: &TokenStream) -> TokenStream {
    let checks = fields.iter().map(|Field { member, ty }| {
        let check = quote_spanned!(ty.span()=> <#ty as #private::ShmMessage>::check);
        quote! {
            // SAFETY: the candidate is initialised, and its fields lie within.
            let field = unsafe { #private::field(candidate, &raw const (*base).#member) };
            // SAFETY: the field is as initialised as the candidate.
            if let #private::core::result::Result::Err(invalid) = unsafe { #check(field) } {
                return #private::core::result::Result::Err(#private::within::<Self>(
                    invalid,
                    #private::core::mem::offset_of!(Self, #member),
                ));
            }
        }
    });
    quote! {
        let base = candidate.as_ptr();
        #(#checks)*
        #private::core::result::Result::Ok(())
    }
}

fn enum_body(
    input: &Input<'_>,
    variants: &[Variant<'_>],
    private: &TokenStream,
) -> (TokenStream, TokenStream) {
    let name = input.name();
    let integer = input.attrs.integer().map_or_else(
        || quote!(u8),
        |word| syn::Ident::new(&word.to_string(), Span::call_site()).into_token_stream(),
    );
    // The primitive, whatever else the user calls `u8`.
    let integer = quote!(#private::core::primitive::#integer);
    let values: Vec<TokenStream> = variants
        .iter()
        .map(|variant| {
            let ident = variant.ident;
            quote!((Self::#ident as #integer))
        })
        .collect();
    let described = variants.iter().zip(&values).map(|(variant, value)| {
        let name = variant.name();
        quote!(#private::Variant::new(#name, #value as #private::core::primitive::i128))
    });
    let schema = quote! {
        #private::enum_schema::<Self>(
            #name,
            const { &<#integer as #private::ShmMessage>::SCHEMA },
            const { &[#(#described),*] },
        )
    };
    let check = quote! {
        // SAFETY: the candidate is initialised, and `SCHEMA` asserts that the integer has its size and alignment.
        let found: #integer = unsafe { #private::discriminant(candidate) };
        if #(found == #values)||* {
            #private::core::result::Result::Ok(())
        } else {
            #private::core::result::Result::Err(#private::no_such_variant::<Self>(
                found as #private::core::primitive::u64,
            ))
        }
    };
    (schema, check)
}
