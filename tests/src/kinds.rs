//! Tests that are written once for several kinds of ring.

use ipc_ring::{
    Builder, Kind, Lanes, Locked, ManySenders, Mpsc, ShmMessage, Spsc, lanes, locked, mpsc, spsc,
};

/// A kind of ring.
pub trait AnyKind: Kind + Sized {
    /// What tests and their children call it.
    const NAME: &str;
    /// So many senders there may be, up to two.
    const SENDERS: u32;
    /// Whether a message has its place, in the way of others, before it is written.
    const CLAIMS: bool = false;

    /// Names a ring of this kind.
    fn ring<T: ShmMessage>(name: &str) -> Builder<T, Self>;

    /// Names one for so many senders, if it can have several.
    fn ring_for<T: ShmMessage>(name: &str, senders: u32) -> Builder<T, Self>;

    /// States how many receivers there may be, if that can be stated; unless it is, one.
    fn with_receivers<T: ShmMessage>(builder: Builder<T, Self>, _: u32) -> Builder<T, Self> {
        builder
    }
}

/// A kind of ring with several senders.
pub trait Several: AnyKind + ManySenders {}

impl<K: AnyKind + ManySenders> Several for K {}

impl AnyKind for Spsc {
    const NAME: &str = "spsc";
    const SENDERS: u32 = 1;

    fn ring<T: ShmMessage>(name: &str) -> Builder<T, Self> {
        spsc(name)
    }

    fn ring_for<T: ShmMessage>(name: &str, _: u32) -> Builder<T, Self> {
        spsc(name)
    }
}

impl AnyKind for Mpsc {
    const NAME: &str = "mpsc";
    const SENDERS: u32 = 2;
    const CLAIMS: bool = cfg!(not(ipc_ring_locked));

    fn ring<T: ShmMessage>(name: &str) -> Builder<T, Self> {
        mpsc(name)
    }

    fn ring_for<T: ShmMessage>(name: &str, senders: u32) -> Builder<T, Self> {
        mpsc(name).max_senders(senders)
    }
}

impl AnyKind for Lanes {
    const NAME: &str = "lanes";
    const SENDERS: u32 = 2;

    fn ring<T: ShmMessage>(name: &str) -> Builder<T, Self> {
        lanes(name)
    }

    fn ring_for<T: ShmMessage>(name: &str, senders: u32) -> Builder<T, Self> {
        lanes(name).max_senders(senders)
    }
}

impl AnyKind for Locked {
    const NAME: &str = "locked";
    const SENDERS: u32 = 2;

    fn ring<T: ShmMessage>(name: &str) -> Builder<T, Self> {
        locked(name).max_receivers(1)
    }

    fn ring_for<T: ShmMessage>(name: &str, senders: u32) -> Builder<T, Self> {
        Self::ring(name).max_senders(senders)
    }

    fn with_receivers<T: ShmMessage>(
        builder: Builder<T, Self>,
        receivers: u32,
    ) -> Builder<T, Self> {
        builder.max_receivers(receivers)
    }
}

/// Calls a generic function of the kind with several senders that goes by a name.
#[macro_export]
macro_rules! of_kind {
    ($name:expr, $function:ident($($argument:expr),*)) => {
        match $name {
            "mpsc" => $function::<::ipc_ring::Mpsc>($($argument),*),
            "lanes" => $function::<::ipc_ring::Lanes>($($argument),*),
            "locked" => $function::<::ipc_ring::Locked>($($argument),*),
            other => panic!("{other} is no kind with several senders"),
        }
    };
}

/// The same for a function of any kind.
#[macro_export]
macro_rules! of_any_kind {
    ($name:expr, $function:ident($($argument:expr),*)) => {
        match $name {
            "spsc" => $function::<::ipc_ring::Spsc>($($argument),*),
            several => $crate::of_kind!(several, $function($($argument),*)),
        }
    };
}

/// Makes a test of each generic function for each kind with several senders: it is given the stage, with the roles that are named
/// here.
#[macro_export]
macro_rules! for_several_senders {
    ($($test:tt)+) => {
        $crate::for_several_senders_without_a_mutex!($($test)+);
        #[cfg(not(ipc_ring_locked))]
        $crate::for_one_kind!(locked Locked $($test)+);
    };
}

/// The same, but for the kind that has a mutex in the segment. (Where `spsc` and `mpsc` stand for that kind, these two are what
/// is tested.)
#[macro_export]
macro_rules! for_several_senders_without_a_mutex {
    ($($test:tt)+) => {
        $crate::for_one_kind!(mpsc Mpsc $($test)+);
        #[cfg(not(ipc_ring_locked))]
        $crate::for_one_kind!(lanes Lanes $($test)+);
    };
}

/// The same for all kinds, but for that one.
#[macro_export]
macro_rules! for_kinds_without_a_mutex {
    ($($test:tt)+) => {
        $crate::for_one_kind!(spsc Spsc $($test)+);
        $crate::for_several_senders_without_a_mutex!($($test)+);
    };
}

/// The same for all kinds.
#[macro_export]
macro_rules! for_all_kinds {
    ($($test:tt)+) => {
        $crate::for_one_kind!(spsc Spsc $($test)+);
        $crate::for_several_senders!($($test)+);
    };
}

/// Of those above.
#[doc(hidden)]
#[macro_export]
macro_rules! for_one_kind {
    ($module:ident $kind:ident $($name:ident($($role:ident),*);)+) => {
        mod $module {
            #[allow(unused_imports, reason = "the roles")]
            use super::*;

            $(
                #[test]
                fn $name() {
                    fn here() {}
                    let roles: &[(&'static str, $crate::Role)] = &[$((stringify!($role), $role)),*];
                    let stage = $crate::Stage::enter(::std::any::type_name_of_val(&here), roles);
                    super::$name::<::ipc_ring::$kind>(&stage);
                }
            )+
        }
    };
}
