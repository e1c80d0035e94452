//! What users hold: a ring, its messages, waiting, and word of how the other side is.

mod endpoint;
mod in_place;
mod iter;
mod kind;
mod participants;
mod peers;
mod receiver;
mod sender;
mod standoff;
mod standstill;

pub use in_place::{Reservation, Written};
pub use iter::{Drain, Iter, TryIter};
pub use kind::{Kind, Lanes, Locked, ManyReceivers, ManySenders, Mpsc, Spsc, TotalOrder};
pub use participants::{Counters, Participant, Peer, State};
pub use receiver::Receiver;
pub use sender::Sender;

use crate::error::{OpenError, RemoveError, Role};
use crate::message::ShmMessage;
use crate::segment::attach::{self, Request, Wanted};
use crate::segment::mapped::Segment;
use crate::segment::posix::Object;
use crate::wait::Wait;
use endpoint::Habits;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

/// Names a ring for one sender and one receiver.
///
/// All sides say this, with the same `T` and name; one that also states a [`capacity`](Builder::capacity)
/// creates the ring if need be.
///
/// A name has 1 to 200 ASCII letters, digits, `-`, `_` and `.`, and does not start with a dot. The ring is the object
/// `/dev/shm/ipc-ring.NAME`.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let name = format!("doc-spsc-{}", std::process::id());
/// # let name = name.as_str();
/// let mut tx = ipc_ring::spsc::<u64>(name).capacity(64).sender()?;
/// let mut rx = ipc_ring::spsc::<u64>(name).receiver()?; // in another process, usually
/// tx.send(7)?;
/// assert_eq!(rx.recv()?, 7);
/// # drop((tx, rx));
/// # ipc_ring::remove(name)?;
/// # Ok(())
/// # }
/// ```
pub fn spsc<T: ShmMessage>(name: &str) -> Builder<T, Spsc> {
    Builder::new(name)
}

/// Names a ring for several senders and one receiver, in which all messages have one order.
///
/// As many may send as [`max_senders`](Builder::max_senders) says: processes, or threads with a sender each
/// ([`try_clone`](Sender::try_clone)). What one sender sends arrives in the order in which it was sent; and if one message was
/// sent before another was begun, by whomever, it arrives first.
///
/// A sender that is *killed* in the middle of a message is passed over: by [`recv`](Receiver::recv) once it has to wait, by
/// [`try_recv`](Receiver::try_recv) once that message has been in the way for a millisecond. One that is only *stopped* in
/// the middle of a message (SIGSTOP, a debugger, a page that has to be read from a disk) keeps its place: what others sent
/// after it waits until it goes on or is killed, and when the ring has filled up behind it, they wait as well; meanwhile
/// calls say `Empty`, `Full` or `Timeout`, and no ending is told. So this kind is not called lock-free. Where that matters
/// more than one order does, take [`lanes`].
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let name = format!("doc-mpsc-{}", std::process::id());
/// # let name = name.as_str();
/// let mut rx = ipc_ring::mpsc::<u64>(name).capacity(64).receiver()?;
/// let mut one = ipc_ring::mpsc::<u64>(name).sender()?; // in one process
/// let mut two = ipc_ring::mpsc::<u64>(name).sender()?; // in another
/// one.send(1)?;
/// two.send(2)?;
/// assert_eq!((rx.recv()?, rx.recv()?), (1, 2));
/// # drop((one, two, rx));
/// # ipc_ring::remove(name)?;
/// # Ok(())
/// # }
/// ```
pub fn mpsc<T: ShmMessage>(name: &str) -> Builder<T, Mpsc> {
    Builder::new(name)
}

/// Names a ring for several senders and one receiver, with a lane for each sender.
///
/// What one sender sends arrives in the order in which it was sent; messages of different senders have no order among each
/// other. The receiver serves the lanes in turn, at most 64 messages of one while others have some. Lock-free: no sender
/// waits for another one, and while the receiver is awake they share nothing that they write.
///
/// [`capacity`](Builder::capacity) is that of each lane, and there are as many as
/// [`max_senders`](Builder::max_senders) says, from the beginning: [`memory`](Builder::memory) tells what that takes. A ring
/// that is "full" is the sender's lane.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let name = format!("doc-lanes-{}", std::process::id());
/// # let name = name.as_str();
/// let ring = ipc_ring::lanes::<u64>(name).capacity(64).max_senders(4);
/// println!("{} bytes", ring.memory()?);
/// let mut rx = ring.receiver()?;
/// let mut tx = ipc_ring::lanes::<u64>(name).sender()?; // in another process, usually
/// let mut another = tx.try_clone()?;
/// tx.send(1)?;
/// another.send(2)?;
/// assert_eq!(rx.recv()? + rx.recv()?, 3);
/// # drop((tx, another, rx));
/// # ipc_ring::remove(name)?;
/// # Ok(())
/// # }
/// ```
pub fn lanes<T: ShmMessage>(name: &str) -> Builder<T, Lanes> {
    Builder::new(name)
}

