//! `BASE_BACKUP` (`basebackup.c`, `basebackup_copy.c`, `repl_gram.y`).
//!
//! Servers from 15 send one copy stream in which the first byte of every message says what it is;
//! 14 sends one copy stream of raw tar per tablespace and one for the manifest. Both become the same
//! [`BackupEvent`]s. Success is only known at the very end: a server that found damaged pages says so
//! after all data, after the manifest and after the end position. [`BaseBackup::finish`] is the only
//! way to get a [`BackupEnd`].
//!
//! There is no read timeout: waiting for a spread checkpoint, or for the summarizer of an incremental
//! backup, takes minutes. TCP keepalives notice a dead peer.

use bytes::{Buf as _, Bytes};
use holdfast_postgres::{BackupGrammar, Lsn, TimelineId, VersionTraits};

use crate::ServerNotice;
use crate::connection::Connection;
use crate::error::{ServerError, WireError};
use crate::message::{self, Cursor, tag};
use crate::query;
use crate::replication::parse;
use crate::sql_text;

/// How many tablespaces are believed.
const MAX_TABLESPACES: usize = 100_000;

/// How many warnings are kept.
const MAX_WARNINGS: usize = 1_000;

/// What to ask for. The server never waits for its archiver (`NOWAIT`): the WAL comes by streaming.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseBackupOptions {
    /// The label in `backup_label`.
    pub label: String,
    /// Whether to checkpoint at full speed instead of spreading the writes.
    pub fast_checkpoint: bool,
    /// Highest rate in KiB/s, 32 to 1 048 576; `None` is unbounded.
    pub max_rate_kib: Option<u32>,
    /// Whether the server makes a manifest, with a CRC-32C of every file.
    pub manifest: bool,
    /// Whether `tablespace_map` is sent instead of symbolic links.
    pub tablespace_map: bool,
    /// Whether only changes since the uploaded manifest are sent (servers from 17).
    pub incremental: bool,
    /// Whether the server verifies page checksums while it reads.
    pub verify_checksums: bool,
    /// Whether the server estimates sizes first.
    pub progress: bool,
    /// Whether the WAL the backup needs is put into the archive.
    pub include_wal: bool,
    /// The level at which the server compresses each archive with zstd, 1 to 22 (servers from 15 that were built with
    /// it); `None` sends them as they are. The manifest is never compressed.
    pub zstd_level: Option<u8>,
}

impl Default for BaseBackupOptions {
    /// A full backup with everything that is needed to check it.
    fn default() -> Self {
        Self {
            label: "holdfast".to_owned(),
            fast_checkpoint: false,
            max_rate_kib: None,
            manifest: true,
            tablespace_map: true,
            incremental: false,
            verify_checksums: true,
            progress: false,
            include_wal: false,
            zstd_level: None,
        }
    }
}

impl BaseBackupOptions {
    fn command(&self, traits: &VersionTraits) -> Result<String, WireError> {
        let label = sql_text::literal(&self.label)?;
        let manifest = if self.manifest { "yes" } else { "no" };
        let mut words = Vec::new();
        match traits.backup_grammar {
            BackupGrammar::Keywords => {
                words.push(format!("LABEL {label}"));
                let flags = [
                    (self.progress, "PROGRESS"),
                    (self.fast_checkpoint, "FAST"),
                    (self.include_wal, "WAL"),
                    (true, "NOWAIT"),
                ];
                words
                    .extend(flags.iter().filter(|(on, _)| *on).map(|(_, word)| (*word).to_owned()));
                words.extend(self.max_rate_kib.map(|rate| format!("MAX_RATE {rate}")));
                if self.tablespace_map {
                    words.push("TABLESPACE_MAP".to_owned());
                }
                if !self.verify_checksums {
                    words.push("NOVERIFY_CHECKSUMS".to_owned());
                }
                words.push(format!("MANIFEST '{manifest}'"));
                Ok(format!("BASE_BACKUP {}", words.join(" ")))
            }
            BackupGrammar::Parenthesised => {
                words.push(format!("LABEL {label}"));
                let checkpoint = if self.fast_checkpoint { "fast" } else { "spread" };
                words.push(format!("CHECKPOINT '{checkpoint}'"));
                words.push("WAIT 0".to_owned());
                let flag = |name: &str, on: bool| format!("{name} {}", u8::from(on));
                words.push(flag("PROGRESS", self.progress));
                words.push(flag("WAL", self.include_wal));
                words.push(flag("TABLESPACE_MAP", self.tablespace_map));
                words.push(flag("VERIFY_CHECKSUMS", self.verify_checksums));
                words.extend(self.max_rate_kib.map(|rate| format!("MAX_RATE {rate}")));
                words.push(format!("MANIFEST '{manifest}'"));
                if let Some(level) = self.zstd_level {
                    words.push("COMPRESSION 'zstd'".to_owned());
                    words.push(format!("COMPRESSION_DETAIL 'level={level}'"));
                }
                if self.incremental {
                    words.push("INCREMENTAL".to_owned());
                }
                Ok(format!("BASE_BACKUP ({})", words.join(", ")))
            }
        }
    }
}

