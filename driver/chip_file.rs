// SPDX-License-Identifier: GPL-2.0

//! `/dev/mlu*`: opening one makes a context. See `docs/uapi.md`.

use kernel::{
    fs::File,
    mm::virt::VmaNew,
    prelude::*,
    sync::{Arc, ArcBorrow},
};

use crate::{
    abi::ioctl as abi,
    context::Context,
    control,
    ext::chardev::FileOperations,
    ioctl::{read, update, write},
    nodes::{self, MAX_CHIPS},
};

/// Files of chips.
pub(crate) struct ChipFile;

impl FileOperations for ChipFile {
    type Ptr = Arc<Context>;

    fn open(minor: u32, file: &File) -> Result<Arc<Context>> {
        let card = nodes::chip(minor % MAX_CHIPS).ok_or(ENODEV)?;
        Context::open(card, file)
    }

    fn ioctl(context: ArcBorrow<'_, Context>, command: u32, at: usize) -> Result<isize> {
        match command {
            abi::INFO => update(at, |arg: &mut abi::DeviceInfo| {
                if arg.reserved0 != 0 || arg.reserved1 != [0; 2] {
                    return Err(EINVAL);
                }
                *arg = context.card().device_info();
                Ok(())
            }),
            abi::TELEMETRY => update(at, |arg: &mut abi::TelemetryRead| {
                if arg.device != 0 {
                    return Err(EINVAL);
                }
                control::telemetry(context.card(), arg)
            }),
            abi::PROCESSES => update(at, |arg: &mut abi::ProcessesRead| {
                if arg.device != 0 {
                    return Err(EINVAL);
                }
                control::processes(context.card(), arg)
            }),
            abi::MEM_ALLOC => update(at, |arg| context.mem_alloc(arg)),
            abi::MEM_FREE => context.mem_free(&read(at)?),
            abi::HOST_ALLOC => update(at, |arg| context.host_alloc(arg)),
            abi::HOST_FREE => context.host_free(&read(at)?),
            abi::NOTIFIER_POOL => context.notifier_pool(&read(at)?),
            abi::QUEUE_CREATE => update(at, |arg| context.queue_create(arg)),
            abi::QUEUE_DESTROY => context.queue_destroy(&read(at)?),
            abi::QUEUE_WAIT => {
                let mut arg = read(at)?;
                let waited = context.queue_wait(&mut arg)?;
                write(at, &arg)?;
                waited
            }
            abi::QUEUE_ERROR => update(at, |arg| context.queue_error(arg)),
            _ => Err(ENOTTY),
        }?;
        Ok(0)
    }

    fn mmap(context: ArcBorrow<'_, Context>, vma: &VmaNew) -> Result {
        context.mmap(vma)
    }

    fn release(context: Arc<Context>) {
        Context::close(context);
    }
}
