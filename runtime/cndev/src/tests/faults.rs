//! Each number is caused: load, heat, memory errors, links, xids.

use super::*;

#[test]
fn an_xid_wakes_who_waits() {
    let _library = in_use();
    let mut set = std::ptr::null_mut();
    assert_eq!(events::cndevEventHandleCreate(Out::to(&mut set)), 0);
    for device in [0, 1] {
        assert_eq!(events::cndevRegisterEvents(set, u64::MAX, device), 0);
    }
    let mut event = cndevEventData_t::zeroed();
    assert_eq!(events::cndevEventWait(set, Out::to(&mut event), 30), 17);
    let waiter = {
        let set = set.addr();
        std::thread::spawn(move || {
            let mut event = cndevEventData_t::zeroed();
            let code = events::cndevEventWait(
                std::ptr::without_provenance_mut(set),
                Out::to(&mut event),
                20_000,
            );
            (
                code,
                event.device,
                event.eventData,
                event.eventType,
                event.timestamp,
            )
        })
    };
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(inject::cndevInjectEventError(1, 7, 1), 0);
    let (code, device, data, kind, time) = waiter.join().unwrap();
    assert_eq!((code, device, data, kind), (0, 1, 7, 1));
    assert!(fields::now_us() - time < 60_000_000);
    assert_eq!(inject::cndevInjectEventError(1, 77, 1), 5);
    assert_eq!(events::cndevEventHandleDestroy(set), 0);
    assert_eq!(events::cndevEventHandleDestroy(set), 5);
}

/// A thread that waits without a limit: the code that it gets, and the xid.
fn waiting(set: *mut std::ffi::c_void) -> std::thread::JoinHandle<(i32, u64)> {
    let set = set.addr();
    std::thread::spawn(move || {
        let mut event = cndevEventData_t::zeroed();
        let set = std::ptr::without_provenance_mut(set);
        let code = events::cndevEventWait(set, Out::to(&mut event), -1);
        (code, event.eventData)
    })
}

#[test]
fn events_wake_as_many_threads_as_there_are_and_an_end_wakes_all() {
    let _library = in_use();
    let mut set = std::ptr::null_mut();
    assert_eq!(events::cndevEventHandleCreate(Out::to(&mut set)), 0);
    assert_eq!(events::cndevRegisterEvents(set, 1, 0), 0);
    let threads = [waiting(set), waiting(set)];
    assert_eq!(inject::cndevInjectEventError(1, 6, 0), 0);
    assert_eq!(inject::cndevInjectEventError(1, 7, 0), 0);
    let mut got = threads.map(|thread| thread.join().unwrap());
    got.sort_unstable();
    assert_eq!(got, [(0, 6), (0, 7)]);
    let threads = [waiting(set), waiting(set), waiting(set)];
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(events::cndevEventHandleDestroy(set), 0);
    for thread in threads {
        assert_eq!(thread.join().unwrap().0, 5);
    }
}

#[test]
fn memory_errors_count_and_make_a_device_sick() {
    let _library = in_use();
    let before = ask(memory::cndevGetMemEccCounter, 1);
    assert_eq!(inject::cndevInjectEccError(3, 0, 5 << 20, 1), 0);
    let now = ask(memory::cndevGetMemEccCounter, 1);
    assert_eq!(
        now.volatileDramEccSbeCounter - before.volatileDramEccSbeCounter,
        3
    );
    assert_eq!(
        now.aggregateDramEccSbeCounter - before.aggregateDramEccSbeCounter,
        3
    );
    let mut pages = new::<cndevRetiredPageInfo_t>(6);
    assert_eq!(memory::cndevGetRetiredPages(Out::to(&mut pages), 1), 0);
    assert_eq!((pages.pageCount, pages.pageAddress[0]), (1, 5 << 20));
    assert!(ask(memory::cndevGetRepairStatus, 1).isRetirePending);
    assert_eq!(ask(health::cndevGetCardHealthState, 1).health, 1);
    assert_eq!(inject::cndevInjectEccError(1, 1, 9 << 20, 1), 0);
    assert_eq!(ask(health::cndevGetCardHealthState, 1).health, 0);
    let health = ask_plain(health::cndevGetCardHealthStateV2, 1);
    assert_eq!(
        (health.overallHealth, health.deviceState, health.driverState),
        (20, 0, 4)
    );
    let codes: Vec<_> = health.incidents[..health.incident_count as usize]
        .iter()
        .map(|i| i.error.code)
        .collect();
    assert!(
        codes.contains(&15) && codes.contains(&14) && codes.contains(&24),
        "{codes:?}"
    );
    assert_eq!(ask(memory::cndevGetECCInfo, 1).uncorrectedError, 1);
    // A restart heals the device; what was counted since the board was made stays.
    let restart = vmlu::abi::setting::Configure {
        setting: vmlu::abi::setting::Setting::Restart as u32,
        ..vmlu::abi::Wire::zeroed()
    };
    library::library()
        .unwrap()
        .transport()
        .configure(1, &restart)
        .unwrap();
    assert_eq!(ask(health::cndevGetCardHealthState, 1).health, 1);
    let after = ask(memory::cndevGetMemEccCounter, 1);
    assert_eq!(
        (
            after.volatileDramEccSbeCounter,
            after.aggregateDramEccDbeCounter
        ),
        (0, 1 + before.aggregateDramEccDbeCounter)
    );
    assert!(ask_plain(memory::cndevGetMemoryUsageV2, 1).physicalMemoryTotal < 23374);
}