/// A tablespace the backup will send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TablespaceRow {
    /// Its oid; `None` for the data directory, which comes last.
    pub oid: Option<u32>,
    /// Its absolute path on the server; `None` for the data directory.
    pub location: Option<String>,
    /// The server's estimate in KiB, when asked for with `progress`.
    pub size_kib: Option<u64>,
}

/// What arrives during a backup, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackupEvent {
    /// A tar archive begins: `base.tar` or `<oid>.tar`, with `.zst` behind it when it is compressed.
    Archive {
        /// The server's name for it.
        name: String,
        /// The tablespace's path on the server; `None` for the data directory.
        tablespace_path: Option<String>,
        /// The tablespace's oid; `None` for the data directory.
        tablespace_oid: Option<u32>,
        /// Whether its bytes are a zstd stream.
        zstd: bool,
    },
    /// Bytes of the archive or the manifest that began last. They share a read buffer of up to
    /// 1 MiB, which lives as long as any piece of it.
    Data(Bytes),
    /// The manifest begins.
    ManifestStart,
    /// Bytes the server has read in all, before any compression.
    Progress(u64),
    /// The server warns, of a damaged page for example. It is also kept for [`BackupEnd`].
    Notice(ServerNotice),
}

/// The end of a successful backup.
#[derive(Debug)]
pub struct BackupEnd {
    /// WAL up to here is needed to make the copy consistent.
    pub end_lsn: Lsn,
    /// The timeline at the end.
    pub timeline: TimelineId,
    /// What the server warned of.
    pub warnings: Vec<ServerNotice>,
    /// The connection, idle again.
    pub connection: Connection,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// A copy stream is due (14 only: between two).
    Between,
    /// Within a copy stream.
    Copying,
    /// All copy streams were seen to their end.
    Copied,
    /// The server failed, or the protocol was broken.
    Failed,
}

/// A running backup. Dropping it closes the socket, and the server gives up.
#[must_use = "a backup has succeeded only when `finish` says so"]
#[derive(Debug)]
pub struct BaseBackup {
    connection: Connection,
    start_lsn: Lsn,
    timeline: TimelineId,
    tablespaces: Vec<TablespaceRow>,
    multiplexed: bool,
    /// Whether a manifest was asked for.
    manifest: bool,
    /// Copy streams that have begun.
    streams: usize,
    phase: Phase,
    warnings: Vec<ServerNotice>,
}

impl Connection {
    /// Starts a base backup and waits for its checkpoint.
    ///
    /// # Errors
    /// [`WireError::UnsupportedVersion`] for a server outside 14 to 18, or an incremental backup of
    /// one before 17; [`WireError::Server`] with what the server has against it.
    pub async fn base_backup(self, options: BaseBackupOptions) -> Result<BaseBackup, WireError> {
        self.base_backup_noting(options, &mut |_| {}).await
    }

