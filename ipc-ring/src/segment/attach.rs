//! Creating, joining, replacing and removing; the protocol is drawn in [`crate::segment`].
#![allow(unsafe_code, reason = "the header's bytes, and places in a mapping")]

use super::mapped::{Places, Segment};
use super::posix::{Object, Unpublished, not_a_ring, read_at, refused, same_file};
use crate::error::{OpenError, RemoveError, Role};
use crate::layout::{
    ABI_VERSION, BYTE_ORDER, Header, LANES, LIFECYCLE_BYTE, MAGIC, MAX_PARTICIPANTS, MPSC,
    REMOVE_WHEN_IDLE, SCHEMA_OFFSET, SPSC, Shape,
};
use crate::participant::Session;
use crate::ring::mpsc;
use crate::schema::{Schema, first_difference};
use crate::sys::map::{Mapping, page_size};
use crate::sys::{fork, lock};
use crate::wait::{Wait, Waker};
use nix::errno::Errno;
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use nix::unistd::geteuid;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

/// How long a joiner waits for somebody who has left to let go of the role.
const HANDOVER_PATIENCE: Duration = Duration::from_secs(1);
/// How long a spawned process may take to its exec before its copy of our lock is taken for a successor's lock.
const SPAWN_PATIENCE: Duration = Duration::from_millis(20);
/// How long `remove` tries to get hold of a ring that others are joining.
const REMOVE_PATIENCE: Duration = Duration::from_secs(1);

/// What the ring is asked to be. What is not stated is as the existing ring has it.
pub(crate) struct Wanted {
    pub(crate) kind: u32,
    /// How many senders there may be at a time.
    pub(crate) senders: Option<u32>,
    /// How many there may be in a new ring for which nobody states it.
    pub(crate) default_senders: u32,
    pub(crate) schema: &'static Schema,
    pub(crate) capacity: Option<usize>,
    pub(crate) wait: Option<Wait>,
    pub(crate) remove_when_idle: bool,
    pub(crate) origin: u64,
}

/// What is asked for.
pub(crate) struct Request {
    pub(crate) object: Object,
    pub(crate) wanted: Wanted,
    pub(crate) role: Role,
    /// The file to join, if it must be this one.
    pub(crate) same_as: Option<FileStat>,
    pub(crate) create_new: bool,
    pub(crate) replace_idle: bool,
    pub(crate) open_timeout: Option<Duration>,
    pub(crate) group_access: bool,
    pub(crate) prefault: bool,
    pub(crate) lock_memory: bool,
}

/// What one attempt came to.
#[expect(
    clippy::large_enum_variant,
    reason = "one of it lives for the length of a match"
)]
enum Attempt {
    Joined(Segment),
    /// There is no object.
    Absent,
    /// Somebody was in the middle of something. Nothing is held; try again.
    Again,
    /// The role's holder has left, but for its lock; or has come, but for its entry. What to say if it stays so.
    Leaving(OpenError),
}

/// Joins the ring that is asked for, creating it if that is asked for.
pub(crate) fn attach(request: &Request) -> Result<Segment, OpenError> {
    let mut created = false;
    let attached = create_or_join(request, &mut created);
    if attached.is_err() {
        // Nothing is left behind; and a ring that goes when idle, and was kept by our attempt alone, goes now. If somebody
        // else has come to use it, it is theirs.
        let _ = remove_if_empty(&request.object, created);
    }
    attached
}

/// Joins the segment of `other` once more.
pub(crate) fn attach_again(other: &Segment, role: Role) -> Result<Segment, OpenError> {
    let object = other.object();
    let same_as = fstat(other.file()).map_err(|errno| refused("inspecting", object, errno))?;
    let header = &other.places().header;
    attach(&Request {
        object: object.clone(),
        wanted: Wanted {
            kind: header.kind,
            senders: None,
            default_senders: header.receiver(),
            schema: other.schema(),
            capacity: None,
            wait: None,
            remove_when_idle: false,
            origin: 0,
        },
        role,
        same_as: Some(same_as),
        create_new: false,
        replace_idle: false,
        open_timeout: Some(Duration::ZERO),
        // Whose it is was looked at when the other handle joined.
        group_access: true,
        prefault: false,
        lock_memory: false,
    })
}

