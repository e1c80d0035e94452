//! Children that are copies of one process. That one is started once, by executing the test binary; each copy begins in the
//! time of a fork, and is a child of the test like any other.
#![allow(unsafe_code, reason = "clone")]

use crate::child::{PATIENCE, state};
use crate::stage::{Parent, Role, role_of};
use crate::{Child, Stage};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, clone};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{Pid, gettid};
use std::fs;
use std::os::fd::{AsFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::process;
use std::thread;

/// The role of the process that is copied.
pub(crate) const ORIGIN: &str = "origin";

const STACK: usize = 1 << 20;

/// Where copies come from.
#[derive(Debug)]
pub struct Nursery {
    origin: Child,
}

impl Nursery {
    /// One whose children play the roles of `stage`.
    ///
    /// # Panics
    ///
    /// If the system refuses.
    pub fn of(stage: &Stage) -> Self {
        Self {
            origin: stage.start(ORIGIN, &[]),
        }
    }

    /// The process that is copied.
    pub fn id(&self) -> u32 {
        self.origin.id()
    }

    /// Waits until the process that was copied has ended well.
    ///
    /// # Panics
    ///
    /// As for [`Child::finish`].
    pub fn finish(self) {
        self.origin.finish();
    }

    /// Starts a child that plays `role`. It hears nothing and is not heard.
    ///
    /// # Panics
    ///
    /// If there is no such role, or the system refuses.
    pub fn start(&mut self, role: &str, arguments: &[&str]) -> Fork {
        self.origin.say(&[&[role], arguments].concat().join("\t"));
        let pid = self.origin.hear().parse().expect("a pid");
        Fork {
            role: role.to_owned(),
            pid: Pid::from_raw(pid),
            is_over: false,
        }
    }
}

/// Plays the process that is copied, until the test hangs up.
pub(crate) fn serve(roles: &[(&'static str, Role)], parent: &mut Parent) -> ! {
    let mut stack = vec![0; STACK];
    loop {
        let line = parent.hear();
        let mut words = line.split('\t').map(str::to_owned);
        let play = role_of(roles, &words.next().expect("the role"));
        let mut copys_parent = Parent::of_this_process(words.collect());
        let copy = || {
            Parent::ends_with_us();
            // The C library does not know of this copy: the number that it has for this thread is the origin's, and its list of
            // robust mutexes is nobody's. Of a thread that it starts it knows.
            thread::scope(|scope| {
                let played = scope.spawn(|| play(&mut copys_parent)).join();
                process::exit(i32::from(played.is_err()))
            })
        };
        while !others_sleep() {
            thread::yield_now();
        }
        // SAFETY: this thread alone is copied, and no other holds a lock; the child has its own copy of the stack, on which
        // nobody is.
        let pid = unsafe { clone(Box::new(copy), &mut stack, CloneFlags::CLONE_PARENT, None) };
        parent.tell(pid.expect("the process can be copied"));
    }
}

/// Whether no other thread of this process can hold what a copy would wait for. There is the harness's, which does nothing but
/// wait for ours.
fn others_sleep() -> bool {
    let own = gettid().to_string();
    let threads = fs::read_dir("/proc/self/task").expect("/proc is there");
    threads
        .map(|thread| thread.expect("/proc is there"))
        .filter(|thread| *thread.file_name() != *own)
        .all(|thread| state(thread.path().join("stat")) == 'S')
}

/// A child out of a [`Nursery`]. Killed, if need be, when dropped.
#[derive(Debug)]
pub struct Fork {
    role: String,
    pid: Pid,
    is_over: bool,
}

impl Fork {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.pid.as_raw() as u32
    }

    /// Its state by the kernel's word, as `proc(5)` names them.
    pub fn state(&self) -> char {
        state(format!("/proc/{}/stat", self.pid))
    }

    /// Has it killed, and does not wait for that.
    ///
    /// # Panics
    ///
    /// If the system refuses.
    pub fn kill(&self) {
        kill(self.pid, Signal::SIGKILL).expect("it is our child");
    }

    /// Waits until it is gone that has been killed. True if it had ended well before.
    ///
    /// # Panics
    ///
    /// If it ended for a reason of its own.
    pub fn bury(&mut self) -> bool {
        let status = waitpid(self.pid, None).expect("it is our child");
        self.is_over = true;
        match status {
            WaitStatus::Signaled(_, Signal::SIGKILL, _) => false,
            WaitStatus::Exited(_, 0) => true,
            status => panic!("{}: {status:?}", self.role),
        }
    }

    /// Waits until it has ended well.
    ///
    /// # Panics
    ///
    /// If it ends otherwise, or does not end.
    pub fn finish(&mut self) {
        let process = pidfd_open(self.pid).expect("it is our child");
        let patience = PollTimeout::try_from(PATIENCE).expect("it is short");
        // Readable from its end on.
        let mut end = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
        let ended = poll(&mut end, patience).expect("the system polls");
        assert_eq!(ended, 1, "{} hangs", self.role);
        let status = waitpid(self.pid, None).expect("it is our child");
        self.is_over = true;
        assert_eq!(status, WaitStatus::Exited(self.pid, 0), "{}", self.role);
    }

    /// Stops it (SIGSTOP), and waits until it stands still.
    ///
    /// # Panics
    ///
    /// If it ended before.
    pub fn stop(&self) {
        kill(self.pid, Signal::SIGSTOP).expect("it is our child");
        let how = WaitPidFlag::WSTOPPED | WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        let status = waitid(Id::Pid(self.pid), how).expect("it is our child");
        assert_eq!(
            status,
            WaitStatus::Stopped(self.pid, Signal::SIGSTOP),
            "{}",
            self.role
        );
    }

    /// Lets it go on.
    ///
    /// # Panics
    ///
    /// If the system refuses.
    pub fn go_on(&self) {
        kill(self.pid, Signal::SIGCONT).expect("it is our child");
    }
}

/// A descriptor of a child.
fn pidfd_open(pid: Pid) -> Result<OwnedFd, Errno> {
    // SAFETY: a system call without memory; no flags.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    let descriptor = Errno::result(descriptor)?;
    // SAFETY: just opened, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor as RawFd) })
}

impl Drop for Fork {
    fn drop(&mut self) {
        if !self.is_over {
            let _: Result<(), Errno> = kill(self.pid, Signal::SIGKILL);
            let _ = waitpid(self.pid, None);
        }
    }
}
