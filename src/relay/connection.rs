//! One connection to a relay, from the handshake to the receipt.
//!
//! The read half is watched all the time: whatever the peer ends by itself, before we have sent our end, leaves the delivery unconfirmed.
//! What counts as our end is `close_notify` where there is TLS. The connection drives its session itself rather than through a stream
//! adapter: to say `close_notify` without a half-close, and to tell the peer's `close_notify`, its end of stream and its reset apart.

use std::io::{self, IoSlice, Write};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::task::consume_budget;
use tokio::time::{Instant, timeout, timeout_at};

use super::dial::dial;
use super::error::DeliveryError;
use super::knowledge::Terms;
use super::limits::Limits;
use super::session::Session;
use super::socket;
use super::vigil::Vigil;
use super::{Ending, Receipt};

/// What the kernel may still hold unacknowledged when the peer's end of stream counts as a receipt: our FIN, which a peer that ends on
/// `close_notify` need not have seen.
const FIN: usize = 1;
/// How coarse the kernel's times are: ten milliseconds where its clock ticks a hundred times a second.
const TICK: Duration = Duration::from_millis(10);
/// The first look after TCP's acknowledgement of the last line; the later ones come at growing intervals.
const SETTLE_INTERVAL: Duration = Duration::from_millis(1);
/// The looks after TCP's acknowledgement, of which nothing tells us, while it is to stand in for a receipt.
const STAND_IN_INTERVAL: Duration = Duration::from_millis(10);
/// After a failed write: the time for the peer's reason (an alert) to be read, which came before the reset.
const REASON_WAIT: Duration = Duration::from_millis(100);

/// One connection to a relay.
#[derive(Debug)]
pub(super) struct Connection {
    socket: TcpStream,
    session: Session,
    /// Bytes that the kernel has taken, our FIN included.
    handed_over: u64,
    /// Those before the last byte of lines, if that went by itself.
    before_last: Option<u64>,
    end: Option<End>,
    half_closed: bool,
    limits: Limits,
}

/// Our end of the stream: `close_notify`, or FIN, or both.
#[derive(Debug)]
struct End {
    /// All of it had left by then.
    begun: Instant,
    bytes: u64,
    /// The peer's own end has begun to come, and was an answer to this.
    answered: bool,
}

/// How the peer has answered our end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) ending: Ending,
    /// It came only after a half-close of which `close_notify` should have been enough.
    pub(super) half_closed: bool,
}

impl Answer {
    /// The receipt that an answer is.
    pub(super) fn receipt_on(
        terms: &Terms,
    ) -> impl FnOnce(Answer) -> Result<Receipt, DeliveryError> {
        |Answer { ending, .. }| {
            terms.receipt(ending).ok_or(match ending {
                Ending::Reset => DeliveryError::Voided,
                _ => DeliveryError::Unsaid,
            })
        }
    }
}

/// How far the peer's side of the stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inbound {
    Open,
    /// `close_notify` has come.
    Closing,
    /// The end of the TCP stream has come.
    Ended,
}

impl Connection {
    /// Connects, and shakes hands if the session has to. `label` names the peer in errors.
    pub(super) async fn open(
        session: Session,
        (address, port): (&str, u16),
        label: &str,
        limits: Limits,
    ) -> Result<Self, DeliveryError> {
        let socket = dial(address, port, label, &limits).await?;
        let mut connection = Self {
            socket,
            session,
            handed_over: 0,
            before_last: None,
            end: None,
            half_closed: false,
            limits,
        };
        let after = limits.handshake;
        timeout(after, connection.handshake())
            .await
            .map_err(|_| DeliveryError::HandshakeTimeout { after })??;
        Ok(connection)
    }

    async fn handshake(&mut self) -> Result<(), DeliveryError> {
        while self.session.is_handshaking() || self.session.has_output() {
            self.flush().await?;
            if self.listen()? != Inbound::Open {
                return Err(DeliveryError::HandshakeEnded);
            }
            if self.session.is_handshaking() || self.session.has_output() {
                self.ready().await?;
            }
        }
        Ok(())
    }

    /// Writes all of `chunk` to the socket, where none will follow at once.
    ///
    /// Linux acknowledges what it was sent up to 40 ms late, if nothing is to be sent back; but at once where a program has read all there
    /// is, and two small segments have come since the last acknowledgement (`tcp_cleanup_rbuf`). So the last two bytes go by themselves. Which
    /// segments make a pair nobody can tell here: all of them do but perhaps the last one.
    pub(super) async fn write_last(&mut self, chunk: &[u8]) -> Result<(), DeliveryError> {
        let (most, end) = chunk.split_at(chunk.len().saturating_sub(2));
        self.write(most).await?;
        let (last_but_one, last) = end.split_at(end.len() / 2);
        self.write(last_but_one).await?;
        let before = self.handed_over;
        self.write(last).await?;
        self.before_last = Some(before);
        Ok(())
    }

