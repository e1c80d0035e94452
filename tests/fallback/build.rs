//! Sets `cfg(ipc_ring_locked)` for this package alone.

fn main() {
    println!("cargo::rustc-cfg=ipc_ring_locked");
    println!("cargo::rerun-if-changed=build.rs");
}
