//! `START_REPLICATION … PHYSICAL` (protocol.sgml, "Streaming Replication Protocol"; `walsender.c`).
//!
//! While a stream is being read the server's silence is watched: after ten seconds it is asked to
//! reply, after sixty the connection counts as dead. A keepalive that wants an answer gets one at
//! once, with the positions reported last, so that a reader that keeps calling [`WalStream::next`] is
//! never cut off by `wal_sender_timeout`. Flush positions are the caller's promise: nothing here
//! advances one.
//!
//! A server that is asked to stop waits until everything it sent has been reported as flushed (as
//! written, if no flush position was ever reported). A receiver whose storage stalls must disconnect,
//! or it holds the server's shutdown up.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use holdfast_postgres::{Lsn, PgTimestamp, TimelineId};
use postgres_protocol::message::frontend;
use tokio::time::{Instant, timeout_at};

use crate::connection::Connection;
use crate::error::{ServerError, WireError};
use crate::frame::Frame;
use crate::message::{self, Cursor, tag};
use crate::query;
use crate::replication::parse;
use crate::sql_text;

/// Silence after which the server is asked to reply.
const ASK_AFTER: Duration = Duration::from_secs(10);

/// Silence after which the connection counts as dead.
const FAIL_AFTER: Duration = Duration::from_mins(1);

/// The least time given to notice bytes that arrived while nobody was reading.
const GRACE: Duration = Duration::from_millis(100);

/// Seconds from 1970 to 2000, where PostgreSQL's timestamps begin.
const EPOCH_SHIFT: u64 = 946_684_800;

/// Bytes of an XLogData message before the WAL.
const DATA_HEADER: usize = 1 + 8 + 8 + 8;

/// Where a timeline's history goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextTimeline {
    /// The timeline that branched off.
    pub timeline: TimelineId,
    /// Where it did.
    pub switch_lsn: Lsn,
}

/// How a request to stream was answered.
#[derive(Debug)]
pub enum StartedStream {
    /// WAL will come.
    Streaming(WalStream),
    /// The start is the very end of a timeline that has ended: there is nothing to stream.
    AlreadyEnded {
        /// The connection, idle again.
        connection: Connection,
        /// Where to go on.
        next: Option<NextTimeline>,
    },
}

/// What arrives on a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WalMessage {
    /// WAL; may cross a segment's boundary, never begins before the last one ended.
    Data {
        /// The position of the first byte.
        start: Lsn,
        /// The end of the server's WAL when it sent this.
        server_end: Lsn,
        /// The server's clock then.
        sent_at: PgTimestamp,
        /// The bytes; they share a read buffer of up to 1 MiB.
        bytes: Bytes,
    },
    /// A sign of life. If a reply was requested it has been given already.
    Keepalive {
        /// The end of the server's WAL when it sent this.
        server_end: Lsn,
        /// The server's clock then.
        sent_at: PgTimestamp,
        /// Whether the server wanted to know the positions.
        reply_requested: bool,
    },
    /// The timeline has ended and all of its WAL was sent. [`WalStream::into_connection`] is due.
    EndOfTimeline {
        /// Where to go on; `None` when the server does not tell.
        next: Option<NextTimeline>,
    },
}

#[derive(Debug)]
enum Phase {
    Streaming,
    /// The server ended the stream; its last words are being read.
    Ending(LastWords),
    Ended,
    Failed,
}

/// The positions of a status update.
#[derive(Debug, Clone, Copy)]
struct Status {
    written: Lsn,
    flushed: Lsn,
    applied: Lsn,
}

/// A running stream. Dropping it closes the socket.
#[derive(Debug)]
pub struct WalStream {
    connection: Connection,
    start: Lsn,
    timeline: TimelineId,
    phase: Phase,
    status: Status,
    /// A message that was read and not yet handed out when the future was dropped.
    pending: Option<WalMessage>,
    heard_at: Instant,
    /// When the server was asked to reply, if it was since it was last heard.
    asked_at: Option<Instant>,
    ask_after: Duration,
    fail_after: Duration,
}

