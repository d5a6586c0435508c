//! A table of objects with handles that are never used twice: generation in the upper half, index in the lower.

use std::sync::Arc;

/// Largest generation: the top bit of a handle is kept for `queue::IMPORTED`.
const MAX_GENERATION: u32 = u32::MAX >> 1;

/// The table.
pub struct Table<T> {
    slots: Vec<(u32, Option<Arc<T>>)>,
    limit: u32,
    live: u32,
}

impl<T> Table<T> {
    /// An empty table of at most `limit` objects.
    pub fn new(limit: u32) -> Self {
        Self {
            slots: Vec::new(),
            limit,
            live: 0,
        }
    }

    /// Objects in it.
    pub fn len(&self) -> u32 {
        self.live
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Adds the object that `make` builds for its handle; `None` if the table is full.
    pub fn insert(&mut self, make: impl FnOnce(u64) -> T) -> Option<Arc<T>> {
        let index = match self.slots.iter().position(|(_, s)| s.is_none()) {
            Some(index) => index,
            None if self.slots.len() < self.limit as usize => {
                self.slots.push((0, None));
                self.slots.len() - 1
            }
            None => return None,
        };
        let slot = &mut self.slots[index];
        slot.0 = (slot.0.wrapping_add(1) & MAX_GENERATION).max(1);
        let object = Arc::new(make(u64::from(slot.0) << 32 | index as u64));
        slot.1 = Some(object.clone());
        self.live += 1;
        Some(object)
    }

    /// The object with a handle.
    pub fn get(&self, handle: u64) -> Option<Arc<T>> {
        let (generation, object) = self.slots.get(handle as u32 as usize)?;
        (u64::from(*generation) == handle >> 32).then(|| object.clone())?
    }

    /// The object with an index.
    pub fn at(&self, index: u32) -> Option<Arc<T>> {
        self.slots.get(index as usize)?.1.clone()
    }

    /// Takes out the object with a handle.
    pub fn remove(&mut self, handle: u64) -> Option<Arc<T>> {
        self.get(handle)?;
        self.live -= 1;
        self.slots[handle as u32 as usize].1.take()
    }

    /// All objects, in the order of their indices.
    pub fn all(&self) -> Vec<Arc<T>> {
        self.slots.iter().filter_map(|(_, s)| s.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn handles_are_not_used_twice() {
        let mut table = Table::new(2);
        let (a, b) = (table.insert(|h| h).unwrap(), table.insert(|h| h).unwrap());
        assert!(table.insert(|h| h).is_none());
        assert_eq!(table.remove(*a), Some(a.clone()));
        let c = table.insert(|h| h).unwrap();
        assert!(*c != *a && *c as u32 == *a as u32);
        assert_eq!(
            (table.get(*a), table.get(*b), table.get(*c), table.get(0)),
            (None, Some(b), Some(c), None)
        );
    }
}
