//! Ending politely.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Says whether somebody asked this process to end: by Ctrl-C, by `kill`, or by closing the
/// terminal.
#[derive(Clone, Debug)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// From now on these signals set a flag, where they would have ended the process on the spot.
    pub(crate) fn on_signals() -> io::Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&asked))?;
        }
        Ok(Self(asked))
    }

    pub(crate) fn asked(&self) -> bool {
        // Relaxed: nothing else is passed along with the flag.
        self.0.load(Ordering::Relaxed)
    }
}
