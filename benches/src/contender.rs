//! What a contender has to offer, and how its two patterns are run.
//!
//! All contenders do the same work in the same loops: a round trip fills a message, has the other side send it back
//! and checks it; a stream fills numbered messages on one side and checks every byte of them on the other.

use anyhow::{Result, ensure};

use crate::{
    machine::{Cores, Meeting, Side},
    message::{Message, Numbers},
    timed_loop::Layout,
    worker::{Leg, Separation, run},
};

/// A channel in one direction. It is made before the two sides part and opened once on either.
pub(crate) trait Channel: Sized + Sync + 'static {
    type Sender<'a>;
    type Receiver<'a>;

    /// Prepares what the sides share.
    fn prepare() -> Result<Self>;

    fn sender(&self) -> Result<Self::Sender<'_>>;

    fn receiver(&self) -> Result<Self::Receiver<'_>>;
}

/// Sends a message at a time, waiting for room.
pub(crate) trait Send<const WORDS: usize> {
    fn send(&mut self, message: Message<WORDS>);
}

/// Receives a message at a time, waiting for it.
pub(crate) trait Receive<const WORDS: usize> {
    fn receive(&mut self) -> Message<WORDS>;
}

/// Produces a stream of numbered messages.
pub(crate) trait Produce<const WORDS: usize> {
    fn produce(&mut self, numbers: Numbers);
}

/// Consumes a stream of numbered messages and returns in which bits they differ from what they should be.
pub(crate) trait Consume<const WORDS: usize> {
    fn consume(&mut self, numbers: Numbers) -> u64;
}

impl<const WORDS: usize, S: Send<WORDS>> Produce<WORDS> for S {
    #[inline(always)]
    fn produce(&mut self, numbers: Numbers) {
        for number in numbers {
            self.send(Message::numbered(number));
        }
    }
}

impl<const WORDS: usize, R: Receive<WORDS>> Consume<WORDS> for R {
    #[inline(always)]
    fn consume(&mut self, numbers: Numbers) -> u64 {
        let mut difference = 0;
        for number in numbers {
            difference |= self.receive().difference(number);
        }
        difference
    }
}

/// How one run is to go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) cores: Cores,
    pub(crate) separation: Separation,
    /// Messages that are timed.
    pub(crate) timed: u64,
    /// Messages before them that are not.
    pub(crate) warm_up: u64,
    /// Which copy of its loop each side runs.
    pub(crate) layouts: [Layout; 2],
}

impl Plan {
    fn numbers(self) -> [Numbers; 2] {
        [0..self.warm_up, self.warm_up..self.warm_up + self.timed]
    }
}

/// What one run gave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub(crate) nanoseconds_per_message: f64,
    pub(crate) preemptions: u64,
}

impl Outcome {
    /// From the first leg's beginning to the end of the leg that ends the pattern.
    fn new(plan: &Plan, legs: [Leg; 2], last: usize) -> Result<Self> {
        ensure!(
            legs.iter().all(|leg| leg.difference == 0),
            "messages arrived that were lost, doubled, reordered or torn"
        );
        let elapsed = legs[last].ended.since(legs[0].began);
        Ok(Self {
            nanoseconds_per_message: elapsed.as_nanos() as f64 / plan.timed as f64,
            preemptions: legs.iter().map(|leg| leg.preemptions).sum(),
        })
    }
}

/// Round trips of one message at a time, there on one channel and back on another.
pub(crate) fn round_trip<C: Channel, const WORDS: usize>(plan: &Plan) -> Result<Outcome>
where
    for<'a> C::Sender<'a>: Send<WORDS>,
    for<'a> C::Receiver<'a>: Receive<WORDS>,
{
    let (there, back, meeting) = (C::prepare()?, C::prepare()?, Meeting::new()?);
    let ([warm_up, timed], [first, second]) = (plan.numbers(), plan.layouts);
    let (echo_warm_up, echo_timed) = (warm_up.clone(), timed.clone());
    let legs = run(
        plan.separation,
        plan.cores,
        || {
            let (mut sender, mut receiver) = (there.sender()?, back.receiver()?);
            first.ask(&mut sender, &mut receiver, warm_up);
            Leg::time(&meeting, Side::First, || {
                first.ask(&mut sender, &mut receiver, timed)
            })
        },
        || {
            let (mut receiver, mut sender) = (there.receiver()?, back.sender()?);
            second.answer(&mut sender, &mut receiver, echo_warm_up);
            Leg::time(&meeting, Side::Second, || {
                second.answer(&mut sender, &mut receiver, echo_timed);
                0
            })
        },
    )?;
    Outcome::new(plan, legs, 0)
}

/// A stream in one direction, as fast as it goes.
pub(crate) fn stream<C: Channel, const WORDS: usize>(plan: &Plan) -> Result<Outcome>
where
    for<'a> C::Sender<'a>: Produce<WORDS>,
    for<'a> C::Receiver<'a>: Consume<WORDS>,
{
    let (channel, meeting) = (C::prepare()?, Meeting::new()?);
    let ([warm_up, timed], [first, second]) = (plan.numbers(), plan.layouts);
    let (consumed_warm_up, consumed_timed) = (warm_up.clone(), timed.clone());
    let legs = run(
        plan.separation,
        plan.cores,
        || {
            let mut sender = channel.sender()?;
            first.produce(&mut sender, warm_up);
            Leg::time(&meeting, Side::First, || {
                first.produce(&mut sender, timed);
                0
            })
        },
        || {
            let mut receiver = channel.receiver()?;
            let early = second.consume(&mut receiver, consumed_warm_up);
            Leg::time(&meeting, Side::Second, || {
                early | second.consume(&mut receiver, consumed_timed)
            })
        },
    )?;
    Outcome::new(plan, legs, 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timed_loop::Layout;

    /// A channel that always delivers the message number 0.
    struct Stuck;

    impl Channel for Stuck {
        type Sender<'a> = Self;
        type Receiver<'a> = Self;

        fn prepare() -> Result<Self> {
            Ok(Self)
        }

        fn sender(&self) -> Result<Self> {
            Ok(Self)
        }

        fn receiver(&self) -> Result<Self> {
            Ok(Self)
        }
    }

    impl Send<1> for Stuck {
        fn send(&mut self, _: Message<1>) {}
    }

    impl Receive<1> for Stuck {
        fn receive(&mut self) -> Message<1> {
            Message::numbered(0)
        }
    }

    #[test]
    fn wrong_messages_give_an_error_and_no_figure() {
        let Ok(cores) = Cores::choose() else {
            eprintln!("skipped: one core");
            return;
        };
        let mut rng = fastrand::Rng::with_seed(1);
        let plan = Plan {
            cores,
            separation: Separation::Processes,
            timed: 10,
            warm_up: 1,
            layouts: [Layout::random(&mut rng), Layout::random(&mut rng)],
        };
        assert!(round_trip::<Stuck, 1>(&plan).is_err());
        assert!(stream::<Stuck, 1>(&plan).is_err());
        let right = Plan { timed: 0, ..plan };
        assert!(stream::<Stuck, 1>(&right).is_ok());
    }
}
