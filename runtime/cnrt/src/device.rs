//! Devices: which there are, what they are, and the one of a thread.

use std::ffi::c_char;

use vmlu_c_abi::context::{self, Context};
use vmlu_c_abi::device::{self, Device};
use vmlu_c_abi::ffi::set_text;
use vmlu_c_abi::{exports, info, Failure, Out, Result, Text};

use crate::error::run;

/// Bytes of a device's name.
const NAME: usize = 256;

/// `cnrtDeviceProp_t`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs, non_snake_case)]
pub struct DeviceProp {
    pub name: [c_char; NAME],
    pub totalMem: i32,
    pub maxDim: [i32; 3],
    pub ipuClockRate: i32,
    pub memClockRate: i32,
    pub totalConstMem: i32,
    pub major: i32,
    pub minor: i32,
    pub ECCEnabled: i32,
    pub pciBusID: i32,
    pub pciDeviceID: i32,
    pub pciDomainID: i32,
    pub maxL2CacheSize: i32,
    pub persistingL2CacheMaxSize: i32,
    pub queuePrioritiesSupported: i32,
    pub sparseComputingSupported: i32,
    pub FP16ComputingSupported: i32,
    pub INT4ComputingSupported: i32,
    pub INT8ComputingSupported: i32,
    pub BF16ComputingSupported: i32,
    pub TF32ComputingSupported: i32,
    pub maxQueueSize: i32,
    pub maxNotifierSize: i32,
    pub tinyCoreSupported: i32,
    pub codecJPEGSupported: i32,
    pub codecH264Supported: i32,
    pub codecH265Supported: i32,
    pub maxClusterCountPerUnionTask: i32,
    pub clusterCount: i32,
    pub McorePerCluster: i32,
    pub maxQuadrantCount: i32,
    pub maxUnionTypePerQuadrant: i32,
    pub maxClusterPerUnionLimitTask: i32,
    pub ISAVersion: i32,
    pub isMultipleTensorProcessor: i32,
    pub NramSizePerMcore: i32,
    pub WramSizePerMcore: i32,
    pub LmemSizePerMcore: i32,
    pub SramSizePerMcore: i32,
    pub globalMemoryNodeCount: i32,
    pub cacheSize: i32,
    pub GmemBusWidth: i32,
    pub computeMode: i32,
    pub MDRMemorySize: i32,
    pub availableGlobalMemorySize: i32,
    pub uuid: [u8; 16],
    pub totalGlobalMemSize: u64,
    pub reserved: [i32; 30],
}

const _: () = assert!(
    size_of::<DeviceProp>() == 584
        && std::mem::offset_of!(DeviceProp, totalMem) == 256
        && std::mem::offset_of!(DeviceProp, availableGlobalMemorySize) == 436
        && std::mem::offset_of!(DeviceProp, uuid) == 440
        && std::mem::offset_of!(DeviceProp, totalGlobalMemSize) == 456
        && std::mem::offset_of!(DeviceProp, reserved) == 464
);

/// The properties of a device, each the attribute of the same name.
fn properties(device: &Device) -> Result<DeviceProp> {
    let a = |number| info::attribute(device, number);
    let mut name = [0; NAME];
    for (to, from) in name[..NAME - 1].iter_mut().zip(device.name().bytes()) {
        *to = from as c_char;
    }
    Ok(DeviceProp {
        name,
        totalMem: a(0x405)?,
        maxDim: [a(0x201)?, a(0x202)?, a(0x203)?],
        ipuClockRate: a(0x402)?,
        memClockRate: a(0x403)?,
        totalConstMem: a(0x304)?,
        major: a(0x01)?,
        minor: a(0x02)?,
        ECCEnabled: a(0x401)?,
        pciBusID: a(0x406)?,
        pciDeviceID: a(0x407)?,
        pciDomainID: a(0x408)?,
        maxL2CacheSize: a(0x301)?,
        persistingL2CacheMaxSize: a(0x309)?,
        queuePrioritiesSupported: a(0x103)?,
        sparseComputingSupported: a(0x03)?,
        FP16ComputingSupported: a(0x04)?,
        INT4ComputingSupported: a(0x05)?,
        INT8ComputingSupported: a(0x06)?,
        BF16ComputingSupported: a(0x07)?,
        TF32ComputingSupported: a(0x08)?,
        maxQueueSize: a(0x101)?,
        maxNotifierSize: a(0x102)?,
        tinyCoreSupported: a(0x104)?,
        codecJPEGSupported: a(0x105)?,
        codecH264Supported: a(0x106)?,
        codecH265Supported: a(0x107)?,
        maxClusterCountPerUnionTask: a(0x204)?,
        clusterCount: a(0x205)?,
        McorePerCluster: a(0x206)?,
        maxQuadrantCount: a(0x207)?,
        maxUnionTypePerQuadrant: a(0x208)?,
        maxClusterPerUnionLimitTask: a(0x209)?,
        ISAVersion: a(0x20a)?,
        isMultipleTensorProcessor: a(0x20b)?,
        NramSizePerMcore: a(0x302)?,
        WramSizePerMcore: a(0x303)?,
        LmemSizePerMcore: a(0x305)?,
        SramSizePerMcore: a(0x306)?,
        globalMemoryNodeCount: a(0x307)?,
        cacheSize: a(0x301)?,
        GmemBusWidth: a(0x404)?,
        computeMode: a(0x09)?,
        MDRMemorySize: a(0x409)?,
        availableGlobalMemorySize: a(0x312)?,
        uuid: device.info.info.uuid,
        totalGlobalMemSize: device.info.info.memory_bytes,
        reserved: [0; 30],
    })
}