fn create_or_join(request: &Request, created: &mut bool) -> Result<Segment, OpenError> {
    let path = || request.object.to_string();
    let shape = request.wanted.shape()?;
    let mut patience = Patience::new(request.open_timeout);
    // Who joins a ring once more can't say how long to wait, and should not fail by chance.
    let again = match request.same_as {
        Some(_) => Some(HANDOVER_PATIENCE),
        None => request.open_timeout,
    };
    let mut again = Patience::new(again);
    let mut handover = Patience::new(Some(HANDOVER_PATIENCE));
    let mut must_create = request.create_new;
    loop {
        let attempt = if must_create {
            Attempt::Absent
        } else {
            join(request)?
        };
        match attempt {
            Attempt::Joined(segment) => return Ok(segment),
            Attempt::Absent => match shape {
                Some(shape) => {
                    let first = create(request, shape)?;
                    if request.create_new && !first {
                        return Err(OpenError::AlreadyExists { path: path() });
                    }
                    *created |= first;
                    must_create = false;
                }
                None if patience.pause() => {}
                None => return Err(OpenError::NotFound { path: path() }),
            },
            Attempt::Again if again.pause() => {}
            Attempt::Again => return Err(OpenError::Busy { path: path() }),
            Attempt::Leaving(_) if handover.pause() => {}
            Attempt::Leaving(taken) => return Err(taken),
        }
    }
}

/// Waits for what the file system does not announce: a name that appears, a lock that is released.
struct Patience {
    until: Option<Instant>,
    pauses: u32,
}

impl Patience {
    fn new(timeout: Option<Duration>) -> Self {
        Self {
            until: timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
            pauses: 0,
        }
    }

    /// Lets a moment pass, longer each time, up to 10 ms. False if the time is over.
    fn pause(&mut self) -> bool {
        let left = match self.until {
            None => Duration::MAX,
            Some(until) => until.saturating_duration_since(Instant::now()),
        };
        if left.is_zero() {
            return false;
        }
        self.pauses += 1;
        if self.pauses <= 10 {
            thread::yield_now();
        } else {
            let pause = Duration::from_micros(100 << (self.pauses - 10).min(7));
            thread::sleep(pause.min(Duration::from_millis(10)).min(left));
        }
        true
    }
}

impl Wanted {
    /// The size of the ring to create, in bytes.
    pub(crate) fn memory(&self) -> Result<u64, OpenError> {
        let shape = self.shape()?.ok_or(OpenError::NoCapacity)?;
        self.header(&shape).map(|header| header.segment_size)
    }

    fn header(&self, shape: &Shape) -> Result<Header, OpenError> {
        Header::of(shape).ok_or(OpenError::InvalidCapacity {
            capacity: self.capacity.unwrap_or(0),
            message_size: self.schema.size(),
        })
    }

    /// The shape of the ring to create, if this request may create one.
    fn shape(&self) -> Result<Option<Shape>, OpenError> {
        let senders = self.senders.unwrap_or(self.default_senders);
        if !(1..MAX_PARTICIPANTS).contains(&senders) {
            return Err(OpenError::InvalidSenders {
                senders,
                most: MAX_PARTICIPANTS - 1,
            });
        }
        let Some(capacity) = self.capacity else {
            return Ok(None);
        };
        let invalid = || OpenError::InvalidCapacity {
            capacity,
            message_size: self.schema.size(),
        };
        if capacity == 0 {
            return Err(invalid());
        }
        let rounded = capacity.checked_next_power_of_two().ok_or_else(invalid)?;
        let shape = Shape {
            kind: self.kind,
            wait: self.wait.unwrap_or_default().id(),
            flags: if self.remove_when_idle {
                REMOVE_WHEN_IDLE
            } else {
                0
            },
            participants: senders + 1,
            capacity: rounded as u64,
            message_size: self.schema.size() as u32,
            message_align: self.schema.align() as u32,
            page_size: page_size() as u64,
            schema_len: self.schema.text_len() as u64,
            fingerprint: self.schema.fingerprint(),
            origin: self.origin,
        };
        self.header(&shape)?;
        Ok(Some(shape))
    }
}

/// Creates and publishes the object. `Ok(false)`: somebody else did.
fn create(request: &Request, shape: Shape) -> Result<bool, OpenError> {
    let object = &request.object;
    let header = request.wanted.header(&shape)?;
    let unpublished = {
        let mode = Mode::from_bits_truncate(if request.group_access { 0o660 } else { 0o600 });
        Unpublished::new(object, header.segment_size, mode)?
    };
    let mapping = map(object, unpublished.file(), &header)?;
    // SAFETY: the header was laid out just now, the mapping has its size and lives until `places` is gone.
    let places = unsafe { Places::new(header, mapping.base()) };
    places.initialise(&request.wanted.schema.to_string());
    unpublished.publish(object)
}

