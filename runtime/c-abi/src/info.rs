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
/// Largest PCIe payload and read request, bytes.
const PCIE_PAYLOAD: i32 = 256;
const PCIE_READ: i32 = 512;

fn mib(bytes: u64) -> i32 {
    i32::try_from(bytes >> 20).unwrap_or(i32::MAX)
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
        // Any process may use it.
        0x09 => 0,
        0x101 => info.max_queues as i32,
        0x102 => COUNT as i32,
        // Queue priorities.
        0x103 => 1,
        // Tiny cores and codecs are not part of the virtual card, nor an image processor.
        0x104..=0x108 => 0,
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
        // Exporting device memory as a dma-buf needs the kernel.
        0x313 => 0,
        // Hardware.
        0x401 => 1,
        0x402 => model.clock_khz as i32,
        0x403 => model.memory_clock_khz as i32,
        0x404 => model.memory_bus_bits as i32,
        0x405 => mib(info.memory_bytes),
        0x406 => i32::from(device.info.pci_bus),
        0x407 => i32::from(device.info.pci_device),
        0x408 => device.info.pci_domain as i32,
        // All device memory is reached through its BAR.
        0x409 => mib(info.memory_bytes),
        0x40a => PCIE_PAYLOAD,
        0x40b => PCIE_READ,
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
