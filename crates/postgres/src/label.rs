//! `backup_label` and `tablespace_map` (`xlogbackup.c`, `xlogrecovery.c`).

use serde::{Deserialize, Serialize};

use crate::lsn::Lsn;
use crate::text::decimal;
use crate::timeline::TimelineId;

/// What `backup_label` says: where the replay of a base backup begins.
///
/// For reading only. The file itself goes back to where it came from byte for byte, except that an
/// incremental backup's last two lines are dropped when the backup is made whole.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct BackupLabel {
    /// Where replay begins, the redo position of the backup's checkpoint.
    pub start_lsn: Lsn,
    /// Name of the segment that holds it.
    pub start_file: String,
    /// Start of the checkpoint's record.
    pub checkpoint_lsn: Lsn,
    /// The timeline the backup began on.
    pub start_timeline: TimelineId,
    /// `streamed`; `pg_start_backup` of old wrote other words.
    pub backup_method: String,
    /// `primary` or `standby`.
    pub backup_from: String,
    /// When it began, in the server's `log_timezone` and for people to read.
    pub start_time: String,
    /// The label the client chose.
    pub label: String,
    /// Start position and timeline of the backup this one is incremental to.
    pub incremental_from: Option<(Lsn, TimelineId)>,
}

/// One line of `tablespace_map`.
#[derive(Clone, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
pub struct TablespaceMapEntry {
    /// The tablespace, and the name of its link in `pg_tblspc`.
    pub oid: u32,
    /// Where it was on the server.
    pub path: String,
}

/// Why bytes are no `backup_label` or `tablespace_map`.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LabelError {
    /// A line that must be there is not.
    #[error("backup_label has no line `{field}`")]
    Missing {
        /// What the line begins with.
        field: &'static str,
    },
    /// A line stands there twice, as a label with line breaks in it could bring about.
    #[error("backup_label has the line `{field}` more than once")]
    Repeated {
        /// What the line begins with.
        field: &'static str,
    },
    /// A line's value cannot be read, or contradicts another line.
    #[error("backup_label has an unusable value after `{field}`")]
    Value {
        /// What the line begins with.
        field: &'static str,
    },
    /// A line of `tablespace_map` that is not `oid path`.
    #[error("line {line} of tablespace_map is not a number and a path")]
    MapLine {
        /// Line number, from 1.
        line: usize,
    },
}

impl BackupLabel {
    /// Reads the file's content.
    ///
    /// Bytes that are no UTF-8, possible in the label, are replaced. Lines it does not know are
    /// passed over.
    ///
    /// # Errors
    /// See [`LabelError`].
    pub fn parse(content: &[u8]) -> Result<Self, LabelError> {
        let text = String::from_utf8_lossy(content);
        let lines = Lines(&text);
        let start = "START WAL LOCATION";
        let (start_lsn, file) = lines
            .required(start)?
            .split_once(" (file ")
            .and_then(|(lsn, rest)| Some((lsn.parse().ok()?, rest.strip_suffix(')')?)))
            .ok_or(LabelError::Value { field: start })?;
        let start_timeline: TimelineId = lines.parsed("START TIMELINE")?;
        // The name repeats the timeline; PostgreSQL too refuses to start when the two differ.
        if file.len() != 24 || !file.starts_with(&format!("{:08X}", start_timeline.get())) {
            return Err(LabelError::Value { field: start });
        }
        let from_lsn = "INCREMENTAL FROM LSN";
        let incremental_from = match lines.optional(from_lsn)? {
            Some(_) => Some((lines.parsed(from_lsn)?, lines.parsed("INCREMENTAL FROM TLI")?)),
            None => None,
        };
        Ok(BackupLabel {
            start_lsn,
            start_file: file.to_owned(),
            checkpoint_lsn: lines.parsed("CHECKPOINT LOCATION")?,
            start_timeline,
            backup_method: lines.required("BACKUP METHOD")?.to_owned(),
            backup_from: lines.required("BACKUP FROM")?.to_owned(),
            start_time: lines.required("START TIME")?.to_owned(),
            label: lines.required("LABEL")?.to_owned(),
            incremental_from,
        })
    }
}