    /// The same, and hands on at once what the server says before it begins to send: that it still
    /// waits for the summarizer, for example. All of it is also kept for [`BackupEnd`].
    ///
    /// # Errors
    /// As [`Connection::base_backup`].
    pub async fn base_backup_noting(
        mut self,
        options: BaseBackupOptions,
        note: &mut (dyn FnMut(&ServerNotice) + Send),
    ) -> Result<BaseBackup, WireError> {
        let traits = self.traits("base backups")?;
        if options.incremental && !traits.incremental {
            return Err(WireError::UnsupportedVersion {
                version: self.facts.version,
                feature: "incremental base backups",
            });
        }
        if options.zstd_level.is_some() && !traits.server_compression {
            return Err(WireError::UnsupportedVersion {
                version: self.facts.version,
                feature: "compression of a base backup by the server",
            });
        }
        self.send_command(&options.command(traits)?, "asking for a base backup").await?;
        let mut backup = BaseBackup {
            connection: self,
            start_lsn: Lsn::INVALID,
            timeline: TimelineId::FIRST,
            tablespaces: Vec::new(),
            multiplexed: traits.multiplexed_copy,
            manifest: options.manifest,
            streams: 0,
            phase: Phase::Between,
            warnings: Vec::new(),
        };
        let start = backup.rows("waiting for the backup's checkpoint", 1, note).await?;
        (backup.start_lsn, backup.timeline) = position(&start)?;
        let tablespaces =
            backup.rows("waiting for the list of tablespaces", MAX_TABLESPACES, note).await?;
        backup.tablespaces =
            tablespaces.iter().map(|row| tablespace(row)).collect::<Result<_, _>>()?;
        Ok(backup)
    }
}

impl BaseBackup {
    /// Where the backup starts: WAL from here on is needed.
    pub fn start_lsn(&self) -> Lsn {
        self.start_lsn
    }

    /// The timeline at the start.
    pub fn timeline(&self) -> TimelineId {
        self.timeline
    }

    /// The tablespaces in the order of their archives; the data directory last.
    pub fn tablespaces(&self) -> &[TablespaceRow] {
        &self.tablespaces
    }

    /// What is known about the server.
    pub fn server(&self) -> &crate::ServerFacts {
        self.connection.facts()
    }

    /// The next event; `None` when everything was sent, and [`BaseBackup::finish`] is due.
    /// Cancel-safe.
    ///
    /// # Errors
    /// [`WireError::Server`] when the server gave up: all that arrived is worthless.
    pub async fn next(&mut self) -> Result<Option<BackupEvent>, WireError> {
        match self.phase {
            Phase::Copied => return Ok(None),
            Phase::Failed => {
                return Err(WireError::Misuse { what: "reading on after a backup failed" });
            }
            Phase::Between | Phase::Copying => {}
        }
        match self.advance().await {
            Ok(event) => Ok(event),
            Err(error) => {
                self.phase = Phase::Failed;
                Err(error)
            }
        }
    }

    async fn advance(&mut self) -> Result<Option<BackupEvent>, WireError> {
        loop {
            let frame = self.connection.receive(None, "receiving a base backup").await?;
            match (frame.tag, self.phase) {
                (tag::COPY_DATA, Phase::Copying) if self.multiplexed => {
                    if let Some(event) = demultiplex(frame.body)? {
                        return Ok(Some(event));
                    }
                }
                (tag::COPY_DATA, Phase::Copying) => {
                    if !frame.body.is_empty() {
                        return Ok(Some(BackupEvent::Data(frame.body)));
                    }
                }
                (tag::COPY_OUT, Phase::Between) => {
                    self.phase = Phase::Copying;
                    let event = self.stream_begins()?;
                    self.streams += 1;
                    if event.is_some() {
                        return Ok(event);
                    }
                }
                (tag::COPY_DONE, Phase::Copying) => {
                    let expected = if self.multiplexed {
                        1
                    } else {
                        self.tablespaces.len() + usize::from(self.manifest)
                    };
                    if self.streams >= expected {
                        self.phase = Phase::Copied;
                        return Ok(None);
                    }
                    self.phase = Phase::Between;
                }
                (tag::NOTICE, _) => {
                    let notice = ServerError::parse(&frame.body)?;
                    self.keep(&notice);
                    return Ok(Some(BackupEvent::Notice(notice)));
                }
                (tag::ERROR, _) => return Err(ServerError::parse(&frame.body)?.into()),
                (other, _) => return Err(unexpected(other, "during a base backup")),
            }
        }
    }

