// SPDX-License-Identifier: GPL-2.0

//! Loading the firmware. See `docs/hardware.md`, section 4.

use kernel::{
    device::{Bound, Device},
    dma::{Coherent, CoherentBox},
    firmware::Firmware,
    pci,
    prelude::*,
    str::CString,
};

use crate::{
    abi::{
        boot::{IMAGE_NAME, MAX_IMAGE},
        regs::{self, CardState},
        rpc::REGION_SIZE,
        status::Status,
    },
    regs::Registers,
};

/// Gives the card its firmware and starts it. Returns the RPC region, through which the firmware is
/// spoken to from now on.
pub(crate) fn boot(pdev: &pci::Device<Bound>, regs: &Registers) -> Result<Coherent<[u8]>> {
    let dev: &Device<Bound> = pdev.as_ref();
    let region = Coherent::<u8>::zeroed_slice(dev, REGION_SIZE, GFP_KERNEL)?;

    let name = CString::try_from_fmt(fmt!("{IMAGE_NAME}"))?;
    let firmware = Firmware::request(&name, pdev.as_ref()).inspect_err(|e| {
        dev_err!(
            pdev,
            "cannot load the firmware {IMAGE_NAME}: {e:?}; put the image into /lib/firmware/mlu and bind the driver again\n"
        );
    })?;
    let length = firmware.size();
    if length == 0 || length > MAX_IMAGE {
        dev_err!(
            pdev,
            "firmware {IMAGE_NAME} has {length} bytes, not 1 to {MAX_IMAGE}; build the image anew\n"
        );
        return Err(EINVAL);
    }
    let image: Coherent<[u8]> = CoherentBox::from_slice(dev, firmware.data(), GFP_KERNEL)?.into();

    regs.write64(regs::FW_ADDR_LO, regs::FW_ADDR_HI, image.dma_address());
    regs.write(regs::FW_LENGTH, length as u32);
    regs.write64(regs::RPC_ADDR_LO, regs::RPC_ADDR_HI, region.dma_address());
    regs.write(regs::BOOT, 1);

    match regs.state() {
        Some(CardState::Running) => Ok(region),
        state => {
            let code = regs.read(regs::BOOT_ERROR);
            match Status::from_raw(code) {
                Some(status) => dev_err!(
                    pdev,
                    "the card refused the firmware {IMAGE_NAME} ({length} bytes): {} ({})\n",
                    status.text(),
                    status.name()
                ),
                None => dev_err!(
                    pdev,
                    "the firmware {IMAGE_NAME} did not start: state {state:?}, boot error {code:#x}\n"
                ),
            }
            // The card must not read the image, or write the region, when they are freed.
            regs.reset();
            Err(EIO)
        }
    }
}
