//! Sets `cfg(planted)` for this package alone.

fn main() {
    println!("cargo::rustc-cfg=planted");
    println!("cargo::rerun-if-changed=build.rs");
}