    /// What a stream of 14 holds follows from its number: the tablespaces in order, the manifest.
    fn stream_begins(&self) -> Result<Option<BackupEvent>, WireError> {
        if self.multiplexed {
            return Ok(None);
        }
        match self.tablespaces.get(self.streams) {
            Some(row) => Ok(Some(BackupEvent::Archive {
                name: row.oid.map_or_else(|| "base.tar".to_owned(), |oid| format!("{oid}.tar")),
                tablespace_path: row.location.clone(),
                tablespace_oid: row.oid,
                zstd: false,
            })),
            None if self.manifest => Ok(Some(BackupEvent::ManifestStart)),
            None => Err(WireError::protocol("more archives came than there are tablespaces")),
        }
    }

    /// Waits for the server's verdict. Only after [`BaseBackup::next`] has answered `None`.
    ///
    /// # Errors
    /// [`WireError::ChecksumFailure`] when all data arrived but the server found damaged pages;
    /// [`WireError::Misuse`] when data is still to be read.
    pub async fn finish(mut self) -> Result<BackupEnd, WireError> {
        if self.phase != Phase::Copied {
            return Err(WireError::Misuse { what: "finishing a backup before all of it was read" });
        }
        let during = "waiting for the end of a base backup";
        let mut columns = false;
        let mut end = None;
        let mut failure: Option<ServerError> = None;
        loop {
            let frame = match self.connection.receive(None, during).await {
                Ok(frame) => frame,
                Err(error) => return Err(failure.map_or(error, WireError::from)),
            };
            match frame.tag {
                tag::ROW_DESCRIPTION => columns = true,
                tag::DATA_ROW if columns && end.is_none() => {
                    end = Some(position(&[message::row_cells(&frame.body)?])?);
                }
                tag::COMMAND_COMPLETE => {}
                tag::NOTICE => self.keep(&ServerError::parse(&frame.body)?),
                tag::ERROR => {
                    let error = ServerError::parse(&frame.body)?;
                    failure.get_or_insert(error);
                }
                tag::READY => break,
                other => return Err(unexpected(other, "at the end of a base backup")),
            }
        }
        self.connection.busy = false;
        let warnings = self.warnings;
        match (failure, end) {
            (Some(server), end) if server.sqlstate == "XX001" => Err(WireError::ChecksumFailure {
                end_lsn: end.map(|(lsn, _)| lsn),
                timeline: end.map(|(_, timeline)| timeline),
                warnings,
                server: Box::new(server),
            }),
            (Some(server), _) => Err(server.into()),
            (None, Some((end_lsn, timeline))) => {
                Ok(BackupEnd { end_lsn, timeline, warnings, connection: self.connection })
            }
            (None, None) => Err(WireError::protocol("a base backup ended without a position")),
        }
    }

    fn keep(&mut self, notice: &ServerNotice) {
        if self.warnings.len() < MAX_WARNINGS {
            self.warnings.push(notice.clone());
        }
    }

    /// One result set before the copy streams, of at most `limit` rows.
    async fn rows(
        &mut self,
        during: &'static str,
        limit: usize,
        note: &mut (dyn FnMut(&ServerNotice) + Send),
    ) -> Result<Vec<Vec<Option<Bytes>>>, WireError> {
        let mut described = false;
        let mut rows = Vec::new();
        loop {
            let frame = self.connection.receive(None, during).await?;
            match frame.tag {
                tag::ROW_DESCRIPTION if !described => described = true,
                tag::DATA_ROW if described && rows.len() < limit => {
                    rows.push(message::row_cells(&frame.body)?);
                }
                tag::COMMAND_COMPLETE if described => return Ok(rows),
                tag::NOTICE => {
                    let notice = ServerError::parse(&frame.body)?;
                    note(&notice);
                    self.keep(&notice);
                }
                tag::ERROR => return Err(ServerError::parse(&frame.body)?.into()),
                other => return Err(unexpected(other, "before a base backup")),
            }
        }
    }
}