    /// Writes all of `chunk` to the socket.
    pub(super) async fn write(&mut self, chunk: &[u8]) -> Result<(), DeliveryError> {
        self.before_last = None;
        let mut rest = chunk;
        let mut vigil = self.vigil()?;
        consume_budget().await;
        loop {
            self.expect_open()?;
            let taken = self.session.take(rest)?;
            rest = &rest[taken..];
            if !self.flush().await? {
                self.wait(&mut vigil, Vigil::interval(&self.limits)).await?;
            } else if rest.is_empty() {
                return Ok(());
            }
        }
    }

    /// Resolves when the peer ends or breaks the connection. Cancel safe.
    pub(super) async fn broken(&mut self) -> DeliveryError {
        loop {
            if let Err(error) = self.quiet_spell().await {
                return error;
            }
        }
    }

    /// Waits until something happens, or everything written has been acknowledged a while ago.
    async fn quiet_spell(&mut self) -> Result<(), DeliveryError> {
        let mut vigil = self.vigil()?;
        loop {
            self.expect_open()?;
            // Nothing of the service's is left, but TLS may have something to answer.
            self.flush().await?;
            self.wait(&mut vigil, Vigil::interval(&self.limits)).await?;
            if socket::unacknowledged(&self.socket).map_err(broken)? == 0 {
                return Ok(());
            }
        }
    }

    /// Says our end and waits for the peer's.
    pub(super) async fn finish(mut self, terms: &Terms) -> Result<Answer, DeliveryError> {
        self.say_end(terms.half_close).await?;
        let stand_in = (terms.weakest == Ending::Silent).then_some(self.limits.stand_in);
        let ending = self.answer(stand_in).await?;
        Ok(Answer {
            ending,
            half_closed: false,
        })
    }

    /// Says our end, with nothing written before, and sees what the peer does: for `patience`, and then a little longer after a half-close.
    pub(super) async fn probe(mut self, patience: Duration) -> Result<Answer, DeliveryError> {
        let patience = patience.min(self.limits.probe);
        self.say_end(false).await?;
        let answered = timeout(patience, self.answer(None)).await;
        let half_closed = answered.is_err() && !self.half_closed;
        let answered = match answered {
            Err(_) if half_closed => {
                self.half_close().await?;
                timeout(self.limits.half_close, self.answer(None)).await
            }
            answered => answered,
        };
        let ending = match (answered, self.outstanding()?) {
            (Ok(ending), _) => ending?,
            (Err(_), 0) => Ending::Silent,
            (Err(_), outstanding) => {
                let after = patience;
                return Err(DeliveryError::Dead { after, outstanding });
            }
        };
        Ok(Answer {
            ending,
            half_closed,
        })
    }

    /// Waits until the peer's TCP has acknowledged everything, but for a last byte that went by itself: that one leaves as if it were a part
    /// of our end, and all that is asked of an answer to our end is asked of one to it.
    ///
    /// Were the stream ended before that, a peer that ends by itself at the same moment, and discards what it still gets, could have
    /// acknowledged all of it by the time that its own end is looked at: its end would pass for a receipt.
    async fn settle(&mut self) -> Result<(), DeliveryError> {
        let mut vigil = self.vigil()?;
        let mut interval = SETTLE_INTERVAL;
        loop {
            // In this order: an end that was sent before the last acknowledgement has come before it.
            let acknowledged = self.acknowledged()?;
            self.expect_open()?;
            if acknowledged >= self.before_last.unwrap_or(self.handed_over) {
                return Ok(());
            }
            self.wait(&mut vigil, interval).await?;
            // So that at most a quarter of the time is waited in vain.
            interval = (interval * 5 / 4).min(Vigil::interval(&self.limits));
        }
    }

    /// Says `close_notify`, or half-closes where there is none, if the peer has not ended the stream before; `both` if asked to.
    ///
    /// Both go in one segment then: a peer that ends on `close_notify` could else do so before we have half-closed.
    async fn say_end(&mut self, both: bool) -> Result<(), DeliveryError> {
        self.settle().await?;
        let half_close = both || !self.session.has_close_notify();
        if half_close {
            SockRef::from(&self.socket)
                .set_tcp_cork(true)
                .map_err(broken)?;
        }
        // In this order: what the peer sent before was sent before ours arrived.
        self.expect_not_ended().await?;
        let mut vigil = self.vigil()?;
        let before = self.handed_over;
        self.session.close();
        while !self.flush().await? {
            self.wait(&mut vigil, Vigil::interval(&self.limits)).await?;
            self.expect_open()?;
        }
        if half_close {
            self.expect_not_ended().await?;
            self.half_close().await?;
        }
        self.end = Some(End {
            // Not before it: this process may have had no processor until it was sent, while the peer ended by itself.
            begun: Instant::now(),
            bytes: self.handed_over - before,
            answered: false,
        });
        if half_close {
            // Between the look before and the half-close, the peer's end could have come.
            self.expect_not_ended().await?;
        }
        Ok(())
    }

