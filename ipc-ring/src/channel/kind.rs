//! The kinds of ring, and what each has to say on the way of a message.

use crate::error::Role;
use crate::layout::{self, Apart, Call, attention};
use crate::message::ShmMessage;
use crate::ring::{Consume, Produce, TypedSlots, lanes, locked, mpsc, spsc};
use crate::segment::mapped::Places;
use crate::sync::{AtomicU64, Ordering};
use crate::wait::{ALL, Called, Waker};

/// The kinds of ring: how many may send, and in which order messages arrive.
#[expect(private_bounds, reason = "sealed: kinds are this crate's")]
pub trait Kind: Mechanism + 'static {}

/// Kinds with several senders.
pub trait ManySenders: Kind {}

/// Kinds with several receivers.
pub trait ManyReceivers: Kind {}

/// Kinds in which there is one order of all messages.
pub trait TotalOrder: Kind {}

/// One sender, one receiver. Lock-free: nobody waits for a process that is stopped, but for its messages or for
/// its room.
#[derive(Debug)]
pub enum Spsc {}

/// Several senders, one receiver, one order of all messages. See [`mpsc`](crate::mpsc).
#[derive(Debug)]
pub enum Mpsc {}

/// Several senders with a lane each, one receiver. Lock-free. See [`lanes`](crate::lanes).
#[derive(Debug)]
pub enum Lanes {}

/// Several senders, several receivers of which each message goes to one, one order, under a mutex. See [`locked`](crate::locked).
#[derive(Debug)]
pub enum Locked {}

impl Kind for Spsc {}
impl Kind for Mpsc {}
impl Kind for Lanes {}
impl Kind for Locked {}
impl ManySenders for Mpsc {}
impl ManySenders for Lanes {}
impl ManySenders for Locked {}
impl ManyReceivers for Locked {}
impl TotalOrder for Spsc {}
impl TotalOrder for Mpsc {}
impl TotalOrder for Locked {}

/// How a kind works. A segment's ends outlive no segment: handles drop them first.
pub(crate) trait Mechanism: Sized {
    /// As the header says it.
    const ID: u32;
    const DEFAULT_SENDERS: u32;
    const DEFAULT_RECEIVERS: u32 = 1;
    /// Whether senders share their words and slots, and not each has a lane.
    const SENDERS_SHARE: bool;
    /// Whether receivers share their words, and slots, with each other: what one gives back is for the others, and the dead may
    /// have some, without being in the way of the rest.
    const RECEIVERS_SHARE: bool = false;

    type Producer<T: ShmMessage>: Produce<Slots = TypedSlots<T>> + Called + Send;
    type Consumer<T: ShmMessage>: Consume<Slots = TypedSlots<T>> + Called + Send;
    /// What the receiver wakes senders by.
    type Wakers: Send;

    /// The end of the sender with this index.
    ///
    /// # Safety
    ///
    /// The segment of `places` must be one of messages `T` and of this kind, and outlive the result.
    #[allow(unsafe_code, reason = "typed slots")]
    unsafe fn producer<T: ShmMessage>(places: &Places, index: u32) -> Self::Producer<T>;

    /// The end of the receiver with this index, for its session with this number.
    ///
    /// # Safety
    ///
    /// As for `producer`.
    #[allow(unsafe_code, reason = "typed slots")]
    unsafe fn consumer<T: ShmMessage>(
        places: &Places,
        index: u32,
        session: u64,
    ) -> Self::Consumer<T>;

    fn wakers<T: ShmMessage>(
        waker: Waker,
        places: &Places,
        consumer: &Self::Consumer<T>,
    ) -> Self::Wakers;

    /// After `count` positions were released: wakes who waits for the slots, if there are enough of them. True if somebody slept.
    fn notify_senders<T: ShmMessage>(
        wakers: &mut Self::Wakers,
        consumer: &Self::Consumer<T>,
        count: u64,
    ) -> bool;

    /// Wakes all who wait for slots of which there were not enough. To be called when there is nothing to receive. True if
    /// somebody slept.
    fn notify_senders_of_rest<T: ShmMessage>(_: &mut Self::Wakers, _: &Self::Consumer<T>) -> bool {
        false
    }

    /// Wakes all senders that wait for room.
    fn notify_all_senders<T: ShmMessage>(wakers: &Self::Wakers, consumer: &Self::Consumer<T>);

    /// Whether those with this role count their messages, since no position tells.
    fn counts(role: Role) -> bool {
        match role {
            Role::Sender => Self::SENDERS_SHARE,
            Role::Receiver => Self::RECEIVERS_SHARE,
        }
    }

