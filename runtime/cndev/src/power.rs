//! Power, heat and clocks.

use vmlu::abi::telemetry::throttle;

use crate::call::Out;
use crate::codes::Code;
use crate::library::library;
use crate::types::*;

/// Thousandths to whole units.
fn whole(milli: i32) -> i32 {
    (f64::from(milli) / 1e3).round() as i32
}

/// Milliwatts to watts and hundredths.
fn watts(milli: u32) -> (u16, u16) {
    let whole = u16::try_from(milli / 1000).unwrap_or(u16::MAX);
    (whole, (milli % 1000 / 10) as u16)
}

exports! {
    fn cndevGetDevicePowerInfo(power: Out<cndevDevicePowerInfo_t>, device: i32) {
        let library = library()?;
        power.check()?;
        let card = library.card(device)?;
        let t = library.telemetry(card)?;
        // The board has one sensor, which its chips share.
        let usage = library.monitor.board_watts(&card.board)?;
        let tdp = (card.model.thermal.cap_mw / 1000) as i32;
        power.put(cndevDevicePowerInfo_t {
            usage: usage.round() as i32,
            cap: (t.power_cap_mw / 1000) as i32,
            machine: 0,
            tdp,
            maxPower: tdp,
            ..cndevDevicePowerInfo_t::zeroed()
        })
    }

    fn cndevGetPowerManagementLimitation(limit: Out<cndevPowerManagementLimitation_t>, device: i32) {
        let library = library()?;
        limit.fill(|limit| {
            let t = library.telemetry(library.card(device)?)?;
            (limit.powerLimit, limit.powerLimitDecimal) = watts(t.power_cap_mw);
            Ok(())
        })
    }

    fn cndevGetPowerManagementDefaultLimitation(limit: Out<cndevPowerManagementLimitation_t>, device: i32) {
        let library = library()?;
        limit.fill(|limit| {
            let thermal = &library.card(device)?.model.thermal;
            (limit.powerLimit, limit.powerLimitDecimal) = watts(thermal.cap_mw);
            Ok(())
        })
    }

    fn cndevGetPowerManagementLimitationRange(range: Out<cndevPowerManagementLimitationRange_t>, device: i32) {
        let library = library()?;
        range.fill(|range| {
            let thermal = &library.card(device)?.model.thermal;
            (range.minPowerLimit, range.minPowerLimitDecimal) = watts(thermal.min_cap_mw);
            (range.maxPowerLimit, range.maxPowerLimitDecimal) = watts(thermal.cap_mw);
            Ok(())
        })
    }

    fn cndevGetTemperatureInfo(heat: Out<cndevTemperatureInfo_t>, device: i32) {
        let library = library()?;
        heat.fill(|heat| {
            let card = library.card(device)?;
            let t = library.telemetry(card)?;
            heat.board = whole(t.temp_board.value_milli);
            heat.chip = whole(t.temp_chip.value_milli);
            heat.memory = whole(t.temp_memory.value_milli);
            // One sensor stands for all clusters.
            let clusters = card.model.clusters as usize;
            heat.cluster.iter_mut().take(clusters).for_each(|cluster| *cluster = heat.chip);
            Ok(())
        })
    }

    fn cndevGetOverTemperatureInfo(heat: Out<cndevOverTemperatureInfo_t>, device: i32) {
        let library = library()?;
        heat.fill(|heat| {
            let card = library.card(device)?;
            let t = library.telemetry(card)?;
            heat.powerOffCounter = t.shutdowns;
            heat.underClockCounter = t.slowdowns;
            heat.powerOffTemp = whole(card.model.thermal.shutdown_milli) as i16;
            heat.underClockTemp = whole(card.model.thermal.slowdown_milli) as i16;
            Ok(())
        })
    }

    fn cndevGetFanSpeedInfo(fan: Out<cndevFanSpeedInfo_t>, device: i32) {
        let library = library()?;
        fan.fill(|fan| {
            fan.fanSpeed = library.telemetry(library.card(device)?)?.fan_percent as i32;
            Ok(())
        })
    }

    fn cndevGetFrequencyInfo(clocks: Out<cndevFrequencyInfo_t>, device: i32) {
        let library = library()?;
        clocks.fill(|clocks| {
            let card = library.card(device)?;
            let t = library.telemetry(card)?;
            let mhz = t.clock_khz / 1000;
            clocks.boardFreq = mhz as i32;
            clocks.ddrFreq = (t.memory_clock_khz / 1000) as i32;
            clocks.overtempDfsFlag = u8::from(t.throttle & throttle::HEAT != 0);
            clocks.mluClusterFreqCount = card.model.clusters as u16;
            let clusters = card.model.clusters as usize;
            clocks.mluClusterFreq.iter_mut().take(clusters).for_each(|clock| *clock = mhz as u16);
            clocks.boardDefaultFreq = (card.model.clock_khz / 1000) as i32;
            let (lowest, highest) = card.model.clock_range_khz;
            clocks.boardFreqArange = [(lowest / 1000) as i32, (highest / 1000) as i32];
            Ok(())
        })
    }

    fn cndevGetMLUFrequencyStatus(status: Out<cndevMLUFrequencyStatus_t>, device: i32) {
        let library = library()?;
        let before = status.get()?;
        if !(0..=6).contains(&before.version) {
            return Err(Code::UnsupportedApiVersion);
        }
        let t = library.telemetry(library.card(device)?)?;
        status.put(cndevMLUFrequencyStatus_t {
            mluFrequencyLockStatus: t.clock_locked,
            ..before
        })
    }

    fn cndevGetPerformanceThrottleReason(reason: Out<cndevPerformanceThrottleReason_t>, device: i32) {
        let library = library()?;
        reason.fill(|reason| {
            let card = library.card(device)?;
            let t = library.telemetry(card)?;
            let is = |bit| i32::from(t.throttle & bit != 0);
            // A cap that is below the model's is a setting.
            let set = t.power_cap_mw < card.model.thermal.cap_mw;
            reason.tdp = is(throttle::POWER_CAP) * i32::from(!set);
            reason.powerSetting = is(throttle::POWER_CAP) * i32::from(set);
            reason.clockSetting = is(throttle::LOCKED);
            reason.frequencyLocked = t.clock_locked.into();
            reason.thermalSlowdown = is(throttle::HEAT);
            Ok(())
        })
    }

    fn cndevGetPCIethroughputV2(transfers: Out<cndevPCIethroughputV2_t>, device: i32) {
        let library = library()?;
        transfers.check()?;
        let t = library.telemetry(library.card(device)?)?;
        // Thousandths of a MB.
        let rate = |milli: i32| i64::from(milli.max(0)) * 1000;
        transfers.put(cndevPCIethroughputV2_t {
            pcieRead: rate(t.from_host_rate.value_milli),
            pcieWrite: rate(t.to_host_rate.value_milli),
            pcieReadTotal: t.bytes_from_host as i64,
            pcieWriteTotal: t.bytes_to_host as i64,
            timestamp: crate::fields::now_us(),
            ..cndevPCIethroughputV2_t::zeroed()
        })
    }
}

not_there! {
    fn cndevGetVoltageInfo(cndevVoltageInfo_t);
    fn cndevGetCurrentInfo(cndevCurrentInfo_t);
}
