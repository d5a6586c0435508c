use super::*;

/// A boot, a program's failure that was made, and a driver that works.
const QUIET: &str = "\
[    0.000000] DMA-API: preallocated 65536 debug entries\r
[    0.000000] DMA-API: debugging enabled by kernel config\r
[    0.412345] kmemleak: Kernel memory leak detector initialized (mem pool available: 15738)\r
[    0.500000] kasan: KernelAddressSanitizer initialized (generic)\r
[    2.000000] FAULT_INJECTION: forcing a failure.\r
[    2.000001] name failslab, interval 1, probability 0, space 0, times 0\r
[    2.000002] Call Trace:\r
[    2.000003]  <TASK>\r
[    2.000004]  dump_stack_lvl+0x5c/0x80\r
[    2.000005]  </TASK>\r
[    3.000000] mlu 0000:03:00.0: mlu0: MLU370-X8 chip 0\r
";

/// Each line as the console shows it, all at one time.
fn console(time: f64, text: &str) -> String {
    text.lines()
        .map(|line| format!("[{time:12.6}] {line}\r\n"))
        .collect()
}

/// Who reported, and the first and the last line.
fn found(log: &str) -> Vec<(Detector, String, String)> {
    let ends = |report: Report| {
        let lines: Vec<_> = report.text.lines().collect();
        let [first, .., last] = lines.as_slice() else {
            panic!("{report}");
        };
        (report.detector, first.to_string(), last.to_string())
    };
    reports(log).into_iter().map(ends).collect()
}

fn expected(rows: &[(Detector, &str, &str)]) -> Vec<(Detector, String, String)> {
    let own = |row: &(Detector, &str, &str)| (row.0, row.1.to_owned(), row.2.to_owned());
    rows.iter().map(own).collect()
}

const KASAN: &str = "\
==================================================================
BUG: KASAN: slab-out-of-bounds in planted_c_read+0x66/0xa0 [planted]
Read of size 1 at addr ffff888003a1c128 by task insmod/164

CPU: 0 UID: 0 PID: 164 Comm: insmod Tainted: G           O        7.3.4-debug #1 PREEMPT
Call Trace:
 <TASK>
 dump_stack_lvl+0x69/0xa0
 print_report+0x14d/0x4d0
 planted_c_read+0x66/0xa0 [planted]
 </TASK>

Allocated by task 164:
 kasan_save_track+0x3e/0x80
 __kasan_kmalloc+0x8f/0xa0

Memory state around the buggy address:
>ffff888003a1c100: 00 00 00 00 00 fc fc fc fc fc fc fc fc fc fc fc
                                  ^
==================================================================
Disabling lock debugging due to kernel taint
";

const REFCOUNT: &str = "\
------------[ cut here ]------------
refcount_t: underflow; use-after-free.
WARNING: lib/refcount.c:28 at refcount_warn_saturate+0x5c/0x80, CPU#0: insmod/101
Modules linked in: mlu(O)
RIP: 0010:refcount_warn_saturate+0x5c/0x80
Call Trace:
 <TASK>
 do_one_initcall+0x8b/0x300
 </TASK>
---[ end trace 0000000000000000 ]---
";

const DMA: &str = "\
------------[ cut here ]------------
DMA-API: faux planted: device driver tries to free DMA memory it has not allocated [device address=0x0000000000001000] [size=4096 bytes]
WARNING: kernel/dma/debug.c:996 at check_unmap+0x3f4/0xb50, CPU#0: insmod/151
Call Trace:
 <TASK>
 debug_dma_unmap_phys+0xf2/0x140
 planted_dma+0x55/0x80 [planted]
 </TASK>
---[ end trace 0000000000000000 ]---
";

const LOCKDEP: &str = "\
======================================================
WARNING: possible circular locking dependency detected
7.3.4-debug #1 Tainted: G           O
------------------------------------------------------
insmod/135 is trying to acquire lock:
ffffffffa0003100 (first){+.+.}-{4:4}, at: planted_lock_order+0x5f/0x90 [planted]

the existing dependency chain (in reverse order) is:

-> #1 (second){+.+.}-{4:4}:
       __mutex_lock+0xb0/0x1050

 *** DEADLOCK ***

stack backtrace:
CPU: 0 UID: 0 PID: 135 Comm: insmod Tainted: G           O        7.3.4-debug #1 PREEMPT
Call Trace:
 <TASK>
 print_circular_bug+0x2f0/0x300
 </TASK>
planted: loaded
";

const SLEEP: &str = "\
BUG: sleeping function called from invalid context at kernel/locking/mutex.c:591
in_atomic(): 1, irqs_disabled(): 0, non_block: 0, pid: 143, name: insmod
Call Trace:
 <TASK>
 __might_resched+0x279/0x2a0
 </TASK>
";

