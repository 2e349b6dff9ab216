//! Where one message ends and the next begins, without copying what is inside.
//!
//! A message is a type byte, a big-endian length that counts itself, and the body. Messages are cut
//! out of one large read buffer as [`Bytes`] that share its memory: 32 KiB copies of base backup data
//! cost a reference count each. A consumer that keeps one small piece keeps its whole buffer (1 MiB).

use std::io;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::error::WireError;

/// Size of one read buffer in bytes.
const READ_BUFFER_BYTES: usize = 1024 * 1024;

/// Less free space than this and the rest moves to a fresh buffer: small reads are slow reads.
const MIN_FREE_BYTES: usize = 64 * 1024;

/// Cap of one message's length once a session is ready. The server sends at most 128 KiB of WAL or
/// 32 KiB of backup data at once; a row of a query may be larger.
pub(crate) const FRAME_CAP: usize = 64 * 1024 * 1024;

/// Cap before the server has proven who it is.
pub(crate) const HANDSHAKE_FRAME_CAP: usize = 64 * 1024;

/// Type byte and length.
const HEADER_BYTES: usize = 5;

/// One message: its type byte and its body, without the length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) tag: u8,
    pub(crate) body: Bytes,
}

/// A stream of messages in both directions.
pub(crate) struct Framed<T> {
    io: T,
    input: BytesMut,
    cap: usize,
    /// Bytes to be written; what a cancelled write left stays at the front.
    output: BytesMut,
}

impl<T> Framed<T> {
    pub(crate) fn new(io: T) -> Self {
        Self { io, input: BytesMut::new(), cap: HANDSHAKE_FRAME_CAP, output: BytesMut::new() }
    }

    /// Changes the cap for messages from now on.
    pub(crate) fn set_cap(&mut self, cap: usize) {
        self.cap = cap;
    }

    pub(crate) fn io(&self) -> &T {
        &self.io
    }

    /// Where messages to be sent are appended; [`Framed::flush`] sends them.
    pub(crate) fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    /// The next message, when all of it has arrived.
    ///
    /// # Errors
    /// [`WireError::Protocol`] for a length that cannot be, or is above the cap.
    pub(crate) fn buffered(&mut self) -> Result<Option<Frame>, WireError> {
        let Some(total) = self.next_len()? else { return Ok(None) };
        if self.input.len() < total {
            return Ok(None);
        }
        let mut whole = self.input.split_to(total).freeze();
        let tag = whole.get_u8();
        whole.advance(4);
        Ok(Some(Frame { tag, body: whole }))
    }

    /// The length of the next message with its header, when that much is known.
    fn next_len(&self) -> Result<Option<usize>, WireError> {
        let Some(header) = self.input.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let [tag, a, b, c, d] = *header;
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if length < 4 || length > self.cap {
            return Err(WireError::protocol(format!(
                "{} claims a length of {length} bytes",
                crate::message::name_of(tag)
            )));
        }
        Ok(Some(length + 1))
    }