impl Connection {
    /// Starts streaming WAL of a timeline, from `start` on; a segment's first byte as a rule.
    ///
    /// # Errors
    /// [`WireError::Server`] when the server refuses: the slot is in use (55006) or missing (42704),
    /// the timeline is not in its history. A position ahead of the server's WAL, and WAL that was
    /// removed, show only at the first [`WalStream::next`]: the server opens the stream before it
    /// looks.
    pub async fn start_physical(
        mut self,
        slot: Option<&str>,
        start: Lsn,
        timeline: TimelineId,
    ) -> Result<StartedStream, WireError> {
        let slot = match slot {
            Some(name) => format!("SLOT {} ", sql_text::identifier(name)?),
            None => String::new(),
        };
        let during = "starting to stream WAL";
        let command = format!("START_REPLICATION {slot}PHYSICAL {start} TIMELINE {timeline}");
        self.send_command(&command, during).await?;
        let mut last_words = LastWords::default();
        loop {
            let frame = self.receive(self.silence_limit(), during).await?;
            match frame.tag {
                tag::COPY_BOTH => {
                    return Ok(StartedStream::Streaming(WalStream::new(self, start, timeline)));
                }
                tag::ERROR => {
                    return Err(failure(ServerError::parse(&frame.body)?, start, timeline));
                }
                _ => {}
            }
            if last_words.absorb(&frame)? {
                self.busy = false;
                let next = last_words.next;
                return Ok(StartedStream::AlreadyEnded { connection: self, next });
            }
        }
    }
}

impl WalStream {
    fn new(connection: Connection, start: Lsn, timeline: TimelineId) -> Self {
        let nothing =
            Status { written: Lsn::INVALID, flushed: Lsn::INVALID, applied: Lsn::INVALID };
        Self {
            connection,
            start,
            timeline,
            phase: Phase::Streaming,
            status: nothing,
            pending: None,
            heard_at: Instant::now(),
            asked_at: None,
            ask_after: ASK_AFTER,
            fail_after: FAIL_AFTER,
        }
    }

    /// The timeline that is streamed.
    pub fn timeline(&self) -> TimelineId {
        self.timeline
    }

    /// What is known about the server.
    pub fn server(&self) -> &crate::ServerFacts {
        self.connection.facts()
    }

    /// Changes after how much silence the server is asked to reply (default ten seconds) and after
    /// how much the connection counts as dead (sixty).
    pub fn set_silence_limits(&mut self, ask_after: Duration, fail_after: Duration) {
        self.ask_after = ask_after;
        self.fail_after = fail_after.max(ask_after);
    }

    /// The next message. Cancel-safe: nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// [`WireError::WalRemoved`] when the WAL at the start is gone, [`WireError::Timeout`] after too
    /// much silence, [`WireError::Closed`] when the server shuts down.
    pub async fn next(&mut self) -> Result<WalMessage, WireError> {
        match self.phase {
            Phase::Streaming | Phase::Ending(_) => {}
            Phase::Ended => {
                return Err(WireError::Misuse { what: "reading after a timeline's end" });
            }
            Phase::Failed => return Err(WireError::Misuse { what: "reading on after a failure" }),
        }
        match self.advance().await {
            Ok(message) => Ok(message),
            Err(error) => {
                self.phase = Phase::Failed;
                Err(error)
            }
        }
    }

    async fn advance(&mut self) -> Result<WalMessage, WireError> {
        let during = "streaming WAL";
        loop {
            // Answers to keepalives, or what a dropped future left unsent.
            if !self.connection.framed.output().is_empty() {
                self.connection.framed.flush(during).await?;
            }
            if let Some(message) = self.pending.take() {
                return Ok(message);
            }
            if let Phase::Ending(last_words) = &mut self.phase {
                let frame = self.connection.receive(Some(self.fail_after), during).await?;
                if frame.tag == tag::ERROR {
                    return Err(ServerError::parse(&frame.body)?.into());
                }
                if last_words.absorb(&frame)? {
                    let next = last_words.next;
                    self.connection.busy = false;
                    self.phase = Phase::Ended;
                    return Ok(WalMessage::EndOfTimeline { next });
                }
                continue;
            }
            let frame = self.listen(during).await?;
            match frame.tag {
                tag::COPY_DATA => match copied(frame.body)? {
                    message @ WalMessage::Keepalive { reply_requested: true, .. } => {
                        self.append_status(false);
                        self.pending = Some(message);
                    }
                    message => return Ok(message),
                },
                tag::COPY_DONE => {
                    frontend::copy_done(self.connection.framed.output());
                    self.phase = Phase::Ending(LastWords::default());
                }
                tag::NOTICE => {}
                tag::ERROR => {
                    let error = ServerError::parse(&frame.body)?;
                    return Err(failure(error, self.start, self.timeline));
                }
                // "COPY 0" within the stream: the server is stopping and has sent everything.
                tag::COMMAND_COMPLETE => {
                    return Err(WireError::Closed {
                        during: "streaming WAL, because it is shutting down",
                        source: None,
                    });
                }
                other => {
                    return Err(WireError::protocol(format!(
                        "{} came in a stream of WAL",
                        message::name_of(other)
                    )));
                }
            }
        }
    }

