//! Refuses what can't be a message, at the token that is to blame, and says what to write instead.
//!
//! Only what is plain from the tokens is refused here. What hides behind an alias is refused by the compiler,
//! since it isn't `ShmMessage`; padding and size by the constants that the expansion evaluates.

use proc_macro2::{Ident, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Fields, GenericArgument, GenericParam, Generics, Path, PathArguments, Type};

use crate::ast::{Body, Field, Input, Variant};
use crate::attr::{Attrs, MAX_NAME, Repr};

/// The errors found so far; they are all reported together.
#[derive(Default)]
pub(crate) struct Errors {
    error: Option<syn::Error>,
    /// Whether a type was refused that isn't `Send`.
    pub(crate) unsendable: bool,
    /// Whether a type was refused that isn't `Sized`.
    pub(crate) unsized_field: bool,
}

impl Errors {
    /// Adds an error that points at the tokens.
    pub(crate) fn at(&mut self, tokens: impl ToTokens, message: impl std::fmt::Display) {
        self.add(syn::Error::new_spanned(tokens, message));
    }

    /// Adds an error about the type of a field.
    fn refuse_type(&mut self, ty: impl ToTokens, message: impl std::fmt::Display) {
        self.unsendable |= is_unsendable(ty.to_token_stream());
        self.at(ty, message);
    }

    pub(crate) fn take(&mut self, result: syn::Result<()>) {
        if let Err(error) = result {
            self.add(error);
        }
    }

    fn add(&mut self, error: syn::Error) {
        match &mut self.error {
            Some(errors) => errors.combine(error),
            None => self.error = Some(error),
        }
    }

    pub(crate) fn into_error(self) -> Option<syn::Error> {
        self.error
    }
}

