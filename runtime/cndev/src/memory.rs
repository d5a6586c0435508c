//! Memory and its errors.

use vmlu::abi::setting::{RetireCause, MAX_RETIRED};

use crate::call::Out;
use crate::codes::Code;
use crate::codes::Outcome;
use crate::library::{library, Card, Library};
use crate::types::*;

/// Bytes of a MB, as this interface counts them.
const MB: u64 = 1 << 20;
/// Address space of a device, MB: what the vendor's monitor shows.
const VIRTUAL_MB: i64 = (vmlu::telemetry::VIRTUAL_BYTES / MB) as i64;

/// Memory of a device, MB.
struct Usage {
    total: u64,
    used: u64,
    reserved: u64,
    mapped: u64,
}

fn usage(library: &Library, card: &Card) -> Outcome<Usage> {
    let t = library.telemetry(card)?;
    let processes = library.processes(card)?;
    let host: u64 = processes.iter().map(|p| p.host_memory_bytes).sum();
    Ok(Usage {
        total: t.memory_total / MB,
        used: t.memory_used.div_ceil(MB),
        reserved: (card.model.memory_bytes.saturating_sub(t.memory_total)) / MB,
        mapped: t.memory_used.saturating_add(host).div_ceil(MB),
    })
}

/// A number in 32 bits, the largest there if it does not fit.
fn narrow(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

exports! {
    fn cndevGetMemoryUsage(memory: Out<cndevMemoryInfo_t>, device: i32) {
        let library = library()?;
        memory.fill(|memory| {
            let usage = usage(&library, library.card(device)?)?;
            memory.physicalMemoryTotal = usage.total as i64;
            memory.physicalMemoryUsed = usage.used as i64;
            memory.virtualMemoryTotal = VIRTUAL_MB;
            memory.virtualMemoryUsed = usage.mapped as i64;
            memory.globalMemory = usage.total;
            Ok(())
        })
    }

    fn cndevGetMemoryUsageV2(memory: Out<cndevMemoryInfoV2_t>, device: i32) {
        let library = library()?;
        memory.check()?;
        let usage = usage(&library, library.card(device)?)?;
        memory.put(cndevMemoryInfoV2_t {
            physicalMemoryTotal: usage.total as i64,
            physicalMemoryUsed: usage.used as i64,
            reservedMemory: usage.reserved as i64,
            virtualMemoryTotal: VIRTUAL_MB,
            virtualMemoryUsed: usage.mapped as i64,
            globalMemory: usage.total,
            ..cndevMemoryInfoV2_t::zeroed()
        })
    }

    fn cndevGetBAR4MemoryInfo(window: Out<cndevBAR4Memory_t>, device: i32) {
        let library = library()?;
        window.check()?;
        let card = library.card(device)?;
        if !library.has_bus() {
            return Err(Code::NotSupported);
        }
        let total = card.model.bar_memory_size();
        let used = library.telemetry(card)?.memory_used.min(total);
        window.put(cndevBAR4Memory_t {
            total_size: total,
            used_size: used,
            free_size: total - used,
        })
    }

    fn cndevGetECCInfo(errors: Out<cndevECCInfo_t>, device: i32) {
        let library = library()?;
        errors.fill(|errors| {
            let t = library.telemetry(library.card(device)?)?;
            errors.oneBitError = t.ecc_corrected;
            errors.multipleError = t.ecc_uncorrected;
            errors.correctedError = t.ecc_corrected;
            errors.uncorrectedError = t.ecc_uncorrected;
            errors.totalError = t.ecc_corrected.saturating_add(t.ecc_uncorrected);
            Ok(())
        })
    }

    fn cndevGetEccMode(current: Out<cndevEccMode_t>, pending: Out<cndevEccMode_t>, device: i32) {
        let library = library()?;
        current.version()?;
        pending.version()?;
        let t = library.telemetry(library.card(device)?)?;
        current.fill(|current| {
            current.mode = t.ecc_mode.into();
            Ok(())
        })?;
        pending.fill(|pending| {
            pending.mode = t.ecc_pending.into();
            Ok(())
        })
    }

    fn cndevGetMemEccCounter(errors: Out<cndevMemEccCounter_t>, device: i32) {
        let library = library()?;
        errors.fill(|errors| {
            let t = library.telemetry(library.card(device)?)?;
            errors.volatileDramEccSbeCounter = narrow(t.ecc_corrected);
            errors.volatileDramEccDbeCounter = narrow(t.ecc_uncorrected);
            errors.aggregateDramEccSbeCounter = t.ecc_corrected_total;
            errors.aggregateDramEccDbeCounter = t.ecc_uncorrected_total;
            Ok(())
        })
    }

    fn cndevGetRetiredPages(pages: Out<cndevRetiredPageInfo_t>, device: i32) {
        let library = library()?;
        pages.version()?;
        let cause = pages.get()?.cause;
        let cause = u32::try_from(cause).ok().and_then(RetireCause::from_raw);
        let cause = cause.ok_or(Code::InvalidArgument)?;
        pages.fill(|pages| {
            let card = library.card(device)?;
            let all = library.transport().retired_pages(card.number)?;
            let of_cause = all.iter().filter(|page| page.cause == cause as u32);
            pages.cause = cause as i32;
            for (place, page) in pages.pageAddress.iter_mut().zip(of_cause) {
                *place = page.offset;
                pages.pageCount += 1;
            }
            Ok(())
        })
    }

    fn cndevGetRetiredPagesOperation(operation: Out<cndevRetiredPageOperation_t>, device: i32) {
        let library = library()?;
        operation.fill(|operation| {
            library.card(device)?;
            operation.retirePageOption = 1;
            Ok(())
        })
    }

    fn cndevGetRepairStatus(status: Out<cndevRepairStatus_t>, device: i32) {
        let library = library()?;
        status.fill(|status| {
            let t = library.telemetry(library.card(device)?)?;
            status.isRetirePending = t.retired_pending > 0;
            status.isPending = t.retired_pending > 0;
            // There is no room in the table for more pages.
            status.isFailure = t.retired_pages >= MAX_RETIRED as u64;
            Ok(())
        })
    }
}

not_there! {
    fn cndevGetDeviceOsMemoryUsageV2(cndevDeviceOsMemoryInfo_t);
    fn cndevGetAddressSwaps(cndevAddressSwap_t);
    fn cndevGetRemappedRows(cndevRemappedRow_t);
    fn cndevGetRemappedRowsV2(cndevRemappedRowV2_t);
    fn cndevGetParityError(cndevParityError_t);
    fn cndevGetCRCInfo(cndevCRCInfo_t);
}
