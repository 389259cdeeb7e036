//! One output's queue of messages: bounded, and nobody ever waits at its inlet.
//!
//! It keeps the oldest: the first messages of an outage say what has happened. Its second half is kept free for warnings and errors.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;
use tracing::Level;

use super::message::{Message, Missing};
use super::told::ToldTo;

/// The most messages that wait; with the bound on a message's text, some megabytes at the very most, and usually a third of one.
pub(super) const MESSAGES_MAX: usize = 1_000;

/// Where messages come in.
pub(super) struct Inlet {
    messages: mpsc::Sender<Arc<Message>>,
    dropped: Arc<AtomicU64>,
    told: ToldTo,
}

/// Where they go out.
pub(super) struct Outlet {
    messages: mpsc::Receiver<Arc<Message>>,
    dropped: Arc<AtomicU64>,
    let_go: u64,
    told: ToldTo,
}

/// An empty queue of an output, which has been `told` what hours came to.
pub(super) fn queue(told: ToldTo) -> (Inlet, Outlet) {
    let (sender, receiver) = mpsc::channel(MESSAGES_MAX);
    let dropped = Arc::new(AtomicU64::new(0));
    let inlet = Inlet {
        messages: sender,
        dropped: Arc::clone(&dropped),
        told: told.clone(),
    };
    let outlet = Outlet {
        messages: receiver,
        dropped,
        let_go: 0,
        told,
    };
    (inlet, outlet)
}

impl Inlet {
    /// Adds a message if there is room for one of its level, and counts it otherwise. Returns at once.
    pub(super) fn add(&self, message: &Arc<Message>) {
        let grave = message.level <= Level::WARN;
        let room = grave || self.messages.capacity() > MESSAGES_MAX / 2;
        // Before it may be delivered.
        { message.statement.iter() }.for_each(|statement| self.told.queued(statement));
        if !room || self.messages.try_send(Arc::clone(message)).is_err() {
            { message.statement.iter() }.for_each(|statement| self.told.let_go(statement));
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Outlet {
    /// The next message; waits for it. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<Arc<Message>> {
        self.messages.recv().await
    }

    /// The next message, if there is one already.
    pub(super) fn waiting(&mut self) -> Option<Arc<Message>> {
        self.messages.try_recv().ok()
    }

    /// Counts a message that is let go without a receipt; one that tells of others that are missing stands for these.
    pub(super) fn let_go(&mut self, message: &Message) {
        { message.statement.iter() }.for_each(|statement| self.told.let_go(statement));
        self.let_go += message.missing.total().max(1);
    }

    /// Takes note of a message whose receipt has come.
    pub(super) fn delivered(&self, message: &Message) {
        { message.statement.iter() }.for_each(|statement| self.told.delivered(statement));
    }

    /// How many messages were dropped or let go since this was last asked.
    pub(super) fn missing(&mut self) -> Missing {
        Missing {
            dropped: self.dropped.swap(0, Ordering::Relaxed),
            unconfirmed: std::mem::take(&mut self.let_go),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(level: Level, nth: usize) -> Arc<Message> {
        Arc::new(Message {
            time: chrono::Utc::now(),
            level,
            tag: "",
            content: nth.to_string(),
            missing: Missing::default(),
            statement: None,
        })
    }

    #[test]
    fn the_oldest_stay_and_half_of_the_room_is_for_what_is_grave() {
        let (inlet, mut outlet) = queue(ToldTo::default());
        for nth in 0..700 {
            inlet.add(&message(Level::INFO, nth));
        }
        assert_eq!(outlet.missing().dropped, 200);
        for nth in 700..1_300 {
            inlet.add(&message(Level::WARN, nth));
        }
        assert_eq!(outlet.missing().dropped, 100);
        assert_eq!(outlet.missing(), Missing::default());
        let mut kept: Vec<usize> = Vec::new();
        while let Some(message) = outlet.waiting() {
            kept.push(message.content.parse().unwrap());
        }
        let expected: Vec<usize> = (0..500).chain(700..1_200).collect();
        assert_eq!(kept, expected);
        inlet.add(&message(Level::DEBUG, 0));
        assert!(outlet.waiting().is_some() && outlet.missing().total() == 0);
    }

    #[test]
    fn what_is_let_go_is_counted_and_so_is_what_it_told_to_be_missing() {
        let (_inlet, mut outlet) = queue(ToldTo::default());
        outlet.let_go(&message(Level::INFO, 0));
        let mut telling = Message::clone(&message(Level::WARN, 1));
        telling.missing = Missing {
            dropped: 3,
            unconfirmed: 2,
        };
        outlet.let_go(&telling);
        let missing = outlet.missing();
        assert_eq!((missing.dropped, missing.unconfirmed), (0, 6));
        assert_eq!(outlet.missing(), Missing::default());
    }
}