fn map(object: &Object, file: &OwnedFd, header: &Header) -> Result<Mapping, OpenError> {
    let len = usize::try_from(header.segment_size).ok();
    let len = len.and_then(NonZeroUsize::new);
    let mapped = len
        .ok_or(Errno::ENOMEM)
        .and_then(|len| Mapping::new(file, len));
    mapped.map_err(|errno| refused("mapping", object, errno))
}

fn join(request: &Request) -> Result<Attempt, OpenError> {
    let object = &request.object;
    let refused = |action, errno| refused(action, object, errno);
    let hold = fork::hold();
    let file = match object.open() {
        Ok(file) => file,
        Err(Errno::ENOENT) => return Ok(Attempt::Absent),
        Err(errno) => return Err(refused("opening", errno)),
    };
    // Before the lock, which a stranger could hold for ever.
    let found = fstat(&file).map_err(|errno| refused("inspecting", errno))?;
    check_owner(request, &found)?;
    // Released by dropping `file` on the ways out of here; its copy in a child is what `hold` prevents.
    if !lock::set(&file, LIFECYCLE_BYTE, lock::Mode::Shared).map_err(|e| refused("locking", e))? {
        return Ok(Attempt::Again);
    }
    let found = fstat(&file).map_err(|errno| refused("inspecting", errno))?;
    if let Some(wanted) = &request.same_as
        && !same_file(wanted, &found)
    {
        return Ok(Attempt::Absent);
    }
    if found.st_nlink == 0 {
        return Ok(Attempt::Again);
    }
    let header = match inspect(request, &file)? {
        Inspected::Fits(header) => header,
        Inspected::Replace(condition) => return replace(object, &file, condition),
    };
    let own = match object.open() {
        Ok(own) => own,
        Err(Errno::ENOENT) => return Ok(Attempt::Again),
        Err(errno) => return Err(refused("opening", errno)),
    };
    let own_file = fstat(&own).map_err(|errno| refused("inspecting", errno))?;
    if !same_file(&own_file, &found) {
        return Ok(Attempt::Again);
    }
    let mapping = map(object, &own, &header)?;
    // SAFETY: the header is consistent, the mapping has its size and lives until `places` is gone.
    let places = unsafe { Places::new(header, mapping.base()) };
    let index = match take_place(request, &own, &places).map_err(|e| refused("locking", e))? {
        Place::Taken(index) => index,
        Place::NoneLeft { error, leaving } if leaving => return Ok(Attempt::Leaving(error)),
        Place::NoneLeft { error, .. } => return Err(error),
    };
    // Before anything that takes time: until then, nobody can tell what a dead holder claimed from what we will.
    settle_predecessor(&places, index);
    drop(own);
    // From here on the mapping alone holds the lock; unless the file system puts another file behind a mapping, as
    // overlayfs does.
    if !lock::is_held(&file, i64::from(index), 1).map_err(|e| refused("asking for locks of", e))? {
        return Err(OpenError::Os {
            action: "keeping a lock by a mapping (is it on overlayfs?) of",
            path: object.to_string(),
            source: Errno::EOPNOTSUPP.into(),
        });
    }
    lock::set(&file, LIFECYCLE_BYTE, lock::Mode::Unlock).map_err(|e| refused("unlocking", e))?;
    let token = hold
        .token()
        .map_err(|e| refused("watching for forks of", e))?;
    drop(hold);
    if request.prefault {
        mapping.prefault().map_err(|e| refused("prefaulting", e))?;
    }
    if request.lock_memory {
        mapping.lock_memory().map_err(|errno| OpenError::Os {
            action: "locking the memory (see RLIMIT_MEMLOCK, ulimit -l) of",
            path: object.to_string(),
            source: errno.into(),
        })?;
    }
    // Nothing fails after this: who failed to open must not be taken for the one that died.
    // SAFETY: as above; the mapping goes into the segment.
    let places = unsafe { Places::new(header, mapping.base()) };
    places.entry(index).introduce(request.role);
    let segment = Segment::new(
        header,
        request.wanted.schema,
        mapping,
        file,
        object.clone(),
        index,
        token,
    );
    Ok(Attempt::Joined(segment))
}

/// What came of the attempt to become a participant.
enum Place {
    /// This index is ours: `own` holds its lock.
    Taken(u32),
    NoneLeft {
        error: OpenError,
        /// One of them is about to become free, or to be held by somebody whose name is worth waiting for.
        leaving: bool,
    },
}