/// The content of a `backup_label` without what makes it one of an incremental backup, byte for byte
/// as `pg_combinebackup` writes it (`backup_label.c`). A server refuses to start with those lines: they
/// say that most of the files are elsewhere.
#[must_use]
pub fn without_incremental_lines(content: &[u8]) -> Vec<u8> {
    content
        .split_inclusive(|byte| *byte == b'\n')
        .filter(|line| {
            !line.starts_with(b"INCREMENTAL FROM LSN: ")
                && !line.starts_with(b"INCREMENTAL FROM TLI: ")
        })
        .flatten()
        .copied()
        .collect()
}

/// Lines of the form `FIELD: value`.
struct Lines<'a>(&'a str);

impl<'a> Lines<'a> {
    fn optional(&self, field: &'static str) -> Result<Option<&'a str>, LabelError> {
        let mut values = self.0.split('\n').filter_map(|line| {
            line.strip_suffix('\r').unwrap_or(line).strip_prefix(field)?.strip_prefix(": ")
        });
        let value = values.next();
        if values.next().is_some() {
            return Err(LabelError::Repeated { field });
        }
        Ok(value)
    }

    fn required(&self, field: &'static str) -> Result<&'a str, LabelError> {
        self.optional(field)?.ok_or(LabelError::Missing { field })
    }

    fn parsed<T: std::str::FromStr>(&self, field: &'static str) -> Result<T, LabelError> {
        self.required(field)?.parse().map_err(|_| LabelError::Value { field })
    }
}

/// Reads the content of `tablespace_map`: a line per tablespace, `oid path`, in which a backslash
/// takes the following byte as it is, line breaks included.
///
/// # Errors
/// [`LabelError::MapLine`], also for a path that is no UTF-8.
pub fn parse_tablespace_map(content: &[u8]) -> Result<Vec<TablespaceMapEntry>, LabelError> {
    let mut entries = Vec::new();
    let mut line = Vec::new();
    let mut escaped = false;
    let mut number = 1;
    for byte in content {
        if escaped || !matches!(byte, b'\\' | b'\n' | b'\r') {
            line.push(*byte);
            escaped = false;
        } else if *byte == b'\\' {
            escaped = true;
        } else {
            // A line break of two bytes leaves an empty line behind.
            if !line.is_empty() {
                entries.push(map_entry(&line).ok_or(LabelError::MapLine { line: number })?);
                line.clear();
            }
            if *byte == b'\n' {
                number += 1;
            }
        }
    }
    if escaped || !line.is_empty() {
        return Err(LabelError::MapLine { line: number });
    }
    Ok(entries)
}

fn map_entry(line: &[u8]) -> Option<TablespaceMapEntry> {
    let (oid, path) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    let oid = u32::try_from(decimal(oid)?).ok()?;
    (oid != 0 && !path.is_empty()).then(|| TablespaceMapEntry { oid, path: path.to_owned() })
}

/// The content of a `tablespace_map`, for a restore that puts tablespaces elsewhere.
#[must_use]
pub fn render_tablespace_map(entries: &[TablespaceMapEntry]) -> Vec<u8> {
    let mut content = Vec::new();
    for entry in entries {
        content.extend(format!("{} ", entry.oid).into_bytes());
        for byte in entry.path.bytes() {
            if matches!(byte, b'\\' | b'\n' | b'\r') {
                content.push(b'\\');
            }
            content.push(byte);
        }
        content.push(b'\n');
    }
    content
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    const LABEL: &str = "START WAL LOCATION: 0/2000028 (file 000000010000000000000002)
CHECKPOINT LOCATION: 0/2000060
BACKUP METHOD: streamed
BACKUP FROM: primary
START TIME: 2026-03-01 10:11:12 UTC
LABEL: nightly: all
START TIMELINE: 1
";

    #[test]
    fn reads_a_full_backups_label() {
        let label = BackupLabel::parse(LABEL.as_bytes()).unwrap();
        assert_eq!(label.start_lsn, Lsn(0x200_0028));
        assert_eq!(label.start_file, "000000010000000000000002");
        assert_eq!(label.checkpoint_lsn, Lsn(0x200_0060));
        assert_eq!(label.start_timeline, TimelineId::FIRST);
        assert_eq!(
            (label.backup_method.as_str(), label.backup_from.as_str()),
            ("streamed", "primary")
        );
        assert_eq!(label.start_time, "2026-03-01 10:11:12 UTC");
        assert_eq!(label.label, "nightly: all");
        assert_eq!(label.incremental_from, None);
        let json = serde_json::to_string(&label).unwrap();
        assert_eq!(serde_json::from_str::<BackupLabel>(&json).unwrap(), label);
    }

    #[test]
    fn reads_an_incremental_backups_label() {
        let text = format!("{LABEL}INCREMENTAL FROM LSN: 0/1000028\nINCREMENTAL FROM TLI: 1\n");
        let label = BackupLabel::parse(text.as_bytes()).unwrap();
        assert_eq!(label.incremental_from, Some((Lsn(0x100_0028), TimelineId::FIRST)));
        let cut = format!("{LABEL}INCREMENTAL FROM LSN: 0/1000028\n");
        let error = BackupLabel::parse(cut.as_bytes()).unwrap_err();
        assert_eq!(error, LabelError::Missing { field: "INCREMENTAL FROM TLI" });
    }

    #[test]
    fn a_folded_backups_label_is_a_full_backups() {
        let text = format!("{LABEL}INCREMENTAL FROM LSN: 0/1000028\nINCREMENTAL FROM TLI: 1\n");
        assert_eq!(without_incremental_lines(text.as_bytes()), LABEL.as_bytes());
        assert_eq!(without_incremental_lines(LABEL.as_bytes()), LABEL.as_bytes());
    }

    #[test]
    fn refuses_labels_that_mislead() {
        let parse = |text: &str| BackupLabel::parse(text.as_bytes()).unwrap_err();
        assert_eq!(parse(""), LabelError::Missing { field: "START WAL LOCATION" });
        let injected = LABEL.replace("LABEL: nightly", "LABEL: x\nSTART TIMELINE: 9\n");
        assert_eq!(parse(&injected), LabelError::Repeated { field: "START TIMELINE" });
        let differing = LABEL.replace("START TIMELINE: 1", "START TIMELINE: 2");
        assert_eq!(parse(&differing), LabelError::Value { field: "START WAL LOCATION" });
        let unreadable = LABEL.replace("0/2000060", "nowhere");
        assert_eq!(parse(&unreadable), LabelError::Value { field: "CHECKPOINT LOCATION" });
    }

    #[test]
    fn reads_escaped_paths() {
        let entries = parse_tablespace_map(b"16400 /data/a b\r\n16401 /od\\\\d\\\npath\n").unwrap();
        assert_eq!(entries[0], TablespaceMapEntry { oid: 16400, path: "/data/a b".to_owned() });
        assert_eq!(entries[1].path, "/od\\d\npath");
        for text in
            [&b"16400"[..], b"x /a\n", b"0 /a\n", b"5 \n", b"5 /a", b"5 /a\n\\", b"5 \xFF\n"]
        {
            assert!(parse_tablespace_map(text).is_err(), "{text:?}");
        }
        assert_eq!(
            parse_tablespace_map(b"5 /a\n6\n").unwrap_err().to_string(),
            "line 2 of tablespace_map is not a number and a path"
        );
    }

    proptest! {
        #[test]
        fn maps_round_trip(entries in proptest::collection::vec((1u32.., "/[a-z\\\\\n\r ]{0,20}"), 0..5)) {
            let entries: Vec<_> = entries
                .into_iter()
                .map(|(oid, path)| TablespaceMapEntry { oid, path })
                .collect();
            prop_assert_eq!(parse_tablespace_map(&render_tablespace_map(&entries)).unwrap(), entries);
        }

        #[test]
        fn random_bytes_never_panic(bytes: Vec<u8>) {
            let _ = BackupLabel::parse(&bytes);
            let _ = parse_tablespace_map(&bytes);
        }
    }
}
