//! The chips of a board: each other's memory, timelines and links.

use std::os::fd::AsFd;

use vmlu::abi::link::{PeerPath, Port, PortState};
use vmlu::abi::rpc::{LinkAction, LinkControl};
use vmlu::abi::Wire;
use vmlu::operators::MatmulOptions;
use vmlu::ops::binary::Function as BinaryFunction;
use vmlu::peer::{way, MemoryHandle};
use vmlu::{Context, DataType, Status, Tensor};

use super::{failed, refused, Bench, Check};

const LENGTH: u64 = 1 << 20;

impl Bench {
    /// The chip beside this one on its board, and a context there.
    fn neighbour(&self) -> vmlu::Result<(u32, Context)> {
        let device = self.device ^ 1;
        Ok((device, Context::open_on(&*self.transport, device)?))
    }

    /// The port of this chip that leads to its neighbour.
    fn port(&self) -> vmlu::Result<Port> {
        let peer = self.transport.info(self.device ^ 1)?.info;
        let ports = self.transport.link_ports(self.device)?;
        let port = ports
            .into_iter()
            .find(|p| (p.remote_serial, p.remote_chip) == (peer.serial, peer.chip));
        Ok(port.unwrap_or_else(Port::zeroed))
    }

    fn link(&self, port: u32, action: LinkAction, value: u64) -> vmlu::Result<()> {
        let control = LinkControl {
            port,
            action: action as u32,
            value,
            reserved: [0; 2],
        };
        self.transport.link_control(self.device, &control)
    }
}

pub(super) fn memory_in_place(bench: &Bench) -> Check {
    let (device, theirs) = bench.neighbour()?;
    let way = way(&*bench.transport, bench.device, device)?;
    assert!(way.path == PeerPath::Link && way.rate > 1 << 30);
    let queue = bench.queue()?;
    let context = queue.context();
    let remote = theirs.alloc(LENGTH)?;
    let bytes = remote.export()?.to_bytes();
    let mapped = context.import_memory(&MemoryHandle::from_bytes(bytes), true)?;
    assert_eq!(mapped.len(), LENGTH);
    let before = bench.port()?;
    let data: Vec<u8> = (0..LENGTH).map(|i| (i * 7) as u8).collect();
    queue.write(&mapped, 0, &data)?;
    queue.sync()?;
    // The owner finds it, and operators of this chip compute on it.
    let other = theirs.queue()?;
    let mut back = vec![0; LENGTH as usize];
    other.read(&remote, 0, &mut back)?;
    assert!(back == data);
    let here = context.alloc(LENGTH)?;
    queue.copy(here.address(), mapped.address(), LENGTH)?;
    queue.sync()?;
    let after = bench.port()?;
    assert_eq!(after.state, PortState::Up as u32);
    assert_eq!(after.written_bytes - before.written_bytes, LENGTH);
    assert_eq!(after.read_bytes - before.read_bytes, LENGTH);
    Ok(())
}

/// A chip maps what another one has made a dma-buf, where the transport has such.
pub(super) fn dmabufs(bench: &Bench) -> Check {
    let (_, theirs) = bench.neighbour()?;
    let queue = bench.queue()?;
    let remote = theirs.alloc(LENGTH)?;
    if bench.transport.name() != "kernel" {
        refused(remote.export_dmabuf(0..LENGTH), Status::NotSupported);
        return Ok(());
    }
    let shared = remote.export_dmabuf(0..LENGTH)?;
    let mapped = queue.context().import_dmabuf(shared.as_fd(), true)?;
    assert_eq!(mapped.len(), LENGTH);
    let data: Vec<u8> = (0..LENGTH).map(|i| (i * 11) as u8).collect();
    queue.write(&mapped, 0, &data)?;
    queue.sync()?;
    let mut back = vec![0; LENGTH as usize];
    theirs.queue()?.read(&remote, 0, &mut back)?;
    assert!(back == data);
    refused(
        remote.export_dmabuf(0..LENGTH + 4096),
        Status::InvalidArgument,
    );
    drop(remote);
    let gone = queue.context().import_dmabuf(shared.as_fd(), false);
    refused(gone, Status::BadHandle);
    Ok(())
}

