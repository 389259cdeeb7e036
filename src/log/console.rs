//! Standard error, behind a queue and a thread of its own: a reader that stops delays nothing but the log.
//!
//! Guarantees: [`Console::add`] never waits for the reader. The queue is bounded; lines that do not fit are dropped and counted, and the count is
//! logged once the reader has made room. [`Console::flush`] waits for the reader within bounds. A line that standard error refuses (a full disk)
//! counts as dropped too.
//!
//! `tracing-appender` has the same idea, and does not serve here: its queue is bounded in lines and not in bytes, it panics where the system gives
//! no thread, it does not tell what it has dropped, and at the end it prints to the same standard streams that block.

use std::collections::VecDeque;
use std::io::{ErrorKind, stderr};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::PollTimeout;

use crate::stream::write;

/// The most that waits for the reader: some thousand lines.
const QUEUE_MAX_BYTES: usize = 1024 * 1024;

/// After lines were dropped, new ones are queued again from here: the count is told once for each time that the reader stopped.
const QUEUE_RESUME_BYTES: usize = QUEUE_MAX_BYTES / 2;

/// How long a flush waits for a reader that takes nothing, and how long in all.
const FLUSH_STALLED: Duration = Duration::from_millis(250);
pub(crate) const FLUSH_MAX: Duration = Duration::from_millis(700);

/// A process has one standard error.
pub(super) static CONSOLE: Console = Console {
    queue: Mutex::new(Queue {
        lines: VecDeque::new(),
        bytes: 0,
        dropped: 0,
        writing: false,
        refusing: false,
        thread: Thread::None,
        written: 0,
        notice: None,
    }),
    changed: Condvar::new(),
};

pub(super) struct Console {
    queue: Mutex<Queue>,
    /// A line was added, or one was written.
    changed: Condvar,
}

/// Prints the line that tells how many lines were dropped.
type Notice = fn(u64) -> String;

struct Queue {
    /// Each with its end of line.
    lines: VecDeque<String>,
    bytes: usize,
    /// Lines that were dropped and not told of.
    dropped: u64,
    /// The thread has a line in hand.
    writing: bool,
    /// Standard error has refused the last line.
    refusing: bool,
    thread: Thread,
    /// How many lines have been written.
    written: u64,
    notice: Option<Notice>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Thread {
    /// Lines are written by those who add them.
    None,
    /// The same, as far as that takes no time; the rest is queued.
    Later,
    /// The system has refused the thread so far.
    Wanted,
    Running,
}

impl Console {
    /// From now on lines never wait for the reader: what standard error does not take at once is queued. `notice` prints how many were dropped.
    pub(super) fn start_queue(&self, notice: Notice) {
        let mut queue = self.lock();
        queue.notice = Some(notice);
        queue.thread = Thread::Later;
    }

    /// From now on a thread writes what is queued.
    pub(super) fn start_thread(&'static self) {
        let mut queue = self.lock();
        if queue.thread == Thread::Later {
            queue.thread = Thread::Wanted;
            self.try_start(&mut queue);
        }
    }

    /// Adds a line with its end.
    pub(super) fn add(&'static self, line: String) {
        let mut queue = self.lock();
        if queue.thread == Thread::None {
            drop(queue);
            // Where standard error is gone there is nobody left to tell.
            let _ = write(&stderr(), line.as_bytes(), PollTimeout::NONE);
            return;
        }
        queue.push(line);
        if queue.thread == Thread::Wanted {
            self.try_start(&mut queue);
        }
        if queue.thread != Thread::Running {
            queue.write_what_does_not_block();
        }
        drop(queue);
        self.changed.notify_all();
    }

