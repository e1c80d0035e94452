//! `#[repr(...)]` and `#[shm(...)]`.

use proc_macro2::Ident;
use quote::ToTokens;
use syn::ext::IdentExt as _;
use syn::meta::ParseNestedMeta;
use syn::parse::Parser as _;
use syn::{Attribute, LitInt, LitStr, Path, parenthesized, token};

use crate::valid::Errors;

/// The longest name that a schema has room for, in bytes.
pub(crate) const MAX_NAME: usize = 128;

#[derive(Default)]
pub(crate) struct Attrs {
    pub(crate) reprs: Vec<Repr>,
    pub(crate) name: Option<String>,
    pub(crate) krate: Option<Path>,
}

/// One word of a `#[repr(...)]`.
pub(crate) struct Repr {
    pub(crate) word: Ident,
    /// The number in `align(16)` or `packed(2)`.
    pub(crate) number: Option<LitInt>,
}

impl Attrs {
    /// The attributes above a struct, enum or union.
    pub(crate) fn of_type(attrs: &[Attribute], errors: &mut Errors) -> Self {
        let mut found = Self::default();
        for attr in attrs {
            if attr.path().is_ident("repr") {
                // What isn't understood here, rustc itself refuses.
                let _ = attr.parse_nested_meta(|meta| {
                    found.reprs.push(Repr::parse(&meta)?);
                    Ok(())
                });
            } else if attr.path().is_ident("shm") {
                let parsed = attr.parse_nested_meta(|meta| found.shm(&meta));
                errors.take(parsed);
            }
        }
        found
    }

    fn shm(&mut self, meta: &ParseNestedMeta<'_>) -> syn::Result<()> {
        if meta.path.is_ident("name") {
            let text: LitStr = meta.value()?.parse()?;
            set(&mut self.name, parse_name(&text)?, meta)
        } else if meta.path.is_ident("crate") {
            let text: LitStr = meta.value()?.parse()?;
            set(
                &mut self.krate,
                text.parse_with(Path::parse_mod_style)?,
                meta,
            )
        } else {
            Err(meta.error(r#"expected `name = "..."` or `crate = "..."`"#))
        }
    }
}

impl Repr {
    fn parse(meta: &ParseNestedMeta<'_>) -> syn::Result<Self> {
        let word = meta.path.require_ident()?.clone();
        let number = if meta.input.peek(token::Paren) {
            let content;
            parenthesized!(content in meta.input);
            Some(content.parse()?)
        } else {
            None
        };
        Ok(Self { word, number })
    }
}

impl ToTokens for Repr {
    fn to_tokens(&self, tokens: &mut proc_macro2::TokenStream) {
        self.word.to_tokens(tokens);
    }
}

fn set<T>(place: &mut Option<T>, value: T, meta: &ParseNestedMeta<'_>) -> syn::Result<()> {
    if place.replace(value).is_some() {
        return Err(meta.error("said twice: remove one of them"));
    }
    Ok(())
}

fn parse_name(text: &LitStr) -> syn::Result<String> {
    let name = text.value();
    if name.len() <= MAX_NAME
        && Ident::parse_any.parse_str(&name).is_ok()
        && !name.starts_with("r#")
    {
        Ok(name)
    } else {
        Err(syn::Error::new(
            text.span(),
            format!("a name is an identifier of at most {MAX_NAME} bytes, such as `Order`"),
        ))
    }
}

/// Refuses `#[shm(...)]` where it has no meaning.
pub(crate) fn refuse_shm(attrs: &[Attribute], errors: &mut Errors) {
    for attr in attrs {
        if attr.path().is_ident("shm") {
            errors.at(
                attr.path(),
                "`#[shm(...)]` goes above the struct or enum, not inside of it",
            );
        }
    }
}
