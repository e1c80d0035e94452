//! What the derive has been given, reduced to what it uses.

use proc_macro2::{Ident, Span};
use syn::ext::IdentExt as _;
use syn::spanned::Spanned as _;
use syn::{Data, DeriveInput, Fields, Generics, Index, Member, Token, Type};

use crate::attr::{Attrs, refuse_shm};
use crate::valid::Errors;

pub(crate) struct Input<'a> {
    pub(crate) ident: &'a Ident,
    pub(crate) generics: &'a Generics,
    pub(crate) attrs: Attrs,
    pub(crate) body: Body<'a>,
}

pub(crate) enum Body<'a> {
    Struct(Vec<Field<'a>>),
    Enum(Vec<Variant<'a>>),
    Union(&'a Token![union]),
}

pub(crate) struct Field<'a> {
    pub(crate) member: Member,
    pub(crate) ty: &'a Type,
}

pub(crate) struct Variant<'a> {
    pub(crate) ident: &'a Ident,
    pub(crate) fields: &'a Fields,
}

impl<'a> Input<'a> {
    /// Reads the input; what is wrong with the attributes goes to `errors`.
    pub(crate) fn from_syn(input: &'a DeriveInput, errors: &mut Errors) -> Self {
        match &input.data {
            Data::Struct(data) => data
                .fields
                .iter()
                .for_each(|field| refuse_shm(&field.attrs, errors)),
            Data::Enum(data) => data
                .variants
                .iter()
                .for_each(|variant| refuse_shm(&variant.attrs, errors)),
            Data::Union(_) => {}
        }
        let body = match &input.data {
            Data::Struct(data) => Body::Struct(
                data.fields
                    .iter()
                    .enumerate()
                    .map(|(i, field)| Field::from_syn(i, field))
                    .collect(),
            ),
            Data::Enum(data) => Body::Enum(
                data.variants
                    .iter()
                    .map(|variant| Variant {
                        ident: &variant.ident,
                        fields: &variant.fields,
                    })
                    .collect(),
            ),
            Data::Union(data) => Body::Union(&data.union_token),
        };
        Self {
            ident: &input.ident,
            generics: &input.generics,
            attrs: Attrs::of_type(&input.attrs, errors),
            body,
        }
    }

    /// The name of the type in its schema.
    pub(crate) fn name(&self) -> String {
        match &self.attrs.name {
            Some(name) => name.clone(),
            None => self.ident.unraw().to_string(),
        }
    }
}

impl<'a> Field<'a> {
    fn from_syn(index: usize, field: &'a syn::Field) -> Self {
        let member = match &field.ident {
            Some(ident) => Member::Named(ident.clone()),
            None => Member::Unnamed(Index {
                index: u32::try_from(index).expect("rustc has no room for more fields"),
                span: field.ty.span(),
            }),
        };
        Self {
            member,
            ty: &field.ty,
        }
    }

    /// The name of the field in the schema.
    pub(crate) fn name(&self) -> String {
        match &self.member {
            Member::Named(ident) => ident.unraw().to_string(),
            Member::Unnamed(index) => index.index.to_string(),
        }
    }

    /// Where to point when something is wrong with the field's place in the struct.
    pub(crate) fn span(&self) -> Span {
        self.member.span()
    }
}

impl Variant<'_> {
    /// The name of the variant in the schema.
    pub(crate) fn name(&self) -> String {
        self.ident.unraw().to_string()
    }
}