/// A chip computes on the operands of another, in order with the commands of that one, and the host takes no part.
pub(super) fn chips_wait_for_each_other(bench: &Bench) -> Check {
    let (_, theirs) = bench.neighbour()?;
    let (here, there) = (bench.queue()?, theirs.queue()?);
    let x = Tensor::from_slice(&there, &[1.0_f32, 2.0, 3.0, 4.0], &[2, 2])?;
    let y = Tensor::zeros(&there, DataType::F32, &[2, 2])?;
    let imported = here.context().import(&there.export()?)?;
    let other = theirs.import(&here.export()?)?;
    let local = Tensor::zeros(&here, DataType::F32, &[2, 2])?;
    here.sync()?;
    let exported = local.buffer().export()?;
    let remote = theirs.import_memory(&exported, true)?;
    // There: y = x · x into the memory of here; then here doubles it by adding it to itself, after waiting.
    let mut value = there.matmul(&x, &x, &y, &MatmulOptions::default())?;
    value = there
        .copy(remote.address(), y.buffer().address(), 16)?
        .max(value);
    here.wait_for_imported(&imported, value)?;
    let doubled = Tensor::zeros(&here, DataType::F32, &[2, 2])?;
    here.binary(BinaryFunction::Add, &local, &local, &doubled)?;
    let done = here.nop()?;
    there.wait_for_imported(&other, done)?;
    there.sync()?;
    assert_eq!(doubled.to_vec::<f32>(&here)?, [14.0, 20.0, 30.0, 44.0]);
    Ok(())
}

pub(super) fn a_dead_link(bench: &Bench) -> Check {
    let (_, theirs) = bench.neighbour()?;
    let queue = bench.queue()?;
    let context = queue.context();
    let remote = theirs.alloc(LENGTH)?;
    let handle = remote.export()?;
    let mapped = context.import_memory(&handle, true)?;
    let port = bench.port()?;
    bench.link(port.port, LinkAction::Down, 0)?;
    let fill = queue.fill(&mapped, 0, LENGTH, 1)?;
    let record = failed(&queue, fill, Status::LinkDown);
    let refusal = context.import_memory(&handle, true);
    bench.link(port.port, LinkAction::Up, 0)?;
    record?;
    refused(refusal, Status::NotSupported);
    queue.fill(&mapped, 0, LENGTH, 1)?;
    queue.sync()?;
    bench.link(port.port, LinkAction::Crc24, 3)?;
    let after = bench.port()?;
    assert_eq!((after.downs - port.downs, after.crc24 - port.crc24), (1, 3));
    Ok(())
}

pub(super) fn freed_by_its_owner(bench: &Bench) -> Check {
    let (_, theirs) = bench.neighbour()?;
    let queue = bench.queue()?;
    let context = queue.context();
    let remote = theirs.alloc(LENGTH)?;
    let handle = remote.export()?;
    let mapped = context.import_memory(&handle, false)?;
    failed(&queue, queue.fill(&mapped, 0, 8, 1)?, Status::OperandFault)?;
    refused(mapped.export(), Status::InvalidArgument);
    drop(remote);
    let here = context.alloc(LENGTH)?;
    failed(
        &queue,
        queue.copy(here.address(), mapped.address(), 8)?,
        Status::OperandFault,
    )?;
    refused(context.import_memory(&handle, false), Status::BadHandle);
    let mut wrong = handle.to_bytes();
    wrong[0] ^= 1;
    refused(
        context.import_memory(&MemoryHandle::from_bytes(wrong), false),
        Status::BadHandle,
    );
    refused(
        context.import_memory(&MemoryHandle::from_bytes([0; MemoryHandle::SIZE]), false),
        Status::BadHandle,
    );
    Ok(())
}
