//! A child process, and a watchdog over every wait for it.

use crate::stage::MARK;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{self, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// No test waits longer for anything: what takes so long hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A process that plays a role. Killed, if need be, when dropped.
#[derive(Debug)]
pub struct Child {
    role: String,
    process: process::Child,
    lines: Receiver<String>,
    thread: i32,
}

impl Child {
    /// Of a process that was started to play `role`, with pipes.
    pub(crate) fn new(role: &str, mut process: process::Child) -> Self {
        let stdout = process.stdout.take().expect("piped");
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some((_, told)) = line.split_once(MARK)
                    && sender.send(told.to_owned()).is_err()
                {
                    return;
                }
            }
        });
        let mut child = Self {
            role: role.to_owned(),
            process,
            lines,
            thread: 0,
        };
        child.thread = child
            .hear()
            .parse()
            .expect("a child begins with its thread's id");
        child
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The id of the thread that plays the role.
    pub fn thread(&self) -> i32 {
        self.thread
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.process.id() as i32)
    }

    /// Waits for a line that it tells.
    ///
    /// # Panics
    ///
    /// If it ends, or keeps silent for too long.
    pub fn hear(&mut self) -> String {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => panic!("{} hangs: {}", self.role, self.doing()),
            Err(RecvTimeoutError::Disconnected) => {
                panic!("{} ended: {:?}", self.role, self.process.wait())
            }
        }
    }

    /// Says a line to it.
    ///
    /// # Panics
    ///
    /// If it has ended.
    pub fn say(&mut self, line: &str) {
        let stdin = self.process.stdin.as_mut().expect("piped");
        writeln!(stdin, "{line}").expect("the child listens");
    }

    /// Waits until it has ended well.
    ///
    /// # Panics
    ///
    /// If it ends otherwise, or does not end.
    pub fn finish(self) {
        let role = self.role.clone();
        let status = self.end();
        assert!(status.success(), "{role}: {status}");
    }

    /// Waits until it has ended.
    ///
    /// # Panics
    ///
    /// If it does not end.
    pub fn end(mut self) -> ExitStatus {
        drop(self.process.stdin.take());
        let until = Instant::now() + PATIENCE;
        loop {
            match self
                .lines
                .recv_timeout(until.saturating_duration_since(Instant::now()))
            {
                Ok(_) => {}
                // Its end of the pipe is closed: it is on its way out.
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("{} hangs: {}", self.role, self.doing()),
            }
        }
        self.process.wait().expect("it is our child")
    }

    /// Kills it, and waits until it is gone.
    ///
    /// # Panics
    ///
    /// If it ended before, for a reason of its own.
    pub fn kill(mut self) {
        self.kill_now();
    }

    /// The same, if its handle is to be replaced, or its children that have its pipes are to be talked to.
    ///
    /// # Panics
    ///
    /// As for [`kill`](Self::kill).
    pub fn kill_now(&mut self) {
        self.process.kill().expect("it is our child");
        let status = self.reap();
        assert_eq!(
            status.signal(),
            Some(libc::SIGKILL),
            "{}: {status}",
            self.role
        );
    }

    /// Kills it, and leaves it as a zombie, which still has its pid.
    ///
    /// # Panics
    ///
    /// If the system refuses.
    pub fn kill_unreaped(&mut self) {
        self.process.kill().expect("it is our child");
        let ended = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        waitid(Id::Pid(self.pid()), ended).expect("it is our child");
        assert_eq!(state_of(self.id()), 'Z');
    }

    /// Waits until it has ended, for whatever reason. Its children that have its pipes can be talked to all the same.
    ///
    /// # Panics
    ///
    /// If the system refuses.
    pub fn reap(&mut self) -> ExitStatus {
        // Which waiting would close.
        let input = self.process.stdin.take();
        let status = self.process.wait().expect("it is our child");
        self.process.stdin = input;
        status
    }

    /// Stops it (SIGSTOP), and waits until it stands still.
    ///
    /// # Panics
    ///
    /// If the system refuses.
    pub fn stop(&mut self) {
        kill(self.pid(), Signal::SIGSTOP).expect("it is our child");
        let stopped = WaitPidFlag::WSTOPPED | WaitPidFlag::WNOWAIT;
        waitid(Id::Pid(self.pid()), stopped).expect("it is our child");
    }

    /// Lets it go on.
    ///
    /// # Panics
    ///
    /// If the system refuses.
    pub fn go_on(&mut self) {
        kill(self.pid(), Signal::SIGCONT).expect("it is our child");
    }

    /// Waits until the thread that plays the role sleeps on a futex, or polls descriptors.
    ///
    /// # Panics
    ///
    /// If it does not come to that.
    pub fn wait_until_asleep(&mut self) {
        let until = Instant::now() + PATIENCE;
        while !self.is_asleep() {
            assert!(
                Instant::now() < until,
                "{} stays awake: {}",
                self.role,
                self.doing()
            );
            thread::yield_now();
        }
    }

    /// How often the thread that plays the role has gone to sleep.
    ///
    /// # Panics
    ///
    /// If it has ended.
    pub fn sleeps(&self) -> u64 {
        sleeps_of(self.id(), self.thread).expect("the child lives")
    }

    /// Waits until the thread that plays the role has slept so often since now, and sleeps again, as one that waits in
    /// slices does.
    ///
    /// # Panics
    ///
    /// If it does not come to that.
    pub fn wait_until_slept(&mut self, times: u64) {
        self.wait_until_slept_since(self.sleeps(), times);
    }

    /// The same, since it had gone to sleep `before` times.
    ///
    /// # Panics
    ///
    /// If it does not come to that.
    pub fn wait_until_slept_since(&mut self, before: u64, times: u64) {
        let until = Instant::now() + PATIENCE;
        let enough = before + times;
        while self.sleeps() < enough {
            assert!(
                Instant::now() < until,
                "{} stays awake: {}",
                self.role,
                self.doing()
            );
            thread::sleep(Duration::from_millis(1));
        }
        self.wait_until_asleep();
    }

    fn is_asleep(&self) -> bool {
        let stat = format!("/proc/{}/task/{}/stat", self.id(), self.thread);
        // Kernels that hide the place say "0".
        state(stat) == 'S'
            && ["0", "futex", "poll", "do_poll", "do_sys_poll"]
                .iter()
                .any(|&place| self.doing().starts_with(place))
    }

    /// The place in the kernel where its thread is, for people.
    fn doing(&self) -> String {
        let path = format!("/proc/{}/task/{}/wchan", self.id(), self.thread);
        fs::read_to_string(path).unwrap_or_else(|error| error.to_string())
    }
}

