//! `cnmon record` and `cnmon replay`: what the cards did, one JSON object a line.

use std::io::{BufRead, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use vmlu::telemetry::DeviceSnapshot;

use crate::cli::Failure;

/// Name and version of the form of a line.
const SCHEMA: &str = "cnmon-record";
const VERSION: u32 = 1;

/// The cards at one moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sample {
    schema: String,
    schema_version: u32,
    /// Wall-clock time, µs since 1970.
    pub(crate) time_us: u64,
    /// The transport.
    pub(crate) transport: String,
    /// The cards.
    pub(crate) cards: Vec<DeviceSnapshot>,
}

impl Sample {
    /// The cards as of now.
    pub(crate) fn now(transport: &str, cards: Vec<DeviceSnapshot>) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            schema: SCHEMA.into(),
            schema_version: VERSION,
            time_us: now.map_or(0, |time| time.as_micros() as u64),
            transport: transport.into(),
            cards,
        }
    }

    /// Writes it as a line.
    pub(crate) fn write(&self, to: &mut impl Write) -> std::io::Result<()> {
        // In one piece: who follows the file reads whole lines.
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        to.write_all(&line)?;
        to.flush()
    }
}

/// The samples of a file.
pub(crate) fn read(file: &std::path::Path) -> Result<Vec<Sample>, Failure> {
    let refuse = |cause: String| Failure::no_record(&file.display().to_string(), &cause);
    let open = std::fs::File::open(file).map_err(|error| refuse(error.to_string()))?;
    let mut samples = Vec::new();
    for (number, line) in std::io::BufReader::new(open).lines().enumerate() {
        let line = line.map_err(|error| refuse(error.to_string()))?;
        let sample: Sample = serde_json::from_str(&line)
            .map_err(|error| refuse(format!("line {}: {error}", number + 1)))?;
        if sample.schema != SCHEMA || sample.schema_version != VERSION {
            let text = format!(
                "line {}: {} of version {}, this cnmon reads {SCHEMA} of version {VERSION}",
                number + 1,
                sample.schema,
                sample.schema_version
            );
            return Err(refuse(text));
        }
        samples.push(sample);
    }
    match samples.is_empty() {
        true => Err(refuse("it holds nothing".into())),
        false => Ok(samples),
    }
}

/// How long to wait between two samples, `speed` times as fast as it was.
pub(crate) fn between(a: &Sample, b: &Sample, speed: f64) -> Duration {
    let us = b.time_us.saturating_sub(a.time_us) as f64 / speed;
    // A pause of the recording is not waited for.
    Duration::from_micros(us.clamp(0.0, 60e6) as u64)
}
