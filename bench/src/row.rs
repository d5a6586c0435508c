//! A figure: what was measured, beside its floor and its goal, all of the same run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One figure.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// Name of the bench.
    pub bench: String,
    /// What was measured.
    pub name: String,
    /// Transport.
    pub transport: String,
    /// Median of the runs.
    pub value: f64,
    /// Unit of `value`, `floor` and `goal`.
    pub unit: String,
    /// What the hardware allows at best, measured in the same run.
    pub floor: Option<f64>,
    /// What others reach: as published, or measured in the same run.
    pub peer: Option<f64>,
    /// What each of several others reaches in the same run; `peer` is the first.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub peers: BTreeMap<String, f64>,
    /// The goal: at most this for times, at least this for rates.
    pub goal: Option<f64>,
    /// Whether the goal is met; nothing where there is none.
    pub ok: Option<bool>,
}

/// Which side of the goal is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// Times.
    Lower,
    /// Rates.
    Higher,
}

impl Row {
    /// A figure without floor and goal.
    pub fn new(bench: &str, transport: &str, name: &str, value: f64, unit: &str) -> Self {
        Self {
            bench: bench.to_owned(),
            name: name.to_owned(),
            transport: transport.to_owned(),
            value,
            unit: unit.to_owned(),
            floor: None,
            peer: None,
            peers: BTreeMap::new(),
            goal: None,
            ok: None,
        }
    }

    /// With a floor, if it could be measured.
    pub fn floor(mut self, floor: f64) -> Self {
        self.floor = floor.is_finite().then_some(floor);
        self
    }

    /// With a published figure of others.
    pub fn peer(mut self, peer: f64) -> Self {
        self.peer = Some(peer);
        self
    }

    /// With what another reaches in the same run.
    pub fn beside(mut self, name: &str, value: f64) -> Self {
        self.peer.get_or_insert(value);
        self.peers.insert(name.to_owned(), value);
        self
    }

    /// With a goal, where there is one, that counts as met within the spread of the runs.
    pub fn goal_within(mut self, better: Better, goal: Option<f64>, spread: f64) -> Self {
        self.goal = goal;
        self.ok = goal.map(|goal| match better {
            Better::Lower => self.value <= goal + spread,
            Better::Higher => self.value >= goal - spread,
        });
        self
    }

    /// With a goal, where there is one.
    pub fn goal_if(self, better: Better, goal: Option<f64>) -> Self {
        match goal {
            Some(goal) => self.goal(better, goal),
            None => self,
        }
    }

    /// With a goal.
    pub fn goal(mut self, better: Better, goal: f64) -> Self {
        self.goal = Some(goal);
        self.ok = Some(match better {
            Better::Lower => self.value <= goal,
            Better::Higher => self.value >= goal,
        });
        self
    }
}

/// Values of figures, by name.
#[derive(Debug, Default)]
pub struct Samples(BTreeMap<&'static str, Vec<f64>>);

impl Samples {
    /// Adds a value.
    pub fn add(&mut self, name: &'static str, value: f64) {
        self.0.entry(name).or_default().push(value);
    }

    /// The median of a figure's values; not a number if there are none.
    pub fn median(&self, name: &str) -> f64 {
        self.0
            .get(name)
            .map_or(f64::NAN, |values| median(&mut values.clone()))
    }
}

/// The median; not a number if there are no values.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