/// How often a thread of a process has gone to sleep. None if it has ended.
///
/// # Panics
///
/// If the kernel does not count that.
pub fn sleeps_of(process: u32, thread: i32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/task/{thread}/status")).ok()?;
    let mut lines = status.lines();
    let count = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    let count = count.and_then(|count| count.trim().parse().ok());
    Some(count.expect("the kernel counts"))
}

/// The state of a process, as `ps` shows it: of its first thread, that is. `?` if there is no such process.
pub fn state_of(process: u32) -> char {
    state(format!("/proc/{process}/stat"))
}

/// The state of a process or thread, by its `stat` file.
pub(crate) fn state(file: impl AsRef<Path>) -> char {
    let stat = fs::read_to_string(file).unwrap_or_default();
    // The name before it, in parentheses, may hold anything.
    let state = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    state.unwrap_or('?')
}

impl Drop for Child {
    fn drop(&mut self) {
        // Fails if it was waited for, which is what is wanted.
        let _ = self.process.kill();
        // If this thread traces it, nobody else is told that it is gone, and the process not before that.
        let thread = Pid::from_raw(self.thread);
        while let Ok(status) = waitpid(thread, Some(WaitPidFlag::__WALL)) {
            if matches!(status, WaitStatus::Exited(..) | WaitStatus::Signaled(..)) {
                break;
            }
        }
        let _ = self.process.wait();
    }
}
