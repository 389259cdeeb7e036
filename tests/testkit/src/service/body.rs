//! A response's body that can be slow, end early, or take the connection down with it.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use super::gauge::InFlight;
use super::server::Reset;

/// Long enough for what is written so far to reach the network before a connection ends.
const FLUSH: Duration = Duration::from_millis(30);

/// How a body ends.
pub(crate) enum End {
    /// As it should.
    Whole,
    /// The connection is closed.
    Cut,
    /// The connection is reset.
    Reset(Reset),
}

/// A response's body.
pub(crate) struct Body {
    chunks: VecDeque<Bytes>,
    announced: Option<u64>,
    /// Time before each chunk.
    pace: Option<Duration>,
    end: End,
    timer: Option<Pin<Box<Sleep>>>,
    sent: Option<Arc<AtomicBool>>,
    /// Goes with the last chunk, or with the connection.
    in_flight: Option<InFlight>,
    ended: bool,
}

impl Body {
    /// All of it, with its length announced.
    pub(crate) fn whole(chunks: impl IntoIterator<Item = Bytes>) -> Body {
        let chunks: VecDeque<Bytes> = chunks
            .into_iter()
            .filter(|chunk| !chunk.is_empty())
            .collect();
        let length = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        Body {
            chunks,
            announced: Some(length),
            pace: None,
            end: End::Whole,
            timer: None,
            sent: None,
            in_flight: None,
            ended: false,
        }
    }

    /// Half of it; the announced length, if there is one, stays that of the whole.
    pub(crate) fn cut(self, announced: bool, end: End) -> Body {
        let keep = self.chunks.iter().map(Bytes::len).sum::<usize>() / 2;
        let mut kept = VecDeque::new();
        let mut length = 0;
        for mut chunk in self.chunks {
            chunk.truncate(keep - length);
            length += chunk.len();
            kept.push_back(chunk);
            if length == keep {
                break;
            }
        }
        let announced = self.announced.filter(|_| announced);
        Body {
            chunks: kept,
            announced,
            end,
            ..self
        }
    }

    /// All of it, in chunks.
    pub(crate) fn unannounced(self) -> Body {
        Body {
            announced: None,
            ..self
        }
    }

    /// A tenth of a second's worth at a time.
    pub(crate) fn slow(self, bytes_per_second: u32) -> Body {
        let size = (bytes_per_second as usize / 10).max(1);
        let mut chunks = VecDeque::new();
        for mut chunk in self.chunks {
            while chunk.len() > size {
                chunks.push_back(chunk.split_to(size));
            }
            chunks.push_back(chunk);
        }
        Body {
            chunks,
            pace: Some(Duration::from_millis(100)),
            ..self
        }
    }

    /// Sets the flag once all of it has been handed over.
    pub(crate) fn notes(self, sent: Arc<AtomicBool>) -> Body {
        Body {
            sent: Some(sent),
            ..self
        }
    }

    /// Counts the request as being answered until all of the answer has been handed over.
    pub(crate) fn holds(self, in_flight: Option<InFlight>) -> Body {
        let in_flight = in_flight.filter(|_| !self.chunks.is_empty());
        Body { in_flight, ..self }
    }

    fn wait(&mut self, time: Duration, context: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(time)));
        timer.as_mut().poll(context).map(|()| self.timer = None)
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if !self.chunks.is_empty() {
            if let Some(pace) = self.pace
                && self.wait(pace, context).is_pending()
            {
                return Poll::Pending;
            }
            let chunk = self.chunks.pop_front();
            if self.chunks.is_empty() && matches!(self.end, End::Whole) {
                self.in_flight = None;
                if let Some(sent) = &self.sent {
                    sent.store(true, Ordering::Release);
                }
            }
            return Poll::Ready(chunk.map(|chunk| Ok(Frame::data(chunk))));
        }
        if self.ended || matches!(self.end, End::Whole) {
            return Poll::Ready(None);
        }
        if self.wait(FLUSH, context).is_pending() {
            return Poll::Pending;
        }
        self.ended = true;
        if let End::Reset(reset) = &self.end {
            reset.now();
            // The connection's task drops this body before it is asked again.
            return Poll::Pending;
        }
        Poll::Ready(Some(Err(io::Error::other("cut by order"))))
    }

    fn is_end_stream(&self) -> bool {
        self.chunks.is_empty() && matches!(self.end, End::Whole)
    }

    fn size_hint(&self) -> SizeHint {
        self.announced
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