    /// Makes room to read into. What is already there moves only when little space is left; a
    /// buffer larger than the usual is grown by doubling, never by a length that was only claimed.
    fn make_room(&mut self) -> Result<(), WireError> {
        let have = self.input.len();
        let missing = self.next_len()?.unwrap_or(0).saturating_sub(have);
        let free = self.input.capacity() - have;
        if free >= MIN_FREE_BYTES || (missing > 0 && free >= missing) {
            return Ok(());
        }
        if have == 0 && self.input.try_reclaim(READ_BUFFER_BYTES) {
            return Ok(());
        }
        let mut fresh = BytesMut::with_capacity(READ_BUFFER_BYTES.max(have.saturating_mul(2)));
        fresh.extend_from_slice(&self.input);
        self.input = fresh;
        Ok(())
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Framed<T> {
    /// Reads once. Cancel-safe: either bytes were taken into the buffer or none were.
    ///
    /// # Errors
    /// [`WireError::Closed`] at the end of the stream.
    pub(crate) async fn fill(&mut self, during: &'static str) -> Result<(), WireError> {
        self.make_room()?;
        match self.io.read_buf(&mut self.input).await {
            Ok(0) => Err(WireError::Closed { during, source: None }),
            Ok(_) => Ok(()),
            Err(error) => Err(WireError::from_io(during, error)),
        }
    }

    /// The next message, waiting for it as long as it takes. Cancel-safe.
    pub(crate) async fn next(&mut self, during: &'static str) -> Result<Frame, WireError> {
        loop {
            if let Some(frame) = self.buffered()? {
                return Ok(frame);
            }
            self.fill(during).await?;
        }
    }

    /// Sends everything appended. When cancelled, the rest is sent by the next call.
    pub(crate) async fn flush(&mut self, during: &'static str) -> Result<(), WireError> {
        while !self.output.is_empty() {
            // write_buf advances the buffer by what was taken, and is cancel-safe.
            if self
                .io
                .write_buf(&mut self.output)
                .await
                .map_err(|e| WireError::from_io(during, e))?
                == 0
            {
                return Err(WireError::from_io(during, io::Error::from(io::ErrorKind::WriteZero)));
            }
        }
        self.io.flush().await.map_err(|e| WireError::from_io(during, e))
    }

    /// Ends the stream politely; failures do not matter any more.
    pub(crate) async fn shutdown(&mut self) {
        let _ = self.io.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn encode(frames: &[(u8, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (tag, body) in frames {
            bytes.push(*tag);
            bytes.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
            bytes.extend_from_slice(body);
        }
        bytes
    }

    /// Pushes bytes as reads would.
    fn push(framed: &mut Framed<()>, bytes: &[u8]) {
        framed.make_room().unwrap();
        framed.input.extend_from_slice(bytes);
    }

    #[test]
    fn lengths_are_checked() {
        let mut framed = Framed::new(());
        push(&mut framed, b"Z\0\0\0\x03");
        assert!(framed.buffered().is_err());
        let mut framed = Framed::new(());
        push(&mut framed, b"d\x7f\xff\xff\xff");
        assert!(framed.buffered().is_err());
        assert!(framed.make_room().is_err());
    }

    #[test]
    fn a_claimed_length_allocates_nothing() {
        let mut framed = Framed::new(());
        framed.set_cap(FRAME_CAP);
        push(&mut framed, b"d\x03\xff\xff\xff");
        assert_eq!(framed.buffered().unwrap(), None);
        framed.make_room().unwrap();
        assert!(framed.input.capacity() <= READ_BUFFER_BYTES);
    }

    #[test]
    fn bodies_share_the_read_buffer() {
        let mut framed = Framed::new(());
        push(&mut framed, &encode(&[(b'd', vec![1; 100]), (b'd', vec![2; 100])]));
        let start = framed.input.as_ptr() as usize;
        let one = framed.buffered().unwrap().unwrap();
        let two = framed.buffered().unwrap().unwrap();
        assert_eq!(one.body.as_ptr() as usize, start + 5);
        assert_eq!(two.body.as_ptr() as usize, start + 5 + 105);
    }

    #[tokio::test]
    async fn a_cancelled_flush_loses_nothing() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut framed = Framed::new(near);
        framed.output().extend_from_slice(&[7; 100]);
        {
            let flush = std::pin::pin!(framed.flush("testing"));
            assert!(futures_util::poll!(flush).is_pending());
        }
        framed.output().extend_from_slice(&[8; 3]);
        let reader = tokio::spawn(async move {
            let mut all = vec![0; 103];
            far.read_exact(&mut all).await.unwrap();
            all
        });
        framed.flush("testing").await.unwrap();
        let all = reader.await.unwrap();
        assert_eq!(all[..100], [7; 100]);
        assert_eq!(all[100..], [8; 3]);
    }

    #[tokio::test]
    async fn the_end_of_the_stream_is_an_error() {
        let (near, far) = tokio::io::duplex(16);
        drop(far);
        let error = Framed::new(near).next("testing").await.unwrap_err();
        assert_eq!(error.code(), "connection_closed");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn frames_survive_any_cutting(
            frames in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..3000)), 0..20),
            cuts in prop::collection::vec(1usize..700, 1..40),
        ) {
            let bytes = encode(&frames);
            let mut framed = Framed::new(());
            framed.set_cap(FRAME_CAP);
            let mut seen = Vec::new();
            let mut rest = bytes.as_slice();
            let mut cuts = cuts.iter().cycle();
            while !rest.is_empty() {
                let (head, tail) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                rest = tail;
                push(&mut framed, head);
                while let Some(frame) = framed.buffered().unwrap() {
                    seen.push((frame.tag, frame.body.to_vec()));
                }
            }
            prop_assert_eq!(seen, frames);
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut framed = Framed::new(());
            push(&mut framed, &bytes);
            while let Ok(Some(_)) = framed.buffered() {}
        }
    }
}
