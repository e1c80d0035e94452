//! The bytes of a segment: what another process, or a reader in another language, finds there.
//!
//! All integers have the byte order of the machine (`byte_order` tells). `P` is `page_size`; every region
//! starts on a page, so that a side can be mapped read-only where it must not write.
//!
//! ```text
//! offset                 region            written by
//! 0                      header            the creator, before anybody can open the segment; then constant
//! 256                    schema text       likewise; UTF-8, `schema_len` bytes
//! participants_offset    participants      each entry by the process that holds its index
//! receivers_offset       receivers' words  receivers; of lane l at receivers_offset + 512 × l
//! senders_offset         senders' words    senders
//! slots_offset           slots             senders; of kind 2, stamps by the receiver as well
//! alarms_offset          alarms            everybody; if `wait` is 3, 4 or 5
//! (In kind 4, both sides write all words, and slots.)
//!
//! participants_offset = round_up(256 + schema_len, P)
//! receivers_offset    = participants_offset + round_up(128 × participants, P)
//! senders_offset      = receivers_offset + round_up(512 × lanes, P)
//! lanes_offset        = senders_offset; kind 3: + 512 + round_up(8 × lanes, 128); kind 4: + 256 + round_up(4 × capacity, 128)
//! slots_offset        = lanes_offset + 512
//! lane_stride         = 512 + round_up(capacity × slot_stride, 128)
//! alarms_offset       = round_up(lanes_offset + lanes × lane_stride, P)
//! segment_size        = alarms_offset + round_up(256 × participants, P); without alarms, alarms_offset
//! lanes               = 1; kind 3: participants − receivers
//!
//! header                                              participant entry, 128 bytes, index i at 128 × i
//!   0  u8[8] magic            "ipc-ring"                0  u64   session   number << 2 | state
//!   8  u32   abi_version      0                                            (0 never, 1 joined, 2 left)
//!  12  u32   byte_order       0x01020304                8  u64   start_time, clock ticks after boot
//!  16  u32   kind             1 SPSC, 2 MPSC, 3 lanes, 16  u32   pid, in the holder's namespace
//!                             4 locked
//!  20  u32   wait             0 spin, 1 futex, …       20  u32   role      1 sender, 2 receiver
//!  24  u32   flags            bit 0: remove when idle, 24  u8[32] program, padded with zeros
//!                             1: priorities inherited 56  u64   bygone_to_receiver, a session number
//!  28  u32   participants                              64  u64   messages  sent or received by this session, or
//!  32  u64   capacity, slots of a lane, a power of 2                       where it began
//!  40  u32   message_size, bytes                       72  u64   waits     for room or for messages
//!  44  u32   message_align, bytes                      80  u64   sleeps
//!  48  u64   slot_stride, bytes                        88  u64   wakes     of the other side
//!  56  u64   stamp_offset in a slot, bytes             96  u64   skipped   where it began, of the word below
//!  64  u64   segment_size, bytes                      104  u64   corrupt   messages dropped
//!  72  u64   page_size, bytes                         112  u64   bygone_to_sender, a session number
//!  80  u64   participants_offset                     words of a side of a lane
//!  88  u64   receivers_offset                          0  u64 position    receivers: head
//!  96  u64   senders_offset                                               senders: SPSC, lanes: announced; MPSC: hint
//! 104  u64   slots_offset, of lane 0                 128  u64 attention   number << 2 | left << 1 | fence; an odd number asks for no wake
//! 112  u64   schema_len, bytes                       256  u64 answered    the last number that was answered
//! 120  u64   fingerprint of the schema               264  u32 futex       bumped before each wake
//!                                                   272  u64 skipped     receivers: places passed over
//! 128  u64   origin, the first position
//! 136  u64   lanes_offset                            kind 3, at senders_offset
//! 144  u64   lane_stride, bytes                      264  u32 futex       of all lanes: the receiver sleeps on it
//! 152  u64   alarms_offset                           512  u64[lanes] ready: each lane's `answered`
//! 160  u32   receivers                              kind 4, at senders_offset
//! 164  u32   0                                        0  mutex of the C library
//! 168  u64   pid_namespace                          128  u64 free      how many slots are
//!                                                   136  u64 unsettled not 0: slots were handed on without the mutex
//! 176  zeros to 256                                 256  u32[capacity] order
//!
//!                                                   alarm, 256 bytes, of participant i at 256 × i
//!                                                     0  u32    waiting   1: for the condition variable
//!                                                     8         semaphore, mutex and condition variable of the C library
//!
//! slot at position p of lane l: index i = p mod capacity
//!   slots_offset + l × lane_stride + i × slot_stride
//!     0             message, message_size bytes
//!     stamp_offset  u64 stamp = p << 12 | state << 10 | owner
//!                     state: 0 initial, 1 claimed (MPSC only), 2 published, 3 skipped (MPSC only)
//!                     owner: participant index while claimed, else 0
//!                     kind 4 has no such index i, and other states: see the source of ring::locked
//!   new slot i: (first − capacity) << 12, where first is the first position from origin on that goes into slot i
//!
//! locks on bytes of the file (open file descriptions; no effect on its contents)
//!   i            held exclusively by the mapping of participant i for as long as it lives
//!   1 << 32      lifecycle: shared while joining, exclusive while removing
//! Receivers are the last participants, one but in kind 4; the others are senders. Sender i of kind 3 owns lane i.
//! ```
//!
//! # How to take part
//!
//! *To read* the message at position p: load its stamp (Acquire); it must equal `p << 12 | 2 << 10`; copy the
//! message. The receiver then stores p + 1 to `head` (Release). An onlooker instead issues an Acquire fence and then, in kinds
//! 1 and 3, loads `announced`: if `announced − p`, unsigned and wrapping, is at most `capacity`, the copy is whole; in kind 2 it
//! loads the stamp again, which must be the same.
//!
//! *To wake*, if `wait` is 1 (0 and 2: nobody sleeps; 3 to 5: [`crate::wait::alarm`] says what takes the place of FUTEX_WAIT and
//! FUTEX_WAKE): after its store a receiver fences (SeqCst) and loads the senders' `attention`; if its number is
//! neither 0 nor the receivers' `answered`, it adds 1 to the receivers' `futex` word, wakes all who sleep on that word
//! (FUTEX_WAKE, not private), and only then stores the number to `answered`. If the number is odd, nobody is to be woken.
//!
//! *To sleep* it loads the senders' `futex` word, stores an even number that was never answered (session << 32, counted up
//! by 2) to its `attention`, calls `membarrier(MEMBARRIER_CMD_GLOBAL_EXPEDITED)`, looks again, and sleeps on the loaded value for
//! 50 ms at most. A receiver that only polls does none of this.
//!
//! *In kind 2* a receiver goes past a position that shows `skipped` (p << 12 | 3 << 10), and turns a claimed one into that, by
//! compare-exchange, if the byte of its owner is not locked. Senders that wait for room share their `attention`: each adds 8 to it;
//! the receiver wakes as many as it gave slots back, and stores the number to `answered` only if fewer were asleep.
//!
//! *Kind 4* is a queue under a mutex, which is there in place of the rules above: [`crate::ring::locked`]. Receivers share their
//! `attention` as senders do. `pid_namespace` is the one that all must be of who lock a mutex in the ring (`st_ino` of
//! `/proc/self/ns/pid`); 0 if there is none.
//!
//! *In kind 3* each lane is a ring of its own, but for what its sender wakes the receiver by: the lane's ready word in the place
//! of `answered`, and the one futex word of all lanes. To sleep, the receiver arms the `attention` of all lanes.
//!
//! A receiver takes part by locking its byte and entering its session; an onlooker needs neither.
//!
//! # Why it is so
//!
//! *Stamp behind the message, in the same slot.* A message of up to 56 bytes and its stamp share a cache line,
//! so one line transfer moves both. Behind, since a writer fills memory upwards: the line that the receiver
//! polls is the last one touched. In front, the round trip of 256 bytes took 266 to 283 ns, behind 237 to 251; up to a
//! line it made no difference, nor a clear one to throughput (three runs each, by turns, with the command below).
//!
//! *Strides* up to a line are powers of two, so that no small slot straddles two lines. Slots of more than two lines begin
//! on a line, so that the stamp which the receiver polls is not in the line that the sender fills next: at 256 bytes, 43 to
//! 45 million messages a second against 29 to 38 when packed, and a round trip of 0.9 × the time. Between, packing costs
//! nothing (64 bytes: 119 to 130 against 107 to 130 million) and nearly halves the memory. (Medians of three runs each of
//! `cargo run --release -p ipc-ring-benches -- --quick --only throughput/64 --only throughput/256 --only round-trip/256`,
//! by turns with the other rule, on two cores of an AMD EPYC.)
//!
//! *Every word has one writer side.* A sleeper's `attention` is answered in the waker's own region and not
//! reset by the waker, so that a later part can map the other side's region read-only. The stamps of kind 2 are the exception: its
//! receiver settles claims of the dead, and hands lines back by a store ([`crate::ring::mpsc`]).
//!
//! *An onlooker decides by `announced`*, not by the stamp: an old stamp over a new message looks intact before
//! and after. The producer says how far it may write before it begins, a quarter of the ring at a time; that is
//! one comparison, which it makes anyway to find room, and one fence per quarter ring. The alternative, a
//! Release fence between every publish and the next message, would cost aarch64 a barrier per message.

mod header;
mod words;

pub(crate) use header::*;
pub(crate) use words::*;
