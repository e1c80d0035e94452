//! What errors say.

use std::fmt::Display;

/// Checks that the text of an error has all of `words`.
///
/// # Panics
///
/// If one is missing.
pub fn says(error: impl Display, words: &[&str]) {
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "{word:?} is missing: {text}");
    }
}
