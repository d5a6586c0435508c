//! The tree of PCI functions, and how near two of them are.

use std::collections::HashMap;
use std::ffi::c_void;
use std::path::Path;

use vmlu::telemetry::{Level, PciAddress};

use crate::call::Out;
use crate::codes::{Code, Outcome};
use crate::library::{library, lock, Library};
use crate::types::*;

/// The functions that were asked for. What programs got pointers to stays until the library ends.
#[derive(Default)]
pub(crate) struct Tree {
    nodes: HashMap<PciAddress, Box<cndevTopologyNode_t>>,
}

// SAFETY: the nodes are the library's, and it changes none once a program has a pointer to it.
unsafe impl Send for Tree {}

/// A number of a file of a PCI function in sysfs, such as `0xcabc`.
fn number(folder: &Path, file: &str) -> Option<u32> {
    let text = std::fs::read_to_string(folder.join(file)).ok()?;
    u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok()
}

fn address(domain: u32, bus: u32, device: u32, function: u32) -> Outcome<PciAddress> {
    let narrow = |value: u32, limit: u32| match value {
        value if value < limit => Ok(value as u8),
        _ => Err(Code::InvalidArgument),
    };
    Ok(PciAddress {
        domain,
        bus: narrow(bus, 256)?,
        device: narrow(device, 32)?,
        function: narrow(function, 8)?,
    })
}

/// A function as sysfs tells of it.
fn node(at: PciAddress) -> Outcome<cndevTopologyNode_t> {
    let folder = Path::new("/sys/bus/pci/devices").join(at.to_string().to_lowercase());
    let vendor = number(&folder, "vendor").ok_or(Code::NotFound)?;
    let class = number(&folder, "class").unwrap_or(0);
    let is_bridge = class >> 8 == 0x0604;
    let (name, kind) = match (vendor, is_bridge) {
        (0xcabc, _) => (c"Virtual MLU", c"Processing accelerators"),
        (_, true) => (c"PCI bridge", c"PCI bridge"),
        _ => (c"PCI function", c"PCI function"),
    };
    let bus = |file: &str| {
        let text = std::fs::read_to_string(folder.join(file)).unwrap_or_default();
        text.trim().parse::<u8>().unwrap_or(0)
    };
    let (secondary, subordinate) = match is_bridge {
        true => (bus("secondary_bus_number"), bus("subordinate_bus_number")),
        false => (0, 0),
    };
    Ok(cndevTopologyNode_t {
        domain: at.domain as i32,
        bus: at.bus.into(),
        device: at.device.into(),
        function: at.function.into(),
        subsystemId: number(&folder, "subsystem_device").unwrap_or(0),
        deviceId: number(&folder, "device").unwrap_or(0),
        vendor,
        subsystemVendor: number(&folder, "subsystem_vendor").unwrap_or(0),
        deviceName: name.as_ptr(),
        classVal: class,
        className: kind.as_ptr(),
        isBridge: is_bridge.into(),
        primaryBus: if is_bridge { at.bus } else { 0 },
        secondaryBus: secondary,
        subordinateBus: subordinate,
        ..cndevTopologyNode_t::zeroed()
    })
}

/// The function that the bridge of a function is, if there is one.
fn parent(at: PciAddress) -> Option<PciAddress> {
    let folder = Path::new("/sys/bus/pci/devices").join(at.to_string().to_lowercase());
    let whole = std::fs::canonicalize(folder).ok()?;
    let name = whole.parent()?.file_name()?.to_str()?.to_owned();
    let (rest, function) = name.split_once('.')?;
    let mut parts = rest
        .split(':')
        .map(|part| u32::from_str_radix(part, 16).ok());
    let (domain, bus, device) = (parts.next()??, parts.next()??, parts.next()??);
    address(domain, bus, device, function.parse().ok()?).ok()
}

/// The node of a function, with those of the bridges above it.
fn find(tree: &mut Tree, at: PciAddress) -> Outcome<*mut cndevTopologyNode_t> {
    if let Some(node) = tree.nodes.get_mut(&at) {
        return Ok(&mut **node);
    }
    let mut made = node(at)?;
    if let Some(above) = parent(at) {
        made.parent = find(tree, above).unwrap_or(std::ptr::null_mut());
    }
    let node = tree.nodes.entry(at).or_insert_with(|| Box::new(made));
    Ok(&mut **node)
}

/// The address of a node that the library has given.
fn known(tree: &Tree, pointer: *mut c_void) -> Outcome<PciAddress> {
    let mut nodes = tree.nodes.iter();
    let found = nodes.find(|(_, node)| std::ptr::from_ref(&***node).addr() == pointer.addr());
    found
        .map(|(address, _)| *address)
        .ok_or(Code::InvalidArgument)
}

fn relation(library: &Library, a: PciAddress, b: PciAddress) -> Level {
    let serial = |at: PciAddress| {
        let card = library.cards.iter().find(|card| card.first.pci == at);
        card.map(|card| card.info.info.serial)
    };
    if a == b {
        return Level::Same;
    }
    match serial(a).zip(serial(b)) {
        Some((a, b)) if a == b => Level::Internal,
        _ => vmlu::telemetry::pci_level(a, b),
    }
}

exports! {
    fn cndevGetNodeByBDF(version: i32, place: Out<*mut cndevTopologyNode_t>, domain: u32, bus: u32, device: u32, function: u32) {
        let library = library()?;
        place.check()?;
        if !(1..=6).contains(&version) {
            return Err(Code::UnsupportedApiVersion);
        }
        let at = address(domain, bus, device, function)?;
        if !library.has_bus() {
            return Err(Code::NotSupported);
        }
        let node = find(&mut lock(&library.tree), at)?;
        place.put(node)
    }

    fn cndevTopologyGetRelationshipByNode(relationship: Out<cndevTopologyRelationship_t>, node1: *mut c_void, node2: *mut c_void) {
        let library = library()?;
        relationship.fill(|relationship| {
            let (a, b) = {
                let tree = lock(&library.tree);
                (known(&tree, node1)?, known(&tree, node2)?)
            };
            relationship.relation = relation(&library, a, b) as i32;
            Ok(())
        })
    }
}
