// SPDX-License-Identifier: GPL-2.0

//! Graphs of a context: the firmware has them, and copies their images itself.

use kernel::prelude::*;

use crate::{
    abi::{
        ioctl,
        rpc::{self, Function},
    },
    context::Context,
};

/// What can be said against an image without looking at it.
fn check(arg: &ioctl::GraphImage) -> Result {
    if arg.flags != 0 || arg.length == 0 || arg.address.checked_add(arg.length).is_none() {
        return Err(EINVAL);
    }
    Ok(())
}

impl Context {
    /// `GRAPH_CREATE`.
    pub(crate) fn graph_create(&self, arg: &mut ioctl::GraphImage) -> Result {
        check(arg)?;
        let command = rpc::GraphImage {
            graph: 0,
            address: arg.address,
            length: arg.length,
        };
        let made: rpc::Graph = self.call(Function::GraphCreate, &command)?;
        arg.graph = made.graph;
        Ok(())
    }

    /// `GRAPH_UPDATE`.
    pub(crate) fn graph_update(&self, arg: &ioctl::GraphImage) -> Result {
        check(arg)?;
        // The firmware takes zero for a new graph.
        if arg.graph == 0 {
            return Err(ENOENT);
        }
        let command = rpc::GraphImage {
            graph: arg.graph,
            address: arg.address,
            length: arg.length,
        };
        Ok(self.call::<_, ()>(Function::GraphUpdate, &command)?)
    }

    /// `GRAPH_DESTROY`.
    pub(crate) fn graph_destroy(&self, arg: &ioctl::GraphDestroy) -> Result {
        if arg.flags != 0 {
            return Err(EINVAL);
        }
        let command = rpc::Graph { graph: arg.graph };
        Ok(self.call::<_, ()>(Function::GraphDestroy, &command)?)
    }
}
