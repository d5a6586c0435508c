//! Room in a ring: the producer never writes units that the card has not consumed.

use crate::sync::{takes, Step};

/// The producer's account of a ring. Positions count units since the queue was made.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    units: u64,
    written: u64,
    /// What `consumed` was when it was read last. It only grows, so that there is at least the room that this leaves.
    consumed: u64,
}

impl Room {
    /// An empty ring with so many units.
    pub const fn new(units: u32) -> Self {
        Self {
            units: units as u64,
            written: 0,
            consumed: 0,
        }
    }

    /// Units written.
    pub const fn written(&self) -> u64 {
        self.written
    }

    /// Takes room for so many units; the position at which they begin, or `None` if the ring is too full. `consumed` reads the card's count,
    /// with acquire; it is only asked when the count known so far leaves too little room: the line it stands in is the card's.
    #[inline]
    pub fn take(&mut self, units: u64, consumed: impl FnOnce() -> u64) -> Option<u64> {
        let position = self.written;
        let end = position.wrapping_add(units);
        if end.wrapping_sub(self.consumed) > self.units && takes(Step::Room) {
            self.consumed = consumed();
            if end.wrapping_sub(self.consumed) > self.units {
                return None;
            }
        }
        self.written = end;
        Some(position)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::Room;

    #[test]
    fn a_full_ring_has_no_room() {
        let mut room = Room::new(128);
        assert_eq!(room.take(100, || unreachable!()), Some(0));
        assert_eq!(room.take(28, || unreachable!()), Some(100));
        assert_eq!(room.take(1, || 0), None);
        assert_eq!((room.take(2, || 1), room.take(1, || 1)), (None, Some(128)));
        assert_eq!(room.written(), 129);
        assert_eq!(room.take(128, || 129), Some(129));
    }

    /// A count that cannot be, of a card that is gone, leaves no room.
    #[test]
    fn a_count_beyond_what_was_written_leaves_no_room() {
        let mut room = Room::new(128);
        assert_eq!(room.take(128, || 0), Some(0));
        assert_eq!(room.take(1, || u64::MAX - 200), None);
    }
}
