//! What stands for a peer and the network in the tests of `service`: the part of a relay that is below its receipts.

use std::fmt::Debug;
use std::pin::Pin;

use super::{DeliveryError, Ending};

/// What is awaited of a peer.
pub(crate) type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Leads to a peer.
pub(crate) trait Dial: Debug + Send + Sync {
    /// The peer's host and port.
    fn address(&self) -> String;

    /// A connection to it.
    fn connect(&self) -> Pending<'_, Result<Box<dyn Conversation>, DeliveryError>>;
}

/// One connection.
pub(crate) trait Conversation: Debug + Send + Sync {
    /// Sends bytes.
    fn write<'a>(&'a mut self, bytes: &'a [u8]) -> Pending<'a, Result<(), DeliveryError>>;

    /// Resolves when the peer ends or breaks the connection uninvited.
    fn broken(&mut self) -> Pending<'_, DeliveryError>;

    /// Ends the connection, and tells how the peer does.
    fn end(self: Box<Self>) -> Pending<'static, Result<Ending, DeliveryError>>;
}
