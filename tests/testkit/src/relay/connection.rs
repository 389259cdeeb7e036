//! One connection of a relay, from the handshake to its end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::behaviour::Behaviour;
use super::opening::Opening;
use super::reading::End;
use super::unpacking::Unpacking;
use super::wire::Wire;
use crate::socket::Handle;
use crate::sync::lock;

/// A client that neither speaks nor closes is given up after this.
const PATIENCE: Duration = Duration::from_mins(10);
/// How long an orderly end discards what still comes.
const DISCARD: Duration = Duration::from_secs(2);
/// A fatal alert, `handshake_failure`, in a record of TLS 1.2.
const ALERT: [u8; 7] = [0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x28];

/// Serves one connection as the relay was told.
pub(super) async fn serve(stream: TcpStream, acceptor: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let rebuff = shared.rebuff();
    let close = lock(&shared.close).clone();
    let begin =
        |behaviour: &Behaviour, messages| lock(&shared.reading).begin(behaviour.clone(), messages);
    let mut tail = Vec::new();
    let greeted = match Handle::of(stream) {
        Err(error) => Err(error),
        Ok((stream, handle)) => {
            let meeting = rebuff.clone().unwrap_or(Behaviour::Normal);
            let stream = handshake(stream, acceptor, &meeting, &handle).await;
            stream.map(|stream| (stream, handle))
        }
    };
    let (number, end) = match greeted {
        Err(error) => {
            let behaviour = rebuff.unwrap_or_else(|| shared.behaviour());
            (
                begin(&behaviour, false),
                End::NoHandshake(error.to_string()),
            )
        }
        Ok((mut stream, handle)) => {
            let opening = Opening::read(&mut stream, &close).await;
            let messages = opening.is_of_messages();
            let behaviour = if messages {
                lock(&shared.to_messages).clone()
            } else {
                shared.behaviour()
            };
            let number = begin(&behaviour, messages);
            let (version, name) = stream.session();
            lock(&shared.reading).handshake(number, version, name);
            let session = Session {
                stream,
                opening,
                handle,
                behaviour,
                shared: &shared,
                number,
                close,
                tail: &mut tail,
                bytes: 0,
                unpacking: Unpacking::default(),
            };
            (number, session.run().await)
        }
    };
    lock(&shared.reading).end(number, tail.len(), end);
}

async fn handshake(
    mut stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    behaviour: &Behaviour,
    handle: &Handle,
) -> io::Result<Wire> {
    match behaviour {
        Behaviour::Refuse => {
            handle.reset_on_close();
            Err(io::Error::other("refused by order"))
        }
        Behaviour::FailHandshake => {
            let mut hello = [0; 4_096];
            let _ = stream.read(&mut hello).await?;
            stream.write_all(&ALERT).await?;
            stream.shutdown().await?;
            Err(io::Error::other("failed by order"))
        }
        _ => match acceptor {
            Some(acceptor) => {
                let stream = timeout(PATIENCE, acceptor.accept(stream)).await??;
                Ok(Wire::Tls(Box::new(stream)))
            }
            None => Ok(Wire::Plain(stream)),
        },
    }
}

struct Session<'a> {
    stream: Wire,
    opening: Opening,
    handle: Handle,
    behaviour: Behaviour,
    shared: &'a Shared,
    number: usize,
    close: CancellationToken,
    tail: &'a mut Vec<u8>,
    /// Read after decryption.
    bytes: u64,
    unpacking: Unpacking,
}

