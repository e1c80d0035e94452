//! Faults that can be planted, so that what looks for mistakes can show that it finds them.
//!
//! A **negative control** plants one fault and insists that a check fails. The protocols ask [`planted`] where they would go
//! wrong; what answers is chosen by the build:
//!
//! | build          | who plants a fault                                                  | checked by                   |
//! |----------------|---------------------------------------------------------------------|------------------------------|
//! | the library    | nobody: the answer is a constant, and the question folds away       |                              |
//! | `cfg(loom)`    | a test, for the models that its thread runs from then on: [`plant`] | `tests/loom`, `tests/shuttle` |
//! | `cfg(planted)` | who starts the process, by the environment variable `IPC_RING_FAULT` | `tests/crash-planted`        |

use super::Ordering;

/// Defines [`Fault`], and what all of them are.
macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What a negative control can weaken or drop. Every fault makes some model, or the crash explorer, fail.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[cfg_attr(
            not(all(test, loom)),
            allow(dead_code, reason = "some faults are planted by the models themselves")
        )]
        pub(crate) enum Fault {
            $($(#[$doc])* $name,)*
        }

        #[cfg(all(planted, not(loom)))]
        const ALL: &[Fault] = &[$(Fault::$name,)*];
    };
}

faults! {
    /// The stamp is stored Relaxed: the payload may arrive after it.
    PublishRelaxed,
    /// The stamp is loaded Relaxed: the payload may be read before it.
    StampRelaxed,
    /// `head` is stored Relaxed: the slot may be refilled while it is being read.
    ReleaseRelaxed,
    /// `head` is loaded Relaxed by the producer.
    HeadRelaxed,
    /// The stamp is stored before the payload is written.
    PublishEarly,
    /// `head` is stored before the payload is copied out.
    ReleaseEarly,
    /// The producer does not say how far it may have begun to write.
    NoAnnouncement,
    /// No Release fence between the announcement and the payload.
    AnnounceUnfenced,
    /// The observer does not look at the announcement after its copy.
    ObserveStampOnly,
    /// The sender loads the receiver's attention word without a barrier after publishing.
    NoLightBarrier,
    /// The sleeper looks again without a barrier after arming.
    NoHeavyBarrier,
    /// A sleeper that was rung keeps the number that it had armed.
    StayArmed,
    /// The sleeper does not look again after arming.
    NoSecondLook,
    /// The waker answers without ringing.
    NoWake,
    /// A sleeper takes back what is left of earlier rings after it has armed, not before.
    RingsTakenBackLate,
    /// One of several sleepers takes back rings.
    OthersRingsTakenBack,
    /// Who is to wait for a condition variable says so after its last look, not before.
    WaitingSaidLate,
    /// The waker notifies without the mutex of the condition variable.
    NotifyUnlocked,
    /// What a mutex guards is done without it.
    MutexNotLocked,
    /// What a mutex guards is not derived anew when its last owner died with it.
    NotRebuilt,
    /// Whether the owner of a slot is dead is asked before the mutex is locked.
    AskedUnlocked,
    /// A slot is handed on by a Relaxed store.
    HandedOnRelaxed,
    /// A filled slot is not put into the queue.
    NotQueued,
    /// A sleep has no slices: nobody looks again who is not woken.
    SleepUnsliced,
    /// A sleeper whose number was answered once arms with the same number again.
    NumberReused,
    /// A producer that takes over starts at `head`, even if slots there are published.
    TakeOverAtHead,
    /// The ending is read after the last look at the ring, so the last messages are missed.
    NoLookAfterEnding,
    /// What was seen of several entries, one after the other, is taken for what was there at one moment.
    TornLook,
    /// The leaver marks its entry Relaxed.
    LeaveRelaxed,
    /// The leaver does not ring.
    NoRingOnLeave,
    /// The leaver marks its entry before it gives up its claim, which no successor then looks for.
    EntryClearedEarly,
    /// A slot is claimed by a store.
    ClaimByStore,
    /// No Release fence between the claim and the payload.
    ClaimUnfenced,
    /// A slot is claimed though its last message was not released.
    ClaimUnread,
    /// A claim that was not published is never given up.
    ClaimForgotten,
    /// A claim is given up by a Relaxed store.
    GiveUpRelaxed,
    /// The hint is stored before the claim.
    HintBeforeClaim,
    /// A claim is skipped by a store.
    SkipByStore,
    /// A claim of the dead is passed over without being turned into "skipped": no later lap gets past it.
    PassUnsettled,
    /// The consumer stores a stamp once more after it has released the slot.
    TouchLate,
    /// That store is Relaxed.
    TouchRelaxed,
    /// What is no claim any more, when a consumer looks whose it is, is taken for nothing.
    ClaimSettledUnseen,
    /// A claim is skipped without asking whether its owner is dead.
    SkipUnasked,
    /// The new holder of an index does not sweep.
    NoSweep,
    /// The sweeper stores Relaxed.
    SweepRelaxed,
    /// The consumer of lanes believes that lanes are empty which did not call.
    ReadyIsTrusted,
    /// A producer sees no room once head has passed where it stopped.
    RoomNotBehind,
    /// The consumer of lanes marks lanes as idle, by the word that says that it sleeps.
    IdleWhileArmed,
    /// The consumer of lanes arms one lane only.
    OneLaneArmed,
    /// Two sleepers arm with the same number.
    NumberShared,
    /// A sleeper disarms the word that others share.
    DisarmedForAll,
    /// A waker that woke some of the sleepers answers for all.
    AnsweredTooSoon,
    /// An object gets its name before it is initialised.
    NamedEarly,
    /// A joiner does not hold the lifecycle byte: the ring may be removed after it has looked and before it takes part.
    JoinUnlocked,
    /// A joiner takes back that its predecessor left before its own entry says that it has joined.
    TakenBackEarly,
    /// A newcomer takes the endings of before for bygone though its predecessor, which was killed, may not have heard them.
    EndingsForgotten,
    /// Who is refused takes the lifecycle byte to see whether it can remove the ring.
    RefusedLocked,
    /// A ring is removed without a look whether somebody takes part in it.
    RemoveUnchecked,
}

