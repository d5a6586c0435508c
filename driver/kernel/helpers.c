// SPDX-License-Identifier: GPL-2.0
/*
 * What is a macro or an inline function in C and has no counterpart in the kernel crate. Nothing else belongs here.
 */

#include <linux/cpumask.h>
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/string.h>

struct page *mlu_alloc_pages(unsigned int order, bool insist);
unsigned long mlu_page_to_pfn(const struct page *page);
void *mlu_page_address(const struct page *page);
void mlu_current_comm(char *to, size_t length);
unsigned long mlu_total_pages(void);
unsigned int mlu_online_cpus(void);

/* Zeroed, charged to the caller's memory cgroup; without @insist only what is there without effort. */
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
