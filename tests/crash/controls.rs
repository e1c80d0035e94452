//! Negative controls.
use crate::explore::Explorer;
use anyhow::Result;

/// A planted bug and what came of it.
pub(crate) struct Control {
    pub(crate) name: &'static str,
    /// How it was reported; `None` if it was not.
    pub(crate) caught: Option<String>,
}

pub(crate) fn run(_explorer: &mut Explorer) -> Result<Vec<Control>> {
    Ok(Vec::new())
}
