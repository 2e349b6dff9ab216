//! A tar archive as the server sends it: as it is, or compressed with zstd.

use holdfast_postgres::{TarError, TarEvent, TarParser};
use zstd::stream::raw::{Decoder, Operation as _};

use crate::error::{EngineError, Result};

/// What is decompressed at once, whatever the server makes of it.
const DECOMPRESSED: usize = 256 << 10;

/// An archive on its way.
pub(super) struct ArchiveStream {
    tar: TarParser,
    zstd: Option<Decompression>,
}

struct Decompression {
    decoder: Decoder<'static>,
    out: Vec<u8>,
    /// Whether what came last was the end of a frame.
    at_end: bool,
}

impl ArchiveStream {
    /// At its first byte.
    pub(super) fn begin(zstd: bool) -> Result<Self> {
        let zstd = zstd.then(|| {
            let decoder = Decoder::new()
                .map_err(|e| EngineError::Fault(format!("zstd does not start: {e}")))?;
            Ok::<_, EngineError>(Decompression {
                decoder,
                out: vec![0; DECOMPRESSED],
                at_end: false,
            })
        });
        Ok(Self { tar: TarParser::new(), zstd: zstd.transpose()? })
    }

    /// Takes the next bytes and reports what they contain.
    pub(super) fn push<E: From<TarError> + From<EngineError>>(
        &mut self,
        mut bytes: &[u8],
        sink: &mut impl FnMut(TarEvent<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(Decompression { decoder, out, at_end }) = &mut self.zstd else {
            return self.tar.push(bytes, sink);
        };
        loop {
            let step = decoder.run_on_buffers(bytes, out).map_err(|e| damaged(&e.to_string()))?;
            self.tar.push(&out[..step.bytes_written], sink)?;
            bytes = &bytes[step.bytes_read..];
            if step.bytes_read > 0 || step.bytes_written > 0 {
                *at_end = step.remaining == 0;
            }
            // A full buffer: there may be more of what has been read already.
            if bytes.is_empty() && step.bytes_written < out.len() {
                return Ok(());
            }
        }
    }

    /// After its last byte.
    ///
    /// # Errors
    /// Integrity when it is cut short.
    pub(super) fn finish<E: From<TarError> + From<EngineError>>(self) -> Result<(), E> {
        if self.zstd.is_some_and(|zstd| !zstd.at_end) {
            return Err(damaged("its end is missing").into());
        }
        self.tar.finish().map_err(E::from)
    }
}

fn damaged(how: &str) -> EngineError {
    EngineError::integrity(
        "tar_stream_damaged",
        format!("the compressed copy of the server's files cannot be read: {how}"),
        "Nothing of this backup was kept. Run it again; if it goes on, `--wire-compression none` does without.",
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// An archive of one file of zeros, which compresses a thousandfold.
    fn archive(zeros: usize) -> Vec<u8> {
        let mut header = [0_u8; 512];
        header[..4].copy_from_slice(b"file");
        header[100..107].copy_from_slice(b"0000600");
        header[108..115].copy_from_slice(b"0000000");
        header[116..123].copy_from_slice(b"0000000");
        header[124..135].copy_from_slice(format!("{zeros:011o}").as_bytes());
        header[136..147].copy_from_slice(b"00000000000");
        header[156] = b'0';
        header[257..265].copy_from_slice(b"ustar\x0000");
        header[148..156].copy_from_slice(b"        ");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        let padded = zeros.next_multiple_of(512);
        [&header[..], &vec![0; padded], &[0; 1024]].concat()
    }

    /// The bytes of the files in it.
    fn read(zstd: bool, pieces: &[&[u8]]) -> Result<usize> {
        let mut stream = ArchiveStream::begin(zstd)?;
        let mut length = 0;
        let mut sink = |event: TarEvent<'_>| {
            if let TarEvent::Data(bytes) = event {
                length += bytes.len();
            }
            Ok::<_, Failed>(())
        };
        for piece in pieces {
            stream.push(piece, &mut sink).map_err(|e| e.0)?;
        }
        stream.finish::<Failed>().map_err(|e| e.0)?;
        Ok(length)
    }

    #[derive(Debug)]
    struct Failed(EngineError);

    impl From<TarError> for Failed {
        fn from(error: TarError) -> Self {
            Self(EngineError::Fault(error.to_string()))
        }
    }

    impl From<EngineError> for Failed {
        fn from(error: EngineError) -> Self {
            Self(error)
        }
    }

    #[test]
    fn it_is_read_compressed_or_not_in_pieces_of_any_size() {
        let plain = archive(3_000_000);
        let packed = zstd::bulk::compress(&plain, 1).unwrap();
        assert!(packed.len() < 3000, "{}", packed.len());
        for (zstd, bytes) in [(false, &plain), (true, &packed)] {
            assert_eq!(read(zstd, &[bytes]).unwrap(), 3_000_000);
            for size in [1, 7, 4096].into_iter().filter(|size| bytes.len() / size < 10_000) {
                let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
                assert_eq!(read(zstd, &pieces).unwrap(), 3_000_000, "{size}");
            }
        }
    }

    #[test]
    fn what_is_cut_short_or_damaged_is_refused() {
        let packed = zstd::bulk::compress(&archive(100_000), 1).unwrap();
        for end in 0..packed.len() {
            assert!(read(true, &[&packed[..end]]).is_err(), "cut at {end}");
        }
        let mut damaged = packed.clone();
        damaged[0] ^= 1;
        let error = read(true, &[&damaged]).unwrap_err();
        assert_eq!(error.to_object().code, "tar_stream_damaged");
    }
}
