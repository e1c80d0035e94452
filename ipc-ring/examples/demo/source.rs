//! Which file to stream.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

/// Less than this says little about a rate.
const ENOUGH: u64 = 50_000_000;

/// A regular file that can be read.
pub(crate) struct Source {
    path: PathBuf,
    bytes: u64,
}

impl Source {
    /// The file that was asked for, or else a large one that is there already: the largest library
    /// of the Rust toolchain.
    pub(crate) fn choose(asked: Option<&OsString>) -> anyhow::Result<Self> {
        if let Some(path) = asked {
            return Self::new(path.into());
        }
        for sysroot in [sysroot_of_rustc(), sysroot_of_cargo()]
            .into_iter()
            .flatten()
        {
            if let Some(path) = largest_library(&sysroot) {
                return Self::new(path);
            }
        }
        bail!(
            "the Rust toolchain has no library of {} MB that could be streamed; \
             name a file: cargo run --release --example demo -- FILE",
            ENOUGH / 1_000_000
        );
    }

    fn new(path: PathBuf) -> anyhow::Result<Self> {
        let context = || format!("cannot stream {}", path.display());
        // The kind first: to open a FIFO would wait for its writer, and /dev/zero never ends.
        let metadata = fs::metadata(&path).with_context(context)?;
        if !metadata.is_file() {
            bail!("cannot stream {}: it is not a regular file", path.display());
        }
        File::open(&path).with_context(context)?;
        if metadata.len() == 0 {
            bail!("cannot stream {}: it is empty", path.display());
        }
        Ok(Self {
            path,
            bytes: metadata.len(),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, {:.1} MB",
            self.path.display(),
            self.bytes as f64 / 1e6
        )?;
        if self.bytes < ENOUGH {
            write!(f, " (too small for its rate to mean much)")?;
        }
        Ok(())
    }
}

fn sysroot_of_rustc() -> Option<PathBuf> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args(["--print", "sysroot"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let sysroot = String::from_utf8(output.stdout).ok()?;
    let sysroot = sysroot.trim_end();
    (output.status.success() && !sysroot.is_empty()).then(|| sysroot.into())
}

/// `cargo run` tells where it is: beside rustc, which need not be in the PATH.
fn sysroot_of_cargo() -> Option<PathBuf> {
    let cargo = PathBuf::from(env::var_os("CARGO")?);
    Some(cargo.parent()?.parent()?.to_owned())
}

/// The largest file of at least [`ENOUGH`] bytes in `lib` and `lib64`, or a directory right below
/// them: rustup has `lib/librustc_driver-….so`, Debian `lib/x86_64-linux-gnu/librustc_driver-….so`.
fn largest_library(sysroot: &Path) -> Option<PathBuf> {
    let mut largest = None;
    for directory in ["lib", "lib64"] {
        visit(&sysroot.join(directory), 1, &mut largest);
    }
    largest.map(|(_, path)| path)
}

/// Not found, or not to be read, is as good as empty here.
fn visit(directory: &Path, depth: u32, largest: &mut Option<(u64, PathBuf)>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(metadata) = fs::metadata(&path) else {
            continue;
        };
        if metadata.is_dir() && depth > 0 {
            visit(&path, depth - 1, largest);
        } else if metadata.is_file()
            && is_library(&entry.file_name())
            && metadata.len() >= largest.as_ref().map_or(ENOUGH, |(bytes, _)| bytes + 1)
            && File::open(&path).is_ok()
        {
            *largest = Some((metadata.len(), path));
        }
    }
}

/// `libx.so`, and `libx.so.1.2` as well.
fn is_library(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.ends_with(".so") || name.contains(".so.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_told_by_name() {
        for name in [
            "librustc_driver-61.so",
            "libLLVM.so.22.1-rust-1.95.0-stable",
        ] {
            assert!(is_library(name.as_ref()), "{name}");
        }
        assert!(!is_library("notes.sock".as_ref()));
    }

    #[test]
    fn only_readable_regular_files_with_content_will_do() {
        let this = env::current_exe().expect("a test is a file");
        assert_eq!(
            Source::choose(Some(&this.clone().into()))
                .expect("readable")
                .path(),
            this
        );
        for (path, why) in [
            ("/nowhere/at/all", "No such file"),
            ("/dev/zero", "not a regular file"),
            ("/proc", "not a regular file"),
        ] {
            let error = Source::choose(Some(&path.into()))
                .map(|_| ())
                .expect_err(path);
            let text = format!("{error:#}");
            assert!(text.contains(path) && text.contains(why), "{text}");
        }
    }
}