    /// The next frame, with the server's silence watched.
    async fn listen(&mut self, during: &'static str) -> Result<Frame, WireError> {
        loop {
            while let Some(frame) = self.connection.framed.buffered()? {
                match frame.tag {
                    tag::PARAMETER_STATUS | tag::NOTIFICATION => {}
                    _ => return Ok(frame),
                }
            }
            let deadline = match self.asked_at {
                None => self.heard_at + self.ask_after,
                // Silence counts from the question: while the caller was busy elsewhere nobody
                // listened, and a reply that lies in the socket must get its chance to be seen.
                Some(asked_at) => (asked_at + self.fail_after.saturating_sub(self.ask_after))
                    .max(Instant::now() + GRACE),
            };
            match timeout_at(deadline, self.connection.framed.fill(during)).await {
                Ok(filled) => {
                    filled?;
                    self.heard_at = Instant::now();
                    self.asked_at = None;
                }
                Err(_) if self.asked_at.is_none() => {
                    self.append_status(true);
                    self.asked_at = Some(Instant::now());
                    self.connection.framed.flush(during).await?;
                }
                Err(_) => {
                    return Err(WireError::Timeout {
                        during: during.to_owned(),
                        limit: self.fail_after,
                    });
                }
            }
        }
    }

    /// Tells the server how far the WAL has come: received, durable, applied. The slot's
    /// `restart_lsn` follows `flushed` (backwards too); [`Lsn::INVALID`] leaves it where it is.
    ///
    /// # Errors
    /// [`WireError::Closed`] when the connection is gone; [`WireError::Misuse`] after the stream's end.
    pub async fn send_status(
        &mut self,
        written: Lsn,
        flushed: Lsn,
        applied: Lsn,
        reply_requested: bool,
    ) -> Result<(), WireError> {
        self.status = Status { written, flushed, applied };
        match self.phase {
            Phase::Streaming => {}
            // The stream is closed in our direction: the server needs no positions any more.
            Phase::Ending(_) => return Ok(()),
            Phase::Ended | Phase::Failed => {
                return Err(WireError::Misuse { what: "a status after the end of a stream" });
            }
        }
        self.append_status(reply_requested);
        self.connection.framed.flush("reporting positions").await
    }

    /// Ends the stream politely and gives the connection back. WAL that is on its way is dropped.
    pub async fn stop(mut self) -> Result<Connection, WireError> {
        let during = "ending a stream of WAL";
        let mut last_words = match self.phase {
            Phase::Ended => return Ok(self.connection),
            Phase::Failed => return Err(WireError::Misuse { what: "stopping after a failure" }),
            Phase::Ending(last_words) => last_words,
            Phase::Streaming => {
                frontend::copy_done(self.connection.framed.output());
                LastWords::default()
            }
        };
        self.connection.framed.flush(during).await?;
        loop {
            let frame = self.connection.receive(Some(self.fail_after), during).await?;
            match frame.tag {
                tag::COPY_DATA | tag::COPY_DONE => {}
                tag::ERROR => {
                    let error = ServerError::parse(&frame.body)?;
                    return Err(failure(error, self.start, self.timeline));
                }
                _ => {
                    if last_words.absorb(&frame)? {
                        self.connection.busy = false;
                        return Ok(self.connection);
                    }
                }
            }
        }
    }

    /// Gives the connection back after [`WalMessage::EndOfTimeline`].
    ///
    /// # Errors
    /// [`WireError::Misuse`] before it.
    pub fn into_connection(self) -> Result<Connection, WireError> {
        match self.phase {
            Phase::Ended => Ok(self.connection),
            _ => Err(WireError::Misuse { what: "taking the connection of a running stream" }),
        }
    }

    fn append_status(&mut self, reply_requested: bool) {
        put_status(self.connection.framed.output(), self.status, now(), reply_requested);
    }
}

/// What the server says after the stream: perhaps where the timeline goes on, then that it is ready.
#[derive(Debug, Default)]
struct LastWords {
    described: bool,
    next: Option<NextTimeline>,
}

