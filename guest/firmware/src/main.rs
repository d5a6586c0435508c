//! `firmware-image FILE [DAMAGE]`: writes the firmware image that the driver loads; with DAMAGE, one that the card must refuse.

use std::process::ExitCode;

use vmlu_firmware::image;

/// Makes an image.
type Make = fn() -> Vec<u8>;

/// What can be wrong with an image (but for `before`, which is good), and how it gets so. Offsets: `docs/hardware.md`, the firmware image.
const DAMAGE: &[(&str, Make)] = &[
    ("magic", || flipped(0)),
    ("header-length", || flipped(8)),
    ("api", || image::build_with(*image::SERVED.end() + 1, b"")),
    ("ancient", || {
        image::build_with(*image::SERVED.start() - 1, b"")
    }),
    ("before", || image::build_with(*image::SERVED.start(), b"")),
    ("digest", || flipped(32)),
    ("payload", || flipped(image::build().len() - 1)),
    ("short", || image::build()[..100].to_vec()),
    ("truncated", || {
        let image = image::build();
        image[..image.len() - 1].to_vec()
    }),
    ("empty", Vec::new),
    ("huge", || {
        image::build_with(*image::SERVED.end(), &vec![0; 64 << 20])
    }),
];

fn flipped(at: usize) -> Vec<u8> {
    let mut image = image::build();
    image[at] ^= 0x40;
    image
}

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let (file, bytes) = match words.as_slice() {
        [file] => (file, Some(image::build())),
        [file, damage] => (
            file,
            DAMAGE
                .iter()
                .find(|(name, _)| name == damage)
                .map(|(_, make)| make()),
        ),
        _ => return usage(),
    };
    let Some(bytes) = bytes else { return usage() };
    match std::fs::write(file, bytes) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot write the firmware image {file}: {error}\n  next: name a file in a writable folder");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    let names: Vec<_> = DAMAGE.iter().map(|(name, _)| *name).collect();
    eprintln!(
        "usage: firmware-image FILE [DAMAGE]\nDAMAGE, for tests: {}",
        names.join(", ")
    );
    ExitCode::from(2)
}
