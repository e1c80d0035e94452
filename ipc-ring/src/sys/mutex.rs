//! A mutex shared between processes that outlives its owner: robust, as of `pthread_mutexattr_setrobust(3)`.
//!
//! An owner that ends with it held, a process or one thread of a process that lives on, leaves it to the next one, who is told
//! (EOWNERDEAD), repairs what it guards, and says so before it unlocks: otherwise nobody could lock it again, ever.
//!
//! The owner is known to the kernel by the thread's number: all who use one must be of the same pid namespace, or a thread that
//! ends could be taken for another one's owner. And the kernel may look at the mutex until the call that unlocks it has returned: no
//! mapping of it goes earlier, since each handle has one of its own, which goes with it. And a held mutex is a member of a list that
//! runs through its owner's memory: who can write the segment can forge those links, and make others write where they did not want
//! to, or end. They trust each other. What is looked at is that it is still the sort of mutex that was made: for other sorts the C
//! library ends the process at what it does not expect.

use std::time::Duration;

/// The mutex. In a segment it is the C library's own.
#[repr(C)]
pub(crate) struct Mutex {
    #[cfg(not(loom))]
    inner: std::cell::UnsafeCell<libc::pthread_mutex_t>,
    #[cfg(loom)]
    inner: crate::sync::Mutex<()>,
}

/// Which sort of mutex it is.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Sort {
    /// Who holds it runs with the priority of the most urgent one who waits for it (PTHREAD_PRIO_INHERIT).
    pub(crate) inherits_priority: bool,
}

#[cfg(not(loom))]
pub(crate) use real::{Held, is_for_this_thread};

