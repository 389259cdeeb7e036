//! Writes to the standard streams.
//!
//! The standard library's handles are not used where a write may block for hours: it would hold their lock meanwhile, which others wait for, and
//! the end of the process flushes what they buffer.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd;

/// A pipe in which `poll` finds room takes so many bytes without blocking.
const WRITE_MAX_BYTES: usize = 4096;

/// A stream did not take everything.
#[derive(Debug)]
pub(crate) struct Refused {
    /// How many bytes it did take.
    pub(crate) written: usize,
    /// Why not more: [`ErrorKind::WouldBlock`] where it had no room for too long.
    pub(crate) source: io::Error,
}

/// Writes all of `bytes`. `patience` is how long the stream may have no room.
pub(crate) fn write(
    stream: &impl AsFd,
    bytes: &[u8],
    patience: PollTimeout,
) -> Result<(), Refused> {
    let mut written = 0;
    while written < bytes.len() {
        let refused = |source| Refused { written, source };
        let mut polled = [PollFd::new(stream.as_fd(), PollFlags::POLLOUT)];
        match poll(&mut polled, patience) {
            Ok(0) => return Err(refused(ErrorKind::WouldBlock.into())),
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(refused(errno.into())),
        }
        let end = bytes.len().min(written + WRITE_MAX_BYTES);
        match unistd::write(stream, &bytes[written..end]) {
            Ok(0) => return Err(refused(ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            // Others that have the same terminal open may have made it non-blocking.
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(errno) => return Err(refused(errno.into())),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use nix::fcntl::{FcntlArg, OFlag, fcntl};

    use super::*;

    #[test]
    fn a_full_pipe_takes_what_it_has_room_for_and_a_closed_one_nothing() {
        let (mut reader, writer) = io::pipe().unwrap();
        let size = usize::try_from(fcntl(&writer, FcntlArg::F_GETPIPE_SZ).unwrap()).unwrap();
        let bytes = vec![b'x'; size + 1];
        let refused = write(&writer, &bytes, PollTimeout::ZERO).unwrap_err();
        assert_eq!(refused.source.kind(), ErrorKind::WouldBlock);
        assert_eq!(refused.written, size);
        let mut taken = vec![0; size];
        reader.read_exact(&mut taken).unwrap();
        write(&writer, &bytes[size..], PollTimeout::ZERO).unwrap();
        drop(reader);
        let refused = write(&writer, b"x", PollTimeout::NONE).unwrap_err();
        assert_eq!(refused.source.kind(), ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_stream_that_does_not_block_is_waited_for() {
        let (mut reader, writer) = io::pipe().unwrap();
        fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        let bytes = vec![b'x'; 1 << 20];
        let all = bytes.len();
        let reading = std::thread::spawn(move || {
            let mut read = Vec::new();
            reader.read_to_end(&mut read).unwrap();
            read.len()
        });
        write(&writer, &bytes, PollTimeout::NONE).unwrap();
        drop(writer);
        assert_eq!(reading.join().unwrap(), all);
    }
}
