//! Chips that are unplugged and plugged while the machine runs. They must be on ports of their own ([`Config::flat`](super::config::Config::flat))
//! and have MSI (`mlu-server --msi`): QEMU 11.1 aborts when a chip with MSI-X is unplugged.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;

use super::{topology, Vm};

/// Time for a chip that was unplugged to be gone.
const PATIENCE: Duration = Duration::from_secs(20);

fn id(chip: u32) -> String {
    format!("chip{chip}")
}

impl Vm {
    /// Asks the guest to let a chip go, as its port's button would. That takes the guest some seconds.
    pub fn unplug(&self, chip: u32) -> Result<()> {
        self.qmp("device_del", json!({"id": id(chip)}))?;
        Ok(())
    }

    /// Plugs a chip that was unplugged into its port.
    ///
    /// # Errors
    ///
    /// QEMU's, if they go on for 20 s: that the chip is still there, or that nobody serves it.
    pub fn plug(&self, chip: u32) -> Result<()> {
        let device = topology::chip(chip, &format!("port{chip}"), self.server()?.sockets());
        let limit = Instant::now() + PATIENCE;
        loop {
            match self.qmp("device_add", device.clone()) {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > limit => return Err(error),
                Err(_) => thread::sleep(Duration::from_millis(50)),
            }
        }
    }
}
