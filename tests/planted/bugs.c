// SPDX-License-Identifier: GPL-2.0
/*
 * The bugs that are macros or inline functions in C: planted_main.rs.
 */

#include <linux/device.h>
#include <linux/device/faux.h>
#include <linux/dma-mapping.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/spinlock.h>

void planted_leak(void);
void planted_lock_order(void);
void planted_sleep(void);
void planted_dma(void);
void planted_c_read(size_t length);

static DEFINE_MUTEX(first);
static DEFINE_MUTEX(second);
static DEFINE_SPINLOCK(spinning);

/* Some, for a word on the stack may look like a pointer to one. */
void planted_leak(void)
{
	int i;

	for (i = 0; i < 8; i++) {
		void *lost = kmalloc(72, GFP_KERNEL);

		OPTIMIZER_HIDE_VAR(lost);
	}
}

void planted_lock_order(void)
{
	mutex_lock(&first);
	mutex_lock(&second);
	mutex_unlock(&second);
	mutex_unlock(&first);
	mutex_lock(&second);
	mutex_lock(&first);
	mutex_unlock(&first);
	mutex_unlock(&second);
}

void planted_sleep(void)
{
	spin_lock(&spinning);
	mutex_lock(&first);
	mutex_unlock(&first);
	spin_unlock(&spinning);
}

void planted_dma(void)
{
	struct faux_device *faux = faux_device_create("planted", NULL, NULL);

	if (!faux)
		return;
	dma_unmap_page(&faux->dev, 0x1000, PAGE_SIZE, DMA_TO_DEVICE);
	faux_device_destroy(faux);
}

void planted_c_read(size_t length)
{
	u8 *object = kmalloc(length, GFP_KERNEL);

	if (!object)
		return;
	OPTIMIZER_HIDE_VAR(object);
	pr_info("planted: behind the object stands %u\n", READ_ONCE(object[length]));
	kfree(object);
}
