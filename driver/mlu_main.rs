// SPDX-License-Identifier: GPL-2.0

//! Kernel driver of the MLU370 accelerator.
//!
//! The firmware owns the card: device memory, address spaces, queues, telemetry. This driver owns
//! what only a kernel can: the PCI life cycle, interrupts, the lifetimes of open files, pinned
//! pages, mappings into user space and permissions. The interface to user space is described in
//! `docs/uapi.md`, the card in `docs/hardware.md`.

use kernel::{driver::Registration, prelude::*, InPlaceModule};

#[allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    unused_attributes,
    unused_imports
)]
#[path = "../abi/src/lib.rs"]
mod abi;
#[path = "kernel/mod.rs"]
mod ext;

mod aperture;
mod arm;
mod attributes;
mod boot;
mod card;
mod chip_file;
mod context;
mod control;
mod counters;
mod debug;
mod dmabuf;
mod driver;
mod dump;
mod event;
mod graph;
mod identity;
mod ioctl;
mod lent;
mod memory;
mod nodes;
mod peer;
mod queue;
mod quota;
mod recovery;
mod regs;
mod rpc;
mod rpc_trace;
mod stream;
mod telemetry;
mod timeline;
mod watch;

/// This module, for files that keep it loaded.
pub(crate) const fn this_module() -> &'static ThisModule {
    kernel::module::this_module::<LocalModule>()
}

/// Most interrupt vectors of a chip. A processor has some two hundred for all devices, so a machine
/// with many chips and few processors cannot give each of them all.
pub(crate) fn most_vectors() -> u32 {
    const PER_PROCESSOR: u32 = 4;
    let most = match module_parameters::vectors.value() {
        0 => ext::vectors::processors().saturating_mul(PER_PROCESSOR),
        most => most,
    };
    most.clamp(1, abi::pci::MAX_VECTORS)
}

/// Version of the driver.
pub(crate) const VERSION: &str = "v0.1.0";

#[pin_data]
struct MluModule {
    // Dropped in this order: first no chip is driven any more, then there are no nodes.
    #[pin]
    _driver: Registration<ext::pci_driver::Adapter<driver::MluDriver>>,
    _nodes: nodes::Registered,
}

impl InPlaceModule for MluModule {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        pin_init::pin_init_scope(move || {
            let nodes = nodes::Registered::new()?;
            Ok(try_pin_init!(Self {
                _driver <- Registration::new(<LocalModule as kernel::ModuleMetadata>::NAME, module),
                _nodes: nodes,
            }))
        })
    }
}

module! {
    type: MluModule,
    name: "mlu",
    authors: ["The virtual MLU authors"],
    description: "MLU370 accelerator",
    license: "GPL v2",
    firmware: ["mlu/mlu370.img"],
    imports_ns: ["DMA_BUF"],
    params: {
        vectors: u32 {
            default: 0,
            description: "Most interrupt vectors of a chip, 1 to 16; 0: four a processor",
        },
    },
}