    async fn half_close(&mut self) -> Result<(), DeliveryError> {
        if let Err(source) = self.socket.shutdown().await {
            return Err(self.reason(source).await);
        }
        self.half_closed = true;
        self.handed_over += FIN as u64;
        Ok(())
    }

    /// Asks the kernel who ended the stream first: the runtime may not have noticed yet.
    async fn expect_not_ended(&mut self) -> Result<(), DeliveryError> {
        let condition = socket::condition(&self.socket).map_err(broken)?;
        if condition.ended_by_peer {
            return Err(self.reason_of_end().await);
        }
        Ok(())
    }

    /// Waits for the peer's end; or, if so asked, for its TCP to have everything and nothing to follow for a while. Cancel safe.
    async fn answer(&mut self, stand_in: Option<Duration>) -> Result<Ending, DeliveryError> {
        let mut vigil = self.vigil()?;
        let interval = stand_in.map_or(Vigil::interval(&self.limits), |_| STAND_IN_INTERVAL);
        let mut acknowledged = None;
        loop {
            match self.listen_for_answer() {
                Ok(Inbound::Open) => {}
                Ok(Inbound::Closing) => return self.after_close_notify().await,
                Ok(Inbound::Ended) => return self.end_of_stream(),
                // Both have come at once.
                Err(DeliveryError::Broken { .. }) if self.session.peer_closed() => {
                    return Ok(Ending::Reset);
                }
                Err(error) => return Err(error),
            }
            if let Some(time) = stand_in {
                if acknowledged.is_none() && self.outstanding()? == 0 {
                    acknowledged = Some(Instant::now());
                }
                if acknowledged.is_some_and(|at| at.elapsed() >= time) {
                    self.expect_no_reset()?;
                    return Ok(Ending::Silent);
                }
            }
            self.wait(&mut vigil, interval).await?;
        }
    }

    /// Waits for the end of stream or the reset behind the peer's `close_notify`. We half-close too: some peers wait for that.
    async fn after_close_notify(&mut self) -> Result<Ending, DeliveryError> {
        let until = Instant::now() + self.limits.after_close_notify;
        if !self.half_closed && self.half_close().await.is_err() {
            return Ok(Ending::Reset);
        }
        loop {
            match self.listen() {
                Ok(Inbound::Ended) => return self.end_of_stream(),
                Ok(_) => {}
                Err(DeliveryError::Broken { .. }) => return Ok(Ending::Reset),
                Err(error) => return Err(error),
            }
            // What has become ready, the next look shows.
            if timeout_at(until, self.ready()).await.is_err() {
                return Ok(Ending::Read);
            }
        }
    }

    /// Takes in what the peer has sent since our end. Its own end, as soon as any of it has come, has to be an answer to ours.
    fn listen_for_answer(&mut self) -> Result<Inbound, DeliveryError> {
        let inbound = self.listen()?;
        if inbound != Inbound::Open
            && let Some(end) = self.end.as_ref().filter(|end| !end.answered)
        {
            self.expect_answer(end)?;
            if let Some(end) = &mut self.end {
                end.answered = true;
            }
        }
        Ok(inbound)
    }

    /// Whether the peer's end, which has begun to come, can have been sent after ours had arrived.
    ///
    /// A peer may say `close_notify` by itself, and FIN only when it has ours: so the first of both decides. And this process may have had
    /// no processor for a while, in which ours has been acknowledged: but no answer comes sooner than a packet goes there and back.
    fn expect_answer(&self, end: &End) -> Result<(), DeliveryError> {
        self.expect_acknowledged()?;
        let condition = socket::condition(&self.socket).map_err(broken)?;
        // When a bare FIN came is not known, only that it has.
        let came_ago = if self.session.peer_closed() {
            condition.since_data
        } else {
            Duration::ZERO
        };
        let came_after = end.begun.elapsed().saturating_sub(came_ago);
        if came_after + TICK < condition.round_trip {
            let outstanding = usize::try_from(end.bytes).unwrap_or(usize::MAX);
            return Err(DeliveryError::Crossed { outstanding });
        }
        Ok(())
    }

