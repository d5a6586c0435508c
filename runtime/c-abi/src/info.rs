//! What a device says of itself, by the numbers that both interfaces have for it. The values are the card model's and the firmware's.

use vmlu::notifier::COUNT;

use crate::device::Device;
use crate::failure::{Failure, Result};

/// Version of the driver interface that the libraries follow: the vendor's, whose programs ask for it. The version of the kernel module is in
/// `cnmon`.
pub const DRIVER_VERSION: [i32; 3] = [5, 10, 22];

/// Most tasks in a dimension of a launch.
const MAX_DIM: i32 = 65_535;
/// Local memory of a core, MiB.
const LOCAL_MIB: i32 = 409;
/// Constant memory, MiB: a part of device memory.
const CONSTANT_MIB: i32 = 128;
/// Largest PCIe payload and read request, bytes, where there is no PCIe, or its configuration cannot be read.
const PCIE_LIMITS: (i32, i32) = (256, 512);

fn mib(bytes: u64) -> i32 {
    i32::try_from(bytes >> 20).unwrap_or(i32::MAX)
}

/// The largest PCIe payload and read request that the system has set, bytes: device control of the PCI Express capability.
fn pcie_limits(device: &Device) -> (i32, i32) {
    const STATUS: usize = 0x06;
    const HAS_LIST: u8 = 1 << 4;
    const LIST: usize = 0x34;
    const EXPRESS: u8 = 0x10;
    const CONTROL: usize = 8;
    if device.transport.name() != "kernel" {
        return PCIE_LIMITS;
    }
    let read = || {
        let file = format!("/sys/bus/pci/devices/{}/config", device.pci());
        let config = std::fs::read(file).ok()?;
        if config.get(STATUS)? & HAS_LIST == 0 {
            return None;
        }
        let mut at = usize::from(*config.get(LIST)?);
        // No list is longer than the space has room for; without rights only the first 64 bytes are there.
        for _ in 0..48 {
            if *config.get(at)? == EXPRESS {
                let control = [*config.get(at + CONTROL)?, *config.get(at + CONTROL + 1)?];
                let control = u16::from_le_bytes(control);
                let bytes = |field: u16| 128 << (field & 7).min(5);
                return Some((bytes(control >> 5), bytes(control >> 12)));
            }
            at = usize::from(*config.get(at + 1)?);
        }
        None
    };
    read().unwrap_or(PCIE_LIMITS)
}

/// An attribute of a device.
///
/// # Errors
///
/// [`Failure::NO_ATTRIBUTE`] for a number that is none.
pub fn attribute(device: &Device, number: i32) -> Result<i32> {
    let (model, info) = (device.model, &device.info.info);
    let clusters = info.clusters as i32;
    Ok(match number {
        // Compute.
        0x01 => model.compute_capability.0 as i32,
        0x02 => model.compute_capability.1 as i32,
        // Neither sparse computing nor TF32; FP16, INT4, INT8 and BF16.
        0x03 | 0x08 => 0,
        0x04..=0x07 => 1,
        0x09 => i32::from(device.telemetry()?.compute_mode),
        0x101 => info.max_queues as i32,
        0x102 => COUNT as i32,
        // Queue priorities.
        0x103 => 1,
        // The X8 has tiny cores and codecs for JPEG, H.264 and H.265; what drives them is no part of these interfaces. No image processor.
        0x104..=0x107 => 1,
        0x108 => 0,
        // Waits for notifiers of other contexts, and of other processes.
        0x109 | 0x10a => 1,
        0x201..=0x203 => MAX_DIM,
        0x204 | 0x209 => model.union_limit as i32,
        0x205 => clusters,
        0x206 => info.cores_per_cluster as i32,
        0x207 => model.quadrants as i32,
        0x208 => clusters / (model.quadrants.max(1) as i32),
        0x20a => model.isa as i32,
        0x20b => 1,
        0x20c => 4096,
        // Memory.
        0x301 => model.l2_bytes as i32,
        0x302 => model.nram_bytes as i32,
        0x303 => model.wram_bytes as i32,
        0x304 => CONSTANT_MIB,
        0x305 => LOCAL_MIB,
        0x306 => model.sram_bytes as i32,
        0x307 => 1,
        // No L1 cache of clusters, nothing persists in the L2 cache, no shared memory of a union task.
        0x308..=0x30a => 0,
        // Virtual memory management is there; its handles are no files, and nothing is compressed.
        0x30b => 1,
        0x30c | 0x30d => 0,
        // Pinned memory is at the same address for both sides, and registering others' is not possible.
        0x30e => 0,
        0x30f => 1,
        // Each allocation is contiguous.
        0x310 => 1,
        0x311 => info.granule as i32,
        0x312 => mib(info.memory_available),
        // The kernel's driver exports device memory as a dma-buf.
        0x313 => i32::from(device.transport.name() == "kernel"),
        // Hardware.
        0x401 => i32::from(device.telemetry()?.ecc_mode != 0),
        0x402 => model.clock_khz as i32,
        0x403 => model.memory_clock_khz as i32,
        0x404 => model.memory_bus_bits as i32,
        0x405 => mib(info.memory_bytes),
        0x406 => i32::from(device.info.pci_bus),
        0x407 => i32::from(device.info.pci_device),
        0x408 => device.info.pci_domain as i32,
        // All device memory is reached through its BAR.
        0x409 => mib(info.memory_bytes),
        0x40a => pcie_limits(device).0,
        0x40b => pcie_limits(device).1,
        _ => return Err(Failure::NO_ATTRIBUTE),
    })
}

/// Whether a device reaches another's memory directly.
pub fn reaches(from: &Device, to: &Device) -> Result<bool> {
    if from.ordinal == to.ordinal {
        return Ok(false);
    }
    let way = vmlu::peer::way(&*from.transport, from.number, to.number)?;
    Ok(way.path != vmlu::abi::link::PeerPath::None)
}
