//! What is emitted beside the errors, so that one mistake gives one message: an impl that satisfies every use
//! of the type in a program that won't be compiled.

use proc_macro2::TokenStream;
use quote::quote;

use crate::ast::Input;
use crate::krate;
use crate::valid::Errors;

pub(crate) fn expand(input: &Input<'_>, errors: &Errors) -> TokenStream {
    if errors.unsized_field {
        // Nothing that isn't `Sized` can implement the trait.
        return TokenStream::new();
    }

    let ident = input.ident;
    let krate = krate::path(input.attrs.krate.as_ref());
    let private = quote!(#krate::__private);
    let (impl_generics, ty_generics, where_clause) = input.generics.split_for_impl();
    let bounds = where_clause.map(|clause| {
        let predicates = clause.predicates.iter();
        quote!(#(#predicates,)*)
    });

    // The supertraits hold in what is emitted, whatever the type has been refused for. `Send` is implemented only
    // where pointers take it away, for the user may have implemented it too.
    let send = errors.unsendable.then(|| {
        quote! {
            #[automatically_derived]
            unsafe impl #impl_generics #private::core::marker::Send for #ident #ty_generics #where_clause {}
        }
    });

    // A bound that is false for a type without parameters would be an error at once, except behind a `for<'a>`
    // (https://github.com/rust-lang/rust/issues/48214).
    quote! {
        #send
        #[automatically_derived]
        unsafe impl #impl_generics #private::ShmMessage for #ident #ty_generics
        where
            #bounds
            for<'workaround> #ident #ty_generics: #private::core::marker::Send + 'static,
        {
            const SCHEMA: #private::Schema = #private::refused::<Self>();

            unsafe fn check(
                _: &#private::core::mem::MaybeUninit<Self>,
            ) -> #private::core::result::Result<(), #private::Invalid> {
                #private::core::result::Result::Ok(())
            }
        }
    }
}
