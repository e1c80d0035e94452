//! Ending politely.

use std::io::{self, Read as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Says whether somebody asked this process to end: by Ctrl-C, by `kill`, or by closing the
/// terminal.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    asked: Arc<AtomicBool>,
    /// Readable from then on.
    #[allow(dead_code, reason = "who receives has something else to wait for")]
    word: Arc<UnixStream>,
}

impl Stop {
    /// From now on these signals set a flag, where they would have ended the process on the spot.
    pub(crate) fn on_signals() -> io::Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        let (word, tell) = UnixStream::pair()?;
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&asked))?;
            signal_hook::low_level::pipe::register(signal, tell.try_clone()?)?;
        }
        Ok(Self {
            asked,
            word: Arc::new(word),
        })
    }

    pub(crate) fn asked(&self) -> bool {
        // Relaxed: nothing else is passed along with the flag.
        self.asked.load(Ordering::Relaxed)
    }

    /// Lets time pass until then, or until somebody asks.
    #[allow(dead_code, reason = "who receives has something else to wait for")]
    pub(crate) fn pause_until(&self, then: Instant) -> io::Result<()> {
        while !self.asked() {
            let left = then.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.word.set_read_timeout(Some(left))?;
            // Asked, over and interrupted all mean "look again".
            let _ = (&*self.word).read(&mut [0]);
        }
        Ok(())
    }
}
