//! Utilisation, and the processes behind it.

use vmlu::abi::setting::ComputeMode;

use crate::call::{fill_list, Out};
use crate::codes::Outcome;
use crate::library::{library, lock, Card, Library};
use crate::types::*;

/// Percent that a telemetry shows.
pub(crate) fn percent(milli: i32) -> i32 {
    (milli.clamp(0, 100_000) + 500) / 1000
}

/// Process id and shares of the processor and of memory, percent, of each process of a device.
fn shares(library: &Library, card: &Card) -> Outcome<Vec<(u32, u32, u32)>> {
    let t = library.telemetry(card)?;
    let processes = library.processes(card)?;
    let device = percent(t.utilisation.value_milli) as u32;
    let cores = lock(&card.shares).of(device, &processes);
    let of_memory = |bytes: u64| u128::from(bytes) * 100 / u128::from(t.memory_total.max(1));
    let both = processes.iter().zip(cores);
    Ok(both
        .map(|(process, cores)| (process.pid, cores, of_memory(process.memory_bytes) as u32))
        .collect())
}

exports! {
    fn cndevGetDeviceUtilizationInfo(usage: Out<cndevUtilizationInfo_t>, device: i32) {
        let library = library()?;
        usage.fill(|usage| {
            let card = library.card(device)?;
            let percent = percent(library.telemetry(card)?.utilisation.value_milli);
            usage.averageCoreUtilization = percent;
            // A command has all cores of the chip.
            let cores = card.model.cores() as usize;
            usage.coreUtilization.iter_mut().take(cores).for_each(|core| *core = percent);
            Ok(())
        })
    }

    fn cndevGetProcessInfo(count: Out<u32>, processes: Out<cndevProcessInfo_t>, device: i32) {
        let library = library()?;
        count.check()?;
        let list = library.processes(library.card(device)?)?;
        let entries: Vec<_> = list
            .iter()
            .map(|process| cndevProcessInfo_t {
                version: 0,
                pid: process.pid,
                physicalMemoryUsed: process.memory_bytes.div_ceil(1024),
                virtualMemoryUsed: process.memory_bytes.saturating_add(process.host_memory_bytes).div_ceil(1024),
            })
            .collect();
        fill_list(count, processes, &entries)
    }

    fn cndevGetProcessUtilization(count: Out<u32>, processes: Out<cndevProcessUtilization_t>, device: i32) {
        let library = library()?;
        count.check()?;
        let entries: Vec<_> = shares(&library, library.card(device)?)?
            .into_iter()
            .map(|(pid, cores, memory)| cndevProcessUtilization_t {
                pid,
                ipuUtil: cores,
                memUtil: memory,
                ..cndevProcessUtilization_t::zeroed()
            })
            .collect();
        fill_list(count, processes, &entries)
    }

    fn cndevGetComputeMode(mode: Out<cndevComputeMode_t>, device: i32) {
        let library = library()?;
        mode.fill(|mode| {
            let t = library.telemetry(library.card(device)?)?;
            let known = ComputeMode::from_raw(t.compute_mode.into());
            mode.mode = known.unwrap_or(ComputeMode::Default) as i32;
            Ok(())
        })
    }
}

not_there! {
    fn cndevGetDeviceCPUUtilizationV2(cndevDeviceCPUUtilizationV2_t);
    fn cndevGetImageCodecUtilization(cndevImageCodecUtilization_t);
    fn cndevGetVideoCodecUtilization(cndevVideoCodecUtilization_t);
    fn cndevGetTinyCoreUtilization(cndevTinyCoreUtilization_t);
}