/// One message of the multiplexed stream (`basebackup_copy.c`); `None` when it says nothing.
pub(crate) fn demultiplex(mut body: Bytes) -> Result<Option<BackupEvent>, WireError> {
    let Some(kind) = body.first().copied() else {
        return Err(WireError::protocol("an empty message came during a base backup"));
    };
    body.advance(1);
    match kind {
        b'd' if body.is_empty() => Ok(None),
        b'd' => Ok(Some(BackupEvent::Data(body))),
        b'n' => {
            let mut cursor = Cursor::new(&body);
            let name = cursor.text()?;
            let path = cursor.text()?;
            let plain = name.strip_suffix(".zst");
            let tar = plain.unwrap_or(&name).strip_suffix(".tar");
            let tablespace_oid = tar.and_then(|stem| stem.parse().ok());
            let tablespace_path = Some(path).filter(|path| !path.is_empty());
            let zstd = plain.is_some();
            Ok(Some(BackupEvent::Archive { name, tablespace_path, tablespace_oid, zstd }))
        }
        b'm' => Ok(Some(BackupEvent::ManifestStart)),
        b'p' => Ok(Some(BackupEvent::Progress(Cursor::new(&body).u64()?))),
        other => Err(WireError::protocol(format!(
            "{} came in the stream of a base backup",
            message::name_of(other)
        ))),
    }
}

/// The row with a position and a timeline.
pub(crate) fn position(rows: &[Vec<Option<Bytes>>]) -> Result<(Lsn, TimelineId), WireError> {
    match rows.first().map(Vec::as_slice) {
        Some([Some(lsn), Some(timeline), ..]) => {
            Ok((parse("position", &query::text(lsn))?, parse("timeline", &query::text(timeline))?))
        }
        _ => Err(WireError::protocol("a base backup's position is missing")),
    }
}

pub(crate) fn tablespace(row: &[Option<Bytes>]) -> Result<TablespaceRow, WireError> {
    let cell = |n: usize| row.get(n).and_then(Option::as_deref).map(query::text);
    Ok(TablespaceRow {
        oid: cell(0).map(|text| parse("tablespace oid", &text)).transpose()?,
        location: cell(1),
        size_kib: cell(2).map(|text| parse("tablespace size", &text)).transpose()?,
    })
}

fn unexpected(tag: u8, when: &str) -> WireError {
    WireError::protocol(format!("{} came {when}", message::name_of(tag)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_grammars() {
        let options = BaseBackupOptions {
            label: "it's".into(),
            fast_checkpoint: true,
            max_rate_kib: Some(1024),
            incremental: false,
            verify_checksums: false,
            progress: true,
            ..BaseBackupOptions::default()
        };
        assert_eq!(
            options.command(VersionTraits::of_major(14).unwrap()).unwrap(),
            "BASE_BACKUP LABEL 'it''s' PROGRESS FAST NOWAIT MAX_RATE 1024 TABLESPACE_MAP NOVERIFY_CHECKSUMS \
             MANIFEST 'yes'"
        );
        let incremental = BaseBackupOptions { incremental: true, zstd_level: Some(1), ..options };
        assert_eq!(
            incremental.command(VersionTraits::of_major(17).unwrap()).unwrap(),
            "BASE_BACKUP (LABEL 'it''s', CHECKPOINT 'fast', WAIT 0, PROGRESS 1, WAL 0, TABLESPACE_MAP 1, \
             VERIFY_CHECKSUMS 0, MAX_RATE 1024, MANIFEST 'yes', COMPRESSION 'zstd', COMPRESSION_DETAIL 'level=1', \
             INCREMENTAL)"
        );
    }

    #[test]
    fn archives_name_their_tablespace() {
        let event = demultiplex(Bytes::from_static(b"n16384.tar\0/srv/fast\0")).unwrap().unwrap();
        assert_eq!(
            event,
            BackupEvent::Archive {
                name: "16384.tar".into(),
                tablespace_path: Some("/srv/fast".into()),
                tablespace_oid: Some(16384),
                zstd: false
            }
        );
        let packed = demultiplex(Bytes::from_static(b"n16384.tar.zst\0/srv\0")).unwrap().unwrap();
        let BackupEvent::Archive { tablespace_oid, zstd, .. } = packed else {
            panic!("{packed:?}")
        };
        assert_eq!((tablespace_oid, zstd), (Some(16384), true));
        let base = demultiplex(Bytes::from_static(b"nbase.tar\0\0")).unwrap().unwrap();
        assert_eq!(
            base,
            BackupEvent::Archive {
                name: "base.tar".into(),
                tablespace_path: None,
                tablespace_oid: None,
                zstd: false
            }
        );
    }

    proptest! {
        #[test]
        fn random_messages_never_panic(body in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = demultiplex(Bytes::from(body));
        }
    }
}
