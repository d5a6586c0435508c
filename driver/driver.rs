// SPDX-License-Identifier: GPL-2.0

//! The PCI driver: bringing a chip up and taking it down.

use kernel::{device::Core, pci, prelude::*, sync::Arc};

use crate::{
    abi::{
        self,
        model::{self, CardModel},
        pci::{BAR_DOORBELL, BAR_DOORBELL_SIZE, VENDOR_ID},
        regs::{self, HW_VERSION},
        rpc::{Function, Info},
    },
    attributes::text,
    boot::boot,
    card::Card,
    event::{EventRing, SharedRing, VectorHandler},
    ext::{
        pci::{reset_function, vendor, Enabled},
        vectors::Vectors,
    },
    nodes::ChipNodes,
    recovery::Recovery,
    regs::Registers,
    rpc::{RpcChannel, Scope},
    telemetry::TelemetryPage,
    watch::Watch,
};

/// The driver.
pub(crate) struct MluDriver;

kernel::pci_device_table!(
    PCI_TABLE,
    <MluDriver as pci::Driver>::IdInfo,
    [(
        pci::DeviceId::from_id(vendor(VENDOR_ID), model::MLU370_X8.pci_device as u32),
        &model::MLU370_X8
    )]
);

impl pci::Driver for MluDriver {
    type IdInfo = &'static CardModel;
    type Data<'bound> = Chip<'bound>;
    const ID_TABLE: pci::IdTable<Self::IdInfo> = &PCI_TABLE;

    fn probe<'bound>(
        pdev: &'bound pci::Device<Core<'_>>,
        _info: Option<&'bound Self::IdInfo>,
    ) -> impl PinInit<Self::Data<'bound>, Error> + 'bound {
        Chip::bring_up(pdev)
    }
}

/// A chip while the driver is bound to it. Dropping it takes the chip down.
pub(crate) struct Chip<'bound> {
    // Dropped in this order: nobody opens the chip any more; those who have it open get errors, and
    // the card is reset; its interrupts go.
    _nodes: ChipNodes,
    _online: Online,
    _vectors: Vectors<'bound, VectorHandler>,
    _enabled: Enabled<'bound>,
}

/// A chip that may use host memory.
struct Online(Arc<Card>);

impl Drop for Online {
    fn drop(&mut self) {
        self.0.shutdown();
    }
}

impl<'bound> Chip<'bound> {
    fn bring_up(pdev: &'bound pci::Device<Core<'_>>) -> Result<Self> {
        let enabled = Enabled::new(pdev)?;
        let regs = Registers::new(pdev)?;
        check(pdev, &regs)?;
        // Declared here to be dropped after `online`: the card must not write event rings that are
        // freed.
        let (vectors, rings);
        let card = Card::new(pdev, regs)?;
        // From here on every error takes the chip down again.
        let online = Online(card.clone());
        let region = boot(pdev, card.regs())?;
        *card.rpc.lock() = Some(RpcChannel::new(region, card.epoch())?);
        let info = ask(pdev, &card)?;
        card.set_info(info);

        (vectors, rings) = interrupts(pdev, &card)?;
        *card.rings.lock() = rings;
        card.start_rings()?;
        card.set_vectors(vectors.len() as u32, vectors.is_msix());
        let mut page = TelemetryPage::new(pdev.as_ref())?;
        let started = page.start(&card);
        *card.telemetry_page.lock() = Some(page);
        started?;
        card.set_watch(Watch::new(card.clone())?, Recovery::new(card.clone())?);
        card.set_running()?;

        let nodes = ChipNodes::new(&card)?;
        dev_info!(
            pdev,
            "mlu{}: {} chip {} of board {:#018x}, {} MiB, firmware {}, {} {} vectors, driver {}\n",
            nodes.number(),
            text(&info.name),
            info.chip,
            info.serial,
            info.memory_bytes >> 20,
            text(&info.firmware),
            vectors.len(),
            if vectors.is_msix() { "MSI-X" } else { "MSI" },
            crate::VERSION
        );
        Ok(Self {
            _nodes: nodes,
            _online: online,
            _vectors: vectors,
            _enabled: enabled,
        })
    }
}

