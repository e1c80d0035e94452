//! What a contender has to offer, and how its patterns are run.
//!
//! All contenders do the same work in the same loops: a round trip fills a message, has the other side send it back
//! and checks it; a stream fills numbered messages on one side, or on several, and checks every byte of them on the other.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::{
    machine::{Cores, Meeting},
    message::{Expected, Message, Numbers, numbers_of},
    timed_loop::Layout,
    worker::{Leg, Separation, Side, run},
};

/// A channel in one direction. It is made before the sides part and opened once on each.
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

/// Consumes streams of the same length, one from each sender, and returns in which bits they differ from what they should be.
pub(crate) trait Consume<const WORDS: usize, const SENDERS: usize = 1> {
    /// `numbers` are those of the first sender; see [`numbers_of`].
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

impl<const WORDS: usize, const SENDERS: usize, R: Receive<WORDS>> Consume<WORDS, SENDERS> for R {
    #[inline(always)]
    fn consume(&mut self, numbers: Numbers) -> u64 {
        let mut expected = Expected::<SENDERS>::beginning(&numbers);
        let mut difference = 0;
        for _ in 0..SENDERS as u64 * (numbers.end - numbers.start) {
            difference |= expected.difference(&self.receive());
        }
        difference | expected.difference_from_end(&numbers)
    }
}

/// How one run is to go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) cores: &'a Cores,
    pub(crate) separation: Separation,
    /// Messages that are timed, of all senders; rounded up so that each sends as many.
    pub(crate) timed: u64,
    /// Messages before them that are not.
    pub(crate) warm_up: u64,
    /// Which copy of its loop each side runs; senders run the same one.
    pub(crate) layouts: [Layout; 2],
}

impl Plan<'_> {
    /// What each of so many senders sends before and while the clock runs.
    fn numbers(&self, senders: usize) -> [Numbers; 2] {
        let [warm_up, timed] = [self.warm_up, self.timed].map(|all| all.div_ceil(senders as u64));
        [0..warm_up, warm_up..warm_up + timed]
    }
}

/// What one run gave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub(crate) nanoseconds_per_message: f64,
    /// How often a core was taken from the only side that ran there.
    pub(crate) preemptions: u64,
}

impl Outcome {
    /// `alone`: those of the legs that had their core for themselves.
    fn new(elapsed: Duration, messages: u64, legs: &[Leg], alone: &[Leg]) -> Result<Self> {
        ensure!(
            legs.iter().all(|leg| leg.difference == 0),
            "messages arrived that were lost, doubled, reordered or torn"
        );
        Ok(Self {
            nanoseconds_per_message: elapsed.as_nanos() as f64 / messages as f64,
            preemptions: alone.iter().map(|leg| leg.preemptions).sum(),
        })
    }
}

