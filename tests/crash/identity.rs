//! Whether two segments are the same but for who takes part in them.
//!
//! Survivors who are to go on from an image come to where the victim's peers were by doing the same once more, in another
//! process and another segment. That they got there is seen by comparing the segments: all that may differ is what entries
//! of participants say for people.

use crate::image::changed_words;

/// Where the header says that the entries of participants begin, and what follows them: see the library's layout.
const PARTICIPANTS_OFFSET: usize = 80;
const RECEIVERS_OFFSET: usize = 88;

/// Bytes of an entry. Its second and third word are the process's start and id.
const ENTRY: u64 = 128;
const START: u64 = 8;
const PID_AND_ROLE: u64 = 16;

/// What differs otherwise, if something does.
pub(crate) fn differs_in_more_than_identity(there: &[u8], here: &[u8]) -> Option<String> {
    if there.len() != here.len() {
        return Some(format!("{} bytes, not {}", here.len(), there.len()));
    }
    let entries = word(there, PARTICIPANTS_OFFSET)..word(there, RECEIVERS_OFFSET);
    let is_of_identity = |&(offset, there, here): &(usize, u64, u64)| {
        let in_entry = offset as u64 % ENTRY;
        entries.contains(&(offset as u64))
            && match in_entry {
                START => there.abs_diff(here) < START_TICKS,
                PID_AND_ROLE => there >> 32 == here >> 32 && there as u32 != 0 && here as u32 != 0,
                _ => false,
            }
    };
    let changes = changed_words(there, here);
    let difference = changes.iter().find(|change| !is_of_identity(change));
    difference.map(|(offset, there, here)| format!("{here:#x} at {offset:#x}, not {there:#x}"))
}

fn word(bytes: &[u8], offset: usize) -> u64 {
    let word = bytes[offset..].first_chunk();
    u64::from_ne_bytes(*word.expect("a segment has a header"))
}

/// All processes of a run start within this time, in clock ticks.
const START_TICKS: u64 = 100 * 3600;
