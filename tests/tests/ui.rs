//! What the derive refuses, with the message it gives, and what it has to accept.
//!
//! The messages are in `ui/*.stderr`; `TRYBUILD=overwrite cargo test -p ipc-ring-tests --test ui` writes them anew.

#[test]
fn the_derive_refuses_what_it_must_and_accepts_what_it_should() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("ui/*.rs");
    cases.pass("ui/pass/*.rs");
}
