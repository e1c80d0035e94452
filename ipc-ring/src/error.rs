//! One small enum per operation. Every message says what was expected, what was found and what to do.

use crate::message::Invalid;
use nix::errno::Errno;
use std::error::Error;
use std::fmt;
use std::io;

/// A side of a ring.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Role {
    /// Sends messages.
    Sender,
    /// Receives messages.
    Receiver,
}

impl Role {
    /// The side that this one exchanges messages with.
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Sender => Self::Receiver,
            Self::Receiver => Self::Sender,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sender => "sender",
            Self::Receiver => "receiver",
        })
    }
}

/// Why a ring was not opened or created. Nothing is left behind.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// The name, or the namespace, can't be one.
    InvalidName {
        /// As it was given.
        name: String,
        /// Which rule it breaks.
        rule: &'static str,
    },
    /// No ring can have this capacity.
    InvalidCapacity {
        /// As it was given, in messages.
        capacity: usize,
        /// Size of a message, in bytes.
        message_size: usize,
    },
    /// No ring can have so many senders.
    InvalidSenders {
        /// As it was given.
        senders: u32,
        /// The most that a ring can have.
        most: u32,
    },
    /// No ring can have so many receivers.
    InvalidReceivers {
        /// As it was given.
        receivers: u32,
        /// The most that a ring can have.
        most: u32,
    },
    /// `create_new` was asked for without a capacity.
    NoCapacity,
    /// The shared-memory file system is full.
    NoSpace {
        /// The object that was to be created.
        path: String,
        /// Size of the ring, in bytes.
        needed: u64,
        /// What the file system has left, in bytes.
        free: u64,
    },
    /// The ring is larger than this process may make a file (`RLIMIT_FSIZE`).
    FileSizeLimit {
        /// Size of the ring, in bytes.
        needed: u64,
        /// The limit, in bytes.
        limit: u64,
    },
    /// The object belongs to somebody else, or /dev/shm may not be written.
    PermissionDenied {
        /// The object.
        path: String,
    },
    /// The object belongs to a user whom nobody said to trust, or everybody may write it.
    NotTrusted {
        /// The object.
        path: String,
        /// Its owner's user id.
        owner: u32,
        /// Its permissions.
        mode: u32,
    },
    /// `create_new` was asked for, and there is a ring of this name.
    AlreadyExists {
        /// The object.
        path: String,
    },
    /// No ring of this name came into being in the time given by `open_timeout`.
    NotFound {
        /// The object.
        path: String,
    },
    /// Somebody who is about to join, or to remove the ring, has held it for all of the time given by
    /// `open_timeout`.
    Busy {
        /// The object.
        path: String,
    },
    /// There is something else under the name.
    NotARing {
        /// The object.
        path: String,
        /// What gives it away.
        found: String,
    },
    /// The ring has another version of the memory layout.
    Version {
        /// The object.
        path: String,
        /// The version that this library reads and writes.
        expected: u32,
        /// The version of the segment.
        found: u32,
    },
    /// The object is shorter than its header says.
    Truncated {
        /// The object.
        path: String,
        /// Size according to the header, in bytes.
        expected: u64,
        /// Size of the object, in bytes.
        found: u64,
    },
    /// The ring is not the one that was asked for.
    Mismatch {
        /// The object.
        path: String,
        /// The first difference, with both views.
        difference: String,
        /// Messages in the ring that nobody has received.
        unread: u64,
        /// Somebody uses the ring.
        in_use: bool,
    },
    /// Somebody who is alive has this role, of which there is one. (If no process of that pid is to be seen in `/proc`, for one that
    /// is just being torn down or is in another pid namespace, this is said after a second.)
    RoleTaken {
        /// The role.
        role: Role,
        /// Its holder's pid, in the holder's pid namespace.
        pid: u32,
        /// The file name of its holder's program.
        program: String,
    },
    /// As many senders as the ring was created for are alive, by the kernel's word. Said after a second if some of them seem to be
    /// on their way out.
    TooManySenders {
        /// How many that is.
        most: u32,
    },
    /// As many receivers as the ring was created for are alive, by the kernel's word. Said after a second if some of them seem to be
    /// on their way out.
    TooManyReceivers {
        /// How many that is.
        most: u32,
    },
    /// The process has no descriptor left.
    TooManyFiles {
        /// The object.
        path: String,
    },
    /// The ring waits by message queues, and the system does not give one.
    NoQueue {
        /// The object.
        path: String,
        /// The queue.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// The system refused something else.
    Os {
        /// What was tried.
        action: &'static str,
        /// The object.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidName { name, rule } => write!(f, "{name:?} can't name a ring: {rule}"),
            Self::InvalidCapacity { capacity: 0, .. } => {
                f.write_str("a ring of capacity 0 holds no message: ask for 1 or more")
            }
            Self::InvalidCapacity {
                capacity,
                message_size,
            } => write!(
                f,
                "{capacity} messages of {message_size} bytes do not fit the address space, or a locked ring (2^31 at most): ask for fewer"
            ),
            Self::InvalidSenders { senders, most } => write!(
                f,
                "a ring for {senders} senders can't be: `max_senders` is 1 to {most}"
            ),
            Self::InvalidReceivers { receivers, most } => write!(
                f,
                "a ring for {receivers} receivers can't be: `max_receivers` is 1 to {most}, senders and receivers \
                 together being at most 1024"
            ),
            Self::NoCapacity => {
                f.write_str("`create_new` creates a ring and needs its `capacity`: state one")
            }
            Self::NoSpace { path, needed, free } => write!(
                f,
                "creating {path} takes {needed} bytes and its file system has {free} left: ask for a smaller \
                 capacity, remove rings that nobody uses, or enlarge /dev/shm (containers: --shm-size)"
            ),
            Self::FileSizeLimit { needed, limit } => write!(
                f,
                "the ring takes {needed} bytes and this process may make files of {limit} (RLIMIT_FSIZE): ask \
                 for a smaller capacity or raise the limit (ulimit -f)"
            ),
            Self::PermissionDenied { path } => write!(
                f,
                "no permission to read and write {path}: open it as the user who created it, create it with \
                 `group_access`, or choose another name or namespace"
            ),
            Self::NotTrusted { path, owner, mode } => write!(
                f,
                "{path} belongs to user {owner} and has mode {mode:03o}, and its owner could read, forge and \
                 truncate what goes through it: expected a ring of this user or root that others can't write; \
                 choose another name or namespace, or say `group_access` if that user's ring is meant"
            ),
            Self::AlreadyExists { path } => write!(
                f,
                "{path} exists and `create_new` insists on being first: drop `create_new` to open it, or \
                 remove it by `ipc_ring::remove`"
            ),
            Self::NotFound { path } => write!(
                f,
                "{path} does not exist: start the side that states a `capacity`, state one here, or wait \
                 longer (`open_timeout`); processes in different containers need a common /dev/shm"
            ),
            Self::Busy { path } => write!(
                f,
                "{path} is being joined or removed by a process that does not get on with it: look for a \
                 stopped one"
            ),
            Self::NotARing { path, found } => write!(
                f,
                "{path} is not a ring of ipc-ring ({found}): choose another name, or remove that file if it is \
                 yours"
            ),
            Self::Version {
                path,
                expected,
                found,
            } => write!(
                f,
                "{path} has layout version {found}, this program's ipc-ring has {expected}: build both sides \
                 with the same ipc-ring, or remove the ring (`ipc_ring::remove`)"
            ),
            Self::Truncated {
                path,
                expected,
                found,
            } => write!(
                f,
                "{path} is {found} bytes long and should be {expected}: somebody truncated it; remove it \
                 (`ipc_ring::remove`) once nobody uses it"
            ),
            Self::Mismatch {
                path,
                difference,
                unread,
                in_use,
            } => {
                write!(f, "{path} is another ring: {difference}")?;
                match (in_use, unread) {
                    (true, _) => f.write_str("; it is in use: make both sides ask for the same, or leave the option out here"),
                    (false, 0) => f.write_str(
                        "; nobody uses it and it is empty: a side that states a `capacity` replaces it",
                    ),
                    (false, unread) => write!(
                        f,
                        "; nobody uses it and it holds {unread} unread messages: receive them, or state a \
                         `capacity` and `replace_idle` to drop them"
                    ),
                }
            }
            Self::RoleTaken { role, pid, program } => write!(
                f,
                "the ring has a living {role}, {program} (pid {pid}): end it first, or use another ring"
            ),
            Self::TooManySenders { most } => write!(
                f,
                "the ring has {most} living senders, as many as it was created for: let one leave, or create the ring \
                 with a larger `max_senders`"
            ),
            Self::TooManyReceivers { most } => write!(
                f,
                "the ring has {most} living receivers, as many as it was created for: let one leave, or create the ring \
                 with a larger `max_receivers`"
            ),
            Self::TooManyFiles { path } => write!(
                f,
                "opening {path} needs two descriptors and this process has none left: close some or raise \
                 RLIMIT_NOFILE (ulimit -n)"
            ),
            Self::NoQueue { path, name, source } => {
                let advice = match source.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::EMFILE) => {
                        "raise RLIMIT_MSGQUEUE (ulimit -q), or close descriptors"
                    }
                    Some(Errno::ENOSPC) => "raise fs.mqueue.queues_max, or remove rings",
                    Some(Errno::EINVAL) => {
                        "raise fs.mqueue.msg_max, or create the ring for fewer senders and receivers (max_senders, max_receivers)"
                    }
                    Some(Errno::EPERM) => {
                        "the ring is another user's: take another way to wait for several users"
                    }
                    Some(Errno::EACCES | Errno::EMSGSIZE) => {
                        "it is something else's: remove it (mq_unlink), if nobody uses it"
                    }
                    _ => "take another way to wait",
                };
                write!(
                    f,
                    "{path} needs the message queue {name}, and that can't be opened ({source}): {advice}"
                )
            }
            Self::Os {
                action,
                path,
                source,
            } => write!(f, "{action} {path}: {source}"),
        }
    }
}

