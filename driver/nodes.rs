// SPDX-License-Identifier: GPL-2.0

//! Device nodes and the table of chips.

use kernel::{debugfs::Dir, pci, prelude::*, sync::Arc};

use crate::{
    abi::{
        event::EventKind,
        ioctl::{EventRecord, CONTROL_NODE, NODE, VENDOR_CONTROL_NODE, VENDOR_NODE},
    },
    attributes::ATTRIBUTES,
    card::Card,
    chip_file::ChipFile,
    control::ControlFile,
    debug::Debug,
    ext::{
        attributes::Group,
        chardev::{CharDevice, Class, DeviceNumber, Node},
        hwmon::Monitor,
        procfs, registry,
    },
    stream::{Stream, Subscribers},
};

/// Chips that the module drives at most: bits of `ioctl::DeviceCount::mask`.
pub(crate) const MAX_CHIPS: u32 = 32;

/// What the module has while it is loaded.
pub(crate) struct State {
    chips: [Option<Arc<Card>>; MAX_CHIPS as usize],
    chip_numbers: DeviceNumber,
    classes: Classes,
    /// `/proc/driver/cambricon/mlus`.
    folder: Arc<procfs::Folder>,
    /// Control files that hear of the events of all chips.
    subscribers: Subscribers,
    debug: Dir,
}

#[derive(Clone)]
struct Classes {
    own: Arc<Class>,
    vendor: Arc<Class>,
}

/// The module's character devices and control nodes, until it is dropped.
pub(crate) struct Registered {
    // In this order: nodes go before what they name.
    _control: [Node; 2],
    _chip_files: CharDevice<ChipFile>,
    _control_files: CharDevice<ControlFile>,
}

impl Registered {
    /// Registers them.
    pub(crate) fn new() -> Result<Self> {
        // Each chip has two minors: its own name and, `MAX_CHIPS` further on, the vendor's.
        let chip_files = CharDevice::<ChipFile>::register(c"mlu", 2 * MAX_CHIPS)?;
        let control_files = CharDevice::<ControlFile>::register(c"mluctl", 2)?;
        let classes = Classes {
            own: Arc::pin_init(Class::register(c"mlu"), GFP_KERNEL)?,
            vendor: Arc::pin_init(Class::register(c"cambricon"), GFP_KERNEL)?,
        };
        let first = control_files.first();
        let control = [
            Node::new(&classes.own, None, first, fmt!("{CONTROL_NODE}"), None)?,
            Node::new(
                &classes.vendor,
                None,
                first.plus(1),
                fmt!("{VENDOR_CONTROL_NODE}"),
                None,
            )?,
        ];
        let vendor = Arc::new(
            procfs::Folder::new(None, fmt!("driver/cambricon"))?,
            GFP_KERNEL,
        )?;
        let folder = procfs::Folder::new(Some(&vendor), fmt!("mlus"))?;
        registry::init(State {
            folder: Arc::new(folder, GFP_KERNEL)?,
            chips: [const { None }; MAX_CHIPS as usize],
            chip_numbers: chip_files.first(),
            classes,
            subscribers: Subscribers::new(),
            debug: Dir::new(c"mlu"),
        })?;
        Ok(Self {
            _control: control,
            _chip_files: chip_files,
            _control_files: control_files,
        })
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        registry::take();
    }
}

/// A chip's place in the table and its nodes, until it is dropped.
pub(crate) struct ChipNodes {
    number: u32,
    // In this order: nodes go first, so that nobody looks for what they lead to.
    vendor_node: Option<Node>,
    node: Option<Node<Card>>,
    hwmon: Option<Monitor<Card>>,
    information: Option<procfs::File<Card>>,
    debug: Option<Debug>,
}

impl ChipNodes {
    /// Gives the chip the lowest free number and makes its nodes.
    pub(crate) fn new(card: &Arc<Card>) -> Result<Self> {
        let found = registry::with(|state| {
            let number = state.chips.iter().position(Option::is_none).ok_or(ENOSPC)?;
            state.chips[number] = Some(card.clone());
            let (classes, debug) = (state.classes.clone(), state.debug.clone());
            let folder = state.folder.clone();
            Ok::<_, Error>((number as u32, state.chip_numbers, classes, debug, folder))
        });
        let (number, numbers, classes, debug, folder) = found.ok_or(ENODEV)??;
        card.set_number(number);
        card.set_vendor_number(numbers.plus(MAX_CHIPS + number).parts());
        // From here on an error takes the entry back.
        let mut this = Self {
            number,
            vendor_node: None,
            node: None,
            hwmon: None,
            information: None,
            debug: None,
        };
        let device = card.device();
        this.debug = Some(Debug::new(&debug, card)?);
        let own = procfs::Folder::new(Some(&folder), fmt!("{}", card.location()))?;
        let own = Arc::new(own, GFP_KERNEL)?;
        this.information = Some(procfs::File::new(own, c"information", card.clone())?);
        this.hwmon = Some(Monitor::new(device, card.clone())?);
        this.node = Some(Node::new(
            &classes.own,
            Some(device),
            numbers.plus(number),
            fmt!("{NODE}{number}"),
            Some(Group::new(&ATTRIBUTES, card.clone())?),
        )?);
        this.vendor_node = Some(Node::new(
            &classes.vendor,
            Some(device),
            numbers.plus(MAX_CHIPS + number),
            fmt!("{VENDOR_NODE}{number}"),
            None,
        )?);
        Ok(this)
    }

    /// The chip's number.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }
}

impl Drop for ChipNodes {
    fn drop(&mut self) {
        self.vendor_node = None;
        self.node = None;
        self.hwmon = None;
        self.information = None;
        self.debug = None;
        let card = registry::with(|state| state.chips[self.number as usize].take());
        drop(card);
    }
}

/// The chip that is a PCI function.
pub(crate) fn find(pdev: &pci::Device) -> Option<Arc<Card>> {
    registry::with(|state| {
        let mut chips = state.chips.iter().flatten();
        chips.find(|card| core::ptr::eq(card.pdev(), pdev)).cloned()
    })?
}

/// The chip with a number.
pub(crate) fn chip(number: u32) -> Option<Arc<Card>> {
    registry::with(|state| state.chips.get(number as usize)?.clone())?
}

/// Chooses the events of all chips that a control file hears of.
pub(crate) fn subscribe(stream: &Arc<Stream>, kinds: u64) -> Result {
    registry::with(|state| state.subscribers.set(stream, kinds)).ok_or(ENODEV)?
}

/// Tells the control files of an event.
pub(crate) fn tell(kind: EventKind, record: &EventRecord) {
    registry::with(|state| state.subscribers.tell(kind, record));
}

/// Bit `n` is set if chip `n` is there.
pub(crate) fn chip_mask() -> u32 {
    registry::with(|state| {
        (0..MAX_CHIPS)
            .filter(|&n| state.chips[n as usize].is_some())
            .fold(0, |mask, n| mask | 1 << n)
    })
    .unwrap_or(0)
}