const LEAKS: &str = "\
unreferenced object 0xffff88800a4c5180 (size 72):
  comm \"insmod\", pid 170, jiffies 4294906000
  backtrace (crc 0):
    planted_leak+0x2a/0x60 [planted]
unreferenced object (percpu) 0x607f40c0a2d0 (size 8):
  comm \"insmod\", pid 170, jiffies 4294906000
  backtrace (crc 0):
    planted_leak+0x2a/0x60 [planted]
";

#[test]
fn each_has_its_detector_and_its_ends() {
    let all = [KASAN, REFCOUNT, DMA, LOCKDEP, SLEEP];
    let log: String = all.iter().map(|text| console(5.0, text)).collect();
    let rule = "==================================================================";
    let cut = "------------[ cut here ]------------";
    let trace = "---[ end trace 0000000000000000 ]---";
    let circle = "WARNING: possible circular locking dependency detected";
    let kasan = "BUG: KASAN: slab-out-of-bounds in planted_c_read+0x66/0xa0 [planted]";
    let sleep = SLEEP.lines().next().unwrap();
    let expected = expected(&[
        (Detector::Kasan, kasan, rule),
        (Detector::Kernel, cut, trace),
        (Detector::DmaApi, cut, trace),
        (Detector::Lockdep, circle, " </TASK>"),
        (Detector::AtomicSleep, sleep, " </TASK>"),
    ]);
    assert_eq!(found(&log), expected);
    // In between there is nothing.
    let spread: String = all
        .iter()
        .enumerate()
        .map(|(i, text)| console(i as f64, text) + &console(i as f64, "mlu: all is well"))
        .collect();
    assert_eq!(found(&spread), expected);
}

#[test]
fn leaks_are_counted_singly() {
    let leaks = reports(LEAKS);
    assert_eq!(leaks.len(), 2);
    assert!(leaks.iter().all(|leak| leak.detector == Detector::Kmemleak
        && leak.text.contains("planted_leak")
        && leak.text.lines().count() == 4));
}

#[test]
fn other_complaints_are_reports() {
    for line in [
        "BUG kmalloc-64 (Tainted: G           O ): Poison overwritten",
        "BUG: unable to handle page fault for address: ffffc90000a00000",
        "Oops: general protection fault, probably for non-canonical address 0xdffffc0000000004: 0000 [#1] SMP KASAN NOPTI",
        "kernel BUG at mm/slub.c:634!",
        "INFO: task python3:211 blocked for more than 300 seconds.",
        "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
        "Kernel panic - not syncing: Fatal exception",
        "python3: page allocation failure: order:0, mode:0xcc0(GFP_KERNEL), nodemask=(null)",
        "rust_kernel: panicked at driver/queue.rs:10:5:",
        "list_del corruption. prev->next should be ffff8880, but was 0",
    ] {
        let reports = reports(&console(1.0, line));
        assert_eq!(reports.len(), 1, "{line}");
        assert_eq!(reports[0].text, line);
    }
}

/// A checker that gives up would be silent for ever.
#[test]
fn checkers_that_give_up_are_reports() {
    for (line, detector) in [
        ("BUG: MAX_LOCKDEP_CHAINS too low!", Detector::Lockdep),
        (
            "kmemleak: Kernel memory leak detector disabled",
            Detector::Kmemleak,
        ),
        (
            "DMA-API: debugging out of memory - disabling",
            Detector::DmaApi,
        ),
    ] {
        let reports = reports(&console(1.0, line));
        assert_eq!(reports.len(), 1, "{line}");
        assert_eq!(reports[0].detector, detector, "{line}");
    }
}

#[test]
fn what_comes_later_is_not_of_the_report() {
    let head = "INFO: task python3:211 blocked for more than 300 seconds.";
    let log = console(1.0, head) + &console(1.1, "Call Trace:") + &console(9.0, "mlu: later");
    assert_eq!(reports(&log)[0].text, format!("{head}\nCall Trace:"));
}

#[test]
fn a_good_log_has_none() {
    assert_eq!(reports(QUIET), []);
}

/// The console of a machine in which bugs were planted, as it was written.
#[test]
fn real_reports_are_found_whole() {
    let found = reports(include_str!("planted.log"));
    let detectors: Vec<_> = found.iter().map(|report| report.detector).collect();
    assert_eq!(
        detectors,
        [
            Detector::Lockdep,
            Detector::AtomicSleep,
            Detector::DmaApi,
            Detector::Kasan,
            Detector::Kasan
        ]
    );
    let ends = [
        " </TASK>",
        " </TASK>",
        "---[ end trace 0000000000000000 ]---",
    ];
    for (report, end) in found.iter().zip(ends) {
        assert!(report.text.ends_with(end), "{report}");
    }
    for report in &found[3..] {
        assert!(report
            .text
            .contains("Memory state around the buggy address"));
        assert!(report.text.ends_with("======"), "{report}");
    }
    assert!(found.iter().all(|report| report.text.contains("[planted]")));
}
