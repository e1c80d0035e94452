//! What this process has open because of a ring: to see whether all of it is closed in the end, and to take it away from a
//! handle as a death would.
#![allow(unsafe_code, reason = "mappings and descriptors of others")]

use std::collections::BTreeSet;
use std::ffi::c_void;
use std::fs;
use std::os::fd::RawFd;
use std::ptr::NonNull;

use anyhow::{Context as _, Result};
use nix::sys::mman::munmap;

use crate::image::Object;

/// Descriptors, and mappings of one ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Open {
    descriptors: BTreeSet<RawFd>,
    /// Start and end.
    mappings: BTreeSet<(usize, usize)>,
}

impl Open {
    pub(crate) fn now(object: &Object) -> Result<Self> {
        let mut descriptors = BTreeSet::new();
        for entry in fs::read_dir("/proc/self/fd")? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.parse().ok());
            descriptors.insert(number.context("a descriptor has a number")?);
        }
        // The directory itself was open.
        descriptors
            .retain(|number| fs::symlink_metadata(format!("/proc/self/fd/{number}")).is_ok());
        let path = object.path();
        let path = path.to_str().context("a ring's path is text")?;
        let maps = fs::read_to_string("/proc/self/maps")?;
        let ranges = maps.lines().filter(|line| {
            // Past the name, a mapping of a removed file says so.
            line.ends_with(path) || line.ends_with(&format!("{path} (deleted)"))
        });
        let mappings = ranges.map(|line| {
            let range = line.split(' ').next()?;
            let (start, end) = range.split_once('-')?;
            let [start, end] = [start, end].map(|text| usize::from_str_radix(text, 16).ok());
            Some((start?, end?))
        });
        let mappings = mappings.collect::<Option<_>>();
        Ok(Self {
            descriptors,
            mappings: mappings.context("a mapping has a range")?,
        })
    }

    /// What is open now and was not then.
    pub(crate) fn since(&self, then: &Self) -> Self {
        Self {
            descriptors: &self.descriptors - &then.descriptors,
            mappings: &self.mappings - &then.mappings,
        }
    }
}

/// How many descriptors and mappings of any ring there are.
pub(crate) fn count() -> Result<(usize, usize)> {
    let descriptors = fs::read_dir("/proc/self/fd")?.count();
    let maps = fs::read_to_string("/proc/self/maps")?;
    let of_rings = maps.lines().filter(|line| line.contains("ipc-ring."));
    Ok((descriptors, of_rings.count()))
}

/// Takes away what a handle has opened that was forgotten.
pub(crate) fn take_away(open: &Open) {
    for &(start, end) in &open.mappings {
        let len = end - start;
        if let Some(start) = NonNull::new(start as *mut c_void) {
            // SAFETY: the mapping is that of a handle that was forgotten, so nobody has a reference into it.
            let unmapped = unsafe { munmap(start, len) };
            debug_assert!(unmapped.is_ok());
        }
    }
    for &descriptor in &open.descriptors {
        // SAFETY: the descriptor is that of a handle that was forgotten, so nobody else will close it.
        unsafe { libc::close(descriptor) };
    }
}