    /// Puts `word`, [`attention::LEFT`] or 0, into the attention words that the participant with this index alone writes. In one
    /// that receivers share, it says that none of them is left, or takes that back.
    fn set_attention(places: &Places, role: Role, index: u32, word: u64) {
        let set = |attention: &Apart<AtomicU64>| attention.0.store(word, Ordering::Release);
        match role {
            Role::Sender if Self::SENDERS_SHARE => {}
            Role::Receiver if Self::RECEIVERS_SHARE => {
                let attention = &places.receiver_words(0).attention.0;
                if word == 0 {
                    attention.fetch_and(!attention::LEFT, Ordering::Release);
                } else {
                    attention.fetch_or(word, Ordering::Release);
                }
            }
            Role::Sender => set(&places.sender_words(index).attention),
            Role::Receiver => {
                for lane in 0..places.header.lanes() {
                    set(&places.receiver_words(lane).attention);
                }
            }
        }
    }

    /// Whether the sender with this index has left nothing for a receiver.
    fn left_nothing(places: &Places, index: u32) -> bool;
}

/// Wakes senders that share their slots a quarter of the ring at a time: a sender that is woken for one slot sends one message
/// and sleeps again, which takes a hundred times as long as the message. What is left over is told when the receiver finds
/// nothing more; and senders look for themselves at each slice, which is what they do if the receiver takes longer than that for a
/// quarter of the ring.
pub(crate) struct SharedWaker {
    waker: Waker,
    /// Senders were woken for the slots before this position.
    told: u64,
    quarter: u64,
}

impl SharedWaker {
    /// Each slot up to `position` is for one of those who wait, places that were passed over among them.
    fn notify(&mut self, call: Call<'_>, position: u64) -> bool {
        let released = position.wrapping_sub(self.told);
        self.told = position;
        self.waker.notify(call, released)
    }
}

/// Kinds that are a queue under a mutex, with so many senders and receivers if nobody says how many.
macro_rules! locked {
    ($kind:ident, $senders:literal, $receivers:literal) => {
        #[allow(unsafe_code, reason = "typed slots")]
        impl Mechanism for $kind {
            const ID: u32 = layout::LOCKED;
            const DEFAULT_SENDERS: u32 = $senders;
            const DEFAULT_RECEIVERS: u32 = $receivers;
            const SENDERS_SHARE: bool = true;
            const RECEIVERS_SHARE: bool = true;

            type Producer<T: ShmMessage> = locked::Producer<TypedSlots<T>>;
            type Consumer<T: ShmMessage> = locked::Consumer<TypedSlots<T>>;

            type Wakers = Waker;

            unsafe fn producer<T: ShmMessage>(places: &Places, index: u32) -> Self::Producer<T> {
                // SAFETY: as the caller says.
                locked::Producer::join(unsafe { places.typed_locked() }, index)
            }

            unsafe fn consumer<T: ShmMessage>(
                places: &Places,
                index: u32,
                _: u64,
            ) -> Self::Consumer<T> {
                // SAFETY: as the caller says.
                locked::Consumer::join(unsafe { places.typed_locked() }, index)
            }

            fn wakers<T: ShmMessage>(waker: Waker, _: &Places, _: &Self::Consumer<T>) -> Waker {
                waker
            }

            fn notify_senders<T: ShmMessage>(
                waker: &mut Waker,
                consumer: &Self::Consumer<T>,
                count: u64,
            ) -> bool {
                waker.notify(consumer.call(), count)
            }

            fn notify_all_senders<T: ShmMessage>(waker: &Waker, consumer: &Self::Consumer<T>) {
                waker.notify_surely(consumer.call());
            }

            fn left_nothing(places: &Places, _: u32) -> bool {
                places.unread() == 0
            }
        }
    };
}

locked!(Locked, 16, 16);

#[cfg(any(ipc_ring_locked, not(target_has_atomic = "64")))]
locked!(Spsc, 1, 1);
#[cfg(any(ipc_ring_locked, not(target_has_atomic = "64")))]
locked!(Mpsc, 16, 1);

#[cfg(not(any(ipc_ring_locked, not(target_has_atomic = "64"))))]
#[allow(unsafe_code, reason = "typed slots")]
impl Mechanism for Spsc {
    const ID: u32 = layout::SPSC;
    const DEFAULT_SENDERS: u32 = 1;
    const SENDERS_SHARE: bool = false;

    type Producer<T: ShmMessage> = spsc::Producer<TypedSlots<T>>;
    type Consumer<T: ShmMessage> = spsc::Consumer<TypedSlots<T>>;

    type Wakers = Waker;

    fn wakers<T: ShmMessage>(waker: Waker, _: &Places, _: &Self::Consumer<T>) -> Waker {
        waker
    }

    fn notify_all_senders<T: ShmMessage>(waker: &Waker, consumer: &Self::Consumer<T>) {
        waker.notify_surely(consumer.call());
    }

    unsafe fn producer<T: ShmMessage>(places: &Places, _: u32) -> Self::Producer<T> {
        // SAFETY: as the caller says.
        spsc::Producer::take_over(unsafe { places.typed_ring(0) })
    }

    unsafe fn consumer<T: ShmMessage>(places: &Places, _: u32, _: u64) -> Self::Consumer<T> {
        // SAFETY: as the caller says.
        spsc::Consumer::take_over(unsafe { places.typed_ring(0) })
    }

