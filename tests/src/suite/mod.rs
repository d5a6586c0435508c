//! The cases, and what they have in common.

mod boxes;
mod capture;
mod copies;
mod faults;
mod graphs;
mod memory;
mod operators;
mod packets;
mod peers;
mod products;
mod queues;
mod telemetry;
mod timelines;
mod training;
mod vision;

use std::error::Error;
use std::sync::Arc;

use vmlu::abi::rpc::{Fault, Inject};
use vmlu::abi::status::ErrorRecord;
use vmlu::abi::Wire;
use vmlu::error::rule_text;
use vmlu::transport::Transport;
use vmlu::{Context, Queue, Status};

/// How a case ends.
pub type Check = Result<(), Box<dyn Error>>;

/// A case: its name and what it does.
pub struct Case {
    /// Name: file and function.
    pub name: &'static str,
    /// The case. It panics or fails if something is wrong.
    pub run: fn(&Bench) -> Check,
}

macro_rules! cases {
    ($($file:ident: $($name:ident),* $(,)?;)*) => {
        /// All cases.
        pub const CASES: &[Case] = &[ $( $( Case { name: concat!(stringify!($file), "::", stringify!($name)), run: $file::$name } ),* ),* ];
    };
}

cases! {
    memory: round_trips, device_copies, fills, pinned_copies, lengths_are_exact, out_of_memory, refusals, cleared_between_contexts,
        freed_with_the_context;
    queues: timeline, ring_wraps, many_queues, wait_times_out, queues_wait_for_each_other, notifiers, waiters_in_threads,
        destroyed_under_a_waiter, full_ring, batches, batch_in_a_full_ring, batches_from_threads;
    operators: matmul_against_float64, broadcast_and_views, training_step, early_refusals, late_refusals, types, quantised_products;
    products: attention_and_its_gradient, weights_of_four_bits, places_and_histograms;
    vision: pooling_and_its_gradient, resizing_and_its_gradient, grids, regions_and_boxes;
    training: random_numbers, dropout, optimisers, losses, ctc;
    packets: unknown_opcode, wrong_version_and_flags, truncated_body, dirty_padding, operand_outside, operand_across_allocations,
        overlapping_strides, overflowing_dimensions, overlapping_copy, indirect_body, foreign_queue, own_future, doorbell_beyond_the_ring,
        packet_beyond_the_doorbell, foreign_address, stale_address;
    faults: panic_in_a_command, hang_ends_by_watchdog, hang_leaves_others_alone, uncorrectable_error, failure_of_the_third, delay,
        freed_while_running, destroyed_while_hanging, dependants_end, dropped_interrupt;
    timelines: host_signals, host_timeline_ends_under_waiters, foreign_timelines, imported, imported_fails, bad_tokens, host_functions,
        host_function_behind_an_error, host_function_panics, host_function_waits_for_itself, queue_dropped_with_host_functions, eventfds,
        failures_outlive_clearing, notifiers_across_queues;
    copies: staging_is_shared, staging_of_queues_that_stand_still;
    boxes: boxes_of_pageable_memory, boxes_in_place, box_refusals;
    graphs: replay, parameters, built, updated, lifetimes, failing_command, bad_images;
    capture: commands_are_recorded, joined_queues, errors, queues_that_end, parameters;
    peers: memory_in_place, dmabufs, chips_wait_for_each_other, a_dead_link, freed_by_its_owner;
    telemetry: identity, load_shows, memory_is_accounted, processes_are_listed, heat, ecc_counts;
}

/// The case with a name.
pub fn find(name: &str) -> Option<&'static Case> {
    CASES.iter().find(|c| c.name == name)
}

/// What a case works on: a chip.
pub struct Bench {
    transport: Arc<dyn Transport>,
    device: u32,
}

impl Bench {
    /// A chip of a transport.
    pub fn new(transport: Arc<dyn Transport>, device: u32) -> Self {
        Self { transport, device }
    }

    /// A context of its own.
    pub fn context(&self) -> vmlu::Result<Context> {
        Context::open_on(&*self.transport, self.device)
    }

    /// A queue in a context of its own.
    pub fn queue(&self) -> vmlu::Result<Queue> {
        self.context()?.queue()
    }

    /// Injects a fault into the next `count` commands with an opcode, 0 for all. Taken away when the guard is dropped.
    fn inject(
        &self,
        fault: Fault,
        opcode: u16,
        count: u32,
        skip: u64,
        value: u64,
    ) -> vmlu::Result<Injected<'_>> {
        let inject = Inject {
            fault: fault as u32,
            count,
            skip,
            value,
            opcode: u32::from(opcode),
            ..Inject::zeroed()
        };
        self.transport.inject(self.device, &inject)?;
        Ok(Injected {
            bench: self,
            inject,
        })
    }
}

/// A fault that waits for its victim.
struct Injected<'a> {
    bench: &'a Bench,
    inject: Inject,
}

impl Drop for Injected<'_> {
    fn drop(&mut self) {
        let _ = self.bench.transport.inject(
            self.bench.device,
            &Inject {
                count: 0,
                ..self.inject
            },
        );
    }
}

/// The error that a call must end with.
fn refused<T>(result: vmlu::Result<T>, status: Status) -> String {
    match result {
        Ok(_) => panic!("it was accepted, {status:?} was expected"),
        Err(error) => {
            assert_eq!(error.status(), status, "{error}");
            error.to_string()
        }
    }
}

/// Submits a command that the card must refuse, and checks the record; then clears the error and sees the queue run on.
fn rejected(
    queue: &Queue,
    opcode: u16,
    body: &[u8],
    status: Status,
) -> Result<ErrorRecord, Box<dyn Error>> {
    let value = queue.submit_raw(opcode, body)?;
    failed(queue, value, status)
}

/// Waits for a command that must fail, and checks the record; then clears the error and sees the queue run on.
fn failed(queue: &Queue, value: u64, status: Status) -> Result<ErrorRecord, Box<dyn Error>> {
    let behind = queue.nop()?;
    let text = refused(queue.wait(value), status);
    assert!(queue.wait(behind).is_err(), "the command behind it ran");
    assert_eq!(queue.timeline(), behind, "the timeline stands");
    let record = queue.clear_error()?.ok_or("there is no error record")?;
    assert_eq!(
        (record.status, record.value, record.queue),
        (status.raw(), value, queue.handle()),
        "{text}"
    );
    assert!(!rule_text(&record).is_empty(), "the record says nothing");
    queue.nop()?;
    queue.sync()?;
    Ok(record)
}

/// Bytes that differ everywhere.
fn pattern(length: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    (0..length)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect()
}
