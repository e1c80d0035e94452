//! What was found under a ring's name, held against what is asked for.
#![allow(unsafe_code, reason = "places in a mapping")]

use super::{Request, map};
use crate::error::OpenError;
use crate::layout::{
    ABI_VERSION, BYTE_ORDER, Header, INHERIT_PRIORITY, LANES, LOCKED, MAGIC, MAX_PARTICIPANTS,
    MPSC, REMOVE_WHEN_IDLE, SCHEMA_OFFSET, SPSC,
};
use crate::schema::first_difference;
use crate::segment::mapped::Places;
use crate::segment::posix::{Object, not_a_ring, read_at, refused};
use crate::sys::map::page_size;
use crate::sys::{lock, process};
use crate::wait::Wait;
use nix::sys::stat::{FileStat, SFlag, fstat};
use nix::unistd::geteuid;
use std::os::fd::OwnedFd;

/// Whoever owns the object can do anything to those who use it: it must be somebody to trust.
pub(super) fn check_owner(request: &Request, found: &FileStat) -> Result<(), OpenError> {
    let trusted = found.st_uid == geteuid().as_raw() || found.st_uid == 0 || request.group_access;
    let open_to_all = found.st_mode & 0o002 != 0;
    if trusted && !open_to_all {
        return Ok(());
    }
    Err(OpenError::NotTrusted {
        path: request.object.to_string(),
        owner: found.st_uid,
        mode: found.st_mode & 0o777,
    })
}

pub(super) enum Inspected {
    Fits(Header),
    /// Nobody used it when looked at, and it was empty unless messages may be dropped.
    Replace(Option<Emptiness>),
}

/// A ring is replaced only as long as it is empty.
pub(super) struct Emptiness(pub(super) Header);

/// Reads the header, once, and holds it against what is asked for. The lifecycle byte is held.
pub(super) fn inspect(request: &Request, file: &OwnedFd) -> Result<Inspected, OpenError> {
    let object = &request.object;
    let found = match read_header(object, file) {
        Err(error @ OpenError::Truncated { .. }) => return replace_or(request, file, error),
        found => found?,
    };
    if found.abi_version != ABI_VERSION {
        return replace_or(
            request,
            file,
            OpenError::Version {
                path: object.to_string(),
                expected: ABI_VERSION,
                found: found.abi_version,
            },
        );
    }
    if !found.is_consistent() {
        return replace_or(
            request,
            file,
            not_a_ring(object, "its header contradicts itself"),
        );
    }
    let len = fstat(file)
        .map_err(|e| refused("inspecting", object, e))?
        .st_size;
    let len = u64::try_from(len).unwrap_or(0);
    if len < found.segment_size {
        return replace_or(
            request,
            file,
            OpenError::Truncated {
                path: object.to_string(),
                expected: found.segment_size,
                found: len,
            },
        );
    }
    let Some(difference) = difference(request, &found, file)? else {
        return Ok(Inspected::Fits(found));
    };
    let in_use = is_in_use(object, file)?;
    let unread = unread(object, file, &found)?;
    if !in_use && unread == 0 && request.wanted.capacity.is_some() && !request.create_new {
        return Ok(Inspected::Replace(Some(Emptiness(found))));
    }
    replace_or(
        request,
        file,
        OpenError::Mismatch {
            path: object.to_string(),
            difference,
            unread,
            in_use,
        },
    )
}

/// What stands in the way is replaced, if that is asked for and nobody uses it.
pub(super) fn replace_or(
    request: &Request,
    file: &OwnedFd,
    error: OpenError,
) -> Result<Inspected, OpenError> {
    let may = request.replace_idle && request.wanted.capacity.is_some();
    if may && !is_in_use(&request.object, file)? {
        return Ok(Inspected::Replace(None));
    }
    Err(error)
}

/// Reads the bytes of a header that carry our mark and byte order.
pub(super) fn read_header(object: &Object, file: &OwnedFd) -> Result<Header, OpenError> {
    let found = fstat(file).map_err(|errno| refused("inspecting", object, errno))?;
    if SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return Err(not_a_ring(object, "not a regular file"));
    }
    let mut bytes = [0; SCHEMA_OFFSET as usize];
    let whole = read_at(file, &mut bytes, 0).map_err(|e| refused("reading", object, e))?;
    if bytes[..MAGIC.len()] != MAGIC {
        return Err(not_a_ring(object, "it does not begin with \"ipc-ring\""));
    }
    if !whole {
        return Err(OpenError::Truncated {
            path: object.to_string(),
            expected: SCHEMA_OFFSET,
            found: u64::try_from(found.st_size).unwrap_or(0),
        });
    }
    let header: Header = bytemuck::cast(bytes);
    if header.byte_order != BYTE_ORDER {
        return Err(not_a_ring(
            object,
            "it was written by a machine of another byte order",
        ));
    }
    Ok(header)
}

