/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Functions of helpers.c, which the Rust files of this folder declare as theirs.
 */
#ifndef MLU_HELPERS_H
#define MLU_HELPERS_H

#include <linux/types.h>

struct device;
struct mlu_hwmon;
struct page;
struct proc_dir_entry;
struct seq_file;

struct page *mlu_alloc_pages(unsigned int order, bool insist);
unsigned long mlu_page_to_pfn(const struct page *page);
void *mlu_page_address(const struct page *page);
void mlu_current_comm(char *to, size_t length);
unsigned long mlu_total_pages(void);
unsigned int mlu_online_cpus(void);
int mlu_dma_mapping_error(struct device *dev, dma_addr_t address);

void mlu_trace_rpc(u32 chip, u32 function, u64 context, s32 status, u64 ns);
void mlu_trace_queue(u32 kind, u32 chip, u64 queue, u64 value, u32 status);
void mlu_trace_fault(u32 chip, u64 context, u32 xid, u32 status);

/* Gives @value of @quantity (`Quantity` of hwmon.rs), in hwmon's unit, or an error. */
typedef int (*mlu_sensor_read)(const void *data, u32 quantity, long *value);

struct mlu_hwmon *mlu_hwmon_register(struct device *parent, mlu_sensor_read read, const void *data);
void mlu_hwmon_unregister(struct mlu_hwmon *hwmon);

struct proc_dir_entry *mlu_proc_mkdir(const char *name, struct proc_dir_entry *parent);
struct proc_dir_entry *mlu_proc_file(const char *name, struct proc_dir_entry *parent,
				     int (*show)(struct seq_file *, void *), void *data);
void mlu_proc_remove(struct proc_dir_entry *entry);

void mlu_coredump(struct device *dev, const void *data, size_t length);

#endif
