//! What this crate's user calls ipc-ring.

use proc_macro_crate::{FoundCrate, crate_name};
use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::Path;

/// The path to ipc-ring: as stated, or under the name that it has among the dependencies of the crate being
/// compiled.
///
/// Without such a dependency (in ipc-ring's own doctests, or outside of cargo) it is `::ipc_ring`.
pub(crate) fn path(stated: Option<&Path>) -> TokenStream {
    if let Some(path) = stated {
        return quote!(#path);
    }
    let name = match crate_name("ipc-ring") {
        Ok(FoundCrate::Name(name)) => name,
        Ok(FoundCrate::Itself) | Err(_) => "ipc_ring".to_owned(),
    };
    let ident = syn::Ident::new(&name, Span::call_site());
    quote!(::#ident)
}
