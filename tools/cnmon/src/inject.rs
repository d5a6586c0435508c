//! `cnmon inject`: faults, where the server of the cards lets them be injected.

use vmlu::abi::rpc::{self, Fault, LinkAction, LinkControl};
use vmlu::abi::Wire;
use vmlu::transport::Transport;

use crate::cli::{Failure, Inject, LinkFault, LinkOptions};

/// Does what was asked; what came of it is shown by looking.
pub(crate) fn run(transport: &dyn Transport, inject: &Inject) -> Result<(), Failure> {
    let fault = |fault: Fault| rpc::Inject {
        fault: fault as u32,
        count: 1,
        ..rpc::Inject::zeroed()
    };
    let command = match inject {
        Inject::Link(options) => {
            let done = transport.link_control(options.card, &control(options));
            return done.map_err(|error| Failure::refused(&error));
        }
        Inject::Ecc(options) if options.uncorrectable => rpc::Inject {
            value: options.offset,
            ..fault(Fault::EccUncorrected)
        },
        Inject::Ecc(options) => rpc::Inject {
            value: options.count,
            skip: options.offset,
            opcode: 1,
            ..fault(Fault::EccCorrected)
        },
        Inject::Heat(options) => rpc::Inject {
            value: (options.degrees * 1000) as u64,
            count: u32::from(options.degrees != 0),
            ..fault(Fault::Heat)
        },
        Inject::Xid(options) => rpc::Inject {
            value: options.xid,
            ..fault(Fault::Xid)
        },
    };
    let done = transport.inject(inject.card(), &command);
    done.map_err(|error| Failure::refused(&error))
}

fn control(options: &LinkOptions) -> LinkControl {
    let action = match options.fault {
        LinkFault::Down => LinkAction::Down,
        LinkFault::Up => LinkAction::Up,
        LinkFault::Degrade => LinkAction::Degrade,
        LinkFault::Replay => LinkAction::Replay,
        LinkFault::Crc24 => LinkAction::Crc24,
        LinkFault::Crc32 => LinkAction::Crc32,
        LinkFault::Ecc => LinkAction::EccDouble,
        LinkFault::Corrected => LinkAction::Corrected,
        LinkFault::Uncorrected => LinkAction::Uncorrected,
        LinkFault::Illegal => LinkAction::Illegal,
    };
    LinkControl {
        port: options.port,
        action: action as u32,
        value: match options.fault {
            LinkFault::Degrade => u64::from(options.lanes),
            LinkFault::Down | LinkFault::Up => 0,
            _ => options.count,
        },
        ..LinkControl::zeroed()
    }
}
