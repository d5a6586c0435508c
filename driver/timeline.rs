// SPDX-License-Identifier: GPL-2.0

//! Timelines that contexts show each other. The firmware has the tokens, and knows which handles
//! are whose.

use kernel::prelude::*;

use crate::{
    abi::{
        ioctl,
        rpc::{self, Function},
    },
    context::Context,
};

impl Context {
    /// `TIMELINE_EXPORT`.
    pub(crate) fn timeline_export(&self, arg: &mut ioctl::TimelineExport) -> Result {
        if arg.flags != 0 {
            return Err(EINVAL);
        }
        let command = rpc::Timeline {
            timeline: self.queue(arg.queue)?.handle(),
        };
        arg.token = self.call(Function::TimelineExport, &command)?;
        Ok(())
    }

    /// `TIMELINE_IMPORT`.
    pub(crate) fn timeline_import(&self, arg: &mut ioctl::TimelineImport) -> Result {
        if arg.flags != 0 || arg.token.reserved != 0 {
            return Err(EINVAL);
        }
        let made: rpc::Timeline = self.call(Function::TimelineImport, &arg.token)?;
        arg.timeline = made.timeline;
        Ok(())
    }

    /// `TIMELINE_RELEASE`.
    pub(crate) fn timeline_release(&self, arg: &ioctl::TimelineRelease) -> Result {
        if arg.flags != 0 {
            return Err(EINVAL);
        }
        let command = rpc::Timeline {
            timeline: arg.timeline,
        };
        Ok(self.call::<_, ()>(Function::TimelineRelease, &command)?)
    }

    /// `TIMELINE_READ`.
    pub(crate) fn timeline_read(&self, arg: &mut ioctl::TimelineRead) -> Result {
        if arg.flags != 0 {
            return Err(EINVAL);
        }
        let command = rpc::Timeline {
            timeline: arg.timeline,
        };
        arg.state = self.call(Function::TimelineRead, &command)?;
        Ok(())
    }
}