/// As many vectors as the machine has for the chip, each with its handler and event ring; and the
/// rings.
fn interrupts<'bound>(
    pdev: &'bound pci::Device<Core<'_>>,
    card: &Arc<Card>,
) -> Result<(Vectors<'bound, VectorHandler>, KVec<Arc<SharedRing>>)> {
    let mut most = crate::most_vectors();
    loop {
        match try_interrupts(pdev, card, most) {
            // The processors have no more: the machine gives vectors out before it knows.
            Err(e) if e == ENOSPC && most > 1 => most /= 2,
            Err(e) => {
                let advice = if e == ENOSPC {
                    "the processors have no more; load the module with vectors=1"
                } else {
                    "the machine must support one of them"
                };
                dev_err!(pdev, "no MSI-X or MSI vector: {e:?}; {advice}\n");
                return Err(e);
            }
            done => return done,
        }
    }
}

fn try_interrupts<'bound>(
    pdev: &'bound pci::Device<Core<'_>>,
    card: &Arc<Card>,
    most: u32,
) -> Result<(Vectors<'bound, VectorHandler>, KVec<Arc<SharedRing>>)> {
    let mut vectors = Vectors::new(pdev, most)?;
    let mut rings = KVec::with_capacity(vectors.len(), GFP_KERNEL)?;
    for _ in 0..vectors.len() {
        let ring = SharedRing::new(EventRing::new(pdev.as_ref())?)?;
        rings.push(ring.clone(), GFP_KERNEL)?;
        vectors.push(c"mlu", VectorHandler::new(card.clone(), ring))?;
    }
    Ok((vectors, rings))
}

/// Finds out whether this is a card that the driver knows, and resets it: what it did before must
/// not go on.
fn check(pdev: &pci::Device<Core<'_>>, regs: &Registers) -> Result {
    // A card that fell out may come back by a reset of the function.
    if !regs.present() && reset_function(pdev).is_ok() {
        dev_warn!(pdev, "the card did not answer; its function was reset\n");
    }
    if !regs.present() {
        dev_err!(
            pdev,
            "not a card: the ID register reads {:#x}; is its device server running?\n",
            regs.read(regs::ID)
        );
        return Err(ENODEV);
    }
    let version = regs.read(regs::VERSION);
    if version >> 16 != HW_VERSION >> 16 {
        dev_err!(
            pdev,
            "register interface {}.{} is not the driver's {}.{}; update the older one\n",
            version >> 16,
            version & 0xffff,
            HW_VERSION >> 16,
            HW_VERSION & 0xffff
        );
        return Err(ENODEV);
    }
    if model::by_id(regs.read(regs::MODEL)).is_none() {
        dev_warn!(pdev, "unknown card model {:#x}\n", regs.read(regs::MODEL));
    }
    if pdev.resource_len(BAR_DOORBELL as u32)? < BAR_DOORBELL_SIZE {
        dev_err!(
            pdev,
            "BAR {BAR_DOORBELL} has no room for the doorbells; \
             give the machine more address space\n"
        );
        return Err(ENODEV);
    }
    if !regs.reset() {
        dev_err!(
            pdev,
            "the card did not become ready after a reset (state {:?})\n",
            regs.state()
        );
        return Err(EIO);
    }
    Ok(())
}

/// Asks the firmware what the chip is.
pub(crate) fn ask(pdev: &pci::Device, card: &Card) -> Result<Info> {
    let info: Info = card.call(Function::Info, Scope::CHIP, &())?;
    let served = abi::boot::OLDEST_API..=abi::boot::API_VERSION;
    if !served.contains(&info.api_version) {
        dev_err!(
            pdev,
            "the firmware speaks interface {}, the driver {} and {}; update the older one\n",
            info.api_version,
            abi::boot::OLDEST_API,
            abi::boot::API_VERSION
        );
        return Err(EPROTO);
    }
    let memory = card.regs().read64(regs::MEMORY_LO, regs::MEMORY_HI);
    if info.memory_bytes != memory {
        dev_warn!(
            pdev,
            "the firmware counts {} bytes of memory, the card {memory}\n",
            info.memory_bytes
        );
    }
    Ok(info)
}