/// Locks the byte of a participant with the role that is asked for, through `own`. An index that was left cleanly is
/// preferred: it needs no sweep.
fn take_place(request: &Request, own: &OwnedFd, places: &Places) -> Result<Place, Errno> {
    let receiver = places.header.receiver();
    let indices = match request.role {
        Role::Sender => 0..receiver,
        Role::Receiver => receiver..receiver + 1,
    };
    let joined = |index| matches!(places.entry(index).session(), Session::Joined(_));
    for dirty in [false, true] {
        for index in indices.clone() {
            if joined(index) == dirty && lock::set(own, i64::from(index), lock::Mode::Exclusive)? {
                return Ok(Place::Taken(index));
            }
        }
    }
    let leaving = !indices.clone().all(joined);
    let error = if indices.len() == 1 {
        let holder = places.entry(indices.start).identity();
        OpenError::RoleTaken {
            role: request.role,
            pid: holder.pid,
            program: holder.program(),
        }
    } else {
        OpenError::TooManySenders { most: receiver }
    };
    Ok(Place::NoneLeft { error, leaving })
}

/// Settles what the last holder of the index `index`, which is ours now, may have claimed and left.
fn settle_predecessor(places: &Places, index: u32) {
    if places.header.kind != MPSC
        || index == places.header.receiver()
        || !places.entry(index).is_dirty()
    {
        return;
    }
    let ring = places.untyped_ring(0);
    if mpsc::sweep(&ring, index) {
        // It may sleep before what lies behind that claim.
        Waker::new(false).notify_surely(ring.to_receivers());
    }
}

