//! What a board keeps over restarts of the server: a JSON file in the state folder.

use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::{bail, ensure, Context, Result};
use rustix::rand::{getrandom, GetRandomFlags};
use serde::{Deserialize, Serialize};
use vmlu_abi::model::CardModel;
use vmlu_abi::setting::MAX_RETIRED;
use vmlu_firmware::record::{Kept, Record, Retired};

use crate::lock::lock;

/// Name of the file.
const FILE: &str = "boards.json";
/// Version of its form.
const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct State {
    version: u32,
    boards: Vec<Board>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Board {
    /// Product name.
    model: String,
    /// Serial number, hexadecimal.
    serial: String,
    /// What its chips remember, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    chips: Vec<Chip>,
}

/// What a chip remembers over power-off.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Chip {
    /// Whether ECC is on.
    ecc: bool,
    /// Correctable memory errors.
    corrected: u64,
    /// Uncorrectable memory errors.
    uncorrected: u64,
    /// Pages that are out of use.
    retired: Vec<Page>,
}

/// A page of device memory that is out of use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Page {
    /// Offset, bytes.
    offset: u64,
    /// Whether an uncorrectable error did it.
    uncorrected: bool,
    /// Whether it waits for a reset.
    pending: bool,
}

impl From<&Kept> for Chip {
    fn from(kept: &Kept) -> Self {
        let page = |page: &Retired| Page {
            offset: page.offset,
            uncorrected: page.uncorrected,
            pending: page.pending,
        };
        Self {
            ecc: kept.ecc,
            corrected: kept.corrected,
            uncorrected: kept.uncorrected,
            retired: kept.retired.iter().map(page).collect(),
        }
    }
}

impl From<&Chip> for Kept {
    fn from(chip: &Chip) -> Self {
        let page = |page: &Page| Retired {
            offset: page.offset,
            uncorrected: page.uncorrected,
            pending: page.pending,
        };
        Self {
            ecc: chip.ecc,
            corrected: chip.corrected,
            uncorrected: chip.uncorrected,
            retired: chip.retired.iter().map(page).take(MAX_RETIRED).collect(),
        }
    }
}

/// The serial numbers of the first `boards` boards: those that are wanted, else those that were kept, else new ones. They are kept.
pub fn serials(folder: &Path, model: &CardModel, boards: u32, wanted: &[u64]) -> Result<Vec<u64>> {
    if wanted.len() > boards as usize {
        bail!(
            "use {} serial numbers: there are {boards} boards",
            wanted.len()
        );
    }
    std::fs::create_dir_all(folder)
        .with_context(|| format!("make the state folder {}", folder.display()))?;
    let path = folder.join(FILE);
    let mut state = load(&path)?;
    let mut serials = Vec::new();
    for board in 0..boards as usize {
        let kept = state.boards.get(board).filter(|b| b.model == model.name);
        let serial = match (wanted.get(board), kept) {
            (Some(serial), _) => super::check_serial(model, *serial)?,
            (None, Some(kept)) => u64::from_str_radix(&kept.serial, 16)
                .map_err(anyhow::Error::from)
                .and_then(|serial| super::check_serial(model, serial))
                .with_context(|| {
                    format!(
                        "read the serial number of board {board} in {}; correct or remove the file",
                        path.display()
                    )
                })?,
            (None, None) => new_serial(model)?,
        };
        let entry = Board {
            model: model.name.into(),
            serial: format!("{serial:016x}"),
            chips: Vec::new(),
        };
        match state.boards.get_mut(board) {
            // The same board: its chips remember what they did.
            Some(old) if old.model == entry.model && old.serial == entry.serial => {}
            Some(old) => *old = entry,
            None => state.boards.push(entry),
        }
        ensure!(
            !serials.contains(&serial),
            "two boards would have the serial number {serial:016x}; give each its own"
        );
        serials.push(serial);
    }
    save(&path, &state)?;
    Ok(serials)
}

/// What `chips` chips remember, of the boards that [`serials`] gave. It is written to the file whenever it changes.
pub fn records(folder: &Path, model: &CardModel, chips: u32) -> Result<Vec<Arc<Record>>> {
    let path = folder.join(FILE);
    let state = load(&path)?;
    // One change of the file at a time.
    let writing = Arc::new(Mutex::new(()));
    let places = (0..chips).map(|number| {
        let (board, chip) = (
            (number / model.chips_per_board) as usize,
            (number % model.chips_per_board) as usize,
        );
        let known = state.boards.get(board).and_then(|b| b.chips.get(chip));
        let (path, writing) = (path.clone(), writing.clone());
        let save = move |kept: &Kept| {
            let _one = lock(&writing);
            if let Err(error) = remember(&path, board, chip, kept) {
                tracing::warn!("the state of board {board} is not kept: {error:#}");
            }
        };
        let kept = known.map(Kept::from).unwrap_or_default();
        Arc::new(Record::new(kept, Some(Box::new(save))))
    });
    Ok(places.collect())
}