#[test]
fn links_go_down_and_count() {
    let _library = in_use();
    assert_eq!(links::port_number(0), 8);
    let mut remote = new::<cndevMLULinkRemoteInfo_t>(6);
    let up =
        (0..8).find(|port| links::cndevGetMLULinkRemoteInfo(Out::to(&mut remote), 0, *port) == 0);
    let port = up.expect("the chips of a board are linked");
    assert_eq!(remote.uuid, ask(identity::cndevGetUUID, 1).uuid);
    assert_eq!(remote.ncsUUID64, ask(identity::cndevGetUUID, 1).ncsUUID64);
    let status = |device, port| {
        let mut status = cndevMLULinkStatusV2_t::zeroed();
        assert_eq!(
            links::cndevGetMLULinkStatusV2(Out::to(&mut status), device, port),
            0
        );
        (status.macState, status.presenceState)
    };
    assert_eq!(status(0, port), (1, 1));
    assert_eq!(links::cndevSetMLULinkState(0, 0, port), 0);
    assert_eq!(status(0, port), (0, 1));
    assert_eq!(
        status(1, remote.portId as i32),
        (0, 1),
        "a link has two ends"
    );
    let health = ask_plain(health::cndevGetCardHealthStateV2, 0);
    let down = health.incidents[..health.incident_count as usize]
        .iter()
        .any(|i| i.error.code == 9);
    assert!(down && health.overallHealth == 10 && health.health == 1);
    assert_eq!(links::cndevSetMLULinkState(1, 0, port), 0);
    assert_eq!(status(0, port), (1, 1));
    assert_eq!(inject::cndevInjectMLULinkError(8, 5, 0, port), 0);
    let mut counter = new::<cndevMLULinkCounter_t>(6);
    assert_eq!(
        links::cndevGetMLULinkCounter(Out::to(&mut counter), 0, port),
        0
    );
    assert!(counter.errCRC32 >= 5);
}

#[test]
fn heat_shows_and_slows() {
    let _library = in_use();
    let idle = ask(power::cndevGetTemperatureInfo, 0).chip;
    assert_eq!(inject::cndevInjectHeat(200_000, 0), 0);
    until("the chip gets hot", || {
        ask(power::cndevGetTemperatureInfo, 0).chip > idle + 1
    });
    assert_eq!(
        ask(power::cndevGetOverTemperatureInfo, 0).underClockTemp,
        95
    );
    assert_eq!(inject::cndevInjectHeat(0, 0), 0);
    assert_eq!(ask(power::cndevGetFrequencyInfo, 0).boardDefaultFreq, 1000);
}

#[test]
fn fields_are_the_numbers_of_the_functions() {
    let _library = in_use();
    let field = |id| cndevFieldValue_t {
        fieldId: id,
        ret: -1,
        ..cndevFieldValue_t::zeroed()
    };
    let mut fields = [field(53), field(66), field(2), field(500), field(22)];
    assert_eq!(
        fields::cndevDeviceGetFieldValues(0, 5, Out::to(&mut fields[0])),
        0
    );
    let codes = fields.map(|field| field.ret);
    assert_eq!(codes, [0, 0, 10, 5, 0]);
    // SAFETY: the value is eight bytes, which programs read as a whole.
    let whole: i64 = unsafe { std::mem::transmute(fields[0].value) };
    assert_eq!(whole, 105);
    assert_eq!(
        fields::cndevDeviceGetFieldValues(0, 0, Out::to(&mut fields[0])),
        5
    );
}

#[test]
fn metrics_need_two_samples() {
    let _library = in_use();
    let mut samples = [std::ptr::null_mut(); 2];
    for sample in &mut samples {
        assert_eq!(metrics::cndevMpmSampleAlloc(Out::to(sample)), 0);
    }
    let mut request = cndevMpmMetricsGet_t {
        version: 1,
        numMetrics: 3,
        sample1: samples[0],
        sample2: samples[1],
        ..cndevMpmMetricsGet_t::zeroed()
    };
    for (place, id) in request.metrics.iter_mut().zip([1, 3, 62]) {
        place.metricId = id;
    }
    assert_eq!(
        metrics::cndevMpmMetricsGet(Out::to(&mut request)),
        5,
        "nothing was sampled"
    );
    assert_eq!(metrics::cndevMpmSampleGet(samples[0], 0), 0);
    std::thread::sleep(Duration::from_millis(5));
    assert_eq!(metrics::cndevMpmSampleGet(samples[1], 0), 0);
    assert_eq!(metrics::cndevMpmMetricsGet(Out::to(&mut request)), 0);
    let codes: Vec<_> = request.metrics[..3]
        .iter()
        .map(|metric| metric.ret)
        .collect();
    assert_eq!(codes, [0, 10, 0]);
    for sample in samples {
        assert_eq!(metrics::cndevMpmSampleFree(sample), 0);
        assert_eq!(metrics::cndevMpmSampleFree(sample), 5);
    }
}
