/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tracepoints: /sys/kernel/tracing/events/mlu. Commands are submitted and completed in memory that
 * user space and card share, without a system call, so what stands here is what the kernel sees of
 * them: a queue that is made or ends, a thread that begins and ends to wait (with the doorbell,
 * which is what was submitted so far), an event of the card (with the timeline, which is what was
 * completed so far).
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM mlu

#if !defined(MLU_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define MLU_TRACE_H

#include <linux/tracepoint.h>

TRACE_EVENT(mlu_rpc,
	TP_PROTO(u32 chip, u32 function, u64 context, s32 status, u64 ns),
	TP_ARGS(chip, function, context, status, ns),
	TP_STRUCT__entry(
		__field(u32, chip)
		__field(u32, function)
		__field(u64, context)
		__field(s32, status)
		__field(u64, ns)
	),
	TP_fast_assign(
		__entry->chip = chip;
		__entry->function = function;
		__entry->context = context;
		__entry->status = status;
		__entry->ns = ns;
	),
	TP_printk("mlu%u function=%u context=%#llx status=%d ns=%llu", __entry->chip,
		  __entry->function, __entry->context, __entry->status, __entry->ns)
);

DECLARE_EVENT_CLASS(mlu_queue,
	TP_PROTO(u32 chip, u64 queue, u64 value, u32 status),
	TP_ARGS(chip, queue, value, status),
	TP_STRUCT__entry(
		__field(u32, chip)
		__field(u32, status)
		__field(u64, queue)
		__field(u64, value)
	),
	TP_fast_assign(
		__entry->chip = chip;
		__entry->status = status;
		__entry->queue = queue;
		__entry->value = value;
	),
	TP_printk("mlu%u queue=%#llx value=%llu status=%u", __entry->chip, __entry->queue,
		  __entry->value, __entry->status)
);

/* A queue was made; its index on the card is @value. */
DEFINE_EVENT(mlu_queue, mlu_queue_create, TP_PROTO(u32 chip, u64 queue, u64 value, u32 status),
	TP_ARGS(chip, queue, value, status));
/* A thread begins to wait until the timeline has reached @value. */
DEFINE_EVENT(mlu_queue, mlu_submission, TP_PROTO(u32 chip, u64 queue, u64 value, u32 status),
	TP_ARGS(chip, queue, value, status));
/* The card told that the timeline has reached @value. */
DEFINE_EVENT(mlu_queue, mlu_completion, TP_PROTO(u32 chip, u64 queue, u64 value, u32 status),
	TP_ARGS(chip, queue, value, status));
/* A command of a queue failed, or the queue was ended, with @status. */
DEFINE_EVENT(mlu_queue, mlu_queue_error, TP_PROTO(u32 chip, u64 queue, u64 value, u32 status),
	TP_ARGS(chip, queue, value, status));

/*
 * An xid of a context, or a context that was stopped (@xid 0) with @status; or the loss of the chip
 * (both 0).
 */
TRACE_EVENT(mlu_fault,
	TP_PROTO(u32 chip, u64 context, u32 xid, u32 status),
	TP_ARGS(chip, context, xid, status),
	TP_STRUCT__entry(
		__field(u32, chip)
		__field(u32, xid)
		__field(u64, context)
		__field(u32, status)
	),
	TP_fast_assign(
		__entry->chip = chip;
		__entry->xid = xid;
		__entry->context = context;
		__entry->status = status;
	),
	TP_printk("mlu%u context=%#llx xid=%u status=%u", __entry->chip, __entry->context,
		  __entry->xid, __entry->status)
);

#endif

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