#[cfg(loom)]
pub(crate) use in_models::{plant, planted};

#[cfg(loom)]
mod in_models {
    use super::Fault;
    use std::cell::Cell;

    std::thread_local! {
        // Loom and shuttle run all their threads as coroutines of the test's own thread.
        static PLANTED: Cell<Option<Fault>> = const { Cell::new(None) };
    }

    /// Plants `fault` for the models that this thread runs from now on.
    #[cfg_attr(not(test), allow(dead_code, reason = "only tests plant faults"))]
    pub(crate) fn plant(fault: Option<Fault>) {
        PLANTED.set(fault);
    }

    pub(crate) fn planted(fault: Fault) -> bool {
        PLANTED.get() == Some(fault)
    }
}

#[cfg(all(planted, not(loom)))]
pub(crate) use in_processes::planted;

#[cfg(all(planted, not(loom)))]
mod in_processes {
    use super::{ALL, Fault};
    use std::env;
    use std::sync::OnceLock;

    /// Has the name of the fault to plant, or is not set.
    const VARIABLE: &str = "IPC_RING_FAULT";

    #[inline(always)]
    pub(crate) fn planted(fault: Fault) -> bool {
        static PLANTED: OnceLock<Option<Fault>> = OnceLock::new();
        *PLANTED.get_or_init(from_environment) == Some(fault)
    }

    /// A misspelt fault must not pass for one that nothing notices.
    #[cold]
    fn from_environment() -> Option<Fault> {
        let name = env::var_os(VARIABLE)?;
        let named = |fault: &Fault| name == *format!("{fault:?}");
        let fault = ALL.iter().copied().find(named);
        Some(fault.unwrap_or_else(|| panic!("{VARIABLE}={name:?} is none of {ALL:?}")))
    }
}

#[cfg(not(any(loom, planted)))]
#[inline(always)]
pub(crate) const fn planted(_: Fault) -> bool {
    false
}

/// `strong`, unless `fault` is planted.
#[inline(always)]
pub(crate) fn order(strong: Ordering, fault: Fault) -> Ordering {
    if planted(fault) {
        Ordering::Relaxed
    } else {
        strong
    }
}