fn remember(path: &Path, board: usize, chip: usize, kept: &Kept) -> Result<()> {
    let mut state = load(path)?;
    let entry = state
        .boards
        .get_mut(board)
        .with_context(|| format!("find board {board} in {}", path.display()))?;
    if entry.chips.len() <= chip {
        entry.chips.resize_with(chip + 1, Chip::default);
    }
    entry.chips[chip] = kept.into();
    save(path, &state)
}

fn load(path: &Path) -> Result<State> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(State {
                version: VERSION,
                boards: Vec::new(),
            });
        }
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    };
    let state: State = serde_json::from_str(&text).with_context(|| {
        format!(
            "read {}: it is damaged; correct it, or remove it to get new boards",
            path.display()
        )
    })?;
    ensure!(
        state.version == VERSION,
        "read {}: it has version {}, this server writes {VERSION}; remove it to get new boards",
        path.display(),
        state.version,
    );
    Ok(state)
}

/// Replaces the file as a whole, so that a crash leaves the old or the new one.
fn save(path: &Path, state: &State) -> Result<()> {
    let new = path.with_extension("json.new");
    let write = || -> Result<()> {
        std::fs::write(&new, serde_json::to_string_pretty(state)? + "\n")?;
        Ok(std::fs::rename(&new, path)?)
    };
    write().with_context(|| format!("write {}", path.display()))
}

/// Serial numbers for `boards` boards that keep nothing: those that are wanted, then new ones.
pub fn fresh_serials(model: &CardModel, boards: u32, wanted: &[u64]) -> Result<Vec<u64>> {
    (0..boards as usize)
        .map(|board| match wanted.get(board) {
            Some(serial) => super::check_serial(model, *serial),
            None => new_serial(model),
        })
        .collect()
}

fn new_serial(model: &CardModel) -> Result<u64> {
    let mut random = [0u8; 8];
    // Six bytes are never given in part, and come at once on a machine that is up.
    getrandom(&mut random[..6], GetRandomFlags::empty()).context("draw a serial number")?;
    Ok(u64::from(model.board_id) << 56 | u64::from_le_bytes(random))
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmlu_abi::model::MLU370_X8;

    #[test]
    fn boards_keep_their_serial_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let first = serials(folder.path(), &MLU370_X8, 2, &[]).unwrap();
        assert!(first.iter().all(|s| s >> 56 == 0x54) && first[0] != first[1]);
        assert_eq!(
            serials(folder.path(), &MLU370_X8, 1, &[]).unwrap(),
            first[..1]
        );
        assert_eq!(serials(folder.path(), &MLU370_X8, 2, &[]).unwrap(), first);
        let wanted = [0x5400_0000_0000_0042];
        assert_eq!(
            serials(folder.path(), &MLU370_X8, 2, &wanted).unwrap(),
            [wanted[0], first[1]]
        );
    }

    #[test]
    fn what_cannot_be_is_refused_with_a_reason() {
        let folder = tempfile::tempdir().unwrap();
        let refuse = |boards, wanted: &[u64]| {
            serials(folder.path(), &MLU370_X8, boards, wanted)
                .unwrap_err()
                .to_string()
        };
        assert!(refuse(1, &[0x5300_0000_0000_0042]).contains("begins with 54"));
        assert!(refuse(1, &[0x5400_0000_0000_0001, 0x5400_0000_0000_0002]).contains("1 boards"));
        assert!(refuse(2, &[0x5400_0000_0000_0001; 2]).contains("each its own"));
        std::fs::write(folder.path().join(FILE), "{").unwrap();
        assert!(refuse(1, &[]).contains("damaged"));
    }

    #[test]
    fn chips_remember_their_errors() {
        let folder = tempfile::tempdir().unwrap();
        let given = serials(folder.path(), &MLU370_X8, 2, &[]).unwrap();
        let chips = records(folder.path(), &MLU370_X8, 4).unwrap();
        chips[3].uncorrected(Some(5 << 20));
        chips[3].corrected(2, None);
        chips[0].set_ecc(true);
        let again = records(folder.path(), &MLU370_X8, 4).unwrap();
        for (before, after) in chips.iter().zip(&again) {
            assert_eq!(before.kept(), after.kept());
        }
        assert!(again[0].kept().ecc && again[3].kept().retired[0].pending);
        // The same boards in the next run, and another board in the place of the second.
        assert_eq!(serials(folder.path(), &MLU370_X8, 2, &[]).unwrap(), given);
        let other = [given[0], given[1] ^ 1];
        serials(folder.path(), &MLU370_X8, 2, &other).unwrap();
        let last = records(folder.path(), &MLU370_X8, 4).unwrap();
        assert_eq!(last[0].kept(), again[0].kept());
        assert_eq!(last[3].kept(), Kept::default());
    }
}
