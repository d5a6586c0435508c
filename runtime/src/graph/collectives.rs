//! Collectives of graphs. The card runs what stands between them; the calls are made by each launch.

use std::collections::BTreeMap;
use std::ops::Range;

use super::{Graph, Param};
use crate::collective::Captured;
use crate::error::Result;
use crate::memory::Owner;

/// Calls that a launch makes together.
#[derive(Clone)]
pub(super) struct Meeting {
    /// Commands that stand before them.
    pub(super) before: usize,
    pub(super) calls: Vec<Call>,
}

#[derive(Clone)]
pub(super) struct Call {
    call: Captured,
    /// By place of the call's memory: a parameter's index, and what is added to it.
    places: BTreeMap<usize, (u32, u64)>,
}

impl Call {
    /// The call of a launch with these parameters.
    fn with(&self, values: &[u64]) -> Result<Captured> {
        let places = self.places.iter().filter_map(|(place, (index, addend))| {
            let value = values.get(*index as usize)?;
            Some((*place, value.wrapping_add(*addend)))
        });
        self.call.with(places)
    }

    /// Addresses that are no parameters, and their places.
    fn addresses(&self) -> impl Iterator<Item = (usize, u64)> {
        let all = self.call.addresses().enumerate();
        all.filter(|(place, _)| !self.places.contains_key(place))
    }
}

impl Meeting {
    /// The calls of a launch with these parameters.
    pub(super) fn with(&self, values: &[u64]) -> Result<Vec<Captured>> {
        self.calls.iter().map(|call| call.with(values)).collect()
    }
}

impl Graph {
    /// How many collectives it has; they do not count as commands.
    pub fn collectives(&self) -> usize {
        self.meetings.iter().map(|m| m.calls.len()).sum()
    }

    /// Commands and meetings.
    pub(super) fn steps(&self) -> usize {
        self.starts.len() + self.meetings.len()
    }

    /// Adds calls that are made together.
    pub(super) fn meet(&mut self, calls: Vec<Captured>) {
        for call in &calls {
            for buffer in call.buffers() {
                self.own(Owner::Device(buffer.clone()));
            }
        }
        let calls = calls.into_iter().map(|call| Call {
            call,
            places: BTreeMap::new(),
        });
        self.meetings.push(Meeting {
            before: self.starts.len(),
            calls: calls.collect(),
        });
    }

    /// Adds another graph's collectives, with values for its parameters, whose commands are about to be added.
    pub(super) fn append_meetings(&mut self, other: &Graph, values: &[u64]) -> Result<()> {
        let before = self.starts.len();
        let mut added = Vec::new();
        for meeting in &other.meetings {
            let calls = meeting.with(values)?.into_iter().map(|call| Call {
                call,
                places: BTreeMap::new(),
            });
            added.push(Meeting {
                before: before + meeting.before,
                calls: calls.collect(),
            });
        }
        self.meetings.extend(added);
        Ok(())
    }

    /// Addresses of collectives that are no parameters.
    pub(super) fn met_addresses(&self) -> impl Iterator<Item = u64> {
        let calls = self.meetings.iter().flat_map(|meeting| &meeting.calls);
        calls.flat_map(Call::addresses).map(|(_, address)| address)
    }

    /// Makes the addresses of collectives within a range a parameter.
    pub(super) fn meet_with(&mut self, range: Range<u64>, param: Param) {
        let calls = self.meetings.iter_mut().flat_map(|m| &mut m.calls);
        for call in calls {
            let found: Vec<_> = call.addresses().filter(|a| range.contains(&a.1)).collect();
            let places = found
                .into_iter()
                .map(|(place, address)| (place, (param.index, address - range.start)));
            call.places.extend(places);
        }
    }

    /// The commands before each meeting, and those after the last.
    pub(super) fn pieces(&self) -> Vec<Graph> {
        let ends = self.meetings.iter().map(|meeting| meeting.before);
        let ends = ends.chain([self.starts.len()]);
        let mut begin = 0;
        ends.map(|end| {
            let piece = self.piece(begin..end);
            begin = end;
            piece
        })
        .collect()
    }

    fn piece(&self, commands: Range<usize>) -> Graph {
        let at = |command: usize| {
            let start = self.starts.get(command);
            start.map_or(self.packets.len(), |start| *start as usize)
        };
        let (first, last) = (at(commands.start), at(commands.end));
        let base = first as u32;
        let places = self.places.range(base..last as u32);
        Graph {
            packets: self.packets[first..last].to_vec(),
            starts: self.starts[commands].iter().map(|s| s - base).collect(),
            places: places.map(|(at, place)| (at - base, *place)).collect(),
            parameters: self.parameters,
            ..Graph::default()
        }
    }
}
