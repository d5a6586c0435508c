//! Copies of boxes.

use vmlu::queue::{Extent, Layout};
use vmlu::Status;

use super::{pattern, refused, Bench, Check};

/// What a copy of a box makes of the destination.
fn expect(to: &mut [u8], l: Layout, from: &[u8], m: Layout, e: Extent) {
    for z in 0..e.depth {
        for y in 0..e.height {
            let at = |l: Layout| (l.offset + z * l.slice + y * l.pitch) as usize;
            let w = e.width as usize;
            to[at(l)..at(l) + w].copy_from_slice(&from[at(m)..at(m) + w]);
        }
    }
}

/// Boxes of all kinds: small, with long rows, with many, with several slices.
const BOXES: &[(Extent, Layout, Layout)] = &[
    (e(3, 4, 1), l(5, 7, 0), l(0, 3, 0)),
    (e(64, 100, 1), l(0, 64, 0), l(16, 80, 0)),
    (e(300, 40, 5), l(1, 512, 30_000), l(3, 301, 13_000)),
    (e(700_000, 3, 1), l(9, 700_001, 0), l(0, 800_000, 0)),
    (e(1, 5000, 2), l(0, 3, 16_000), l(0, 1, 5000)),
    (e(2000, 1, 1), l(0, 1, 0), l(7, 0, 0)),
];

const fn e(width: u64, height: u64, depth: u64) -> Extent {
    Extent {
        width,
        height,
        depth,
    }
}

const fn l(offset: u64, pitch: u64, slice: u64) -> Layout {
    Layout {
        offset,
        pitch,
        slice,
    }
}

const BYTES: usize = 3 << 20;

pub(super) fn boxes_of_pageable_memory(bench: &Bench) -> Check {
    let context = bench.context()?;
    let queue = context.queue()?;
    let device = context.alloc(BYTES as u64)?;
    for (i, (extent, to, from)) in BOXES.iter().copied().enumerate() {
        let (source, old) = (pattern(BYTES, 1), pattern(BYTES, 2));
        queue.write(&device, 0, &old)?;
        queue.write_box((&device, to), (&source, from), extent)?;
        let mut seen = vec![0; BYTES];
        queue.read(&device, 0, &mut seen)?;
        let mut expected = old;
        expect(&mut expected, to, &source, from, extent);
        assert!(seen == expected, "box {i} to the device");

        let mut back = pattern(BYTES, 3);
        let mut expected_back = back.clone();
        queue.read_box((&device, to), (&mut back, from), extent)?;
        expect(&mut expected_back, from, &expected, to, extent);
        assert!(back == expected_back, "box {i} from the device");
    }
    Ok(())
}

pub(super) fn boxes_in_place(bench: &Bench) -> Check {
    let context = bench.context()?;
    let queue = context.queue()?;
    let (a, b) = (context.alloc(BYTES as u64)?, context.alloc(BYTES as u64)?);
    let pinned = context.alloc_pinned(BYTES as u64)?;
    for (i, (extent, to, from)) in BOXES.iter().copied().enumerate() {
        let (source, old) = (pattern(BYTES, 1), pattern(BYTES, 2));
        let mut expected = old.clone();
        expect(&mut expected, to, &source, from, extent);
        pinned.write(0, &source);
        queue.write(&a, 0, &old)?;
        queue.copy_3d((a.address(), to), (pinned.address(), from), extent)?;
        let mut seen = vec![0; BYTES];
        queue.read(&a, 0, &mut seen)?;
        assert!(seen == expected, "box {i}, pinned to device");
        // Within the device, and back.
        queue.write(&a, 0, &source)?;
        queue.write(&b, 0, &old)?;
        queue.copy_3d((b.address(), to), (a.address(), from), extent)?;
        queue.write(&a, 0, &[0; 16])?;
        pinned.write(0, &vec![7; BYTES]);
        queue.copy_2d(
            (pinned.address(), BYTES as u64 / 2),
            (b.address(), BYTES as u64 / 2),
            BYTES as u64 / 2,
            2,
        )?;
        queue.sync()?;
        pinned.read(0, &mut seen);
        assert!(seen == expected, "box {i}, device to device to pinned");
    }
    Ok(())
}

pub(super) fn box_refusals(bench: &Bench) -> Check {
    let context = bench.context()?;
    let queue = context.queue()?;
    let device = context.alloc(4096)?;
    let mut host = vec![0; 4096];
    let fits = (l(0, 64, 0), e(64, 64, 1));
    for (layout, extent) in [
        (l(1, 64, 0), fits.1),
        (l(0, 63, 0), fits.1),
        (l(0, 64, 4096), e(64, 64, 2)),
        (l(0, 8, 8), e(8, 2, 2)),
        (l(u64::MAX, 1, 1), e(1, 1, 1)),
        (l(0, u64::MAX, 0), e(1, 3, 1)),
        (l(0, 1 << 40, 1 << 63), e(1, 1 << 24, 3)),
        (l(0, 1, 1), e(u64::MAX, 1, 1)),
    ] {
        let text = format!("{layout:?} {extent:?}");
        let to = queue.write_box((&device, layout), (&host, fits.0), extent);
        assert_eq!(
            to.err().map(|e| e.status()),
            Some(Status::InvalidArgument),
            "{text}"
        );
        let from = queue.read_box((&device, layout), (&mut host, layout), extent);
        assert_eq!(
            from.err().map(|e| e.status()),
            Some(Status::InvalidArgument),
            "{text}"
        );
    }
    queue.write_box((&device, fits.0), (&host, fits.0), fits.1)?;
    for empty in [e(0, 9, 9), e(9, 0, 9), e(9, 9, 0)] {
        let nowhere = l(u64::MAX, 0, 0);
        queue.write_box((&device, nowhere), (&host, nowhere), empty)?;
        queue.read_box((&device, nowhere), (&mut host, nowhere), empty)?;
    }
    queue.sync()?;
    // In place the card looks at what a box spans.
    let copy = queue.copy_2d((device.address(), 64), (device.address() + 4000, 64), 64, 2)?;
    refused(queue.wait(copy), Status::OperandFault);
    Ok(())
}
