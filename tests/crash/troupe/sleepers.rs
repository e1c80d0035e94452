//! Participants that sleep in a call: each on a thread of its own, which is watched for how often it sleeps until it is told.

use std::fs;
use std::process;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ipc_ring_tests::sleeps_of;
use nix::unistd::gettid;

use crate::event::{Event, RECEIVER, Seat};
use crate::message::Words;
use crate::ring::Carries;
use crate::troupe::{Handle, Handles, PATIENCE, received, sent};

/// Somebody who waits sleeps so many slices at most once there is something to be told: one in which it happens, and one more
/// if others were asked for first.
const MOST_SLEEPS: u64 = 2;

/// What a call on another thread came to, with the handle, and how often it went to sleep.
type Awakened<const N: usize, K> = Result<(Handle<N, K>, Event, u64)>;

/// A participant that waits on another thread.
pub(super) struct Sleeper<const N: usize, K: Carries> {
    thread: i32,
    /// How often it had gone to sleep when it was last looked at.
    sleeps: u64,
    /// Disconnected when it ends.
    end: Receiver<i32>,
    result: JoinHandle<Awakened<N, K>>,
}

impl<const N: usize, K: Carries> Handles<N, K> {
    pub(super) fn sleep(&mut self, seat: Seat) -> Result<()> {
        const LONG: Duration = Duration::from_secs(60);

        let (tell, hear) = channel();
        let result: JoinHandle<Awakened<N, K>> = if seat == RECEIVER {
            let mut receiver = self.receiver.take().context("no receiver is attached")?;
            thread::spawn(move || {
                let _told = tell_thread(tell)?;
                let event = received(receiver.recv_timeout(LONG))?;
                Ok((Handle::Receiver(receiver), event, own_sleeps()?))
            })
        } else {
            let tag = self.next_tag(seat);
            let mut sender = self
                .senders
                .remove(&seat)
                .context("no such sender is attached")?;
            thread::spawn(move || {
                let _told = tell_thread(tell)?;
                let event = sent(tag, sender.send_timeout(Words::new(tag), LONG))?;
                Ok((Handle::Sender(sender), event, own_sleeps()?))
            })
        };
        let thread = hear.recv().context("the sleeper ended")?;
        wait_until_asleep(thread, &result)?;
        let sleeps = sleeps_of(process::id(), thread).context("the sleeper ended")?;
        self.sleepers.insert(
            seat,
            Sleeper {
                thread,
                sleeps,
                end: hear,
                result,
            },
        );
        self.say(Event::Asleep(seat))
    }

    /// From now on, whoever sleeps is to be called, or to look for itself, without sleeping for long.
    pub(crate) fn watch_sleepers(&mut self) {
        for sleeper in self.sleepers.values_mut() {
            if let Some(sleeps) = sleeps_of(process::id(), sleeper.thread) {
                sleeper.sleeps = sleeps;
            }
        }
    }

    /// Waits until who sleeps is told what it waits for, or has looked so often that it would have been. Whether it is awake.
    pub(crate) fn awaken_if_told(&mut self, seat: Seat) -> Result<bool> {
        let sleeper = self.sleepers.get_mut(&seat);
        let sleeper = sleeper.context("nobody sleeps there")?;
        // Its end is announced; how often it has slept is not, so that is looked at in between.
        while sleeper.end.recv_timeout(Duration::from_millis(1)) == Err(RecvTimeoutError::Timeout) {
            if let Some(sleeps) = sleeps_of(process::id(), sleeper.thread)
                && sleeps > sleeper.sleeps + MOST_SLEEPS
            {
                sleeper.sleeps = sleeps;
                self.say(Event::SleepsOn(seat))?;
                return Ok(false);
            }
        }
        self.awaken(seat)?;
        Ok(true)
    }

    /// Waits until who sleeps is told what it waits for.
    pub(crate) fn awaken(&mut self, seat: Seat) -> Result<Event> {
        let sleeper = self.sleepers.remove(&seat).context("nobody sleeps there")?;
        let result = sleeper.result.join();
        let result = result.map_err(|_| anyhow::anyhow!("a sleeper panicked"))?;
        let (handle, event, sleeps) = result?;
        self.hold(seat, handle);
        if seat != RECEIVER && !matches!(event, Event::Sent(_)) {
            self.not_sent(seat);
        }
        self.say(event.clone())?;
        let slept = sleeps.saturating_sub(sleeper.sleeps);
        ensure!(
            slept <= MOST_SLEEPS,
            "{seat} went to sleep {slept} times more before it was told {event}"
        );
        Ok(event)
    }
}

/// Tells which thread this is; and that it has ended, when the result is dropped.
fn tell_thread(tell: Sender<i32>) -> Result<Sender<i32>> {
    tell.send(gettid().as_raw())?;
    Ok(tell)
}

fn own_sleeps() -> Result<u64> {
    sleeps_of(process::id(), gettid().as_raw()).context("the kernel does not count sleeps")
}

fn wait_until_asleep<R>(thread: i32, result: &JoinHandle<R>) -> Result<()> {
    let wchan = format!("/proc/self/task/{thread}/wchan");
    let stat = format!("/proc/self/task/{thread}/stat");
    let until = Instant::now() + PATIENCE;
    loop {
        let stat = fs::read_to_string(&stat).unwrap_or_default();
        let sleeps = stat
            .rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with('S'));
        let place = fs::read_to_string(&wchan).unwrap_or_default();
        // Kernels that hide the place say "0".
        let asleep = ["futex", "poll", "do_poll", "do_sys_poll"];
        let waits = asleep.iter().any(|&asleep| place.starts_with(asleep));
        if sleeps && (waits || place == "0") {
            return Ok(());
        }
        ensure!(!result.is_finished(), "who was to sleep has returned");
        ensure!(Instant::now() < until, "who was to sleep stays awake");
        thread::yield_now();
    }
}