impl Input<'_> {
    pub(crate) fn validate(&self, errors: &mut Errors) {
        for param in &self.generics.params {
            if let GenericParam::Lifetime(param) = param {
                errors.at(
                    &param.lifetime,
                    "a message borrows nothing, since no other process can follow the borrow: remove the lifetime",
                );
            }
        }
        match &self.body {
            Body::Struct(fields) => self.validate_struct(fields, errors),
            Body::Enum(variants) => self.validate_enum(variants, errors),
            Body::Union(token) => errors.at(
                token,
                "a union doesn't say which of its fields it holds: write a struct with an enum beside the data",
            ),
        }
        validate_name(self.ident, &self.name(), errors);
    }

    fn validate_struct(&self, fields: &[Field<'_>], errors: &mut Errors) {
        let mut fixed = false;
        for repr in &self.attrs.reprs {
            match repr.word.to_string().as_str() {
                "C" | "transparent" => fixed = true,
                "packed" => {
                    fixed = true;
                    errors.at(
                        repr,
                        "a packed struct has fields that can't be borrowed: write `#[repr(C)]`, order the fields by \
                         falling alignment, and fill what is left with `_pad: [u8; N]`",
                    );
                }
                "align" => validate_align(repr, errors),
                // rustc says what is wrong with it.
                _ => fixed = true,
            }
        }
        if !fixed {
            errors.at(
                self.ident,
                "the layout of this struct is up to the compiler: write `#[repr(C)]` above it",
            );
        }
        if fields.is_empty() {
            errors.at(
                self.ident,
                "this struct has no bytes, so there is nothing to send: add a field",
            );
        }
        for field in fields {
            errors.unsized_field |= is_unsized(field.ty);
            validate_type(field.ty, self.generics, errors);
            validate_name(&field.member, &field.name(), errors);
        }
    }

    fn validate_enum(&self, variants: &[Variant<'_>], errors: &mut Errors) {
        if variants.is_empty() {
            errors.at(
                self.ident,
                "an enum without variants has no value to send: add a variant",
            );
            return;
        }
        if let Some(repr) = self.attrs.reprs.iter().find(|repr| repr.is_pointer_sized()) {
            errors.at(
                repr,
                format!(
                    "the size of `{}` differs between machines: write an integer of fixed width, such as \
                     `#[repr(u8)]`",
                    repr.word
                ),
            );
        } else if let Some(repr) = self.attrs.reprs.iter().find(|repr| repr.is_128_bits()) {
            errors.at(
                repr,
                "an enum in a message has at most 64 bits: write `#[repr(u64)]` or less",
            );
        } else if self.attrs.integer().is_none() {
            let message = "which integer this enum is, is up to the compiler: write `#[repr(u8)]` above it, or \
                           another integer of fixed width";
            match self.attrs.reprs.first() {
                Some(repr) => errors.at(repr, message),
                None => errors.at(self.ident, message),
            }
        }
        for variant in variants {
            if !matches!(variant.fields, Fields::Unit) {
                errors.at(
                    variant.fields,
                    "a variant with data has no layout that can be checked: write a struct with a fieldless enum \
                     beside the data",
                );
            }
            validate_name(variant.ident, &variant.name(), errors);
        }
    }
}

impl Repr {
    fn is_pointer_sized(&self) -> bool {
        self.word == "usize" || self.word == "isize"
    }

    fn is_128_bits(&self) -> bool {
        self.word == "u128" || self.word == "i128"
    }
}

impl Attrs {
    /// The integer of fixed width that an enum is.
    pub(crate) fn integer(&self) -> Option<&Ident> {
        const INTEGERS: [&str; 8] = ["u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64"];
        self.reprs
            .iter()
            .map(|repr| &repr.word)
            .find(|word| INTEGERS.iter().any(|integer| *word == integer))
    }
}

fn validate_align(repr: &Repr, errors: &mut Errors) {
    if let Some(number) = &repr.number
        && number.base10_parse::<u32>().is_ok_and(|align| align > 64)
    {
        errors.at(
            number,
            "a message is aligned to at most 64 bytes: write `align(64)` or less",
        );
    }
}

fn validate_name(tokens: impl ToTokens, name: &str, errors: &mut Errors) {
    if name.len() > MAX_NAME {
        errors.at(
            tokens,
            format!("a name in a message has at most {MAX_NAME} bytes: shorten it"),
        );
    }
}

fn validate_type(ty: &Type, generics: &Generics, errors: &mut Errors) {
    match ty {
        Type::Array(array) => validate_type(&array.elem, generics, errors),
        Type::Group(group) => validate_type(&group.elem, generics, errors),
        Type::Paren(paren) => validate_type(&paren.elem, generics, errors),
        Type::Path(path) if path.qself.is_none() => validate_path(&path.path, generics, errors),
        Type::Reference(reference) => errors.refuse_type(
            reference,
            match &*reference.elem {
                Type::Path(path) if path.path.is_ident("str") => {
                    "a reference leads nowhere in another process: write `FixedStr<N>`"
                }
                Type::Slice(_) => {
                    "a reference leads nowhere in another process: write `FixedVec<T, N>` or `[T; N]`"
                }
                _ => "a reference leads nowhere in another process: write the type of the value itself",
            },
        ),
        Type::Ptr(pointer) => {
            errors.refuse_type(
                pointer,
                "a pointer leads nowhere in another process: write the type of the value itself, or an offset as `u64`",
            );
        }
        Type::FnPtr(pointer) => errors.refuse_type(
            pointer,
            "a function has another address in another process: write an enum that says which one is meant",
        ),
        Type::Slice(slice) => errors.refuse_type(
            slice,
            "a message has a fixed size: write `FixedVec<T, N>` or `[T; N]`",
        ),
        Type::Tuple(tuple) if tuple.elems.is_empty() => {
            errors.refuse_type(tuple, "`()` has no bytes to send: remove the field");
        }
        Type::Tuple(tuple) => errors.refuse_type(
            tuple,
            "the layout of a tuple is up to the compiler: write a `#[repr(C)]` struct",
        ),
        Type::TraitObject(object) => errors.refuse_type(
            object,
            "a message has a fixed size and no pointers: write a type that is known at compile time",
        ),
        // The compiler knows what is behind the others, or refuses them itself.
        _ => {}
    }
}

fn validate_path(path: &Path, generics: &Generics, errors: &mut Errors) {
    let Some(last) = path.segments.last() else {
        return;
    };
    if is_of_std(path, generics) {
        let advice = advice(&last.ident.to_string(), &last.arguments);
        if let Some(advice) = advice {
            errors.refuse_type(path, advice);
            return;
        }
    }
    for segment in &path.segments {
        for ty in type_arguments(&segment.arguments) {
            validate_type(ty, generics, errors);
        }
    }
}

/// Whether a path that ends in a well-known name means the standard library's type: a bare name that is no
/// parameter, or a full path. (A type of the user's own called `Vec` can be written `self::Vec`.)
fn is_of_std(path: &Path, generics: &Generics) -> bool {
    match path.get_ident() {
        Some(ident) => !generics.type_params().any(|param| param.ident == *ident),
        None if path.segments.len() == 1 => true,
        None => ["std", "core", "alloc"]
            .iter()
            .any(|root| path.segments[0].ident == root),
    }
}

fn type_arguments(arguments: &PathArguments) -> impl Iterator<Item = &Type> {
    let arguments = match arguments {
        PathArguments::AngleBracketed(arguments) => Some(&arguments.args),
        PathArguments::None | PathArguments::Parenthesized(_) => None,
    };
    arguments
        .into_iter()
        .flatten()
        .filter_map(|argument| match argument {
            GenericArgument::Type(ty) => Some(ty),
            _ => None,
        })
}

/// What to write instead of a type of the standard library, if it can't be in a message.
fn advice(name: &str, arguments: &PathArguments) -> Option<String> {
    Some(match name {
        "usize" => "the size of `usize` differs between machines: write `u64`, or `u32`".to_owned(),
        "isize" => "the size of `isize` differs between machines: write `i64`, or `i32`".to_owned(),
        "str" => "a message has a fixed size: write `FixedStr<N>`".to_owned(),
        "String" => format!("`{name}` keeps its text in memory of this process: write `FixedStr<N>`"),
        "OsString" | "PathBuf" | "CString" => {
            format!("`{name}` keeps its bytes in memory of this process: write `FixedVec<u8, N>` or `FixedStr<N>`")
        }
        "Vec" | "VecDeque" | "LinkedList" | "BinaryHeap" | "HashMap" | "HashSet" | "BTreeMap" | "BTreeSet" => {
            format!("`{name}` keeps its elements in memory of this process: write `FixedVec<T, N>` or `[T; N]`")
        }
        "Box" | "Rc" | "Arc" | "Cow" | "NonNull" => {
            format!("`{name}` points into memory of this process: write the type of the value itself")
        }
        "Cell" | "RefCell" | "UnsafeCell" | "Mutex" | "RwLock" => {
            format!("`{name}` is a place, and a message is a value: write the type of the value itself")
        }
        "Duration" | "Instant" | "SystemTime" => {
            format!("the layout of `{name}` is not fixed: write `u64` and count nanoseconds")
        }
        "PhantomData" => format!("`{name}` has no bytes to send: remove the field"),
        "Option" if type_arguments(arguments).any(is_plain_scalar) => {
            "the layout of this `Option` is up to the compiler: write `Option<NonZero<_>>`, or a `bool` beside the \
             value"
                .to_owned()
        }
        _ => return None,
    })
}

fn is_plain_scalar(ty: &Type) -> bool {
    const SCALARS: [&str; 16] = [
        "u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "i128", "isize",
        "f32", "f64", "bool", "char",
    ];
    matches!(ty, Type::Path(path) if SCALARS.iter().any(|scalar| path.path.is_ident(scalar)))
}

/// Whether a type is plainly not `Sized`.
fn is_unsized(ty: &Type) -> bool {
    match ty {
        Type::Slice(_) | Type::TraitObject(_) => true,
        Type::Path(path) => path.path.is_ident("str"),
        _ => false,
    }
}

/// Whether a type is plainly not `Send`.
fn is_unsendable(ty: TokenStream) -> bool {
    ty.into_iter().any(|token| match token {
        TokenTree::Punct(punct) => punct.as_char() == '*',
        TokenTree::Ident(ident) => ident == "dyn" || ident == "Rc" || ident == "NonNull",
        TokenTree::Group(group) => is_unsendable(group.stream()),
        TokenTree::Literal(_) => false,
    })
}