impl Error for OpenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::NoQueue { source, .. } | Self::Os { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Why a ring was not removed.
#[derive(Debug)]
#[non_exhaustive]
pub enum RemoveError {
    /// The name, or the namespace, can't be one.
    InvalidName {
        /// As it was given.
        name: String,
        /// Which rule it breaks.
        rule: &'static str,
    },
    /// There is no ring of this name.
    NotFound {
        /// The object.
        path: String,
    },
    /// Somebody takes part in the ring, or is just joining it.
    InUse {
        /// The object.
        path: String,
    },
    /// There is something else under the name.
    NotARing {
        /// The object.
        path: String,
        /// What gives it away.
        found: String,
    },
    /// The system refused something else.
    Os {
        /// What was tried.
        action: &'static str,
        /// The object.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

impl fmt::Display for RemoveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidName { name, rule } => write!(f, "{name:?} can't name a ring: {rule}"),
            Self::NotFound { path } => {
                write!(f, "{path} does not exist: there is nothing to remove")
            }
            Self::InUse { path } => {
                write!(f, "{path} is in use: end its senders and receivers first")
            }
            Self::NotARing { path, found } => {
                write!(
                    f,
                    "{path} is not a ring of ipc-ring ({found}) and was left alone"
                )
            }
            Self::Os {
                action,
                path,
                source,
            } => write!(f, "{action} {path}: {source}"),
        }
    }
}

