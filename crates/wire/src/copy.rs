//! `COPY … TO STDOUT` and `COPY … FROM STDIN` of an ordinary session, as a stream of bytes.

use bytes::{BufMut as _, Bytes};
use postgres_protocol::message::frontend;

use crate::connection::Connection;
use crate::error::{ServerError, WireError};
use crate::message::{self, tag};

/// Largest piece of data in one message.
const PIECE_BYTES: usize = 64 * 1024;

/// Rows on their way out of a server. Dropping it half-way leaves the connection out of step.
#[derive(Debug)]
pub struct CopyOut<'a> {
    connection: &'a mut Connection,
    ended: bool,
}

/// Rows on their way into a server. Dropping it half-way leaves the connection out of step: the server
/// takes nothing of it then.
#[derive(Debug)]
pub struct CopyIn<'a> {
    connection: &'a mut Connection,
}

impl Connection {
    /// Begins a `COPY … TO STDOUT`.
    ///
    /// # Errors
    /// [`WireError::Server`] when the server refuses; the connection is usable again then.
    pub async fn copy_out(&mut self, sql: &str) -> Result<CopyOut<'_>, WireError> {
        self.begin_copy(sql, tag::COPY_OUT, "beginning to copy out").await?;
        Ok(CopyOut { connection: self, ended: false })
    }

    /// Begins a `COPY … FROM STDIN`.
    ///
    /// # Errors
    /// [`WireError::Server`] when the server refuses; the connection is usable again then.
    pub async fn copy_in(&mut self, sql: &str) -> Result<CopyIn<'_>, WireError> {
        self.begin_copy(sql, tag::COPY_IN, "beginning to copy in").await?;
        Ok(CopyIn { connection: self })
    }

    async fn begin_copy(
        &mut self,
        sql: &str,
        wanted: u8,
        during: &'static str,
    ) -> Result<(), WireError> {
        self.send_command(sql, during).await?;
        loop {
            let frame = self.receive(self.silence_limit(), during).await?;
            match frame.tag {
                tag::NOTICE => {}
                found if found == wanted => return Ok(()),
                tag::ERROR => {
                    let error = ServerError::parse(&frame.body)?;
                    self.collect(during).await?;
                    return Err(error.into());
                }
                other => {
                    return Err(WireError::protocol(format!(
                        "{} came in answer to COPY",
                        message::name_of(other)
                    )));
                }
            }
        }
    }
}

impl CopyOut<'_> {
    /// The next piece, usually a row; none at the end, after which the connection is usable again.
    ///
    /// # Errors
    /// [`WireError::Server`] when the server stops on the way; the connection is usable again then.
    pub async fn next(&mut self) -> Result<Option<Bytes>, WireError> {
        let during = "copying out";
        while !self.ended {
            let frame = self.connection.receive(self.connection.silence_limit(), during).await?;
            match frame.tag {
                tag::COPY_DATA => return Ok(Some(frame.body)),
                tag::NOTICE => {}
                tag::COPY_DONE => {
                    self.ended = true;
                    self.connection.collect(during).await?;
                }
                tag::ERROR => {
                    self.ended = true;
                    let error = ServerError::parse(&frame.body)?;
                    self.connection.collect(during).await?;
                    return Err(error.into());
                }
                other => {
                    return Err(WireError::protocol(format!(
                        "{} came while rows were copied",
                        message::name_of(other)
                    )));
                }
            }
        }
        Ok(None)
    }
}

impl CopyIn<'_> {
    /// Sends some bytes; rows need not be whole.
    ///
    /// # Errors
    /// When the connection broke. What the server thinks of the rows is
    /// told by [`CopyIn::finish`].
    pub async fn send(&mut self, data: &[u8]) -> Result<(), WireError> {
        for piece in data.chunks(PIECE_BYTES) {
            let length = u32::try_from(piece.len() + 4).unwrap_or(u32::MAX);
            let output = self.connection.framed.output();
            output.put_u8(tag::COPY_DATA);
            output.put_u32(length);
            output.put_slice(piece);
            if output.len() >= PIECE_BYTES {
                self.connection.framed.flush("copying in").await?;
            }
        }
        Ok(())
    }

    /// Ends it; gives the number of rows.
    ///
    /// # Errors
    /// [`WireError::Server`] when the server did not take the rows; the connection is usable again then.
    pub async fn finish(self) -> Result<u64, WireError> {
        let during = "copying in";
        frontend::copy_done(self.connection.framed.output());
        self.connection.framed.flush(during).await?;
        let sets = self.connection.collect(during).await?;
        let tag = sets.last().map(|set| set.tag.as_str()).unwrap_or_default();
        Ok(tag.rsplit(' ').next().and_then(|rows| rows.parse().ok()).unwrap_or(0))
    }
}
