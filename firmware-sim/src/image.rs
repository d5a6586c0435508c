//! The firmware image: how it is built, and how the card checks it.

use std::ops::RangeInclusive;

use sha2::{Digest, Sha256};
use vmlu_abi::boot::{ImageHeader, API_VERSION, MAGIC, MAX_IMAGE, OLDEST_API};
use vmlu_abi::model::{CardModel, MODELS};
use vmlu_abi::{Status, Wire};

/// The interface versions that this firmware serves: the present one and the one before.
pub const SERVED: RangeInclusive<u32> = OLDEST_API..=API_VERSION;

/// Makes the image that goes with this build: its payload lists the operators that the firmware runs, one a line.
pub fn build() -> Vec<u8> {
    let mut payload = format!("virtual MLU firmware {}\n", env!("CARGO_PKG_VERSION"));
    for kernel in crate::kernels::KERNELS {
        payload.push_str(&format!("{:#06x} {}\n", kernel.opcode, kernel.name));
    }
    build_with(API_VERSION, payload.as_bytes())
}

/// Makes an image of a given interface version around a payload.
pub fn build_with(api_version: u32, payload: &[u8]) -> Vec<u8> {
    let mut header = ImageHeader::zeroed();
    header.magic = MAGIC;
    header.header_length = size_of::<ImageHeader>() as u32;
    header.api_version = api_version;
    header.payload_length = payload.len() as u64;
    let version = MODELS[0].firmware.as_bytes();
    header.version[..version.len()].copy_from_slice(version);
    for (slot, model) in header.models.iter_mut().zip(MODELS) {
        *slot = model.id;
    }
    header.digest = digest(&header, payload);
    [header.as_bytes(), payload].concat()
}

fn digest(header: &ImageHeader, payload: &[u8]) -> [u8; 32] {
    let blank = ImageHeader {
        digest: [0; 32],
        ..*header
    };
    Sha256::new()
        .chain_update(blank.as_bytes())
        .chain_update(payload)
        .finalize()
        .into()
}

/// Checks an image for a card that takes images of interfaces; the header of a good one.
pub fn check(
    image: &[u8],
    model: &CardModel,
    served: &RangeInclusive<u32>,
) -> Result<ImageHeader, Status> {
    let header = ImageHeader::read_from(image)
        .filter(|_| image.len() <= MAX_IMAGE)
        .ok_or(Status::ImageLength)?;
    if header.magic != MAGIC {
        return Err(Status::ImageMagic);
    }
    let payload = &image[size_of::<ImageHeader>()..];
    if header.header_length as usize != size_of::<ImageHeader>()
        || header.payload_length != payload.len() as u64
    {
        return Err(Status::ImageLength);
    }
    if header.digest != digest(&header, payload) {
        return Err(Status::ImageDigest);
    }
    if !served.contains(&header.api_version) || header.features != 0 {
        return Err(Status::ImageVersion);
    }
    if header.reserved != [0; 32] {
        return Err(Status::ReservedNotZero);
    }
    if !header.models.contains(&model.id) {
        return Err(Status::ImageModel);
    }
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmlu_abi::model::MLU370_X8;

    #[test]
    fn a_good_image_passes_and_each_damage_is_named() {
        let good = build();
        assert!(check(&good, &MLU370_X8, &SERVED).is_ok());
        let damaged = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut image = good.clone();
            change(&mut image);
            check(&image, &MLU370_X8, &SERVED).unwrap_err()
        };
        assert_eq!(damaged(&|i| i[0] ^= 1), Status::ImageMagic);
        assert_eq!(damaged(&|i| i.truncate(100)), Status::ImageLength);
        assert_eq!(damaged(&|i| i.truncate(i.len() - 1)), Status::ImageLength);
        assert_eq!(damaged(&|i| i.push(0)), Status::ImageLength);
        assert_eq!(
            damaged(&|i| *i.last_mut().unwrap() ^= 1),
            Status::ImageDigest
        );
        assert_eq!(damaged(&|i| i[40] ^= 1), Status::ImageDigest);
        assert_eq!(damaged(&|i| i[12] ^= 1), Status::ImageDigest);
        assert_eq!(check(&[], &MLU370_X8, &SERVED), Err(Status::ImageLength));
        for api in 0..=API_VERSION + 7 {
            let checked = check(&build_with(api, b"x"), &MLU370_X8, &SERVED);
            match api == API_VERSION || api == API_VERSION - 1 {
                true => assert_eq!(checked.map(|header| header.api_version), Ok(api)),
                false => assert_eq!(checked, Err(Status::ImageVersion)),
            }
        }
        assert!(check(&good, &MLU370_X8, &(0..=API_VERSION - 1)).is_err());
        assert_eq!(
            check(&vec![0; MAX_IMAGE + 1], &MLU370_X8, &SERVED),
            Err(Status::ImageLength)
        );
    }
}
