//! Who takes part, and the kernel's word on who is alive.
//!
//! A participant holds an index of the segment. While it lives, its mapping of the segment holds a lock on the
//! file's byte with that number: the lock belongs to an open file description whose only user is the mapping.
//! So it ends with the process, with exec and with munmap, in any pid namespace; a forked child does not keep it
//! (the mapping is not inherited, no descriptor is left); and no store to shared memory can forge it.
//!
//! "Dead" is said once the kernel has torn the process's memory down. No store of the dead comes after that,
//! which is why no timeout is needed, and why what the dead did store is visible to whoever has asked.
//!
//! Entries say more, for people (pid, program), and two things for the protocol. One is which endings of the other side are
//! bygone: nobody of this side need hear of them (`Peers::join`). The other is whether the last holder of the index left or just
//! stopped being. Its writer is the holder of the lock:
//!
//! ```text
//!            join: number + 1                 leave
//! never ──────────────────────▶ joined(n) ───────────▶ left(n) ──▶ joined(n + 1) …
//!                                  │ death: unchanged, and the lock is free
//!                                  └──────────────────▶ joined(n + 1)
//! ```

use crate::layout::Entry;
use crate::sync::{Fault, Ordering, order, planted};

const STATE: u64 = 3;
const JOINED: u64 = 1;
const NUMBER_SHIFT: u32 = 2;

/// The session word of an entry, decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Session {
    /// Nobody has held this index yet.
    Never,
    /// Somebody joined and did not leave; whether it lives, the kernel knows.
    Joined(u64),
    /// The last holder left cleanly.
    Left(u64),
}

impl Session {
    fn decode(word: u64) -> Self {
        let number = word >> NUMBER_SHIFT;
        match word & STATE {
            0 => Self::Never,
            JOINED => Self::Joined(number),
            // A state that we do not know harms least as somebody who left.
            _ => Self::Left(number),
        }
    }

    fn encode(self) -> u64 {
        match self {
            Self::Never => 0,
            Self::Joined(number) => number << NUMBER_SHIFT | JOINED,
            Self::Left(number) => number << NUMBER_SHIFT | 2,
        }
    }

    fn number(self) -> u64 {
        match self {
            Self::Never => 0,
            Self::Joined(number) | Self::Left(number) => number,
        }
    }
}

impl Entry {
    /// Acquire: what the holder did before it joined or left is visible. Pairs with the Release in `join` and
    /// `leave`.
    pub(crate) fn session(&self) -> Session {
        Session::decode(self.session.load(Ordering::Acquire))
    }

    /// The number of the session to come.
    pub(crate) fn next_number(&self) -> u64 {
        self.session().number().wrapping_add(1) & (u64::MAX >> NUMBER_SHIFT)
    }

    /// Whether the last holder of this index ended without leaving, so that claims of it may be open. To be asked by who holds
    /// the lock and has not joined.
    pub(crate) fn is_dirty(&self) -> bool {
        matches!(self.session(), Session::Joined(_))
    }

    /// Says that the caller, which holds the lock of this entry, takes part from now on, in session `number`.
    pub(crate) fn join(&self, number: u64) {
        let joined = Session::Joined(number).encode();
        // Release: pairs with the Acquire in `session`.
        self.session.store(joined, Ordering::Release);
    }

    /// Says that the caller, which has joined as session `number`, is done.
    pub(crate) fn leave(&self, number: u64) {
        let left = Session::Left(number).encode();
        // Release: everything that the leaver published comes before. Pairs with the Acquire in `session`.
        let release = order(Ordering::Release, Fault::LeaveRelaxed);
        self.session.store(left, release);
    }
}

/// Changes whenever somebody joins or leaves by one of the entries: each of their sessions only grows.
pub(crate) fn sessions<'a>(entries: impl Iterator<Item = &'a Entry>) -> u64 {
    let numbers = entries.map(|entry| match entry.session() {
        Session::Never => 0,
        Session::Joined(number) => number * 2,
        Session::Left(number) => number * 2 + 1,
    });
    numbers.fold(0, u64::wrapping_add)
}

/// What a look at several entries came to, if that was so at one moment: if none of them changed meanwhile. Otherwise a newcomer
/// may have come after its entry was looked at, and somebody else gone before his was: as if nobody had been there.
pub(crate) fn at_one_moment<R>(sessions: impl Fn() -> u64, look: impl FnOnce() -> R) -> Option<R> {
    let before = sessions();
    let seen = look();
    (sessions() == before || planted(Fault::TornLook)).then_some(seen)
}

