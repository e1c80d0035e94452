//! `#[derive(ShmMessage)]` for [ipc-ring]: checks that a type may travel through shared memory as its bytes, and
//! describes its layout.
//!
//! Use it through `ipc-ring`, which re-exports it and documents the trait.
//!
//! [ipc-ring]: https://docs.rs/ipc-ring

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

mod ast;
mod attr;
mod expand;
mod fallback;
mod krate;
mod valid;

/// Derives `ShmMessage` for a struct or a fieldless enum.
///
/// A struct needs `#[repr(C)]` or `#[repr(transparent)]`, at least one field, and no padding; `align(N)` up to 64
/// may be added. An enum needs the integer it is, as in `#[repr(u8)]`. Each field's type has to be a message
/// itself; type parameters are bound to be. Padding is found by the compiler where the layout is known: at the
/// derive, or for a generic struct where a ring of it is made.
///
/// ```
/// use ipc_ring::ShmMessage;
///
/// #[derive(ShmMessage)]
/// #[repr(C)]
/// struct Pair<T, const N: usize> {
///     left: [T; N],
///     right: [T; N],
/// }
/// # let _ = <Pair<u8, 2> as ShmMessage>::SCHEMA;
/// ```
///
/// # Attributes
///
/// - `#[shm(name = "Order")]` above the struct or enum is its name in the schema. Without it that is the type's
///   own name, so renaming the type makes it another message; with it, old and new programs understand each
///   other.
/// - `#[shm(crate = "path::to::ipc_ring")]` says where ipc-ring is found. A dependency renamed in `Cargo.toml` is
///   found without it; it is for crates that reach ipc-ring through another crate's re-export.
#[proc_macro_derive(ShmMessage, attributes(shm))]
pub fn derive_shm_message(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand::derive(&input).into()
}