/// Names a ring for several senders and several receivers, a queue of work: each message goes to one receiver.
///
/// All that sends or receives holds a mutex of the ring for a moment (`pthread_mutex_t`, process-shared and robust), though not while
/// a message is written or read. A message is queued when it is published; whoever asks first has the one that was queued first.
/// What a receiver looks at ([`peek_copied`](Receiver::peek_copied), [`drain`](Receiver::drain)) is its own until it consumes it, or
/// leaves it to others by [`give_back`](Receiver::give_back) or by being dropped; so several workers take different messages, and who
/// is slow holds up none of the others. Work that must be done though a worker dies amid it is to be looked at, done, and then
/// consumed: what [`recv`](Receiver::recv) has returned is lost with its receiver. (Nobody counts how many workers a message has
/// killed.)
///
/// A receiver that is *killed* while it looks at messages leaves them to the others: they go back to the front of the queue, as soon
/// as somebody waits for a message or for room, has found none for 50 ms, or comes in its place. (As long as there are so many
/// messages that nobody ever waits, they stay where they are.) Likewise a slot in which a killed sender was writing becomes free. A
/// batch is given back message by message, so who is killed amid that leaves the rest of it to come again. Receivers hear of endings
/// only when no message can come back any more: when nobody looks at one. A worker that comes when the senders have ended and all is
/// done hears of no ending, and waits for the next sender.
///
/// One that is *stopped* keeps what it looks at, or where it writes. If that happens in the instructions in which it holds the mutex
/// (a few; or, when somebody has died or a worker comes, as many as it takes to look at all slots), everybody else waits for a second and then says
/// `Stuck`, each time, calls that otherwise do not wait as well, until it goes on or is killed. So this is not lock-free.
///
/// Who holds a robust mutex is known by the number of a thread, and the C library's own state lies in shared memory. Therefore all
/// sides must be of one pid namespace, which is looked at (messages that were left by processes of another one, a container that
/// was started anew, say, can't be received); processes must not be made by a bare `clone(2)`, which is looked at as well; and a
/// peer that scribbles into the mutex can make others say `Stuck`, end, or write where they did not want to. A thread that ends amid
/// a call, while its process lives on, leaves the mutex to the others, but keeps, as long as its process lives, the slot that it had.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let name = format!("doc-locked-{}", std::process::id());
/// # let name = name.as_str();
/// let mut tx = ipc_ring::locked::<u64>(name).capacity(64).sender()?;
/// let mut one = ipc_ring::locked::<u64>(name).receiver()?; // in one process
/// let mut two = ipc_ring::locked::<u64>(name).receiver()?; // in another
/// tx.send(1)?;
/// tx.send(2)?;
/// let job = one.peek_copied()?;
/// assert_eq!((job, two.recv()?), (1, 2));
/// one.consume(); // done; had it been killed before, another one would get that job
/// # drop((tx, one, two));
/// # ipc_ring::remove(name)?;
/// # Ok(())
/// # }
/// ```
pub fn locked<T: ShmMessage>(name: &str) -> Builder<T, Locked> {
    Builder::new(name)
}

/// Removes a ring that nobody uses, with the messages in it.
///
/// # Errors
///
/// [`RemoveError::InUse`] while a participant lives or somebody joins; [`RemoveError::NotFound`] if there is
/// none of this name. What is not a ring is left alone.
pub fn remove(name: &str) -> Result<(), RemoveError> {
    remove_object(None, name)
}

/// Like [`remove`], for a ring in a [`namespace`](Builder::namespace).
///
/// # Errors
///
/// As for [`remove`].
pub fn remove_in(namespace: &str, name: &str) -> Result<(), RemoveError> {
    remove_object(Some(namespace), name)
}

fn remove_object(namespace: Option<&str>, name: &str) -> Result<(), RemoveError> {
    let object = Object::new(namespace, name)
        .map_err(|(name, rule)| RemoveError::InvalidName { name, rule })?;
    attach::remove(&object)
}

/// Opens or creates a ring.
///
/// With a stated [`capacity`](Self::capacity) the ring is created unless it exists. Without, it is opened, once it exists.
/// `capacity`, `max_senders`, `max_receivers`, `wait`, `inherit_priority` and `remove_when_idle` are properties of the ring:
/// whatever is stated must be as the existing ring has it, whatever is not stated is adopted. The other options concern this call or
/// this handle.
#[must_use = "a builder does nothing until `sender` or `receiver`"]
pub struct Builder<T, K = Spsc> {
    name: String,
    namespace: Option<String>,
    capacity: Option<usize>,
    max_senders: Option<u32>,
    max_receivers: Option<u32>,
    inherit_priority: bool,
    wait: Option<Wait>,
    create_new: bool,
    remove_when_idle: bool,
    replace_idle: bool,
    habits: Habits,
    group_access: bool,
    prefault: bool,
    lock_memory: bool,
    open_timeout: Option<Duration>,
    origin: u64,
    kind: PhantomData<fn(T) -> (T, K)>,
}

