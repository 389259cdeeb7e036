//! The last lines of the log, for whoever asks the collector itself: an operator who does not know where its standard error went.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The most that is kept: some thousand lines.
const KEPT_BYTES: usize = 256 * 1024;

/// The most of one line.
const LINE_BYTES: usize = 16 * 1024;

/// A process has one log.
static RECENT: Mutex<Recent> = Mutex::new(Recent {
    lines: VecDeque::new(),
    bytes: 0,
});

struct Recent {
    /// Each with its end of line.
    lines: VecDeque<String>,
    bytes: usize,
}

/// The last lines of this process's log, as they were written to standard error.
pub fn recent() -> String {
    let recent = lock();
    let mut text = String::with_capacity(recent.bytes);
    text.extend(recent.lines.iter().map(String::as_str));
    text
}

/// Keeps a line.
pub(super) fn keep(line: String) {
    lock().keep(line);
}

fn lock() -> MutexGuard<'static, Recent> {
    // Whoever has panicked with it in hand has left whole lines.
    RECENT.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Recent {
    fn keep(&mut self, mut line: String) {
        if line.len() > LINE_BYTES {
            line.truncate(line.floor_char_boundary(LINE_BYTES));
            line.push_str(" (cut off)\n");
        }
        line.shrink_to_fit();
        self.bytes += line.len();
        self.lines.push_back(line);
        while self.bytes > KEPT_BYTES
            && let Some(oldest) = self.lines.pop_front()
        {
            self.bytes -= oldest.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_lines_are_kept_and_their_bytes_are_bounded() {
        let mut recent = Recent {
            lines: VecDeque::new(),
            bytes: 0,
        };
        for number in 0..100_000 {
            recent.keep(format!("line {number}\n"));
        }
        let bytes: usize = recent.lines.iter().map(String::len).sum();
        assert_eq!(recent.bytes, bytes);
        assert!(bytes <= KEPT_BYTES && bytes > KEPT_BYTES - 20);
        assert_eq!(recent.lines.back().unwrap(), "line 99999\n");
        recent.keep("ä".repeat(KEPT_BYTES));
        let last = recent.lines.back().unwrap();
        assert!(last.len() < LINE_BYTES + 20 && last.ends_with("ä (cut off)\n"));
        assert!(recent.lines.len() > 1_000 && recent.bytes <= KEPT_BYTES);
    }
}