    #[inline(always)]
    fn notify_senders<T: ShmMessage>(
        waker: &mut Waker,
        consumer: &Self::Consumer<T>,
        _: u64,
    ) -> bool {
        waker.notify(consumer.call(), ALL)
    }

    fn left_nothing(places: &Places, _: u32) -> bool {
        spsc::Consumer::take_over(places.untyped_ring(0)).is_empty()
    }
}

#[cfg(not(any(ipc_ring_locked, not(target_has_atomic = "64"))))]
#[allow(unsafe_code, reason = "typed slots")]
impl Mechanism for Mpsc {
    const ID: u32 = layout::MPSC;
    const DEFAULT_SENDERS: u32 = 16;
    const SENDERS_SHARE: bool = true;

    type Producer<T: ShmMessage> = mpsc::Producer<TypedSlots<T>>;
    type Consumer<T: ShmMessage> = mpsc::Consumer<TypedSlots<T>>;

    type Wakers = SharedWaker;

    unsafe fn producer<T: ShmMessage>(places: &Places, index: u32) -> Self::Producer<T> {
        // SAFETY: as the caller says.
        mpsc::Producer::join(unsafe { places.typed_ring(0) }, index)
    }

    unsafe fn consumer<T: ShmMessage>(places: &Places, _: u32, _: u64) -> Self::Consumer<T> {
        // SAFETY: as the caller says.
        mpsc::Consumer::take_over(unsafe { places.typed_ring(0) })
    }

    fn wakers<T: ShmMessage>(
        waker: Waker,
        places: &Places,
        consumer: &Self::Consumer<T>,
    ) -> SharedWaker {
        SharedWaker {
            waker,
            told: consumer.position(),
            quarter: (places.header.capacity / 4).max(1),
        }
    }

    #[inline(always)]
    fn notify_senders<T: ShmMessage>(
        waker: &mut SharedWaker,
        consumer: &Self::Consumer<T>,
        _: u64,
    ) -> bool {
        let position = consumer.position();
        position.wrapping_sub(waker.told) >= waker.quarter
            && waker.notify(consumer.call(), position)
    }

    fn notify_senders_of_rest<T: ShmMessage>(
        waker: &mut SharedWaker,
        consumer: &Self::Consumer<T>,
    ) -> bool {
        waker.told = consumer.position();
        waker.waker.notify(consumer.call(), ALL)
    }

    fn notify_all_senders<T: ShmMessage>(waker: &SharedWaker, consumer: &Self::Consumer<T>) {
        waker.waker.notify_surely(consumer.call());
    }

    fn left_nothing(places: &Places, _: u32) -> bool {
        places.unread() == 0
    }
}

#[allow(unsafe_code, reason = "typed slots")]
impl Mechanism for Lanes {
    const ID: u32 = layout::LANES;
    const DEFAULT_SENDERS: u32 = 16;
    const SENDERS_SHARE: bool = false;

    type Producer<T: ShmMessage> = lanes::Producer<TypedSlots<T>>;
    type Consumer<T: ShmMessage> = lanes::Consumer<TypedSlots<T>>;
    /// One a lane.
    type Wakers = Box<[Waker]>;

    unsafe fn producer<T: ShmMessage>(places: &Places, index: u32) -> Self::Producer<T> {
        // SAFETY: as the caller says.
        let ring = unsafe { places.typed_ring(index) };
        lanes::Producer::take_over(ring, index as usize, places.common())
    }

    unsafe fn consumer<T: ShmMessage>(places: &Places, _: u32, session: u64) -> Self::Consumer<T> {
        let lanes = 0..places.header.lanes();
        // SAFETY: as the caller says.
        let rings = lanes.map(|lane| unsafe { places.typed_ring(lane) });
        lanes::Consumer::take_over(rings, places.common(), session, lanes::EAGER)
    }

    fn wakers<T: ShmMessage>(waker: Waker, places: &Places, _: &Self::Consumer<T>) -> Box<[Waker]> {
        (0..places.header.lanes())
            .map(|lane| waker.only(lane))
            .collect()
    }

    #[inline(always)]
    fn notify_senders<T: ShmMessage>(
        wakers: &mut Box<[Waker]>,
        consumer: &Self::Consumer<T>,
        _: u64,
    ) -> bool {
        let waker = wakers.get_mut(consumer.current());
        waker.is_some_and(|waker| waker.notify(consumer.call(), ALL))
    }

    fn notify_all_senders<T: ShmMessage>(wakers: &Box<[Waker]>, consumer: &Self::Consumer<T>) {
        for (waker, call) in wakers.iter().zip(consumer.calls_to_senders()) {
            waker.notify_surely(call);
        }
    }

    fn left_nothing(places: &Places, index: u32) -> bool {
        spsc::Consumer::take_over(places.untyped_ring(index)).is_empty()
    }
}