    /// Waits until all lines are written, or the reader has stopped.
    pub(super) fn flush(&self) {
        let begun = Instant::now();
        let mut queue = self.lock();
        let (mut written, mut progress) = (queue.written, begun);
        while !queue.lines.is_empty() || queue.writing {
            if queue.written != written {
                (written, progress) = (queue.written, Instant::now());
            }
            if progress.elapsed() >= FLUSH_STALLED || begun.elapsed() >= FLUSH_MAX {
                return;
            }
            let waited = self.changed.wait_timeout(queue, FLUSH_STALLED / 10);
            (queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn try_start(&'static self, queue: &mut Queue) {
        let thread = thread::Builder::new().name("log".to_owned());
        if thread.spawn(|| self.run()).is_ok() {
            queue.thread = Thread::Running;
        }
    }

    /// What the thread does.
    fn run(&self) {
        let mut queue = self.lock();
        loop {
            let Some(line) = queue.next() else {
                let woken = self.changed.wait(queue);
                queue = woken.unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            queue.writing = true;
            drop(queue);
            let outcome = write(&stderr(), line.as_bytes(), PollTimeout::NONE);
            queue = self.lock();
            queue.writing = false;
            queue.note(outcome.is_ok());
            self.changed.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // No panic is possible while it is locked.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn push(&mut self, line: String) {
        let bound = if self.dropped > 0 && !self.refusing {
            QUEUE_RESUME_BYTES
        } else {
            QUEUE_MAX_BYTES
        };
        if !self.lines.is_empty() && self.bytes + line.len() > bound {
            self.dropped += 1;
            return;
        }
        self.tell_dropped();
        self.bytes += line.len();
        self.lines.push_back(line);
    }

    /// Queues the count of the lines that were dropped, once standard error takes lines.
    fn tell_dropped(&mut self) {
        if self.dropped > 0
            && !self.refusing
            && let Some(notice) = self.notice
        {
            let line = notice(std::mem::take(&mut self.dropped));
            self.bytes += line.len();
            self.lines.push_back(line);
        }
    }

    /// The next line to write.
    fn next(&mut self) -> Option<String> {
        if self.lines.is_empty() {
            self.tell_dropped();
        }
        let line = self.lines.pop_front()?;
        self.bytes -= line.len();
        Some(line)
    }

    fn note(&mut self, taken: bool) {
        self.refusing = !taken;
        if taken {
            self.written += 1;
        } else {
            self.dropped += 1;
        }
    }

    /// Without a thread: writes what standard error takes at once.
    fn write_what_does_not_block(&mut self) {
        while let Some(mut line) = self.next() {
            match write(&stderr(), line.as_bytes(), PollTimeout::ZERO) {
                Ok(()) => self.note(true),
                Err(error) if error.source.kind() == ErrorKind::WouldBlock => {
                    line.drain(..line.floor_char_boundary(error.written));
                    self.bytes += line.len();
                    self.lines.push_front(line);
                    return;
                }
                Err(_) => self.note(false),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> Queue {
        Queue {
            lines: VecDeque::new(),
            bytes: 0,
            dropped: 0,
            writing: false,
            refusing: false,
            thread: Thread::Running,
            written: 0,
            notice: Some(|dropped| format!("{dropped} missing\n")),
        }
    }

    /// Adds lines of 100 bytes until one is dropped; returns how many are queued.
    fn fill(queue: &mut Queue) -> usize {
        while queue.dropped == 0 {
            queue.push("x".repeat(100));
        }
        assert!(queue.bytes <= QUEUE_MAX_BYTES && queue.bytes > QUEUE_MAX_BYTES - 100);
        queue.lines.len()
    }

    /// The reader takes a line.
    fn take(queue: &mut Queue) -> Option<String> {
        let line = queue.next();
        queue.note(true);
        line
    }

    #[test]
    fn what_does_not_fit_is_counted_and_told_once_in_its_place() {
        let mut queue = queue();
        let queued = fill(&mut queue);
        for _ in 0..99 {
            queue.push("x".repeat(100));
        }
        // A little room is not enough: the count would be told again and again.
        take(&mut queue);
        queue.push("too early\n".to_owned());
        for _ in 1..queued * 2 / 3 {
            take(&mut queue);
        }
        queue.push("after\n".to_owned());
        let rest: Vec<_> = std::iter::from_fn(|| take(&mut queue)).collect();
        let told: Vec<_> = rest.iter().filter(|line| line.ends_with('\n')).collect();
        assert_eq!(told, ["101 missing\n", "after\n"]);
        assert_eq!(queue.bytes, 0);
    }

    #[test]
    fn the_count_is_told_though_no_line_follows() {
        let mut queue = queue();
        let queued = fill(&mut queue);
        for _ in 0..queued {
            take(&mut queue);
        }
        assert_eq!(take(&mut queue).unwrap(), "1 missing\n");
        assert_eq!(take(&mut queue), None);
    }

    #[test]
    fn lines_that_are_refused_are_told_of_once_one_is_taken() {
        let mut queue = queue();
        for _ in 0..3 {
            queue.push("lost\n".to_owned());
            assert_eq!(queue.next().unwrap(), "lost\n");
            queue.note(false);
            assert_eq!(queue.next(), None, "it would be refused too");
        }
        queue.push("taken\n".to_owned());
        assert_eq!(take(&mut queue).unwrap(), "taken\n");
        assert_eq!(take(&mut queue).unwrap(), "3 missing\n");
        assert_eq!(queue.next(), None);
    }
}
