//! By which words each end of a ring is called when it sleeps.

use crate::layout::{Call, attention};
use crate::ring::{End, Slots, lanes, locked, mpsc, spsc};
use crate::sync::{AtomicU64, Fault, Ordering, planted};
use crate::sys::futex::Futex;

/// An end of a ring, as a sleeper.
pub(crate) trait Called {
    /// Whether the words may ask for fences: they are written by this sleeper alone, and only by what follows.
    fn may_ask_for_fences(&self) -> bool;

    /// What it sleeps on.
    fn futex(&self) -> &Futex;

    /// Arms all words with a number that was never answered, later than `number`, and with `fence`, which is
    /// [`attention::FENCE`] or 0. Answers the number.
    fn arm(&mut self, number: u64, fence: u64) -> u64;

    /// Takes `number` back where it was not answered.
    fn disarm(&mut self, number: u64, fence: u64);
}

/// For ends that are the only writer of their attention word.
macro_rules! sole {
    ($end:ty, $to:ident) => {
        impl<S: Slots> Called for $end {
            fn may_ask_for_fences(&self) -> bool {
                true
            }

            fn futex(&self) -> &Futex {
                self.ring().$to().futex
            }

            fn arm(&mut self, number: u64, fence: u64) -> u64 {
                let call = self.ring().$to();
                let number = unanswered(number, call.answered);
                arm(call.attention, number, fence);
                number
            }

            fn disarm(&mut self, number: u64, fence: u64) {
                disarm(self.ring().$to(), number, fence);
            }
        }
    };
}

sole!(spsc::Producer<S>, to_senders);
sole!(spsc::Consumer<S>, to_receivers);
sole!(mpsc::Consumer<S>, to_receivers);
sole!(lanes::Producer<S>, to_senders);

/// A number after `number` that is not the last one answered. Only numbers that were armed are ever answered, in this
/// session or an earlier one, so one step past the last answer suffices.
fn unanswered(number: u64, answered: &AtomicU64) -> u64 {
    if planted(Fault::NumberReused) {
        return attention::STEP;
    }
    let mut number = attention::next(number);
    while number == 0 || number == answered.load(Ordering::Relaxed) {
        number = attention::next(number);
    }
    number
}

/// Arms a word that has one writer. Relaxed: ordered against the look to come by the barrier.
fn arm(word: &AtomicU64, number: u64, fence: u64) {
    word.store(attention::armed(number) | fence, Ordering::Relaxed);
}

/// Disarms a word that has one writer.
fn disarm(call: Call<'_>, number: u64, fence: u64) {
    // A number that was answered needs no withdrawal: that would only cost the waker its line.
    if call.answered.load(Ordering::Relaxed) != number {
        call.attention.store(fence, Ordering::Relaxed);
    }
}

/// For ends that share their attention word with others.
macro_rules! shared {
    ($end:ty, $to:ident) => {
        impl<S: Slots> Called for $end {
            fn may_ask_for_fences(&self) -> bool {
                false
            }

            fn futex(&self) -> &Futex {
                self.ring().$to().futex
            }

            fn arm(&mut self, _: u64, _: u64) -> u64 {
                arm_with_others(self.ring().$to().attention)
            }

            fn disarm(&mut self, _: u64, _: u64) {
                if planted(Fault::DisarmedForAll) {
                    let word = self.ring().$to().attention;
                    word.store(0, Ordering::Relaxed);
                }
            }
        }
    };
}

shared!(mpsc::Producer<S>, to_senders);
shared!(locked::Producer<S>, to_senders);
shared!(locked::Consumer<S>, to_receivers);

/// Arms a word that has several writers by a number of its own, and answers it.
fn arm_with_others(word: &AtomicU64) -> u64 {
    let step = attention::armed(attention::STEP);
    // Relaxed: as for `arm`. Number 0 comes round once in 2^61 sleeps.
    let before = if planted(Fault::NumberShared) {
        let before = word.load(Ordering::Relaxed);
        word.store(before.wrapping_add(step), Ordering::Relaxed);
        before
    } else {
        word.fetch_add(step, Ordering::Relaxed)
    };
    attention::number(before.wrapping_add(step))
}

/// The receiver has one word a lane.
impl<S: Slots + Clone> Called for lanes::Consumer<S> {
    fn may_ask_for_fences(&self) -> bool {
        !self.marks_idle()
    }

    fn futex(&self) -> &Futex {
        lanes::Consumer::futex(self)
    }

    fn arm(&mut self, number: u64, fence: u64) -> u64 {
        self.arming();
        let number = match attention::next(number) {
            0 => attention::STEP,
            number => number,
        };
        for call in self.calls() {
            arm(call.attention, number, fence);
            if planted(Fault::OneLaneArmed) {
                break;
            }
        }
        number
    }

    fn disarm(&mut self, number: u64, fence: u64) {
        for call in self.calls() {
            disarm(call, number, fence);
        }
        self.disarmed();
    }
}