impl Error for RemoveError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Os { source, .. } => Some(source),
            _ => None,
        }
    }
}

const FULL: &str =
    "the ring is full: send later, wait by `send`, or create it with a larger capacity";
const LEFT: &str = "the receiver has left: nobody takes messages until another receiver comes";
const DIED: &str = "the receiver died and the ring is full: start another receiver, it will go on where that one ended";
const NAME_LOST: &str = "the ring has lost its name (somebody removed the object): peers that start now will \
                         not find it; drop this handle and open the ring again";
const STUCK: &str = "the ring's mutex could not be had for a second: look for a process that is stopped (SIGSTOP, a debugger) while it \
                     holds it, and try again; if there is none, the ring is damaged: drop all handles and `ipc_ring::remove` it";
const FORKED: &str =
    "this handle belongs to the parent process: open the ring again in the child, after the fork";

macro_rules! send_error {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:expr,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum $name<T> {
            $($(#[$variant_doc])* $variant(T),)+
        }

        impl<T> $name<T> {
            /// What came back: the message; for `send_slice`, how many were sent.
            pub fn into_inner(self) -> T {
                match self {
                    $(Self::$variant(value) => value,)+
                }
            }

            /// The same error, with another value in place of what was not sent.
            pub fn map<U>(self, with: impl FnOnce(T) -> U) -> $name<U> {
                match self {
                    $(Self::$variant(value) => $name::$variant(with(value)),)+
                }
            }
        }

        impl<T> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$variant(_) => concat!(stringify!($variant), "(..)"),)+
                })
            }
        }

        impl<T> fmt::Display for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$variant(_) => $text,)+
                })
            }
        }

        impl<T> Error for $name<T> {}
    };
}