impl<T, K> fmt::Debug for Builder<T, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("name", &self.name)
            .field("namespace", &self.namespace)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

impl<T: ShmMessage, K: Kind> Builder<T, K> {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            namespace: None,
            capacity: None,
            max_senders: None,
            max_receivers: None,
            inherit_priority: false,
            wait: None,
            create_new: false,
            remove_when_idle: false,
            replace_idle: false,
            habits: Habits::default(),
            group_access: false,
            prefault: false,
            lock_memory: false,
            open_timeout: None,
            origin: 0,
            kind: PhantomData,
        }
    }

    /// How many messages the ring holds, rounded up to a power of two. Stating it allows to create the ring; an
    /// idle and empty ring of this name with another layout is then replaced. Either side may state it.
    ///
    /// A message takes its size and 8 bytes: rounded up to a power of two if that fits a cache line, to 8 bytes if it fits
    /// two, else to whole lines. [`memory`](Self::memory) tells what the ring takes in all.
    pub fn capacity(mut self, messages: usize) -> Self {
        self.capacity = Some(messages);
        self
    }

    /// Bytes that a ring of these options takes, all of them from its creation on. On pages of 4 KiB at most 20 KiB and 128
    /// bytes a participant besides the messages, unless the schema is long; 256 bytes more a participant if the ring waits by condition
    /// variables, semaphores or message queues; 4 bytes more a message if it is [`locked`]; for lanes, each has its own messages and
    /// 1 KiB more.
    ///
    /// # Errors
    ///
    /// [`OpenError::NoCapacity`] if none is stated; [`OpenError::InvalidCapacity`], [`OpenError::InvalidSenders`],
    /// [`OpenError::InvalidReceivers`].
    pub fn memory(&self) -> Result<u64, OpenError> {
        self.wanted().memory()
    }

    /// Insists on creating the ring: it is an error if one of this name exists.
    pub fn create_new(mut self) -> Self {
        self.create_new = true;
        self
    }

    /// How long to wait for the ring to exist, if no capacity is stated, and for somebody who is just joining or removing
    /// it. For ever, unless said; zero does not wait.
    pub fn open_timeout(mut self, timeout: Duration) -> Self {
        self.open_timeout = Some(timeout);
        self
    }

    /// Puts the ring's name into a namespace: equal names in different ones don't meet. The same rules as for names
    /// apply; the object is `/dev/shm/ipc-ring.NAMESPACE:NAME`. Both together have 245 bytes at most.
    pub fn namespace(mut self, prefix: &str) -> Self {
        self.namespace = Some(prefix.to_owned());
        self
    }

    /// How all sides wait. [`Wait::Futex`] unless said.
    pub fn wait(mut self, wait: Wait) -> Self {
        self.wait = Some(wait);
        self
    }

    /// Removes the ring, and messages that are still in it, when its last participant leaves. (Not when it dies:
    /// then the next ones go on with the ring, and remove it in turn.) A property of the ring: it counts when the ring is
    /// created, and a side that states it for a ring without is refused.
    pub fn remove_when_idle(mut self) -> Self {
        self.remove_when_idle = true;
        self
    }

    /// If another ring, or a damaged one, has this name and nobody uses it, replaces it even if that loses
    /// messages. For a side that states a [`capacity`](Self::capacity), and not [`create_new`](Self::create_new).
    pub fn replace_idle(mut self) -> Self {
        self.replace_idle = true;
        self
    }

    /// Waits through endings: this handle then does not hear that others left or died, and goes on with whoever comes next.
    pub fn keep_open(mut self) -> Self {
        self.habits.keep_open = true;
        self
    }

    /// How long a waiting call of this handle polls before it sleeps: ten microseconds unless said, which is about what falling
    /// asleep and being woken cost. Longer is for answers that take a little longer, and costs processor time; zero is for those
    /// that never come so soon. Where there is one processor, nobody polls. (While it polls, it looks every 50 ms whether the others
    /// live.)
    pub fn poll_before_sleep(mut self, time: Duration) -> Self {
        self.habits.poll = time;
        self
    }

    /// Lets the creator's group use the ring (mode 0660 instead of 0600), and accepts a ring that another user has
    /// created. Without it, a ring must belong to this user or to root: whoever owns it can read, forge and truncate.
    pub fn group_access(mut self) -> Self {
        self.group_access = true;
        self
    }

    /// Maps all of the ring now, so that no message takes a page fault.
    pub fn prefault(mut self) -> Self {
        self.prefault = true;
        self
    }

    /// Keeps the ring in memory (`mlock`); needs `RLIMIT_MEMLOCK`.
    pub fn lock_memory(mut self) -> Self {
        self.lock_memory = true;
        self
    }

    /// Where a new ring starts to count, for tests near the wrap.
    #[doc(hidden)]
    pub fn start_position(mut self, position: u64) -> Self {
        self.origin = position;
        self
    }

    fn attach(&self, role: Role) -> Result<Segment, OpenError> {
        let object = Object::new(self.namespace.as_deref(), &self.name)
            .map_err(|(name, rule)| OpenError::InvalidName { name, rule })?;
        if self.create_new && self.capacity.is_none() {
            return Err(OpenError::NoCapacity);
        }
        attach::attach(&Request {
            object,
            wanted: self.wanted(),
            role,
            same_as: None,
            create_new: self.create_new,
            replace_idle: self.replace_idle,
            open_timeout: self.open_timeout,
            group_access: self.group_access,
            prefault: self.prefault,
            lock_memory: self.lock_memory,
        })
    }

    fn wanted(&self) -> Wanted {
        Wanted {
            kind: K::ID,
            senders: self.max_senders,
            default_senders: K::DEFAULT_SENDERS,
            receivers: self.max_receivers,
            default_receivers: K::DEFAULT_RECEIVERS,
            schema: const { &T::SCHEMA },
            capacity: self.capacity,
            wait: self.wait,
            remove_when_idle: self.remove_when_idle,
            inherit_priority: self.inherit_priority,
            origin: self.origin,
        }
    }

    /// Takes a sender's role: the only one's, or one of several. A predecessor's messages stay, and this sender goes on behind
    /// them.
    ///
    /// That a receiver left before now is not told: the ring takes messages for the next one. Unless the ring is for one sender and one receiver
    /// and the last sender died: then nobody may have heard it, and it is told. That a receiver died before now is told once the ring
    /// is full.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]. [`OpenError::RoleTaken`] names the living sender of a ring for one;
    /// [`OpenError::TooManySenders`] is said if a ring for several has as many as it was created for. Where one of these places
    /// seems to be a dying process's, that is said after waiting for up to a second.
    pub fn sender(self) -> Result<Sender<T, K>, OpenError> {
        let segment = self.attach(Role::Sender)?;
        Ok(Sender::join(segment, self.habits))
    }

    /// Takes the receiver's role, and goes on where a predecessor ended.
    ///
    /// Endings before now are not told if nothing is left to receive (of lanes: from that sender): the receiver then waits for the
    /// next sender. Unless, in a ring for one receiver, the last one died: then nobody may have heard them, and they are told, perhaps
    /// once more.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]. [`OpenError::RoleTaken`] names the living receiver, if there is one;
    /// [`OpenError::TooManyReceivers`] is said if a ring for several has as many as it was created for. Where one of these places
    /// seems to be a dying process's, that is said after waiting for up to a second.
    pub fn receiver(self) -> Result<Receiver<T, K>, OpenError> {
        let segment = self.attach(Role::Receiver)?;
        Ok(Receiver::join(segment, self.habits))
    }
}