impl Session<'_> {
    async fn run(mut self) -> End {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            if self.bytes >= self.behaviour.turning_point()
                && let Some(end) = self.turn().await
            {
                return end;
            }
            let most = self.most(buffer.len());
            let idle = match self.behaviour {
                Behaviour::CloseIdle(time) => time,
                _ => PATIENCE,
            };
            let close = self.close.clone();
            let length = tokio::select! {
                biased;
                () = close.cancelled() => return self.close_unread_in_order().await,
                () = sleep(idle) => return self.close_in_order().await,
                length = self.opening.then(&mut self.stream, &mut buffer[..most]) => length,
            };
            match length {
                Ok(0) => {
                    if let Err(error) = self.unpacking.end() {
                        return End::Failed(format!("gzip that ends early: {error}"));
                    }
                    return self.answer(End::ClientClosed).await;
                }
                Ok(length) => {
                    if let Err(error) = self.note(&buffer[..length]) {
                        return End::Failed(format!("no gzip: {error}"));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return self.answer(End::ClientCut).await;
                }
                Err(error) => return End::Failed(error.to_string()),
            }
            if let Behaviour::Slow { .. } = self.behaviour {
                sleep(Duration::from_millis(100)).await;
            }
        }
    }

    /// How much to read at once, so that a turning point is met to the byte.
    fn most(&self, buffer: usize) -> usize {
        let left = usize::try_from(self.behaviour.turning_point().saturating_sub(self.bytes))
            .unwrap_or(usize::MAX);
        match self.behaviour {
            Behaviour::Slow { bytes_per_second } => {
                (bytes_per_second as usize / 10).clamp(1, buffer)
            }
            _ => left.clamp(1, buffer),
        }
    }

    fn note(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes += bytes.len() as u64;
        let lines = self.unpacking.unpack(bytes)?;
        let mut reading = lock(&self.shared.reading);
        if self.unpacking.is_gzip() {
            reading.gzip(self.number);
        }
        reading.read(self.number, &lines, self.tail);
        Ok(())
    }

    /// What the behaviour does at its turning point; none means that reading goes on, as normal.
    async fn turn(&mut self) -> Option<End> {
        match self.behaviour {
            Behaviour::Stall { .. } => {
                let mut released = self.shared.released.subscribe();
                let close = self.close.clone();
                tokio::select! {
                    () = close.cancelled() => return Some(self.close_unread_in_order().await),
                    // An error is the relay's end, which ends this task as well.
                    _ = released.changed() => {}
                }
            }
            Behaviour::Pause { time, .. } => sleep(time).await,
            Behaviour::ResetAfter(_) => {
                self.handle.reset_on_close();
                return Some(End::RelayClosed);
            }
            Behaviour::CloseUnread { .. } => {
                // Nothing more may come; then this is an ordinary close.
                if self.opening.is_done() {
                    let _ = timeout(PATIENCE, self.stream.socket().peek(&mut [0; 1])).await;
                }
                return Some(End::RelayClosed);
            }
            Behaviour::CloseAfter(_) => return Some(self.close_in_order().await),
            _ => {}
        }
        self.behaviour = Behaviour::Normal;
        None
    }

    /// The client has ended its side.
    async fn answer(mut self, end: End) -> End {
        match self.behaviour {
            Behaviour::NeverAnswer => {
                // Nobody can see from here whether the client closes the other direction too.
                sleep(PATIENCE).await;
                return end;
            }
            Behaviour::AnswerLate(time) => sleep(time).await,
            Behaviour::ResetAfterCloseNotify => {
                self.stream.notify_close().await;
                self.handle.reset_on_close();
                return end;
            }
            Behaviour::JustEnd => return end,
            Behaviour::MindHalfClose => {
                let mut rest = [0; 64];
                while matches!(self.stream.read_wire(&mut rest).await, Ok(1..)) {}
                return end;
            }
            Behaviour::ResetOnEnd => {
                self.handle.reset_on_close();
                return end;
            }
            _ => {}
        }
        // A client that is gone already needs no answer.
        let _ = self.stream.shutdown().await;
        end
    }

    /// `close_notify` and FIN; what still comes is read and thrown away, so that the system does not reset.
    async fn close_in_order(&mut self) -> End {
        if self.stream.shutdown().await.is_ok() {
            let discard = async {
                let mut buffer = vec![0; 64 * 1024];
                while matches!(self.stream.read(&mut buffer).await, Ok(1..)) {}
            };
            let _ = timeout(DISCARD, discard).await;
        }
        End::RelayClosed
    }

    /// `close_notify` and FIN, and the socket is closed a little later with whatever came in between.
    async fn close_unread_in_order(&mut self) -> End {
        let pause = *lock(&self.shared.close_pause);
        if !pause.is_zero() {
            self.stream.notify_close().await;
            sleep(pause).await;
        }
        let _ = self.stream.shutdown().await;
        sleep(DISCARD).await;
        End::RelayClosed
    }
}