/// Whoever owns the object can do anything to those who use it: it must be somebody to trust.
fn check_owner(request: &Request, found: &FileStat) -> Result<(), OpenError> {
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

enum Inspected {
    Fits(Header),
    /// Nobody used it when looked at, and it was empty unless messages may be dropped.
    Replace(Option<Emptiness>),
}

/// A ring is replaced only as long as it is empty.
struct Emptiness(Header);

/// Reads the header, once, and holds it against what is asked for. The lifecycle byte is held.
fn inspect(request: &Request, file: &OwnedFd) -> Result<Inspected, OpenError> {
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
fn replace_or(request: &Request, file: &OwnedFd, error: OpenError) -> Result<Inspected, OpenError> {
    let may = request.replace_idle && request.wanted.capacity.is_some();
    if may && !is_in_use(&request.object, file)? {
        return Ok(Inspected::Replace(None));
    }
    Err(error)
}

/// Reads the bytes of a header that carry our mark and byte order.
fn read_header(object: &Object, file: &OwnedFd) -> Result<Header, OpenError> {
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
fn difference(
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
    let senders = found.receiver();
    if let Some(stated) = wanted.senders.filter(|&stated| stated != senders) {
        return Ok(Some(format!(
            "max_senders {stated} here, {senders} in the segment"
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
    Ok(None)
}

fn kind_name(kind: u32) -> String {
    match kind {
        SPSC => "spsc".to_owned(),
        MPSC => "mpsc".to_owned(),
        LANES => "lanes".to_owned(),
        unknown => format!("{unknown} (unknown)"),
    }
}

fn is_in_use(object: &Object, file: &OwnedFd) -> Result<bool, OpenError> {
    lock::is_held(file, 0, i64::from(MAX_PARTICIPANTS))
        .map_err(|errno| refused("asking for locks of", object, errno))
}

/// Messages in a ring of any layout that nobody has received.
fn unread(object: &Object, file: &OwnedFd, header: &Header) -> Result<u64, OpenError> {
    let mapping = map(object, file, header)?;
    // SAFETY: the header is consistent, the mapping has its size and lives until the end of this function.
    let places = unsafe { Places::new(*header, mapping.base()) };
    Ok(places.unread())
}

/// Takes the name from a ring that nobody uses. `file` holds the lifecycle byte shared.
fn replace(
    object: &Object,
    file: &OwnedFd,
    condition: Option<Emptiness>,
) -> Result<Attempt, OpenError> {
    let refused = |errno| refused("replacing", object, errno);
    if hold_idle(object, file).map_err(refused)? != Held::Idle {
        return Ok(Attempt::Again);
    }
    // Somebody may have come, sent and left between the look and the lock.
    if let Some(Emptiness(header)) = condition
        && unread(object, file, &header)? > 0
    {
        return Ok(Attempt::Again);
    }
    object.unlink().map_err(refused)?;
    Ok(Attempt::Absent)
}

/// What became of the attempt to hold a ring that nobody uses.
#[derive(PartialEq, Eq)]
enum Held {
    /// It is named, idle, and stays so until `file` is closed.
    Idle,
    /// A participant is alive.
    InUse,
    /// Somebody is joining or removing it.
    Busy,
    /// The name is gone, or stands for something else.
    Gone,
}

/// Locks the lifecycle byte exclusively if nobody takes part in the ring behind `file`.
fn hold_idle(object: &Object, file: &OwnedFd) -> Result<Held, Errno> {
    if !lock::set(file, LIFECYCLE_BYTE, lock::Mode::Exclusive)? {
        return Ok(Held::Busy);
    }
    let found = fstat(file)?;
    if found.st_nlink == 0 || !object.is(&found)? {
        return Ok(Held::Gone);
    }
    if lock::is_held(file, 0, i64::from(MAX_PARTICIPANTS))? {
        return Ok(Held::InUse);
    }
    Ok(Held::Idle)
}

/// Removes a ring that nobody uses, with what is in it.
pub(crate) fn remove(object: &Object) -> Result<(), RemoveError> {
    remove_where(object, |file| {
        match read_header(object, file) {
            // A ring of ours that is damaged is a ring of ours.
            Ok(_) | Err(OpenError::Truncated { .. }) => Ok(()),
            Err(OpenError::NotARing { path, found }) => Err(RemoveError::NotARing { path, found }),
            Err(OpenError::Os { source, .. }) => Err(RemoveError::Os {
                action: "reading",
                path: object.to_string(),
                source,
            }),
            Err(error) => Err(RemoveError::Os {
                action: "reading",
                path: object.to_string(),
                source: io::Error::other(error),
            }),
        }
    })
}

/// Removes the ring that is behind `file`, if nobody uses it. Through a description of its own: one that was there before
/// may have been copied by a fork, and would keep the lifecycle byte locked beyond our death.
///
/// The caller was participant `index` and has unmapped it.
pub(crate) fn remove_if_idle(
    object: &Object,
    file: &OwnedFd,
    index: u32,
) -> Result<(), RemoveError> {
    // A process that was just being spawned when we joined has a copy of our lock until its exec.
    let mut patience = Patience::new(Some(SPAWN_PATIENCE));
    while lock::is_held(file, i64::from(index), 1) == Ok(true) && patience.pause() {}
    let gone = || RemoveError::NotFound {
        path: object.to_string(),
    };
    let ours = fstat(file).map_err(|_| gone())?;
    remove_where(object, |found| match fstat(found) {
        Ok(found) if same_file(&found, &ours) => Ok(()),
        _ => Err(gone()),
    })
}

/// Removes a ring that nobody uses and that holds nothing, if we have created it or it goes when idle.
fn remove_if_empty(object: &Object, created: bool) -> Result<(), RemoveError> {
    let in_use = || RemoveError::InUse {
        path: object.to_string(),
    };
    remove_where(object, |file| {
        let header = read_header(object, file).map_err(|_| in_use())?;
        let ours = header.abi_version == ABI_VERSION
            && header.is_consistent()
            && (created || header.flags & REMOVE_WHEN_IDLE != 0);
        let whole = fstat(file).is_ok_and(|file| file.st_size as u64 >= header.segment_size);
        let empty = ours && whole && unread(object, file, &header).is_ok_and(|unread| unread == 0);
        empty.then_some(()).ok_or_else(in_use)
    })
}

/// Removes a ring that nobody uses, if `condition` holds once it is locked against joiners.
fn remove_where(
    object: &Object,
    condition: impl Fn(&OwnedFd) -> Result<(), RemoveError>,
) -> Result<(), RemoveError> {
    let path = || object.to_string();
    let failed = |action, errno: Errno| RemoveError::Os {
        action,
        path: path(),
        source: errno.into(),
    };
    let mut patience = Patience::new(Some(REMOVE_PATIENCE));
    loop {
        let hold = fork::hold();
        let file = match object.open() {
            Ok(file) => file,
            Err(Errno::ENOENT) => return Err(RemoveError::NotFound { path: path() }),
            Err(errno) => {
                return Err(match refused("opening", object, errno) {
                    OpenError::NotARing { path, found } => RemoveError::NotARing { path, found },
                    _ => failed("opening", errno),
                });
            }
        };
        match hold_idle(object, &file).map_err(|errno| failed("locking", errno))? {
            Held::Idle => {
                condition(&file)?;
                return object.unlink().map_err(|errno| failed("removing", errno));
            }
            Held::InUse => return Err(RemoveError::InUse { path: path() }),
            Held::Gone | Held::Busy => {}
        }
        drop(file);
        drop(hold);
        if !patience.pause() {
            return Err(RemoveError::InUse { path: path() });
        }
    }
}
