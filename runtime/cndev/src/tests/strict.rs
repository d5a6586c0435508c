//! Versions, pointers, devices and ports that are wrong.

use super::*;

#[test]
fn versions_fill_what_they_had() {
    let _library = in_use();
    for version in [i32::MIN, -1, 0, 7, i32::MAX] {
        let mut heat = new::<cndevTemperatureInfo_t>(version);
        assert_eq!(
            power::cndevGetTemperatureInfo(Out::to(&mut heat), 0),
            3,
            "{version}"
        );
        assert_eq!(codes::last_error(), 3);
    }
    for (version, bytes) in [(1i32, 124), (4, 124), (5, 144), (6, 148)] {
        let mut raw = [0xa5u8; 148];
        raw[..4].copy_from_slice(&version.to_ne_bytes());
        // SAFETY: as many bytes as the structure has; plain numbers.
        let mut filled: cndevTemperatureInfo_t = unsafe { std::mem::transmute(raw) };
        assert_eq!(power::cndevGetTemperatureInfo(Out::to(&mut filled), 0), 0);
        // SAFETY: the structure's own bytes.
        let after =
            unsafe { std::slice::from_raw_parts(std::ptr::from_ref(&filled).cast::<u8>(), 148) };
        assert!(
            after[bytes..].iter().all(|byte| *byte == 0xa5),
            "version {version}"
        );
        assert!(after[4..bytes].iter().any(|byte| *byte != 0xa5));
    }
    for version in 1..=6 {
        let mut uuid = new::<cndevUUID_t>(version);
        assert_eq!(identity::cndevGetUUID(Out::to(&mut uuid), 0), 0);
        assert_eq!(uuid.ncsUUID64 != 0, version > 4);
    }
}

#[test]
fn wrong_arguments_have_their_codes() {
    let _library = in_use();
    assert_eq!(power::cndevGetTemperatureInfo(Out::null(), 0), 5);
    assert_eq!(memory::cndevGetMemoryUsageV2(Out::null(), 99), 5);
    for device in [-1, 2, i32::MAX] {
        let mut heat = new::<cndevTemperatureInfo_t>(6);
        assert_eq!(
            power::cndevGetTemperatureInfo(Out::to(&mut heat), device),
            6
        );
        assert_eq!(links::port_number(device), -1);
        assert_eq!(library::card_name_of_device(device).get().unwrap(), "");
    }
    for link in [-1, 8, i32::MIN] {
        let mut status = cndevMLULinkStatusV2_t::zeroed();
        assert_eq!(
            links::cndevGetMLULinkStatusV2(Out::to(&mut status), 0, link),
            11
        );
        assert_eq!(links::cndevSetMLULinkState(0, 0, link), 11);
    }
    let mut handle = 7;
    assert_eq!(
        identity::cndevGetDeviceHandleByUUID(Text::of(c"nobody"), Out::to(&mut handle)),
        14
    );
    assert_eq!(handle, 7, "what fails changes nothing");
    let mut volts = cndevVoltageInfo_t::zeroed();
    assert_eq!(power::cndevGetVoltageInfo(Out::to(&mut volts), 0), 10);
    assert_eq!(ask(instances::cndevGetMimMode, 0).mimMode, 0);
    let mut wait = cndevEventData_t::zeroed();
    assert_eq!(
        events::cndevEventWait(std::ptr::null_mut(), Out::to(&mut wait), 0),
        5
    );
    assert_eq!(library::cndevInit(1), 5);
    assert_eq!(
        codes::error_string(-5).get().unwrap(),
        "There is no such code"
    );
}

#[test]
fn nothing_works_before_the_start() {
    {
        let _library = in_use();
        assert_eq!(library::cndevInit(0), 0);
        assert_eq!(library::cndevRelease(), 0);
        assert_eq!(
            ask(identity::cndevGetClusterCount, 0).count,
            4,
            "one start is left"
        );
    }
    let _one = in_use();
    assert_eq!(library::cndevRelease(), 0);
    let mut count = new::<cndevCardInfo_t>(6);
    assert_eq!(identity::cndevGetDeviceCount(Out::to(&mut count)), 4);
    assert_eq!(identity::cndevGetDeviceCount(Out::null()), 4);
    assert_eq!(library::cndevRelease(), 4);
    assert_eq!(library::cndevInit(0), 0);
}

#[test]
fn many_threads_ask_at_once() {
    let _library = in_use();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            scope.spawn(move || {
                for _ in 0..200 {
                    let device = thread % 2;
                    ask(usage::cndevGetDeviceUtilizationInfo, device);
                    ask_plain(health::cndevGetCardHealthStateV2, device);
                    let mut counter = new::<cndevMLULinkCounter_t>(6);
                    assert_eq!(
                        links::cndevGetMLULinkCounter(Out::to(&mut counter), device, thread),
                        0
                    );
                }
            });
        }
    });
}
