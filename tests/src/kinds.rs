//! Tests that are written once for both kinds of ring with several senders.

use ipc_ring::{Builder, Lanes, ManySenders, Mpsc, ShmMessage, lanes, mpsc};

/// A kind of ring with several senders.
pub trait Several: ManySenders + Sized {
    /// What tests and their children call it.
    const NAME: &str;

    /// Names a ring of this kind.
    fn ring<T: ShmMessage>(name: &str) -> Builder<T, Self>;
}

impl Several for Mpsc {
    const NAME: &str = "mpsc";

    fn ring<T: ShmMessage>(name: &str) -> Builder<T, Self> {
        mpsc(name)
    }
}

impl Several for Lanes {
    const NAME: &str = "lanes";

    fn ring<T: ShmMessage>(name: &str) -> Builder<T, Self> {
        lanes(name)
    }
}

/// Calls a generic function of the kind that goes by a name.
#[macro_export]
macro_rules! of_kind {
    ($name:expr, $function:ident($($argument:expr),*)) => {
        match $name {
            "mpsc" => $function::<::ipc_ring::Mpsc>($($argument),*),
            "lanes" => $function::<::ipc_ring::Lanes>($($argument),*),
            other => panic!("{other} is no kind with several senders"),
        }
    };
}

/// Makes two tests of each generic function, one a kind: it is given the stage, with the roles that are named here.
#[macro_export]
macro_rules! for_both_kinds {
    ($($name:ident($($role:ident),*);)+) => {
        $crate::for_both_kinds!(@ mpsc Mpsc $($name($($role),*);)+);
        $crate::for_both_kinds!(@ lanes Lanes $($name($($role),*);)+);
    };
    (@ $module:ident $kind:ident $($name:ident($($role:ident),*);)+) => {
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