#[cfg(not(loom))]
mod real {
    #![allow(
        unsafe_code,
        reason = "the C library's mutexes have no safe wrapper for shared memory"
    )]

    use super::{Duration, Mutex, Sort};
    use crate::sync::spin_loop;
    use crate::sys::clock::{self, deadline};
    use nix::errno::Errno;
    use nix::sys::signal::kill;
    use nix::unistd::{Pid, gettid};
    #[cfg(test)]
    use std::mem::ManuallyDrop;
    use std::mem::MaybeUninit;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Instant;

    /// What it guards takes a moment, shorter than falling asleep: so often it is tried before that.
    const TRIES: u32 = 64;
    /// How long to sleep without trying again.
    const SLICE: Duration = Duration::from_millis(10);
    const FEWEST_SLICES: u128 = 10;
    /// Of the sort within the mutex, where the C library has it on 64-bit machines; it "must stay at this position" for what was
    /// initialised at compile time.
    const SORT_OFFSET: usize = 16;
    /// As glibc has them.
    const PTHREAD_PRIO_NONE: libc::c_int = 0;
    const PTHREAD_PRIO_INHERIT: libc::c_int = 1;

    // SAFETY: that several may use it at once is what it is for.
    unsafe impl Sync for Mutex {}

    /// The mutex, held by this thread; unlocked when dropped.
    pub(crate) struct Held<'a> {
        mutex: &'a Mutex,
        sort: Sort,
        owner_died: bool,
    }

    /// Why it could not be had.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) enum Unlocked {
        /// Somebody who lives held it all the time; or so it says.
        InTime,
        /// It is no mutex of this sort, or one that nobody can ever have again.
        Damaged,
    }

    #[cfg(test)]
    impl Mutex {
        /// Memory for one, to be made before it is used.
        pub(crate) fn new() -> Self {
            // SAFETY: zeros are what new memory of a segment is.
            unsafe { std::mem::zeroed() }
        }
    }

    /// Whether this thread can use such mutexes: whether the C library knows its number, and the kernel the list of those that it
    /// holds. It does not know of a process that was made by a bare `clone(2)`.
    pub(crate) fn is_for_this_thread() -> bool {
        // SAFETY: zeros are what new memory of a segment is.
        let mutex: Mutex = unsafe { std::mem::zeroed() };
        mutex.begin(Sort::default());
        let Ok(held) = mutex.lock(Sort::default(), Duration::ZERO) else {
            return false;
        };
        let owner = mutex.owner();
        drop(held);
        owner.cast_signed() == gettid().as_raw() && has_robust_list()
    }

    /// Whether the kernel has the list of the robust mutexes that this thread holds.
    fn has_robust_list() -> bool {
        let (mut head, mut len) = (0_usize, 0_usize);
        // SAFETY: a system call that writes two words.
        let result =
            unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut len) };
        // Who may not ask does not know.
        result != 0 || head != 0
    }

    impl Mutex {
        /// Makes it where it lies: in memory that nobody else sees yet.
        #[expect(clippy::multiple_unsafe_ops_per_block, reason = "one initialisation")]
        pub(crate) fn begin(&self, sort: Sort) {
            let mut attributes = MaybeUninit::uninit();
            let place = attributes.as_mut_ptr();
            let protocol = if sort.inherits_priority {
                PTHREAD_PRIO_INHERIT
            } else {
                PTHREAD_PRIO_NONE
            };
            // None of these fails where there are processes to share with: they write attributes, and the words of a mutex.
            // SAFETY: the attributes are initialised first and destroyed last; the place of the mutex is ours alone.
            unsafe {
                libc::pthread_mutexattr_init(place);
                libc::pthread_mutexattr_setpshared(place, libc::PTHREAD_PROCESS_SHARED);
                libc::pthread_mutexattr_setrobust(place, libc::PTHREAD_MUTEX_ROBUST);
                libc::pthread_mutexattr_setprotocol(place, protocol);
                libc::pthread_mutex_init(self.inner.get(), place);
                libc::pthread_mutexattr_destroy(place);
            }
        }

        /// Whether it says that it is of this sort.
        fn is_of(&self, sort: Sort) -> bool {
            self.word_of_sort().load(Ordering::Relaxed) == Self::word_for(sort)
        }

        /// What a mutex of this sort says.
        fn word_for(sort: Sort) -> u32 {
            static PLAIN: OnceLock<u32> = OnceLock::new();
            static INHERITING: OnceLock<u32> = OnceLock::new();
            let known = if sort.inherits_priority {
                &INHERITING
            } else {
                &PLAIN
            };
            let new = || {
                // SAFETY: zeros are a mutex, and if not, it is made one before it is used.
                let mutex: Self = unsafe { std::mem::zeroed() };
                mutex.begin(sort);
                mutex.word_of_sort().load(Ordering::Relaxed)
            };
            *known.get_or_init(new)
        }

        fn word_of_sort(&self) -> &AtomicU32 {
            const { assert!(SORT_OFFSET + size_of::<AtomicU32>() <= size_of::<libc::pthread_mutex_t>()) };
            // SAFETY: within the mutex, as asserted.
            let word = unsafe { self.inner.get().byte_add(SORT_OFFSET) };
            // SAFETY: aligned, since the mutex is and the offset; the C library reads it and, once made, does not write it.
            unsafe { &*word.cast() }
        }

        /// Whether its last owner ended with it held, and nobody has had it since.
        pub(crate) fn is_abandoned(&self) -> bool {
            self.word().load(Ordering::Relaxed) & libc::FUTEX_OWNER_DIED != 0
        }

        /// Locks it, waiting for `patience` at most.
        pub(crate) fn lock(&self, sort: Sort, patience: Duration) -> Result<Held<'_>, Unlocked> {
            if !self.is_of(sort) {
                return Err(Unlocked::Damaged);
            }
            let mut result = self.try_hard();
            if result == libc::EBUSY {
                if sort.inherits_priority && !self.has_owner() {
                    return Err(Unlocked::Damaged);
                }
                result = self.lock_in_time(patience);
            }
            let held = match result {
                0 => self.held(sort, false),
                libc::EOWNERDEAD => self.held(sort, true),
                libc::EBUSY | libc::ETIMEDOUT => return Err(Unlocked::InTime),
                _ => return Err(Unlocked::Damaged),
            };
            // Where priorities are inherited, the C library takes a mutex for its own whose owner is said to have died, though the
            // kernel has not heard of that owner.
            if sort.inherits_priority && self.owner() != gettid().as_raw().cast_unsigned() {
                return Err(Unlocked::Damaged);
            }
            Ok(held)
        }

        /// Unlocks it, whatever it says: until that is done, this thread's list of mutexes leads through it, and whoever locks the
        /// next one would write there, though the mapping may be gone.
        fn unlock(&self, sort: Sort) {
            // SAFETY: this thread holds the mutex.
            let unlock = || unsafe { libc::pthread_mutex_unlock(self.inner.get()) };
            if self.is_of(sort) && unlock() == 0 {
                return;
            }
            // Somebody has scribbled there.
            let own = gettid().as_raw().cast_unsigned();
            self.word().store(own, Ordering::Relaxed);
            self.word_of_sort()
                .store(Self::word_for(sort), Ordering::Relaxed);
            unlock();
        }

        /// Whether there is a thread such as the mutex says that it holds it; or nobody holds it any more. Where priorities are
        /// inherited, the kernel says if there is none, for which the C library would end the process. (Who dies with the mutex
        /// held takes its number away.)
        #[cold]
        fn has_owner(&self) -> bool {
            let first = self.owner();
            // No signal: whether it could be sent. EPERM says that there is somebody.
            let is_none =
                first != 0 && kill(Pid::from_raw(first.cast_signed()), None) == Err(Errno::ESRCH);
            // Who has ended meanwhile has left it.
            !is_none || self.owner() != first
        }

        /// The number of the thread that holds it, with what the kernel needs to know.
        fn word(&self) -> &AtomicU32 {
            // SAFETY: the mutex begins with it, aligned; it is changed atomically.
            unsafe { &*self.inner.get().cast::<AtomicU32>() }
        }

        fn owner(&self) -> u32 {
            self.word().load(Ordering::Relaxed) & libc::FUTEX_TID_MASK
        }

        fn held(&self, sort: Sort, owner_died: bool) -> Held<'_> {
            Held {
                mutex: self,
                sort,
                owner_died,
            }
        }

        fn try_lock(&self) -> libc::c_int {
            // SAFETY: initialised before the segment was published.
            unsafe { libc::pthread_mutex_trylock(self.inner.get()) }
        }

        /// In slices: whoever unlocks wakes one of those who wait, and if that one ends or stands still, or somebody who tried took
        /// the mutex before him, the others sleep on beside a free mutex. And who was stopped himself has not waited all the time: he
        /// waits for some slices more.
        fn lock_in_time(&self, patience: Duration) -> libc::c_int {
            let (begun, slice) = (Instant::now(), SLICE.min(patience));
            let fewest = patience.as_nanos().div_ceil(slice.as_nanos().max(1));
            let fewest = fewest.min(FEWEST_SLICES);
            let mut slices = 0;
            while slices < fewest || begun.elapsed() < patience {
                slices += 1;
                let until = deadline(slice);
                // SAFETY: as in `try_lock`; the deadline outlives the call.
                let result = unsafe {
                    pthread_mutex_clocklock(self.inner.get(), clock::ID, &raw const until)
                };
                match result {
                    libc::ETIMEDOUT => {}
                    // Priority inheritance by the monotonic clock takes Linux 5.14 and glibc 2.34.
                    libc::EINVAL => match self.lock_by_wall_clock(slice) {
                        libc::ETIMEDOUT => {}
                        result => return result,
                    },
                    result => return result,
                }
                let result = self.try_hard();
                if result != libc::EBUSY {
                    return result;
                }
            }
            libc::ETIMEDOUT
        }

        /// Locks it until a time of the clock that people set: who sets it back meanwhile makes that last longer.
        #[cold]
        fn lock_by_wall_clock(&self, timeout: Duration) -> libc::c_int {
            let until = clock::deadline_by(libc::CLOCK_REALTIME, timeout);
            // SAFETY: as in `try_lock`; the deadline outlives the call.
            unsafe { libc::pthread_mutex_timedlock(self.inner.get(), &raw const until) }
        }

        fn try_hard(&self) -> libc::c_int {
            for _ in 0..TRIES {
                let result = self.try_lock();
                if result != libc::EBUSY {
                    return result;
                }
                spin_loop();
            }
            libc::EBUSY
        }
    }

    impl Held<'_> {
        /// Whether the last owner ended with the mutex held, and nobody has repaired what it left.
        pub(crate) fn owner_died(&self) -> bool {
            self.owner_died
        }

        /// Says that what the mutex guards is as it should be.
        pub(crate) fn make_consistent(&mut self) {
            if self.owner_died {
                // SAFETY: this thread holds the mutex, whose last owner died.
                unsafe { libc::pthread_mutex_consistent(self.mutex.inner.get()) };
                self.owner_died = false;
            }
        }

        /// The C library's own, for what unlocks and locks it.
        pub(crate) fn as_ptr(&self) -> *mut libc::pthread_mutex_t {
            self.mutex.inner.get()
        }

        /// Takes note that the C library has locked it again, with this result.
        pub(crate) fn locked_again(&mut self, result: libc::c_int) {
            self.owner_died = result == libc::EOWNERDEAD;
        }

        /// Leaves it locked, as a thread does that ends.
        #[cfg(test)]
        pub(crate) fn keep(self) {
            let _ = ManuallyDrop::new(self);
        }
    }

    impl Drop for Held<'_> {
        fn drop(&mut self) {
            // A thread of a test that ends amid what it does.
            #[cfg(test)]
            if std::thread::panicking() {
                return;
            }
            self.mutex.unlock(self.sort);
        }
    }

    unsafe extern "C" {
        /// Since glibc 2.30.
        fn pthread_mutex_clocklock(
            mutex: *mut libc::pthread_mutex_t,
            clock: libc::clockid_t,
            until: *const libc::timespec,
        ) -> libc::c_int;
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use std::thread;

        const PATIENCE: Duration = Duration::from_millis(20);

        fn each_sort(test: impl Fn(Sort, &Mutex)) {
            for inherits_priority in [false, true] {
                let sort = Sort { inherits_priority };
                let mutex = Mutex::new();
                mutex.begin(sort);
                test(sort, &mutex);
            }
        }

        /// Lets another thread lock it and end.
        fn die_with(mutex: &Mutex, sort: Sort) {
            thread::scope(|scope| {
                let thread = scope.spawn(|| mutex.lock(sort, PATIENCE).unwrap().keep());
                thread.join().unwrap();
            });
        }

        #[test]
        fn a_mutex_held_by_another_thread_is_not_had_in_time() {
            each_sort(|sort, mutex| {
                let held = mutex.lock(sort, PATIENCE).unwrap();
                thread::scope(|scope| {
                    let other = scope.spawn(|| mutex.lock(sort, PATIENCE).err());
                    assert_eq!(other.join().unwrap(), Some(Unlocked::InTime));
                });
                drop(held);
                assert!(!mutex.lock(sort, PATIENCE).unwrap().owner_died());
            });
        }

        #[test]
        fn waiting_by_the_wall_clock_ends_as_well() {
            each_sort(|sort, mutex| {
                let held = mutex.lock(sort, PATIENCE).unwrap();
                thread::scope(|scope| {
                    let other = scope.spawn(|| mutex.lock_by_wall_clock(PATIENCE));
                    assert_eq!(other.join().unwrap(), libc::ETIMEDOUT);
                });
                drop(held);
                assert_eq!(mutex.lock_by_wall_clock(PATIENCE), 0);
                mutex.unlock(sort);
            });
        }

        #[test]
        fn a_thread_that_ends_leaves_its_mutex_to_the_next_one_until_it_is_consistent() {
            each_sort(|sort, mutex| {
                assert!(!mutex.is_abandoned());
                die_with(mutex, sort);
                assert!(mutex.is_abandoned());
                let mut held = mutex.lock(sort, PATIENCE).unwrap();
                assert!(held.owner_died());
                held.make_consistent();
                drop(held);
                assert!(!mutex.is_abandoned());
                assert!(!mutex.lock(sort, PATIENCE).unwrap().owner_died());
            });
        }

        #[test]
        fn who_dies_amid_the_repair_leaves_it_to_the_next_one() {
            each_sort(|sort, mutex| {
                die_with(mutex, sort);
                die_with(mutex, sort);
                assert!(mutex.lock(sort, PATIENCE).unwrap().owner_died());
            });
        }

        #[test]
        fn one_that_was_unlocked_in_disorder_is_an_error_from_then_on() {
            each_sort(|sort, mutex| {
                die_with(mutex, sort);
                drop(mutex.lock(sort, PATIENCE).unwrap());
                assert_eq!(mutex.lock(sort, PATIENCE).err(), Some(Unlocked::Damaged));
            });
        }

        #[test]
        fn a_mutex_of_another_sort_is_an_error() {
            each_sort(|sort, mutex| {
                for bytes in [0, u32::MAX, 1, 128] {
                    let good = mutex.word_of_sort().swap(bytes, Ordering::Relaxed);
                    assert_ne!(good, bytes);
                    assert_eq!(mutex.lock(sort, PATIENCE).err(), Some(Unlocked::Damaged));
                    mutex.word_of_sort().store(good, Ordering::Relaxed);
                }
            });
        }

        #[test]
        fn an_owner_that_is_made_up_is_not_waited_for_without_end() {
            each_sort(|sort, mutex| {
                // The number of a thread that is none, as if it held the mutex.
                mutex.word().store(0x3fff_fff0, Ordering::Relaxed);
                assert!(mutex.lock(sort, PATIENCE).is_err());
            });
        }
    }
}