/// The first difference between the ring that is asked for and the one that is there.
pub(super) fn difference(
    request: &Request,
    found: &Header,
    file: &OwnedFd,
) -> Result<Option<String>, OpenError> {
    let object = &request.object;
    let wanted = &request.wanted;
    let schema = wanted.schema;
    let page = page_size() as u64;
    if found.page_size != page {
        let there = found.page_size;
        return Ok(Some(format!(
            "pages of {page} bytes here, of {there} in the segment"
        )));
    }
    if wanted.kind != found.kind {
        return Ok(Some(format!(
            "kind {} here, {} in the segment",
            kind_name(wanted.kind),
            kind_name(found.kind)
        )));
    }
    let layout = (
        schema.fingerprint(),
        schema.size() as u64,
        schema.align() as u64,
    );
    let there = (
        found.fingerprint,
        u64::from(found.message_size),
        u64::from(found.message_align),
    );
    let mut text = vec![0; found.schema_len as usize];
    read_at(file, &mut text, SCHEMA_OFFSET).map_err(|e| refused("reading", object, e))?;
    let text = String::from_utf8_lossy(&text);
    // A fingerprint guards against accidents only.
    if layout != there || text != schema.to_string() {
        let difference = first_difference(schema, &text);
        return Ok(Some(difference.unwrap_or_else(|| {
            format!("layout {layout:x?} here, {there:x?} in the segment")
        })));
    }
    let capacity = wanted
        .capacity
        .map(|capacity| capacity.next_power_of_two() as u64);
    if let Some(capacity) = capacity.filter(|&capacity| capacity != found.capacity) {
        let there = found.capacity;
        return Ok(Some(format!(
            "capacity {capacity} here, {there} in the segment"
        )));
    }
    let (senders, receivers) = (found.senders().end, found.receivers);
    if let Some(stated) = wanted.senders.filter(|&stated| stated != senders) {
        return Ok(Some(format!(
            "max_senders {stated} here, {senders} in the segment"
        )));
    }
    if let Some(stated) = wanted.receivers.filter(|&stated| stated != receivers) {
        return Ok(Some(format!(
            "max_receivers {stated} here, {receivers} in the segment"
        )));
    }
    if let Some(wait) = wanted.wait.filter(|wait| wait.id() != found.wait) {
        let there = Wait::from_id(found.wait).map_or("unknown".to_owned(), |w| format!("{w:?}"));
        return Ok(Some(format!("wait {wait:?} here, {there} in the segment")));
    }
    if Wait::from_id(found.wait).is_none() {
        return Ok(Some(format!("way to wait {} is unknown here", found.wait)));
    }
    if wanted.remove_when_idle && found.flags & REMOVE_WHEN_IDLE == 0 {
        return Ok(Some("remove_when_idle here, not in the segment".to_owned()));
    }
    if wanted.inherit_priority && found.flags & INHERIT_PRIORITY == 0 {
        return Ok(Some("inherit_priority here, not in the segment".to_owned()));
    }
    let (own, there) = (process::pid_namespace(), found.pid_namespace);
    if found.shape().has_mutex() && (own != there || own == 0) {
        return Ok(Some(format!(
            "pid namespace {own} here, {there} in the segment, whose mutex knows its owner by a number that holds in one of them \
             (0: unknown, for want of /proc)"
        )));
    }
    Ok(None)
}

pub(super) fn kind_name(kind: u32) -> String {
    match kind {
        SPSC => "spsc".to_owned(),
        MPSC => "mpsc".to_owned(),
        LANES => "lanes".to_owned(),
        LOCKED => "locked".to_owned(),
        unknown => format!("{unknown} (unknown)"),
    }
}

pub(super) fn is_in_use(object: &Object, file: &OwnedFd) -> Result<bool, OpenError> {
    lock::is_held(file, 0, i64::from(MAX_PARTICIPANTS))
        .map_err(|errno| refused("asking for locks of", object, errno))
}

/// Messages in a ring of any layout that nobody has received.
pub(super) fn unread(object: &Object, file: &OwnedFd, header: &Header) -> Result<u64, OpenError> {
    let mapping = map(object, file, header)?;
    // SAFETY: the header is consistent, the mapping has its size and lives until the end of this function.
    let places = unsafe { Places::new(*header, mapping.base()) };
    Ok(places.unread())
}