/// Round trips of one message at a time, there on one channel and back on another.
pub(crate) fn round_trip<C: Channel, const WORDS: usize>(plan: &Plan<'_>) -> Result<Outcome>
where
    for<'a> C::Sender<'a>: Send<WORDS>,
    for<'a> C::Receiver<'a>: Receive<WORDS>,
{
    let cores = [plan.cores.of_sender(0), plan.cores.of_receiver()];
    round_trip_on::<C, WORDS>(plan, cores)
}

/// The same on one core, so that no side can go on before the other one sleeps.
pub(crate) fn round_trip_on_one_core<C: Channel, const WORDS: usize>(
    plan: &Plan<'_>,
) -> Result<Outcome>
where
    for<'a> C::Sender<'a>: Send<WORDS>,
    for<'a> C::Receiver<'a>: Receive<WORDS>,
{
    round_trip_on::<C, WORDS>(plan, [plan.cores.of_sender(0); 2])
}

fn round_trip_on<C: Channel, const WORDS: usize>(
    plan: &Plan<'_>,
    cores: [usize; 2],
) -> Result<Outcome>
where
    for<'a> C::Sender<'a>: Send<WORDS>,
    for<'a> C::Receiver<'a>: Receive<WORDS>,
{
    let (there, back, meeting) = (C::prepare()?, C::prepare()?, Meeting::new(2)?);
    let ([warm_up, timed], [first, second]) = (plan.numbers(1), plan.layouts);
    let (echo_warm_up, echo_timed) = (warm_up.clone(), timed.clone());
    let ask = || {
        let (mut sender, mut receiver) = (there.sender()?, back.receiver()?);
        first.ask(&mut sender, &mut receiver, warm_up);
        Leg::time(&meeting, 0, || first.ask(&mut sender, &mut receiver, timed))
    };
    let answer = || {
        let (mut receiver, mut sender) = (there.receiver()?, back.sender()?);
        second.answer(&mut sender, &mut receiver, echo_warm_up);
        Leg::time(&meeting, 1, || {
            second.answer(&mut sender, &mut receiver, echo_timed);
            0
        })
    };
    let sides = vec![Side::new(cores[0], ask), Side::new(cores[1], answer)];
    let legs = run(plan.separation, sides)?;
    let elapsed = legs[0].ended.since(legs[0].began);
    let is_shared = cores[0] == cores[1];
    let alone = if is_shared { &[] } else { &legs[..] };
    Outcome::new(elapsed, plan.timed, &legs, alone)
}

/// A stream from each of `SENDERS` senders to one receiver, as fast as it goes.
pub(crate) fn stream<C: Channel, const WORDS: usize, const SENDERS: usize>(
    plan: &Plan<'_>,
) -> Result<Outcome>
where
    for<'a> C::Sender<'a>: Produce<WORDS>,
    for<'a> C::Receiver<'a>: Consume<WORDS, SENDERS>,
{
    let (channel, meeting) = (C::prepare()?, Meeting::new(SENDERS + 1)?);
    let (numbers, [first, second]) = (plan.numbers(SENDERS), plan.layouts);
    let produce = &|own: usize| {
        let [warm_up, timed] = numbers.clone().map(|numbers| numbers_of(own, numbers));
        let mut sender = channel.sender()?;
        first.produce(&mut sender, warm_up);
        let leg = Leg::time(&meeting, own, || {
            first.produce(&mut sender, timed);
            0
        })?;
        // Leaving takes time, on a core that other senders may need now.
        meeting.await_end()?;
        Ok(leg)
    };
    let consume = || {
        let [warm_up, timed] = numbers.clone();
        let mut receiver = channel.receiver()?;
        let early = second.consume(&mut receiver, warm_up);
        let leg = Leg::time(&meeting, SENDERS, || {
            early | second.consume(&mut receiver, timed)
        })?;
        meeting.end(SENDERS)?;
        Ok(leg)
    };
    let sides = (0..SENDERS)
        .map(|own| Side::new(plan.cores.of_sender(own), move || produce(own)))
        .chain([Side::new(plan.cores.of_receiver(), consume)])
        .collect();
    let legs = run(plan.separation, sides)?;
    let (receiver, senders) = legs.split_last().expect("there is a receiver");
    let began = senders.iter().map(|leg| leg.began).min();
    let elapsed = receiver.ended.since(began.expect("there is a sender"));
    let messages = SENDERS as u64 * (numbers[1].end - numbers[1].start);
    let alone = match plan.cores.senders_a_core(SENDERS) {
        1 => &legs[..],
        _ => &legs[SENDERS..],
    };
    Outcome::new(elapsed, messages, &legs, alone)
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
            cores: &cores,
            separation: Separation::Processes,
            timed: 10,
            warm_up: 1,
            layouts: [Layout::random(&mut rng), Layout::random(&mut rng)],
        };
        assert!(round_trip::<Stuck, 1>(&plan).is_err());
        assert!(stream::<Stuck, 1, 1>(&plan).is_err());
        assert!(stream::<Stuck, 1, 4>(&plan).is_err());
        let right = Plan { timed: 0, ..plan };
        assert!(stream::<Stuck, 1, 1>(&right).is_ok());
    }
}