impl<T: ShmMessage, K: ManySenders> Builder<T, K> {
    /// How many senders there may be at a time: 1 to 1,023; 16 unless said. A property of the ring: it counts when the ring is
    /// created, and a side that states another number is refused, unless it may replace the ring as
    /// [`capacity`](Self::capacity) says.
    pub fn max_senders(mut self, senders: u32) -> Self {
        self.max_senders = Some(senders);
        self
    }
}

impl<T: ShmMessage, K: ManyReceivers> Builder<T, K> {
    /// How many receivers there may be at a time; 16 unless said. Together with the senders, 1,024 at most. A property of the ring,
    /// as [`max_senders`](Self::max_senders) is.
    pub fn max_receivers(mut self, receivers: u32) -> Self {
        self.max_receivers = Some(receivers);
        self
    }

    /// Whoever holds the ring's mutex runs with the priority of the most urgent one who waits for it (`PTHREAD_PRIO_INHERIT`), so
    /// that no third one keeps it from going on. For threads of different real-time priorities. A property of the ring: it counts
    /// when the ring is created, and a side that states it for a ring without is refused. (On Linux before 5.14, or glibc before
    /// 2.34, it is waited for by the wall clock: who sets that back meanwhile makes a wait longer.)
    pub fn inherit_priority(mut self) -> Self {
        self.inherit_priority = true;
        self
    }
}