    /// What the end of stream means that has just been read.
    fn end_of_stream(&self) -> Result<Ending, DeliveryError> {
        // The end of stream can be read though a reset came after it, while we did not look.
        let reset = self.expect_no_reset();
        if self.session.peer_closed() {
            return Ok(reset.map_or(Ending::Reset, |()| Ending::Read));
        }
        reset?;
        self.expect_acknowledged()?;
        Ok(Ending::Ended)
    }

    /// Our FIN may be under way: a peer that ends on `close_notify` need not have seen it.
    fn expect_acknowledged(&self) -> Result<(), DeliveryError> {
        let outstanding = self.outstanding()?;
        let fin = if self.half_closed { FIN } else { 0 };
        if outstanding > fin {
            return Err(DeliveryError::Crossed { outstanding });
        }
        Ok(())
    }

    fn expect_no_reset(&self) -> Result<(), DeliveryError> {
        match self.socket.take_error() {
            Ok(None) => Ok(()),
            Ok(Some(source)) | Err(source) => Err(broken(source)),
        }
    }

    fn expect_open(&mut self) -> Result<(), DeliveryError> {
        match self.listen()? {
            Inbound::Open => Ok(()),
            Inbound::Closing | Inbound::Ended => Err(DeliveryError::Ended),
        }
    }

    /// Takes in what the peer has sent.
    fn listen(&mut self) -> Result<Inbound, DeliveryError> {
        let mut buffer = [0; 4096];
        loop {
            match self.socket.try_read(&mut buffer) {
                Ok(0) => return Ok(Inbound::Ended),
                Ok(length) => {
                    if let Err(error) = self.session.receive(&buffer[..length]) {
                        // Our alert, if there is one: the relay's operator may look for it too.
                        let _ = self.session.write_to(&mut Outgoing(&self.socket));
                        return Err(error);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(if self.session.peer_closed() {
                        Inbound::Closing
                    } else {
                        Inbound::Open
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(broken(error)),
            }
        }
    }

    /// Gives the socket what it takes; whether that was all.
    async fn flush(&mut self) -> Result<bool, DeliveryError> {
        while self.session.has_output() {
            match self.session.write_to(&mut Outgoing(&self.socket)) {
                Ok(written) => self.handed_over += written as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.reason(error).await),
            }
        }
        Ok(true)
    }

    /// The peer's own reason for the reset that made a write fail, if it gave one.
    async fn reason(&mut self, error: io::Error) -> DeliveryError {
        match self.reason_of_end().await {
            DeliveryError::Ended | DeliveryError::Broken { .. } => broken(error),
            reason => reason,
        }
    }

    /// The peer's reason for an end that we did not begin.
    async fn reason_of_end(&mut self) -> DeliveryError {
        // Readable it is, but the runtime has to notice.
        let _ = timeout(REASON_WAIT, self.socket.readable()).await;
        self.listen().err().unwrap_or(DeliveryError::Ended)
    }

    /// Waits until the socket can be read, or written to if something waits for it; looks after the peer if neither is for long.
    async fn wait(&mut self, vigil: &mut Vigil, interval: Duration) -> Result<(), DeliveryError> {
        if let Ok(ready) = timeout(interval, self.ready()).await {
            return ready;
        }
        let outstanding = self.outstanding()?;
        let condition = socket::condition(&self.socket).map_err(broken)?;
        let acknowledged = self.handed_over.saturating_sub(outstanding as u64);
        vigil.note(
            acknowledged,
            outstanding,
            &condition,
            Instant::now(),
            &self.limits,
        )
    }

    async fn ready(&self) -> Result<(), DeliveryError> {
        let interest = if self.session.has_output() {
            Interest::READABLE | Interest::WRITABLE
        } else {
            Interest::READABLE
        };
        self.socket.ready(interest).await.map(drop).map_err(broken)
    }

    fn vigil(&self) -> Result<Vigil, DeliveryError> {
        Ok(Vigil::start(self.acknowledged()?, Instant::now()))
    }

    /// Bytes that the peer's TCP has acknowledged.
    fn acknowledged(&self) -> Result<u64, DeliveryError> {
        Ok(self.handed_over.saturating_sub(self.outstanding()? as u64))
    }

    fn outstanding(&self) -> Result<usize, DeliveryError> {
        socket::unacknowledged(&self.socket).map_err(broken)
    }
}

fn broken(source: io::Error) -> DeliveryError {
    DeliveryError::Broken { source }
}

/// The socket as a writer that never waits.
struct Outgoing<'a>(&'a TcpStream);

impl Write for Outgoing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let send = || SockRef::from(self.0).send_vectored_with_flags(slices, libc::MSG_EOR);
        self.0.try_io(Interest::WRITABLE, send)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
