//! Any access of a guest is answered, and none of them stops the card.

use proptest::prelude::*;
use vmlu_abi::model::MLU370_X8;
use vmlu_abi::regs::CardState;
use vmlu_abi::{pci, regs};
use vmlu_device::card::{Card, Identity, ResetCause};
use vmlu_firmware::fabric::Fabric;

/// Offsets worth trying: near registers, borders, and anything.
fn offset() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0u64..0x100,
        1 => pci::MSIX_TABLE - 8..pci::MSIX_PBA + 0x20,
        2 => pci::KICK_BASE - 8..pci::KICK_BASE + 0x4000,
        1 => pci::BAR_REGS_SIZE - 16..pci::BAR_REGS_SIZE + 16,
        1 => pci::BAR_DOORBELL_SIZE - 16..pci::BAR_DOORBELL_SIZE + 16,
        1 => MLU370_X8.memory_bytes - 16..MLU370_X8.memory_bytes + 16,
        1 => u64::MAX - 16..=u64::MAX,
        1 => any::<u64>(),
    ]
}

fn card() -> std::sync::Arc<Card> {
    Card::new(Identity {
        number: 0,
        model: &MLU370_X8,
        chip: 0,
        serial: 0x5400_0000_0000_0001,
        inject: false,
        msix: true,
        served: vmlu_firmware::image::SERVED,
        fabric: Fabric::alone(&MLU370_X8, 0x5400_0000_0000_0001, 0).fabric,
        record: std::sync::Arc::default(),
    })
    .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn no_access_panics(
        accesses in proptest::collection::vec(
            (0usize..8, offset(), proptest::collection::vec(any::<u8>(), 0..24), any::<bool>()),
            0..200,
        ),
    ) {
        let card = card();
        for (bar, offset, mut data, write) in accesses {
            match (bar, write) {
                (7, true) => card.config_write(offset % 5000, &data),
                (7, false) => card.config_read(offset % 5000, &mut data),
                (_, true) => card.bar_write(bar, offset, &data),
                (_, false) => card.bar_read(bar, offset, &mut data),
            }
        }
        card.reset(ResetCause::Bus);
        prop_assert_eq!(card.state(), CardState::Ready);
        let mut id = [0; 4];
        card.bar_read(0, regs::ID, &mut id);
        prop_assert_eq!(u32::from_le_bytes(id), regs::ID_VALUE);
    }
}

#[test]
fn accesses_of_any_size_see_the_same_registers() {
    let card = card();
    let mut words = [0u8; 32];
    card.bar_read(0, 0, &mut words);
    for size in [1usize, 2, 3, 8] {
        for at in 0..32 - size {
            let mut part = vec![0; size];
            card.bar_read(0, at as u64, &mut part);
            assert_eq!(part, words[at..at + size]);
        }
    }
    card.bar_write(0, regs::SCRATCH, &[1, 2, 3, 4]);
    card.bar_write(0, regs::SCRATCH, &[9]);
    card.bar_write(0, regs::SCRATCH + 1, &[9, 9, 9, 9]);
    let mut scratch = [0; 4];
    card.bar_read(0, regs::SCRATCH, &mut scratch);
    assert_eq!(scratch, [1, 2, 3, 4], "registers take aligned words only");
    card.bar_write(0, regs::FW_ADDR_LO, &[1, 0, 0, 0, 2, 0, 0, 0]);
    let mut address = [0; 8];
    card.bar_read(0, regs::FW_ADDR_LO, &mut address);
    assert_eq!(
        u64::from_le_bytes(address),
        0x2_0000_0001,
        "a 64-bit access is two words"
    );
}

#[test]
fn memory_that_does_not_exist_reads_all_ones() {
    let card = card();
    let mut data = [0; 8];
    card.bar_read(pci::BAR_MEMORY, MLU370_X8.memory_bytes - 8, &mut data);
    assert_eq!(data, [0; 8]);
    card.bar_read(pci::BAR_MEMORY, MLU370_X8.memory_bytes - 4, &mut data);
    assert_eq!(data, [0xff; 8]);
    card.bar_write(pci::BAR_MEMORY, MLU370_X8.bar_memory_size() - 8, &data);
}
