// SPDX-License-Identifier: GPL-2.0
/*
 * What is a macro or an inline function in C, or stands in a header that the kernel crate's
 * bindings leave out. Nothing else belongs here.
 */

#include <linux/cpumask.h>
#include <linux/devcoredump.h>
#include <linux/dma-mapping.h>
#include <linux/gfp.h>
#include <linux/hwmon.h>
#include <linux/mm.h>
#include <linux/proc_fs.h>
#include <linux/sched.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/vmalloc.h>

#include "helpers.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

/*
 * Zeroed, charged to the caller's memory cgroup; without @insist only what is there without effort.
 */
struct page *mlu_alloc_pages(unsigned int order, bool insist)
{
	gfp_t gfp = GFP_KERNEL_ACCOUNT | __GFP_ZERO | __GFP_NOWARN;

	if (order)
		gfp |= insist ? __GFP_RETRY_MAYFAIL : __GFP_NORETRY;
	return alloc_pages(gfp, order);
}

unsigned long mlu_page_to_pfn(const struct page *page)
{
	return page_to_pfn(page);
}

void *mlu_page_address(const struct page *page)
{
	return page_address(page);
}

void mlu_current_comm(char *to, size_t length)
{
	strscpy_pad(to, current->comm, length);
}

unsigned long mlu_total_pages(void)
{
	return totalram_pages();
}

unsigned int mlu_online_cpus(void)
{
	return num_online_cpus();
}

int mlu_dma_mapping_error(struct device *dev, dma_addr_t address)
{
	return dma_mapping_error(dev, address);
}

/* Tracepoints: trace.h. */

void mlu_trace_rpc(u32 chip, u32 function, u64 context, s32 status, u64 ns)
{
	trace_mlu_rpc(chip, function, context, status, ns);
}

/* @kind: `QueueTrace` of trace.rs. */
void mlu_trace_queue(u32 kind, u32 chip, u64 queue, u64 value, u32 status)
{
	switch (kind) {
	case 0:
		trace_mlu_queue_create(chip, queue, value, status);
		break;
	case 1:
		trace_mlu_submission(chip, queue, value, status);
		break;
	case 2:
		trace_mlu_completion(chip, queue, value, status);
		break;
	default:
		trace_mlu_queue_error(chip, queue, value, status);
	}
}

void mlu_trace_fault(u32 chip, u64 context, u32 xid, u32 status)
{
	trace_mlu_fault(chip, context, xid, status);
}

/* hwmon: hwmon.rs. */

struct mlu_hwmon {
	struct device *dev;
	mlu_sensor_read read;
	const void *data;
};

/* `Quantity` of hwmon.rs. */
enum {
	MLU_TEMP_CHIP,
	MLU_TEMP_BOARD,
	MLU_TEMP_MEMORY,
	MLU_POWER,
	MLU_POWER_CAP,
	MLU_ENERGY,
	MLU_FAN,
	MLU_NOTHING,
};

static u32 mlu_hwmon_quantity(enum hwmon_sensor_types type, u32 attr, int channel)
{
	switch (type) {
	case hwmon_temp:
		return MLU_TEMP_CHIP + channel;
	case hwmon_power:
		return attr == hwmon_power_cap ? MLU_POWER_CAP : MLU_POWER;
	case hwmon_energy:
		return MLU_ENERGY;
	case hwmon_pwm:
		return MLU_FAN;
	default:
		return MLU_NOTHING;
	}
}

static int mlu_hwmon_read(struct device *dev, enum hwmon_sensor_types type, u32 attr, int channel,
			  long *value)
{
	struct mlu_hwmon *hwmon = dev_get_drvdata(dev);

	return hwmon->read(hwmon->data, mlu_hwmon_quantity(type, attr, channel), value);
}

static int mlu_hwmon_read_string(struct device *dev, enum hwmon_sensor_types type, u32 attr,
				 int channel, const char **text)
{
	static const char * const temperatures[] = { "chip", "board", "memory" };

	*text = type == hwmon_temp ? temperatures[channel] : "chip";
	return 0;
}

static umode_t mlu_hwmon_is_visible(const void *data, enum hwmon_sensor_types type, u32 attr,
				    int channel)
{
	return 0444;
}

static const struct hwmon_ops mlu_hwmon_ops = {
	.is_visible = mlu_hwmon_is_visible,
	.read = mlu_hwmon_read,
	.read_string = mlu_hwmon_read_string,
};

static const struct hwmon_channel_info * const mlu_hwmon_channels[] = {
	HWMON_CHANNEL_INFO(temp, HWMON_T_INPUT | HWMON_T_LABEL, HWMON_T_INPUT | HWMON_T_LABEL,
			   HWMON_T_INPUT | HWMON_T_LABEL),
	HWMON_CHANNEL_INFO(power, HWMON_P_INPUT | HWMON_P_CAP | HWMON_P_LABEL),
	HWMON_CHANNEL_INFO(energy, HWMON_E_INPUT | HWMON_E_LABEL),
	HWMON_CHANNEL_INFO(pwm, HWMON_PWM_INPUT),
	NULL
};

static const struct hwmon_chip_info mlu_hwmon_chip = {
	.ops = &mlu_hwmon_ops,
	.info = mlu_hwmon_channels,
};

struct mlu_hwmon *mlu_hwmon_register(struct device *parent, mlu_sensor_read read, const void *data)
{
	struct mlu_hwmon *hwmon = kzalloc(sizeof(*hwmon), GFP_KERNEL);
	struct device *dev;

	if (!hwmon)
		return ERR_PTR(-ENOMEM);
	hwmon->read = read;
	hwmon->data = data;
	dev = hwmon_device_register_with_info(parent, "mlu", hwmon, &mlu_hwmon_chip, NULL);
	if (IS_ERR(dev)) {
		kfree(hwmon);
		return ERR_CAST(dev);
	}
	hwmon->dev = dev;
	return hwmon;
}

/* Nobody reads any more when this returns. */
void mlu_hwmon_unregister(struct mlu_hwmon *hwmon)
{
	hwmon_device_unregister(hwmon->dev);
	kfree(hwmon);
}

/* /proc: procfs.rs. */

struct proc_dir_entry *mlu_proc_mkdir(const char *name, struct proc_dir_entry *parent)
{
	return proc_mkdir(name, parent);
}

struct proc_dir_entry *mlu_proc_file(const char *name, struct proc_dir_entry *parent,
				     int (*show)(struct seq_file *, void *), void *data)
{
	return proc_create_single_data(name, 0444, parent, show, data);
}

/* With all below it. Nobody is in a show function any more when this returns. */
void mlu_proc_remove(struct proc_dir_entry *entry)
{
	proc_remove(entry);
}

/* devcoredump: coredump.rs. */

void mlu_coredump(struct device *dev, const void *data, size_t length)
{
	void *copy = vmalloc(length);

	if (!copy)
		return;
	memcpy(copy, data, length);
	/* Takes over the copy. */
	dev_coredumpv(dev, copy, length, GFP_KERNEL);
}
