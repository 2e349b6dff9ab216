//! A job's journal: one JSON object a line, numbered from 1.

use std::io::{BufRead as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use holdfast_postgres::Lsn;
use serde::{Deserialize, Serialize};

use super::{JobId, is_held};

/// What a line of the journal tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
#[serde(rename_all = "snake_case")]
pub enum JobEventKind {
    /// A phase began.
    PhaseStarted,
    /// Numbers moved.
    Progress,
    /// Something worth a line.
    Log,
    /// Something a person should read.
    Warning,
    /// Something somebody has to act on; `code` says what it is.
    Alert,
    /// The job ended well.
    Finished,
    /// The job failed.
    Failed,
    /// The job was cancelled.
    Cancelled,
}

impl JobEventKind {
    /// Whether nothing follows.
    pub fn is_end(self) -> bool {
        matches!(self, Self::Finished | Self::Failed | Self::Cancelled)
    }
}

/// One line of the journal. Unknown values are `None`, never 0.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS)]
pub struct JobEvent {
    /// Whose.
    pub job: JobId,
    /// Its number, from 1, without holes.
    #[ts(type = "number")]
    pub seq: u64,
    /// When.
    #[ts(type = "string")]
    pub at: DateTime<Utc>,
    /// The phase it belongs to.
    pub phase: String,
    /// What it tells.
    pub kind: JobEventKind,
    /// How much of the phase is done, in `unit`.
    #[ts(type = "number | null")]
    pub done: Option<u64>,
    /// How much there is, when that is known.
    #[ts(type = "number | null")]
    pub total: Option<u64>,
    /// "bytes", "files", "segments".
    pub unit: Option<String>,
    /// Units a second over the last seconds.
    pub rate: Option<f64>,
    /// Commit time of the last replayed transaction.
    #[ts(type = "string | null")]
    pub replayed_to: Option<DateTime<Utc>>,
    /// The end of the last replayed record; none until the server answers, which it first does when it
    /// is consistent.
    #[ts(type = "string | null")]
    pub replayed_lsn: Option<Lsn>,
    /// What the replay is heading for.
    pub target: Option<String>,
    /// Where that ends in the WAL.
    #[ts(type = "string | null")]
    pub target_lsn: Option<Lsn>,
    /// A sentence.
    pub message: Option<String>,
    /// Of an alert: what it is, in stable words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub code: Option<String>,
}

/// Reads a journal from some event on, and waits for more while the job runs.
#[derive(Debug)]
pub struct JournalReader {
    directory: PathBuf,
    offset: u64,
    from_seq: u64,
    ended: bool,
}

impl JournalReader {
    pub(super) fn new(directory: PathBuf, from_seq: u64) -> Self {
        Self { directory, offset: 0, from_seq, ended: false }
    }

    /// The next events; an empty list when the job has ended and all were given.
    ///
    /// Cancel-safe: what was not returned is read again.
    pub async fn next(&mut self) -> Vec<JobEvent> {
        loop {
            if self.ended {
                return Vec::new();
            }
            // The lock is looked at before the file, so that an end written in between is seen.
            let abandoned = !is_held(&self.directory);
            let (events, offset) = read_from(&self.directory, self.offset);
            self.offset = offset;
            self.ended = events.iter().any(|e| e.kind.is_end()) || (abandoned && events.is_empty());
            let events: Vec<_> = events.into_iter().filter(|e| e.seq >= self.from_seq).collect();
            if !events.is_empty() {
                return events;
            }
            if !self.ended {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }

    /// The phase of the last event.
    pub(super) fn last_phase(directory: &Path) -> Option<String> {
        let path = directory.join("journal");
        let length = std::fs::metadata(&path).ok()?.len();
        let (events, _) = read_from(directory, length.saturating_sub(16 * 1024));
        events.last().map(|e| e.phase.clone())
    }

    /// Whether the journal ends with a whole line, or has none.
    pub(super) fn ends_whole(directory: &Path) -> bool {
        let Ok(mut file) = std::fs::File::open(directory.join("journal")) else { return true };
        let mut last = [0];
        match file.seek(SeekFrom::End(-1)) {
            Ok(_) => std::io::Read::read_exact(&mut file, &mut last).is_ok() && last == *b"\n",
            Err(_) => true,
        }
    }

    /// The number of the last event.
    pub fn last_seq(directory: &Path) -> u64 {
        let length = std::fs::metadata(directory.join("journal")).map_or(0, |m| m.len());
        let (events, _) = read_from(directory, length.saturating_sub(16 * 1024));
        events.last().map_or(0, |e| e.seq)
    }
}

/// Reads whole lines from `offset`; a line that is still being written stays for the next time.
fn read_from(directory: &Path, offset: u64) -> (Vec<JobEvent>, u64) {
    let Ok(mut file) = std::fs::File::open(directory.join("journal")) else {
        return (Vec::new(), offset);
    };
    if file.seek(SeekFrom::Start(offset)).is_err() {
        return (Vec::new(), offset);
    }
    let mut reader = std::io::BufReader::new(file);
    let mut events = Vec::new();
    let mut at = offset;
    let mut line = Vec::new();
    while events.len() < 1000 {
        line.clear();
        let Ok(n) = reader.read_until(b'\n', &mut line) else { break };
        if n == 0 || line.last() != Some(&b'\n') {
            break;
        }
        at += n as u64;
        if let Ok(event) = serde_json::from_slice(&line) {
            events.push(event);
        }
    }
    (events, at)
}
