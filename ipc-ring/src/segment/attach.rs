//! Creating and joining; the protocol is drawn in [`crate::segment`].
#![allow(unsafe_code, reason = "places in a mapping")]

mod found;
mod removal;

pub(crate) use removal::{remove, remove_if_idle};

use found::{Inspected, check_owner, inspect};
use removal::{remove_if_empty, replace};

use super::doorbells::Queues;
use super::mapped::{self, Places, Segment};
use super::posix::{Object, Unpublished, refused, same_file};
use crate::error::{OpenError, Role};
use crate::layout::{
    Header, INHERIT_PRIORITY, LIFECYCLE_BYTE, LOCKED, MAX_ORDERED, MAX_PARTICIPANTS, MPSC,
    REMOVE_WHEN_IDLE, Shape,
};
use crate::participant::Session;
use crate::ring::{locked, mpsc};
use crate::schema::Schema;
use crate::sync::Ordering;
use crate::sync::{Fault, planted};
use crate::sys::map::{Mapping, page_size};
use crate::sys::{fork, lock, mutex, process};
use crate::wait::{READY, ROOM, Wait, Waker};
use nix::errno::Errno;
use nix::sys::stat::{FileStat, Mode, fstat};
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

/// How long a joiner waits for somebody who has left to let go of the role.
const HANDOVER_PATIENCE: Duration = Duration::from_secs(1);

/// What the ring is asked to be. What is not stated is as the existing ring has it.
pub(crate) struct Wanted {
    pub(crate) kind: u32,
    /// How many senders there may be at a time.
    pub(crate) senders: Option<u32>,
    /// How many there may be in a new ring for which nobody states it.
    pub(crate) default_senders: u32,
    /// The same of receivers.
    pub(crate) receivers: Option<u32>,
    pub(crate) default_receivers: u32,
    pub(crate) schema: &'static Schema,
    pub(crate) capacity: Option<usize>,
    pub(crate) wait: Option<Wait>,
    pub(crate) remove_when_idle: bool,
    pub(crate) inherit_priority: bool,
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
            default_senders: header.senders().end,
            receivers: None,
            default_receivers: header.receivers,
            schema: other.schema(),
            capacity: None,
            wait: None,
            remove_when_idle: false,
            inherit_priority: false,
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
    // Not only when it is created: what is there would be replaced first.
    if shape.is_some_and(|shape| shape.has_mutex() && shape.pid_namespace == 0) {
        return Err(OpenError::Os {
            action: "finding out the pid namespace, which a mutex takes (is /proc mounted?), for",
            path: path(),
            source: Errno::ENOENT.into(),
        });
    }
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

/// Waits for a name that appears or a lock that is released, by looking again. The system would tell of names (inotify, for a
/// descriptor and a watch, of which there are limits), and not, with a time-out, of locks.
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
        // What is stated takes places from what is not.
        let rest =
            |stated: Option<u32>| MAX_PARTICIPANTS.saturating_sub(stated.unwrap_or(1)).max(1);
        let senders = self.default_senders.min(rest(self.receivers));
        let senders = self.senders.unwrap_or(senders);
        let receivers = self.default_receivers.min(rest(self.senders));
        let receivers = self.receivers.unwrap_or(receivers);
        if !(1..MAX_PARTICIPANTS).contains(&receivers) {
            return Err(OpenError::InvalidReceivers {
                receivers,
                most: MAX_PARTICIPANTS - 1,
            });
        }
        let most = MAX_PARTICIPANTS - receivers;
        if !(1..=most).contains(&senders) {
            return Err(OpenError::InvalidSenders { senders, most });
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
            flags: flag(self.remove_when_idle, REMOVE_WHEN_IDLE)
                | flag(self.inherit_priority, INHERIT_PRIORITY),
            participants: senders + receivers,
            receivers,
            capacity: rounded as u64,
            message_size: self.schema.size() as u32,
            message_align: self.schema.align() as u32,
            page_size: page_size() as u64,
            schema_len: self.schema.text_len() as u64,
            fingerprint: self.schema.fingerprint(),
            origin: self.origin,
            pid_namespace: 0,
        };
        let shape = Shape {
            pid_namespace: if shape.has_mutex() {
                process::pid_namespace()
            } else {
                0
            },
            ..shape
        };
        if shape.kind == LOCKED && shape.capacity > MAX_ORDERED {
            return Err(invalid());
        }
        self.header(&shape)?;
        Ok(Some(shape))
    }
}