fn get_properties(place: Out<DeviceProp>, device: i32) -> Result<()> {
    place.check()?;
    place.set(properties(device::get(device)?)?)
}

/// Writes a version.
fn set_version(version: [i32; 3], places: [Out<i32>; 3]) -> Result<()> {
    places.iter().try_for_each(|place| place.check())?;
    places
        .into_iter()
        .zip(version)
        .try_for_each(|(place, number)| place.set(number))
}

/// The settings of a context that there are: what the kernels print, and persisting L2 cache, of which there is none.
fn setting(kind: i32, value: Option<i64>) -> Result<i64> {
    let context = context::current_or_first()?;
    let (default, most) = match kind {
        1 => (1024, i64::from(u32::MAX)),
        2 => (0, 0),
        3 => (1 << 20, 1 << 30),
        _ => return Err(Failure::INVALID_VALUE),
    };
    let mut settings = context.settings.lock().unwrap_or_else(|e| e.into_inner());
    if let Some(value) = value {
        if value < 0 || value == 0 && kind != 2 {
            return Err(Failure::INVALID_VALUE);
        }
        settings.insert(kind, value.min(most));
    }
    Ok(settings.get(&kind).copied().unwrap_or(default))
}

exports! { run;
    /// See the header.
    fn cnrtDeviceGetAttribute(value: Out<i32>, attribute: i32, device: i32) {
        value.check()?;
        value.set(info::attribute(device::get(device)?, attribute)?)
    }

    /// See the header.
    fn cnrtGetDeviceProperties(place: Out<DeviceProp>, device: i32) { get_properties(place, device) }

    /// See the header.
    fn cnrtGetDeviceProperties_V2(place: Out<DeviceProp>, device: i32) { get_properties(place, device) }

    /// See the header.
    fn cnrtGetDeviceProperties_V3(place: Out<DeviceProp>, device: i32) { get_properties(place, device) }

    /// See the header.
    fn cnrtGetDeviceCount(count: Out<u32>) {
        count.check()?;
        count.set(device::all()?.len() as u32)
    }

    /// See the header.
    fn cnrtGetDevice(ordinal: Out<i32>) {
        ordinal.check()?;
        let current = context::current_ordinal();
        let ordinal_of_first = || device::get(0).map(|d| d.ordinal);
        ordinal.set(current.map_or_else(ordinal_of_first, Ok)? as i32)
    }

    /// See the header.
    fn cnrtSetDevice(ordinal: i32) {
        let device = device::get(ordinal)?;
        context::set_current(Some(device.context().clone()));
        Ok(())
    }

    /// See the header.
    fn cnrtDeviceReset() {
        let ordinal = context::current_or_first()?.ordinal;
        device::all()?[ordinal].context().end();
        Ok(())
    }

    /// See the header.
    fn cnrtSyncDevice() { context::current_or_first()?.sync() }

    /// See the header.
    fn cnrtGetDeviceFlag(flags: Out<u32>) {
        flags.check()?;
        flags.set(context::current_or_first()?.flags())
    }

    /// See the header.
    fn cnrtSetDeviceFlag(flags: u32) { context::current_or_first()?.set_flags(flags) }

    /// See the header.
    fn cnrtDeviceGetConfig(value: Out<i64>, kind: i32) {
        value.check()?;
        value.set(setting(kind, None)?)
    }

    /// See the header.
    fn cnrtDeviceSetConfig(kind: i32, value: i64) { setting(kind, Some(value)).map(drop) }

    /// See the header.
    fn cnrtDeviceQueryKernelMemoryUsage(bytes: Out<usize>) { bytes.set(0) }

    /// See the header.
    fn cnrtGetPeerAccessibility(can_access: Out<u32>, ordinal: i32, peer: i32) {
        can_access.check()?;
        let (from, to) = (device::get(ordinal)?, device::get(peer)?);
        can_access.set(u32::from(info::reaches(from, to)?))
    }

    /// See the header.
    fn cnrtDeviceGetPCIBusId(place: Out<c_char>, length: i32, device: i32) {
        set_text(place, usize::try_from(length).unwrap_or(0), &device::get(device)?.pci())
    }

    /// See the header.
    fn cnrtDeviceGetByPCIBusId(ordinal: Out<i32>, bus: Text) {
        ordinal.check()?;
        ordinal.set(device::by_pci(&bus.get()?)?.ordinal as i32)
    }

    /// See the header.
    fn cnrtDeviceGetQueuePriorityRange(least: Out<i32>, greatest: Out<i32>) {
        use vmlu_c_abi::queue::Queue;
        least.set_if(Queue::LEAST);
        greatest.set_if(Queue::GREATEST);
        Ok(())
    }

    /// See the header.
    fn cnrtDeviceResetPersistingL2Cache() { Err(Failure::NOT_SUPPORTED) }

    /// See the header.
    fn cnrtDriverGetVersion(major: Out<i32>, minor: Out<i32>, patch: Out<i32>) {
        set_version(info::DRIVER_VERSION, [major, minor, patch])
    }

    /// See the header.
    fn cnrtGetLibVersion(major: Out<i32>, minor: Out<i32>, patch: Out<i32>) {
        set_version([6, 14, 1], [major, minor, patch])
    }

    /// See the header.
    fn cnrtProfilerStart() { Ok(()) }

    /// See the header.
    fn cnrtProfilerStop() { Ok(()) }

    /// An old name that programs still call; nothing is to be initialised.
    fn cnrtInit(_flags: u32) { device::all().map(drop) }
}

/// The context of a call that needs one in use.
pub(crate) fn live() -> Result<std::sync::Arc<context::Live>> {
    let context: std::sync::Arc<Context> = context::current_or_first()?;
    context.live()
}
