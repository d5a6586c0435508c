//! Handles: numbers in the shape of pointers, for what a process has of a kind.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Where the parts of a handle stand: the slot (20 bits), its generation (32 bits), the kind. The lowest 4 bits are zero, as in a pointer to
/// something aligned; so no handle is one of the small numbers that C uses for default queues.
const SLOT: u32 = 4;
const GENERATION: u32 = 24;
const KIND: u32 = 56;
const SLOTS: usize = 1 << (GENERATION - SLOT);

/// The things of a kind that have handles.
pub struct Table<T> {
    kind: u8,
    slots: RwLock<Slots<T>>,
    removals: AtomicU64,
}

struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<usize>,
}

struct Slot<T> {
    generation: u32,
    item: Option<Arc<T>>,
}

impl<T> Table<T> {
    /// A table whose handles tell their kind: a number from 1 to 127 that no other table has.
    pub const fn new(kind: u8) -> Self {
        let slots = Slots {
            slots: Vec::new(),
            free: Vec::new(),
        };
        Self {
            kind,
            slots: RwLock::new(slots),
            removals: AtomicU64::new(0),
        }
    }

    /// A number that changes whenever a handle was taken away. While it stays, a handle that was found once names the same thing; it is read
    /// before the handle is looked up.
    #[inline]
    pub fn removals(&self) -> u64 {
        self.removals.load(Ordering::Acquire)
    }

    /// Changes that number, for what is found without a handle.
    pub(crate) fn count_removal(&self) {
        self.removals.fetch_add(1, Ordering::Release);
    }

    fn read(&self) -> RwLockReadGuard<'_, Slots<T>> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Slots<T>> {
        self.slots.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a handle; `None` if there are a million already.
    pub fn insert(&self, item: Arc<T>) -> Option<usize> {
        let mut table = self.write();
        let index = match table.free.pop() {
            Some(index) => index,
            None if table.slots.len() == SLOTS => return None,
            None => {
                table.slots.push(Slot {
                    generation: 0,
                    item: None,
                });
                table.slots.len() - 1
            }
        };
        let slot = &mut table.slots[index];
        slot.item = Some(item);
        let generation = slot.generation as usize;
        Some(usize::from(self.kind) << KIND | generation << GENERATION | index << SLOT)
    }

    /// The slot that a handle has, and its generation.
    fn parts(&self, handle: usize) -> Option<(usize, u32)> {
        let index = (handle >> SLOT) & (SLOTS - 1);
        let generation = (handle >> GENERATION) as u32;
        let whole = handle >> KIND == usize::from(self.kind) && handle & ((1 << SLOT) - 1) == 0;
        whole.then_some((index, generation))
    }

    /// What a handle names.
    pub fn find(&self, handle: usize) -> Option<Arc<T>> {
        let (index, generation) = self.parts(handle)?;
        let table = self.read();
        let slot = table.slots.get(index)?;
        slot.item.clone().filter(|_| slot.generation == generation)
    }

    /// Takes a handle away; what it named.
    pub fn remove(&self, handle: usize) -> Option<Arc<T>> {
        let (index, generation) = self.parts(handle)?;
        let mut table = self.write();
        let slot = table.slots.get_mut(index)?;
        if slot.generation != generation {
            return None;
        }
        let item = slot.item.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        table.free.push(index);
        self.count_removal();
        Some(item)
    }

    /// Takes all handles away whose things satisfy a condition; the things, to be dropped without a lock.
    pub fn remove_if(&self, condition: impl Fn(&T) -> bool) -> Vec<Arc<T>> {
        let mut table = self.write();
        let mut removed = Vec::new();
        for index in 0..table.slots.len() {
            let slot = &mut table.slots[index];
            if slot.item.as_ref().is_some_and(|item| condition(item)) {
                removed.extend(slot.item.take());
                slot.generation = slot.generation.wrapping_add(1);
                table.free.push(index);
            }
        }
        self.count_removal();
        removed
    }

    /// All that have handles.
    pub fn all(&self) -> Vec<Arc<T>> {
        self.read()
            .slots
            .iter()
            .filter_map(|s| s.item.clone())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destroyed_handle_never_names_what_has_its_place() {
        let (table, other) = (Table::new(1), Table::new(2));
        let first = table.insert(Arc::new(1)).unwrap();
        let foreign = other.insert(Arc::new(1)).unwrap();
        assert_eq!(table.find(first).as_deref(), Some(&1));
        assert_eq!(table.remove(first).as_deref(), Some(&1));
        let second = table.insert(Arc::new(2)).unwrap();
        assert_ne!(first, second);
        for wrong in [first, foreign, 0, 1, 2, second + 1, second + 16, usize::MAX] {
            assert_eq!(table.find(wrong), None, "{wrong:#x}");
            assert_eq!(table.remove(wrong), None, "{wrong:#x}");
        }
        assert_eq!(table.find(second).as_deref(), Some(&2));
        assert_eq!(table.remove_if(|n| *n == 2).len(), 1);
        assert_eq!(table.find(second), None);
    }
}