send_error! {
    /// Why a message was not sent at once. It comes back.
    TrySendError {
        /// There is no room now.
        Full = FULL,
        /// The receiver has left.
        Closed = LEFT,
        /// Of [`locked`](crate::locked): the ring's mutex could not be had.
        Stuck = STUCK,
        /// The handle was inherited by a forked child.
        Forked = FORKED,
    }
}

send_error! {
    /// Why a message was not sent. It comes back.
    SendError {
        /// The receiver has left.
        Closed = LEFT,
        /// The ring is full and the receiver died.
        ReceiverDied = DIED,
        /// The ring is full and has lost its name. Said once; then the handle waits on.
        NameLost = NAME_LOST,
        /// Of [`locked`](crate::locked): the ring's mutex could not be had.
        Stuck = STUCK,
        /// The handle was inherited by a forked child.
        Forked = FORKED,
    }
}

send_error! {
    /// Why a message was not sent in time. It comes back.
    SendTimeoutError {
        /// The ring stayed full.
        Timeout = "the ring stayed full for all of the timeout: the receiver, or in mpsc a sender in the middle of a message, is slow or stopped",
        /// The receiver has left.
        Closed = LEFT,
        /// The ring is full and the receiver died.
        ReceiverDied = DIED,
        /// The ring is full and has lost its name. Said once; then the handle waits on.
        NameLost = NAME_LOST,
        /// Of [`locked`](crate::locked): the ring's mutex could not be had.
        Stuck = STUCK,
        /// The handle was inherited by a forked child.
        Forked = FORKED,
    }
}

macro_rules! recv_error {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:expr,)* }) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Debug)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
            /// No sender is left, at least one of them left cleanly, and the ring is drained. A later sender continues it.
            Closed,
            /// A sender ended without leaving, and the ring is drained. A receiver says it once for each, unless somebody has
            /// come in the dead one's place before it asked; others may go on, and a later one continues. At most the messages
            /// of the call that it was in are lost.
            SenderDied {
                /// Its pid, in its own pid namespace.
                pid: u32,
                /// The file name of its program.
                program: String,
            },
            /// The message at the front is not a value of its type, and was dropped.
            Corrupt(Invalid),
            /// Of [`locked`](crate::locked): the ring's mutex could not be had.
            Stuck,
            /// The handle was inherited by a forked child.
            Forked,
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$variant => f.write_str($text),)*
                    Self::Closed => f.write_str(
                        "no sender is left and the ring is empty: receive again when a sender is back",
                    ),
                    Self::SenderDied { pid, program } => write!(
                        f,
                        "a sender, {program} (pid {pid}), died, and all that it sent was received: receive on, from \
                         others or from one that is started in its place"
                    ),
                    Self::Corrupt(invalid) => write!(
                        f,
                        "a message was dropped, its bytes are not a value of its type: {invalid}; look for a \
                         faulty sender"
                    ),
                    Self::Stuck => f.write_str(STUCK),
                    Self::Forked => f.write_str(FORKED),
                }
            }
        }

        impl Error for $name {}
    };
}

recv_error! {
    /// Why there was nothing to receive at once.
    TryRecvError {
        /// There is no message now.
        Empty = "the ring is empty: receive later, or wait by `recv`",
    }
}

recv_error! {
    /// Why nothing was received.
    RecvError {
        /// The ring is empty and has lost its name. Said once; then the handle waits on.
        NameLost = NAME_LOST,
    }
}

recv_error! {
    /// Why nothing was received in time.
    RecvTimeoutError {
        /// No message came.
        Timeout = "no message came for all of the timeout: the senders are slow or stopped, or none has come yet",
        /// The ring is empty and has lost its name. Said once; then the handle waits on.
        NameLost = NAME_LOST,
    }
}