fn flag(set: bool, flag: u32) -> u32 {
    if set { flag } else { 0 }
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
    let initialise = || places.initialise(&request.wanted.schema.to_string());
    if !planted(Fault::NamedEarly) {
        initialise();
    }
    let published = unpublished.publish(object);
    if planted(Fault::NamedEarly) {
        initialise();
    }
    published
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
    if !planted(Fault::JoinUnlocked)
        && !lock::set(&file, LIFECYCLE_BYTE, lock::Mode::Shared)
            .map_err(|e| refused("locking", e))?
    {
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
    if header.shape().has_mutex() && !mutex::is_for_this_thread() {
        return Err(OpenError::Os {
            action: "using the mutex, in a process that was made by a bare clone(2) (make it by fork, which tells the C library), of",
            path: object.to_string(),
            source: Errno::EOPNOTSUPP.into(),
        });
    }
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
    let queues = Queues::of(&found, &header);
    settle_predecessor(&places, index, queues);
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
    let doorbell = queues.map(|queues| {
        let called = header.called_with(index);
        queues.open(&called).map_err(|errno| OpenError::NoQueue {
            path: object.to_string(),
            name: queues.name(called.start),
            source: errno.into(),
        })
    });
    let doorbell = doorbell.transpose()?;
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
        mapped::Place {
            index,
            token,
            doorbell: queues.zip(doorbell),
        },
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
/// preferred: it needs no sweep (but in a locked ring, in which nobody waits for it).
fn take_place(request: &Request, own: &OwnedFd, places: &Places) -> Result<Place, Errno> {
    let indices = places.header.indices(request.role);
    let joined = |index| matches!(places.entry(index).session(), Session::Joined(_));
    for dirty in [false, true] {
        for index in indices.clone() {
            if joined(index) == dirty && lock::set(own, i64::from(index), lock::Mode::Exclusive)? {
                return Ok(Place::Taken(index));
            }
        }
    }
    // Its process may be gone, and the kernel not yet done with its memory: somebody who looks at that through /proc holds it.
    let is_on_its_way_out = |index| {
        let entry = places.entry(index);
        let start_time = entry.start_time.load(Ordering::Relaxed);
        !joined(index) || process::is_gone(entry.identity().pid, start_time)
    };
    let leaving = indices.clone().any(is_on_its_way_out);
    let error = if indices.len() == 1 {
        let holder = places.entry(indices.start).identity();
        OpenError::RoleTaken {
            role: request.role,
            pid: holder.pid,
            program: holder.program(),
        }
    } else {
        let most = indices.len() as u32;
        match request.role {
            Role::Sender => OpenError::TooManySenders { most },
            Role::Receiver => OpenError::TooManyReceivers { most },
        }
    };
    Ok(Place::NoneLeft { error, leaving })
}

/// Settles what the last holder of the index `index`, which is ours now, may have claimed and left.
fn settle_predecessor(places: &Places, index: u32, queues: Option<Queues>) {
    let header = &places.header;
    let ring = places.untyped_ring(0);
    let call = |role, word, call| {
        let reach = places.reach(header.indices(role), queues, word);
        Waker::new(false, reach).notify_surely(call);
    };
    match header.kind {
        MPSC if header.senders().contains(&index)
            && places.entry(index).is_dirty()
            && mpsc::sweep(&ring, index) =>
        {
            // It may sleep before what lies behind that claim.
            call(Role::Receiver, READY, ring.to_receivers());
        }
        // Whether or not he left: he may have been unable to have the mutex.
        LOCKED if locked::sweep(&places.untyped_locked(), index) => {
            call(Role::Receiver, READY, ring.to_receivers());
            call(Role::Sender, ROOM, ring.to_senders());
        }
        _ => {}
    }
}