/// Believes an ending only if there is nothing left to do: whatever the peer did before it ended is visible by then,
/// and was perhaps not at the last look.
///
/// `ending` must have Acquire semantics, by the entry's word or by the kernel's.
pub(crate) fn end_unless<R, E>(
    ending: impl FnOnce() -> Option<E>,
    look: impl FnOnce() -> Option<R>,
) -> Result<R, Option<E>> {
    let ending = ending().ok_or(None)?;
    if planted(Fault::NoLookAfterEnding) {
        return Err(Some(ending));
    }
    look().ok_or(Some(ending))
}

#[cfg(not(loom))]
pub(crate) use living::{Dead, is_alive};

#[cfg(not(loom))]
mod living {
    use super::*;
    use crate::error::Role;
    use crate::layout::{Counters, program_name};
    use crate::sync::fence;
    use crate::sys::{lock, process};
    use std::array;
    use std::os::fd::OwnedFd;

    /// Who a participant says that it is; for people.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct Identity {
        pub(crate) pid: u32,
        program: [u64; 4],
    }

    impl Identity {
        pub(crate) fn program(&self) -> String {
            program_name(self.program)
        }
    }

    impl Entry {
        /// Writes who we are. Before `join`, so that whoever sees us joined sees that.
        pub(crate) fn introduce(&self, role: Role) {
            let role = match role {
                Role::Sender => 1,
                Role::Receiver => 2,
            };
            self.role.store(role, Ordering::Relaxed);
            let Counters {
                messages,
                waits,
                sleeps,
                wakes,
                skipped,
                corrupt,
            } = &self.counters;
            for counter in [messages, waits, sleeps, wakes, skipped, corrupt] {
                counter.store(0, Ordering::Relaxed);
            }
            self.pid.store(std::process::id(), Ordering::Relaxed);
            self.start_time
                .store(process::start_time(), Ordering::Relaxed);
            let name: [u8; 32] = process::program();
            for (word, bytes) in self.program.iter().zip(name.as_chunks().0) {
                word.store(u64::from_ne_bytes(*bytes), Ordering::Relaxed);
            }
        }

        pub(crate) fn identity(&self) -> Identity {
            Identity {
                pid: self.pid.load(Ordering::Relaxed),
                // Relaxed: written before the session (Release), and for people only.
                program: array::from_fn(|i| self.program[i].load(Ordering::Relaxed)),
            }
        }

        /// Asks the kernel whether the holder of `index`, which is this entry's, is dead. `file` is a
        /// description that holds none of the locks; `own` is the caller's index.
        ///
        /// If a successor died between introducing itself and joining, the identity is the successor's.
        pub(crate) fn death(&self, index: u32, own: u32, file: &OwnedFd) -> Option<Dead> {
            let Session::Joined(number) = self.session() else {
                return None;
            };
            // Before the kernel is asked: a successor introduces itself only under the lock that is then still free.
            let who = self.identity();
            fence(Ordering::Acquire);
            if is_alive(index, own, file) {
                return None;
            }
            // A successor locks the byte before it writes the entry. The same session as before: it was that
            // holder whose lock was gone.
            (self.session() == Session::Joined(number)).then_some(Dead { index, number, who })
        }
    }

    /// A participant that ended without leaving.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct Dead {
        pub(crate) index: u32,
        pub(crate) number: u64,
        pub(crate) who: Identity,
    }

    /// The kernel's word. Where it can't be had, or the same question about ourselves shows that it is worth
    /// nothing (another kernel's locks), everybody is alive.
    pub(crate) fn is_alive(index: u32, own: u32, file: &OwnedFd) -> bool {
        let held = |index: u32| lock::is_held(file, i64::from(index), 1);
        match held(index) {
            Ok(true) | Err(_) => true,
            Ok(false) => !held(own).unwrap_or(false),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_session_word_is_decoded_as_it_was_encoded() {
        for session in [
            Session::Never,
            Session::Joined(1),
            Session::Left(u64::MAX >> 2),
        ] {
            assert_eq!(Session::decode(session.encode()), session);
        }
    }

    #[test]
    fn an_unknown_state_counts_as_left() {
        assert_eq!(Session::decode(3), Session::Left(0));
    }
}
