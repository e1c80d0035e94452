//! What a fork does to the handles of a process, and how they notice.
//!
//! Segments are mapped `MADV_DONTFORK`: a child has nothing behind its copies of the parent's handles, and its
//! next mapping may land at the same address. So every operation first compares a word on a page that the
//! kernel wipes in the child (`MADV_WIPEONFORK`) with the [`Token`] that the handle took when it was made.
//!
//! A child may open rings of its own: its tokens differ from those of the parent's handles that it inherited.
//! `vfork` and `clone(CLONE_VM)` share the memory and the token, as they should. A raw `clone` system call
//! without `CLONE_VM` wipes the page as well; only the [`hold`] below does not see it. Nor does it see `posix_spawn`,
//! whose child has a copy of our descriptors until its exec: a lock that is taken in that moment seems held for as long.
//!
//! A child that shares the memory could store into it. So a process that is killed while it has one is dead, by the lock, once
//! that one has executed its program or ended.
#![allow(unsafe_code, reason = "mmap, madvise and pthread_atfork")]

use crate::sync::{AtomicU64, Ordering};
use nix::errno::Errno;
use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::ptr;
use std::sync::OnceLock;

/// Proof that a handle was made in this process and not inherited by fork.
#[derive(Clone, Copy)]
pub(crate) struct Token {
    page: &'static AtomicU64,
    value: u64,
}

impl Token {
    /// True in the process that made the handle.
    #[inline(always)]
    pub(crate) fn is_current(&self) -> bool {
        // Relaxed: the word changes only by the fork itself.
        self.page.load(Ordering::Relaxed) == self.value
    }
}

static PAGE: OnceLock<Result<&'static AtomicU64, Errno>> = OnceLock::new();

/// Ordinary memory, so a child goes on counting where its parent was: no two generations share a value.
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// Keeps this process from forking until dropped. A join must not be forked in the middle: a child's copy of
/// the descriptor through which the participant's lock is taken would keep that lock beyond the parent's death.
pub(crate) struct Hold {
    /// A pthread mutex is unlocked by the thread that locked it.
    not_send: PhantomData<*const ()>,
}

/// Waits for other joins of this process to end and holds off its forks.
pub(crate) fn hold() -> Hold {
    lock();
    Hold {
        not_send: PhantomData,
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        unlock();
    }
}

impl Hold {
    /// The token of this process, for a handle made under this hold.
    pub(crate) fn token(&self) -> Result<Token, Errno> {
        let page = (*PAGE.get_or_init(map_page))?;
        // The hold orders this against every other caller.
        if page.load(Ordering::Relaxed) == 0 {
            let value = GENERATION.fetch_add(1, Ordering::Relaxed) + 1;
            page.store(value, Ordering::Relaxed);
        }
        Ok(Token {
            page,
            value: page.load(Ordering::Relaxed),
        })
    }
}

fn map_page() -> Result<&'static AtomicU64, Errno> {
    let len = crate::sys::map::page_size();
    // SAFETY: a new anonymous mapping at an address of the kernel's choice overlaps nothing.
    let page = unsafe {
        libc::mmap(
            ptr::null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if page == libc::MAP_FAILED {
        return Err(Errno::last());
    }
    // SAFETY: the range is the mapping made above.
    if unsafe { libc::madvise(page, len, libc::MADV_WIPEONFORK) } != 0 {
        let error = Errno::last();
        // SAFETY: nobody else has seen the mapping.
        unsafe { libc::munmap(page, len) };
        return Err(error);
    }
    // SAFETY: the page is zeroed, aligned, never unmapped, and reached only through this atomic.
    Ok(unsafe { AtomicU64::from_ptr(page.cast()) })
}

/// A plain pthread mutex, because fork's handlers must lock and unlock it in different functions.
struct ForkMutex(UnsafeCell<libc::pthread_mutex_t>);

// SAFETY: it is reached only through pthread_mutex_lock and pthread_mutex_unlock.
unsafe impl Sync for ForkMutex {}

static MUTEX: ForkMutex = ForkMutex(UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER));

/// Registered when the program is loaded, before it has threads: a fork that overtook a registration at first use would
/// leave the child with half of one.
#[used]
// The loader calls the functions in this section; their arguments do not matter to one that takes none.
#[unsafe(link_section = ".init_array")]
static REGISTER: extern "C" fn() = register;

extern "C" fn register() {
    // An allocator that has fork handlers of its own registers them at first use at the latest. Prepare handlers run in
    // reverse order, and joins allocate under our mutex: so ours has to be registered after, and locked before, its own.
    drop(std::hint::black_box(Box::new(0_u8)));
    // The only error is ENOMEM: without the handlers, a fork in the window is as unguarded as a raw clone.
    // SAFETY: the handlers are functions without captures that live as long as the program.
    unsafe { libc::pthread_atfork(Some(lock), Some(unlock), Some(unlock)) };
}

extern "C" fn lock() {
    // SAFETY: a statically initialised mutex that is never moved or destroyed.
    unsafe { libc::pthread_mutex_lock(MUTEX.0.get()) };
}

extern "C" fn unlock() {
    // SAFETY: locked by this thread, in `lock`; in a forked child by the thread that it is a copy of.
    unsafe { libc::pthread_mutex_unlock(MUTEX.0.get()) };
}
