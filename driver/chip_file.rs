// SPDX-License-Identifier: GPL-2.0

//! `/dev/mlu*`: opening one makes a context. See `docs/uapi.md`.

use kernel::{
    fs::{
        file::{flags::O_CLOEXEC, FileDescriptorReservation},
        File,
    },
    mm::virt::VmaNew,
    prelude::*,
    seq_file::SeqFile,
    sync::{poll::PollTable, Arc, ArcBorrow},
    uaccess::UserSliceWriter,
};

use crate::{
    abi::ioctl as abi,
    context::Context,
    control,
    ext::chardev::{ready, FileOperations},
    ioctl::{read, update, write, write_bytes},
    nodes::{self, MAX_CHIPS},
    peer,
};

/// `DMABUF_EXPORT`. The process has the descriptor once it has been told its number.
fn dmabuf_export(context: &Context, at: usize) -> Result<isize> {
    let mut arg: abi::DmabufExport = read(at)?;
    let buffer = context.dmabuf_export(&arg)?;
    let descriptor = FileDescriptorReservation::get_unused_fd_flags(O_CLOEXEC)?;
    arg.fd = i32::try_from(descriptor.reserved_fd())?;
    write(at, &arg)?;
    // From here on nothing may fail. The descriptor takes over a reference of the file.
    descriptor.fd_install(buffer.to_file());
    Ok(0)
}

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
                arg.alive &= u32::from(context.is_current());
                Ok(())
            }),
            _ if !context.is_current() => Err(ENODEV),
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
            abi::SUBSCRIBE => {
                let kinds = control::kinds(&read(at)?, control::CHIP_KINDS)?;
                context.subscribe(kinds)
            }
            abi::LINK_PORTS => {
                let answer = peer::ports(context.card(), context.card().number())?;
                write_bytes(at, &answer)
            }
            abi::PEER_PATH => update(at, |arg: &mut abi::PeerPath| {
                peer::path(context.card(), arg)?;
                arg.device = context.card().number();
                Ok(())
            }),
            abi::MEM_ALLOC => update(at, |arg| context.mem_alloc(arg)),
            abi::MEM_FREE => context.mem_free(&read(at)?),
            abi::HOST_ALLOC => update(at, |arg| context.host_alloc(arg)),
            abi::HOST_REGISTER => context.host_register(&read(at)?),
            abi::HOST_FREE => context.host_free(&read(at)?),
            abi::NOTIFIER_POOL => context.notifier_pool(&read(at)?),
            abi::MEM_EXPORT => update(at, |arg| context.mem_export(arg)),
            abi::MEM_IMPORT => context.mem_import(&read(at)?),
            abi::DMABUF_EXPORT => return dmabuf_export(&context, at),
            abi::DMABUF_IMPORT => update(at, |arg| context.dmabuf_import(arg)),
            abi::MEM_MAP => update(at, |arg| context.mem_map(arg)),
            abi::QUEUE_CREATE => update(at, |arg| context.queue_create(arg)),
            abi::QUEUE_DESTROY => context.queue_destroy(&read(at)?),
            abi::QUEUE_WAIT => {
                let mut arg = read(at)?;
                let waited = context.queue_wait(&mut arg)?;
                write(at, &arg)?;
                waited
            }
            abi::QUEUE_ERROR => update(at, |arg| context.queue_error(arg)),
            abi::QUEUE_ARM => context.queue_arm(&read(at)?),
            abi::GRAPH_CREATE => update(at, |arg| context.graph_create(arg)),
            abi::GRAPH_DESTROY => context.graph_destroy(&read(at)?),
            abi::GRAPH_UPDATE => context.graph_update(&read(at)?),
            abi::TIMELINE_EXPORT => update(at, |arg| context.timeline_export(arg)),
            abi::TIMELINE_IMPORT => update(at, |arg| context.timeline_import(arg)),
            abi::TIMELINE_RELEASE => context.timeline_release(&read(at)?),
            abi::TIMELINE_READ => update(at, |arg| context.timeline_read(arg)),
            _ => Err(ENOTTY),
        }?;
        Ok(0)
    }

    fn read(context: ArcBorrow<'_, Context>, file: &File, to: UserSliceWriter) -> Result<usize> {
        let is_alive = || context.is_current();
        context.stream().read(file, to, is_alive)
    }

    fn poll(context: ArcBorrow<'_, Context>, file: &File, table: PollTable<'_>) -> u32 {
        let mask = context.stream().poll(file, table);
        // After the caller was entered, or he would miss it.
        if context.is_current() {
            mask
        } else {
            mask | ready::DEAD
        }
    }

    fn show_fdinfo(context: ArcBorrow<'_, Context>, to: &SeqFile) {
        context.show_fdinfo(to);
    }

    fn mmap(context: ArcBorrow<'_, Context>, vma: &VmaNew) -> Result {
        context.mmap(vma)
    }

    fn release(context: Arc<Context>) {
        Context::close(context);
    }
}
