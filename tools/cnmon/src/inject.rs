//! `cnmon inject`: faults, where the server of the cards lets them be injected.

use vmlu::abi::rpc::{LinkAction, LinkControl};
use vmlu::abi::Wire;
use vmlu::transport::Transport;

use crate::cli::{Failure, Inject, LinkFault, LinkOptions};

/// Does what was asked; what came of it is shown by looking.
pub(crate) fn run(transport: &dyn Transport, inject: &Inject) -> Result<(), Failure> {
    let Inject::Link(options) = inject;
    transport
        .link_control(options.card, &control(options))
        .map_err(|error| Failure::refused(&error))
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