impl LastWords {
    /// Takes one message; `true` when the server is ready.
    fn absorb(&mut self, frame: &Frame) -> Result<bool, WireError> {
        match frame.tag {
            tag::ROW_DESCRIPTION => self.described = true,
            tag::DATA_ROW if self.described && self.next.is_none() => {
                let row = message::row_cells(&frame.body)?;
                let [Some(timeline), Some(position), ..] = row.as_slice() else {
                    return Err(WireError::protocol("the next timeline is missing"));
                };
                self.next = Some(NextTimeline {
                    timeline: parse("timeline", &query::text(timeline))?,
                    switch_lsn: parse("position", &query::text(position))?,
                });
            }
            tag::COMMAND_COMPLETE | tag::NOTICE => {}
            tag::READY => return Ok(true),
            other => {
                return Err(WireError::protocol(format!(
                    "{} came at the end of a stream of WAL",
                    message::name_of(other)
                )));
            }
        }
        Ok(false)
    }
}

/// One message of the stream.
pub(crate) fn copied(mut body: Bytes) -> Result<WalMessage, WireError> {
    let mut cursor = Cursor::new(&body);
    match cursor.u8()? {
        b'w' => {
            let start = cursor.lsn()?;
            let server_end = cursor.lsn()?;
            let sent_at = PgTimestamp(cursor.i64()?);
            body.advance(DATA_HEADER);
            Ok(WalMessage::Data { start, server_end, sent_at, bytes: body })
        }
        b'k' => Ok(WalMessage::Keepalive {
            server_end: cursor.lsn()?,
            sent_at: PgTimestamp(cursor.i64()?),
            reply_requested: cursor.u8()? != 0,
        }),
        other => {
            Err(WireError::protocol(format!("{} came in a stream of WAL", message::name_of(other))))
        }
    }
}

/// A standby status update.
fn put_status(out: &mut BytesMut, status: Status, at: PgTimestamp, reply_requested: bool) {
    out.put_u8(tag::COPY_DATA);
    out.put_u32(4 + 1 + 8 + 8 + 8 + 8 + 1);
    out.put_u8(b'r');
    out.put_u64(status.written.0);
    out.put_u64(status.flushed.0);
    out.put_u64(status.applied.0);
    out.put_i64(at.0);
    out.put_u8(u8::from(reply_requested));
}

fn now() -> PgTimestamp {
    let since_2000 = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .saturating_sub(Duration::from_secs(EPOCH_SHIFT));
    PgTimestamp(i64::try_from(since_2000.as_micros()).unwrap_or(i64::MAX))
}

fn failure(error: ServerError, start: Lsn, timeline: TimelineId) -> WireError {
    // `CheckXLogRemoved` (xlog.c) takes the code from an errno that may be none: then it says XX000.
    let removed_meanwhile =
        error.sqlstate == "XX000" && error.routine.as_deref() == Some("CheckXLogRemoved");
    if error.sqlstate == "58P01" || removed_meanwhile {
        return WireError::WalRemoved { start, timeline, server: Box::new(error) };
    }
    error.into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn data_keeps_its_bytes() {
        let mut body = vec![b'w'];
        body.extend_from_slice(&0x0300_0000_u64.to_be_bytes());
        body.extend_from_slice(&0x0300_0100_u64.to_be_bytes());
        body.extend_from_slice(&7_i64.to_be_bytes());
        body.extend_from_slice(b"wal");
        assert_eq!(
            copied(Bytes::from(body)).unwrap(),
            WalMessage::Data {
                start: Lsn(0x0300_0000),
                server_end: Lsn(0x0300_0100),
                sent_at: PgTimestamp(7),
                bytes: Bytes::from_static(b"wal"),
            }
        );
    }

    #[test]
    fn a_status_has_its_layout() {
        let mut out = BytesMut::new();
        let status = Status { written: Lsn(3), flushed: Lsn(2), applied: Lsn(1) };
        put_status(&mut out, status, PgTimestamp(9), true);
        assert_eq!(out.len(), 1 + 38);
        assert_eq!(out[..6], [b'd', 0, 0, 0, 38, b'r']);
        assert_eq!(out[13], 3);
        assert_eq!(out[38], 1);
    }

    #[test]
    fn this_clock_is_after_2020() {
        assert!(now().0 > 20 * 365 * 86_400 * 1_000_000);
    }

    proptest! {
        #[test]
        fn random_messages_never_panic(body in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = copied(Bytes::from(body.clone()));
            for tag in [tag::ROW_DESCRIPTION, tag::DATA_ROW, tag::READY] {
                let mut words = LastWords { described: true, next: None };
                let _ = words.absorb(&Frame { tag, body: Bytes::from(body.clone()) });
            }
        }
    }
}
