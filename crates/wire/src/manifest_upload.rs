//! `UPLOAD_MANIFEST` (servers from 17; `walsender.c`): the manifest that an incremental backup
//! starts from.

use std::io;
use std::pin::pin;

use bytes::{BufMut as _, Bytes};
use futures_util::{Stream, StreamExt as _};
use postgres_protocol::message::frontend;

use crate::connection::Connection;
use crate::error::{ServerError, WireError};
use crate::message::{self, tag};

/// Largest manifest that is sent, in bytes. A million files make about 150 MB.
pub const MAX_MANIFEST_BYTES: u64 = 4 * 1024 * 1024 * 1024;

/// Largest piece of it in one message.
const PIECE_BYTES: usize = 64 * 1024;

impl Connection {
    /// Sends a manifest, piece by piece as the stream gives it, and returns its length. The next
    /// [`Connection::base_backup`] with `incremental` refers to it.
    ///
    /// # Errors
    /// [`WireError::ManifestSource`] when the stream fails or is longer than
    /// [`MAX_MANIFEST_BYTES`]; [`WireError::Server`] when the server does not take it, another
    /// cluster's for example. The connection is usable again after both.
    pub async fn upload_manifest<S>(&mut self, manifest: S) -> Result<u64, WireError>
    where
        S: Stream<Item = io::Result<Bytes>>,
    {
        if !self.traits("incremental base backups")?.incremental {
            return Err(WireError::UnsupportedVersion {
                version: self.facts.version,
                feature: "incremental base backups",
            });
        }
        let during = "uploading a manifest";
        self.send_command("UPLOAD_MANIFEST", during).await?;
        loop {
            let frame = self.receive(self.silence_limit(), during).await?;
            match frame.tag {
                tag::COPY_IN => break,
                tag::NOTICE => {}
                tag::ERROR => {
                    let error = ServerError::parse(&frame.body)?;
                    self.collect(during).await?;
                    return Err(error.into());
                }
                other => {
                    return Err(WireError::protocol(format!(
                        "{} came in answer to UPLOAD_MANIFEST",
                        message::name_of(other)
                    )));
                }
            }
        }
        let mut manifest = pin!(manifest);
        let mut sent = 0_u64;
        let failure = loop {
            let chunk = match manifest.next().await {
                None => break None,
                Some(Ok(chunk)) => chunk,
                Some(Err(error)) => break Some(error),
            };
            sent = sent.saturating_add(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
            if sent > MAX_MANIFEST_BYTES {
                break Some(io::Error::new(
                    io::ErrorKind::FileTooLarge,
                    "the manifest is larger than 4 GiB",
                ));
            }
            for piece in chunk.chunks(PIECE_BYTES) {
                let length = u32::try_from(piece.len() + 4).unwrap_or(u32::MAX);
                let output = self.framed.output();
                output.put_u8(tag::COPY_DATA);
                output.put_u32(length);
                output.put_slice(piece);
                self.framed.flush(during).await?;
            }
        };
        if let Some(source) = failure {
            frontend::copy_fail("the manifest could not be read", self.framed.output())
                .map_err(|_| WireError::Misuse { what: "a zero byte in a reason" })?;
            self.framed.flush(during).await?;
            // The server repeats the reason as its error; ours says more.
            return match self.collect(during).await {
                Ok(_) | Err(WireError::Server(_)) => Err(WireError::ManifestSource { source }),
                Err(error) => Err(error),
            };
        }
        frontend::copy_done(self.framed.output());
        self.framed.flush(during).await?;
        // A server that refused on the way has ignored the rest, and its error comes now.
        self.collect(during).await?;
        Ok(sent)
    }
}
