//! Telemetry: what the chips are, how they feel, and who uses them.
//!
//! [`Monitor`] reads over any transport and opens no context, so looking at a chip does not show up in what is seen.
//!
//! ```no_run
//! for device in vmlu::telemetry::Monitor::open()?.devices()? {
//!     if let Some(live) = &device.live {
//!         println!("{}: {:.0} % busy, {:.0} °C", device.name, live.utilisation_percent, live.temperature.chip_c);
//!     }
//! }
//! # Ok::<(), vmlu::error::Error>(())
//! ```

mod decay;
mod fabric;
mod identity;
mod link;
mod monitor;
mod pcie;
mod process;
mod shares;
mod snapshot;
mod waiter;

pub use decay::value_at;
pub use fabric::{
    FabricChip, FabricSnapshot, Level, LinkState, PortCounters, PortSnapshot, Relation, RemotePort,
};
pub use identity::{chip_number, chip_uuid};
pub use monitor::Monitor;
pub use pcie::pci_level;
pub use shares::Shares;
pub use snapshot::{
    Clocks, ComputeMode, Counters, DeviceHealth, DeviceSnapshot, DriverHealth, Ecc, Health,
    Incident, Link, Live, Memory, PciAddress, PcieLink, Power, ProcessUsage, Temperatures,
    Throttle, Transfers, VIRTUAL_BYTES,
};
pub use waiter::{Change, EventWaiter, Reader};
