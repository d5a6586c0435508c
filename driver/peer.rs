// SPDX-License-Identifier: GPL-2.0

//! Other chips: their memory, the ways to them and the links between. The firmware has the tokens
//! and the mappings, which go with the context.

use kernel::prelude::*;

use crate::{
    abi::{
        ioctl,
        link::Port,
        rpc::{self, Function, PortList, ACCESS_READ, ACCESS_WRITE},
        Wire,
    },
    card::Card,
    context::Context,
    rpc::Scope,
};

const HEAD: usize = core::mem::size_of::<PortList>();
const PORT: usize = core::mem::size_of::<Port>();
/// Ports that the structure of an ioctl has room for.
const MAX_PORTS: usize = (core::mem::size_of::<ioctl::LinkPorts>() - HEAD) / PORT;
// `device` and `count` of `ioctl::LinkPorts` are what stands before the ports.
const _: () = assert!(HEAD + MAX_PORTS * PORT == core::mem::size_of::<ioctl::LinkPorts>());

impl Context {
    /// `MEM_EXPORT`.
    pub(crate) fn mem_export(&self, arg: &mut ioctl::MemExport) -> Result {
        if arg.flags != 0 {
            return Err(EINVAL);
        }
        arg.token = self.call(Function::MemoryExport, &rpc::MemoryFree { va: arg.va })?;
        Ok(())
    }

    /// `MEM_IMPORT`.
    pub(crate) fn mem_import(&self, arg: &ioctl::MemImport) -> Result {
        let import = &arg.import;
        let known = ACCESS_READ | ACCESS_WRITE;
        if import.flags != 0
            || import.token.reserved != 0
            || import.access & ACCESS_READ == 0
            || import.access & !known != 0
            || import.va.checked_add(import.token.length).is_none()
        {
            return Err(EINVAL);
        }
        Ok(self.call::<_, ()>(Function::MemoryImport, import)?)
    }
}

/// `PEER_PATH` of a chip.
pub(crate) fn path(card: &Card, arg: &mut ioctl::PeerPath) -> Result {
    if arg.reserved != 0 || arg.peer.reserved != 0 {
        return Err(EINVAL);
    }
    arg.way = card.call(Function::PeerPath, Scope::CHIP, &arg.peer)?;
    Ok(())
}

/// `LINK_CONTROL` of a chip.
pub(crate) fn control(card: &Card, arg: &ioctl::LinkControl) -> Result {
    if arg.reserved != 0 || arg.control.reserved != [0; 2] {
        return Err(EINVAL);
    }
    Ok(card.call::<_, ()>(Function::LinkControl, Scope::CHIP, &arg.control)?)
}

/// What `LINK_PORTS` of a chip writes: the bytes of an `ioctl::LinkPorts`, which is too large for
/// the stack.
pub(crate) fn ports(card: &Card, device: u32) -> Result<KVec<u8>> {
    let mut answer = KVec::from_elem(0, core::mem::size_of::<ioctl::LinkPorts>(), GFP_KERNEL)?;
    let count = card.call_with(Function::LinkPorts, Scope::CHIP, &[], |body| {
        let list = PortList::read_from(body)?;
        let ports = &body[HEAD..];
        let count = list.count as usize;
        if count > MAX_PORTS || ports.len() != count * PORT {
            return None;
        }
        answer[HEAD..HEAD + ports.len()].copy_from_slice(ports);
        Some(list.count)
    })?;
    answer[..4].copy_from_slice(&device.to_le_bytes());
    answer[4..HEAD].copy_from_slice(&count.to_le_bytes());
    Ok(answer)
}
