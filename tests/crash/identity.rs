//! Whether two segments are the same but for who takes part in them.
//!
//! Survivors who are to go on from an image come to where the victim's peers were by doing the same once more, in another
//! process and another segment. That they got there is seen by comparing the segments: all that may differ is what entries
//! of participants say for people.

use crate::image::changed_words;

/// Bytes of an entry: see `Entry` in the library's layout. Its second and third word are the process's start and id.
const ENTRY: usize = 128;
const START: usize = 8;
const PID_AND_ROLE: usize = 16;

/// What differs otherwise, if something does.
pub(crate) fn differs_in_more_than_identity(there: &[u8], here: &[u8]) -> Option<String> {
    if there.len() != here.len() {
        return Some(format!("{} bytes, not {}", here.len(), there.len()));
    }
    // Entries lie on lines of their own in the last but one region, where only they have words that differ by no more than this.
    let is_of_identity = |&(offset, there, here): &(usize, u64, u64)| match offset % ENTRY {
        START => there.abs_diff(here) < START_TICKS,
        PID_AND_ROLE => there >> 32 == here >> 32 && there as u32 != 0 && here as u32 != 0,
        _ => false,
    };
    let changes = changed_words(there, here);
    let difference = changes.iter().find(|change| !is_of_identity(change));
    difference.map(|(offset, there, here)| format!("{here:#x} at {offset:#x}, not {there:#x}"))
}

/// All processes of a run start within this time, in clock ticks.
const START_TICKS: u64 = 100 * 3600;
