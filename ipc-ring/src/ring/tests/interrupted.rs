//! What a producer finds that is held back again and again, while others send more than a lap.

use crate::ring::mpsc::{Consumer, Producer};
use crate::ring::{Produce, Slots, TypedSlots};
use crate::segment::heap::Heap;
use crate::segment::heap::traffic::{try_recv, try_send};
use crate::sync::AtomicU64;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// Slots whose user is interrupted each time before it looks at a stamp.
#[derive(Clone)]
struct Interrupted {
    slots: TypedSlots<u64>,
    looks: Rc<Cell<u32>>,
    /// Is told how many looks came before.
    interruption: Rc<RefCell<dyn FnMut(u32)>>,
}

impl Slots for Interrupted {
    fn stamp(&self, index: usize) -> &AtomicU64 {
        let look = self.looks.replace(self.looks.get() + 1);
        (self.interruption.borrow_mut())(look);
        self.slots.stamp(index)
    }
}

#[test]
fn a_sender_that_is_overtaken_by_laps_before_any_of_its_looks_finds_room_in_the_end() {
    for capacity in [1_u64, 2, 4, 64] {
        // Any choice of the first eight looks, and by how much others are faster.
        for choice in 0..1_u32 << 8 {
            for more in [0, 1, 2, capacity + 1] {
                overtaken(capacity, more, move |look| {
                    look < 8 && choice >> look & 1 == 1
                });
            }
        }
    }
}

fn overtaken(capacity: u64, more: u64, is_before: impl Fn(u32) -> bool + 'static) {
    let heap = Rc::new(Heap::<u64>::new(capacity, u64::MAX - 3));
    let mut consumer = Consumer::take_over(heap.ring());
    let mut other = Producer::join(heap.ring(), 1);
    let others_go_on = {
        let heap = heap.clone();
        move |look| {
            let messages = if is_before(look) { capacity + more } else { 0 };
            for value in 0..messages {
                // Not with the victim's own claim in the way, once it has one.
                if !try_send(&mut other, *heap.ring().slots(), value) {
                    break;
                }
                try_recv(&mut consumer, *heap.ring().slots());
            }
        }
    };
    let slots = Interrupted {
        slots: *heap.ring().slots(),
        looks: Rc::default(),
        interruption: Rc::new(RefCell::new(others_go_on)),
    };
    let mut victim = Producer::join(heap.ring_of(slots), 2);
    // Nobody else sends any more: if there was no slot at once, it must see that it is worth asking again.
    let has_slot = victim.slot().is_some() || victim.has_room() && victim.slot().is_some();
    assert!(has_slot, "an empty ring of {capacity} with no room in it");
}
