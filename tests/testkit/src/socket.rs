//! A second handle to a socket, by which it can be told to end with RST while something else owns the first.

use std::io;
use std::net::TcpStream as StdStream;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;

/// The second handle.
pub(crate) struct Handle(StdStream);

impl Handle {
    /// The stream again, and a second handle to it.
    pub(crate) fn of(stream: TcpStream) -> io::Result<(TcpStream, Handle)> {
        stream.set_nodelay(true)?;
        let stream = stream.into_std()?;
        let handle = Handle(stream.try_clone()?);
        Ok((TcpStream::from_std(stream)?, handle))
    }

    /// The socket is reset as soon as its last handle is dropped.
    pub(crate) fn reset_on_close(&self) {
        // A socket that is gone already needs no reset.
        let _ = SockRef::from(&self.0).set_linger(Some(Duration::ZERO));
    }
}