#[cfg(loom)]
pub(crate) use model::Held;

#[cfg(loom)]
mod model {
    use super::{Duration, Mutex, Sort};
    use crate::sync::{self, Fault, planted};

    /// The mutex, held; or not, if that fault is planted.
    pub(crate) struct Held<'a>(Option<Guard<'a>>);

    #[cfg(not(shuttle))]
    type Guard<'a> = loom::sync::MutexGuard<'a, ()>;
    #[cfg(shuttle)]
    type Guard<'a> = shuttle::sync::MutexGuard<'a, ()>;

    #[derive(Debug)]
    pub(crate) enum Unlocked {}

    impl Mutex {
        pub(crate) fn new() -> Self {
            Self {
                inner: sync::Mutex::new(()),
            }
        }

        pub(crate) fn is_abandoned(&self) -> bool {
            false
        }

        /// Waits without a timeout, and nobody dies: a model's threads end with nothing held. Deaths amid what a mutex guards are
        /// another test's.
        pub(crate) fn lock(&self, _: Sort, _: Duration) -> Result<Held<'_>, Unlocked> {
            let guard = (!planted(Fault::MutexNotLocked)).then(|| self.inner.lock().unwrap());
            Ok(Held(guard))
        }
    }

    impl Held<'_> {
        pub(crate) fn owner_died(&self) -> bool {
            false
        }

        pub(crate) fn make_consistent(&mut self) {}
    }
}
