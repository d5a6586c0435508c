//! Card models: one table of data. No constant of a product stands anywhere else. See `docs/hardware.md`, section 1.

/// All that tells one product from another.
#[derive(Debug)]
pub struct CardModel {
    /// Model number: PCI device ID in the upper half, board ID (upper byte of the serial number) in the lower.
    pub id: u32,
    /// Product name.
    pub name: &'static str,
    /// PCI device ID.
    pub pci_device: u16,
    /// Upper byte of the board's serial number.
    pub board_id: u8,
    /// Chips of a board.
    pub chips_per_board: u32,
    /// Firmware version that is reported.
    pub firmware: &'static str,

    /// Device memory of a chip, bytes.
    pub memory_bytes: u64,
    /// Part of it that programs can allocate, bytes.
    pub memory_available: u64,
    /// Part of it that programs can allocate with ECC on, bytes.
    pub memory_available_ecc: u64,
    /// Memory bandwidth of a chip, bytes/s.
    pub memory_bandwidth: u64,
    /// Width of the memory bus, bits.
    pub memory_bus_bits: u32,
    /// Memory clock, kHz.
    pub memory_clock_khz: u32,
    /// L2 cache, bytes.
    pub l2_bytes: u32,

    /// Clusters of a chip.
    pub clusters: u32,
    /// IPU cores of a cluster.
    pub cores_per_cluster: u32,
    /// Quadrants.
    pub quadrants: u32,
    /// Most clusters that work together in one union task.
    pub union_limit: u32,
    /// Neuron RAM of a core, bytes.
    pub nram_bytes: u32,
    /// Weight RAM of a core, bytes.
    pub wram_bytes: u32,
    /// Shared RAM of a cluster, bytes.
    pub sram_bytes: u32,
    /// Instruction set, such as 372.
    pub isa: u32,
    /// Compute capability.
    pub compute_capability: (u32, u32),

    /// IPU clock, kHz.
    pub clock_khz: u32,
    /// Lowest and highest clock that can be set, kHz.
    pub clock_range_khz: (u32, u32),
    /// Peak rates of a chip.
    pub rates: Rates,
    /// Time from the start of one command to the start of the next that does nothing, ns.
    pub launch_ns: u64,

    /// PCIe generation.
    pub pcie_gen: u32,
    /// PCIe lanes.
    pub pcie_lanes: u32,
    /// Bytes/s that PCIe moves in one direction.
    pub pcie_bandwidth: u64,
    /// MLU-Link ports of a chip.
    pub link_ports: u32,
    /// MLU-Link bandwidth of a board, bytes/s.
    pub link_bandwidth: u64,

    /// Power and heat.
    pub thermal: Thermal,
}

/// Peak rates of a chip in operations/s; a multiply-add is two.
#[derive(Debug)]
pub struct Rates {
    /// FP32.
    pub f32: u64,
    /// FP16 and BF16.
    pub f16: u64,
    /// INT16.
    pub i16: u64,
    /// INT8.
    pub i8: u64,
}

/// The model of power and heat: each quantity approaches a target that is linear in the utilisation.
#[derive(Debug)]
pub struct Thermal {
    /// Power cap of the board, mW.
    pub cap_mw: u32,
    /// Lowest cap that can be set, mW.
    pub min_cap_mw: u32,
    /// Board power when idle, mW.
    pub idle_mw: u32,
    /// Board power when fully loaded, mW.
    pub full_mw: u32,
    /// Time constant of the power reading, ms.
    pub power_tau_ms: u32,
    /// Chip temperature, idle and fully loaded, thousandths of a degree Celsius.
    pub chip_milli: (i32, i32),
    /// Board temperature.
    pub board_milli: (i32, i32),
    /// Memory temperature.
    pub memory_milli: (i32, i32),
    /// Time constant of the temperatures, ms.
    pub tau_ms: u32,
    /// Chip temperature from which on the clock is lowered, thousandths of a degree Celsius.
    pub slowdown_milli: i32,
    /// Chip temperature at which the chip stops.
    pub shutdown_milli: i32,
    /// Fan in percent; 0 on a passive board.
    pub fan_percent: u32,
}

/// MLU370-X8: two chips a board. Memory, clocks, clusters and RAMs as the vendor's attribute tables give them; rates are half of the
/// board's published 256 TOPS INT8, 128 TOPS INT16, 96 TFLOPS FP16 and 24 TFLOPS FP32; idle power and temperature as published monitor
/// outputs show them.
pub static MLU370_X8: CardModel = CardModel {
    id: 0x0370_0054,
    name: "MLU370-X8",
    pci_device: 0x0370,
    board_id: 0x54,
    chips_per_board: 2,
    firmware: "v1.1.6",
    memory_bytes: 24 << 30,
    memory_available: 23374 << 20,
    memory_available_ecc: 20638 << 20,
    memory_bandwidth: 307_200_000_000,
    memory_bus_bits: 384,
    memory_clock_khz: 3_200_000,
    l2_bytes: 2 << 20,
    clusters: 4,
    cores_per_cluster: 4,
    quadrants: 2,
    union_limit: 4,
    nram_bytes: 768 << 10,
    wram_bytes: 1024 << 10,
    sram_bytes: 4096 << 10,
    isa: 372,
    compute_capability: (3, 0),
    clock_khz: 1_000_000,
    clock_range_khz: (200_000, 1_300_000),
    rates: Rates {
        f32: 12_000_000_000_000,
        f16: 48_000_000_000_000,
        i16: 64_000_000_000_000,
        i8: 128_000_000_000_000,
    },
    launch_ns: 2_000,
    pcie_gen: 4,
    pcie_lanes: 16,
    pcie_bandwidth: 31_500_000_000,
    link_ports: 8,
    link_bandwidth: 200_000_000_000,
    thermal: Thermal {
        cap_mw: 250_000,
        min_cap_mw: 100_000,
        idle_mw: 106_000,
        full_mw: 244_000,
        power_tau_ms: 500,
        chip_milli: (39_000, 82_000),
        board_milli: (32_000, 58_000),
        memory_milli: (34_000, 70_000),
        tau_ms: 45_000,
        slowdown_milli: 95_000,
        shutdown_milli: 105_000,
        fan_percent: 0,
    },
};

/// All models.
pub static MODELS: [&CardModel; 1] = [&MLU370_X8];

/// The model with this number.
pub fn by_id(id: u32) -> Option<&'static CardModel> {
    MODELS.iter().copied().find(|m| m.id == id)
}

/// The model with this PCI device ID (the first of a family).
pub fn by_pci_device(device: u16) -> Option<&'static CardModel> {
    MODELS.iter().copied().find(|m| m.pci_device == device)
}

impl CardModel {
    /// IPU cores of a chip.
    pub const fn cores(&self) -> u32 {
        self.clusters * self.cores_per_cluster
    }

    /// Bytes of BAR4: the next power of two that holds the memory.
    pub const fn bar_memory_size(&self) -> u64 {
        self.memory_bytes.next_power_of_two()
    }
}
