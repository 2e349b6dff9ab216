//! The reporting end of a job: phases and numbers go in, journal lines come out.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use holdfast_postgres::Lsn;

use super::{JobEvent, JobEventKind, JobId, JournalReader, ProgressListener};
use crate::error::{EngineError, Result};

/// Progress is written at most this often; the last numbers of a phase are never lost.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);
/// The rate is the mean over this span.
const RATE_WINDOW: Duration = Duration::from_secs(3);

/// Writes a job's journal. Cheap to clone; usable from any thread.
#[derive(Clone)]
pub struct Reporter {
    inner: Arc<Mutex<Inner>>,
    listener: Option<ProgressListener>,
}

impl std::fmt::Debug for Reporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reporter").finish_non_exhaustive()
    }
}

struct Inner {
    job: JobId,
    file: File,
    seq: u64,
    phase: String,
    phase_began: Instant,
    phases: Vec<(String, Duration, Option<u64>)>,
    done: Option<u64>,
    total: Option<u64>,
    unit: Option<&'static str>,
    replayed_to: Option<DateTime<Utc>>,
    replayed_lsn: Option<Lsn>,
    target: Option<String>,
    target_lsn: Option<Lsn>,
    samples: VecDeque<(Instant, u64)>,
    written_at: Option<Instant>,
    written: Option<Numbers>,
    unwritten: bool,
}

/// What a progress event tells.
#[derive(Clone, Copy, PartialEq)]
struct Numbers {
    done: Option<u64>,
    total: Option<u64>,
    replayed_to: Option<DateTime<Utc>>,
    replayed_lsn: Option<Lsn>,
    rate: Option<f64>,
}

impl Reporter {
    /// Opens a job's journal, to go on after its last event.
    pub(super) fn open(
        job: JobId,
        directory: &Path,
        listener: Option<ProgressListener>,
    ) -> Result<Self> {
        let path = directory.join("journal");
        let seq = JournalReader::last_seq(directory);
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(EngineError::file("create", &path))?;
        if !JournalReader::ends_whole(directory) {
            // A process that was killed has left half a line: it must not swallow the next one.
            file.write_all(b"\n").map_err(EngineError::file("write", &path))?;
        }
        let inner = Inner {
            job,
            file,
            seq,
            phase: "start".to_owned(),
            phase_began: Instant::now(),
            phases: Vec::new(),
            done: None,
            total: None,
            unit: None,
            replayed_to: None,
            replayed_lsn: None,
            target: None,
            target_lsn: None,
            samples: VecDeque::new(),
            written_at: None,
            written: None,
            unwritten: false,
        };
        Ok(Self { inner: Arc::new(Mutex::new(inner)), listener })
    }

    fn with(&self, change: impl FnOnce(&mut Inner) -> Option<(JobEventKind, Option<String>)>) {
        let mut inner = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let event = change(&mut inner).map(|(kind, message)| inner.write(kind, message, None));
        // Still under the lock: listeners hear the events in the order of their numbers.
        if let (Some(event), Some(listener)) = (event, &self.listener) {
            listener(&event);
        }
    }

    /// Begins a phase; what was measured in the one before is closed.
    pub fn phase(&self, name: &str, unit: Option<&'static str>, total: Option<u64>) {
        self.flush();
        self.with(|inner| {
            inner.close_phase();
            name.clone_into(&mut inner.phase);
            inner.unit = unit;
            inner.total = total;
            inner.done = None;
            Some((JobEventKind::PhaseStarted, None))
        });
    }

    /// How much of the phase is done; may be called as often as one likes.
    pub fn done(&self, done: u64) {
        self.with(|inner| {
            inner.done = Some(done);
            inner.progressed()
        });
    }

    /// The phase's total, once it is known.
    pub fn total(&self, total: Option<u64>) {
        self.with(|inner| {
            inner.total = total;
            None
        });
    }

    /// Where the replay that follows is heading: what was asked for, and where it ends in the WAL.
    pub fn heading_for(&self, target: &str, end: Lsn) {
        self.with(|inner| {
            inner.target = Some(target.to_owned());
            inner.target_lsn = Some(end);
            (inner.replayed_to, inner.replayed_lsn) = (None, None);
            None
        });
    }

    /// The replay clock: how far replay has come, in the source's time and in the WAL.
    pub fn replayed(&self, to: Option<DateTime<Utc>>, lsn: Lsn, done: u64) {
        self.with(|inner| {
            inner.replayed_to = to;
            inner.replayed_lsn = Some(lsn);
            inner.done = Some(done);
            inner.progressed()
        });
    }

    /// A line worth reading.
    pub fn log(&self, message: impl Into<String>) {
        self.with(|_| Some((JobEventKind::Log, Some(message.into()))));
    }

    /// A line somebody should read.
    pub fn warning(&self, message: impl Into<String>) {
        self.with(|_| Some((JobEventKind::Warning, Some(message.into()))));
    }

    /// Something somebody has to act on: it wakes whoever listens for alerts.
    pub fn alert(&self, code: &str, message: impl Into<String>) {
        let mut inner = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let event = inner.write(JobEventKind::Alert, Some(message.into()), Some(code.to_owned()));
        if let Some(listener) = &self.listener {
            listener(&event);
        }
    }

    /// Writes numbers that were held back.
    pub fn flush(&self) {
        self.with(|inner| inner.unwritten.then_some((JobEventKind::Progress, None)));
    }

    pub(super) fn ended(&self, kind: JobEventKind, message: Option<String>) {
        self.flush();
        self.with(|inner| {
            inner.close_phase();
            Some((kind, message))
        });
    }

    /// The phases so far with their durations and, where the unit is bytes, their bytes.
    pub fn phases(&self) -> Vec<super::super::PhaseTime> {
        let mut inner = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        inner.close_phase();
        inner
            .phases
            .iter()
            .map(|(name, duration, bytes)| super::super::PhaseTime {
                name: name.clone(),
                seconds: duration.as_secs_f64(),
                bytes: *bytes,
            })
            .collect()
    }
}

impl Inner {
    fn close_phase(&mut self) {
        let now = Instant::now();
        let elapsed = now - self.phase_began;
        if self.phase != "start" && !self.phase.is_empty() {
            let bytes = if self.unit == Some("bytes") { self.done } else { None };
            self.phases.push((std::mem::take(&mut self.phase), elapsed, bytes));
        }
        self.phase_began = now;
        self.samples.clear();
    }

    fn progressed(&mut self) -> Option<(JobEventKind, Option<String>)> {
        let now = Instant::now();
        self.unwritten = true;
        if self.written_at.is_some_and(|at| now - at < PROGRESS_EVERY) {
            return None;
        }
        if let Some(done) = self.done {
            self.samples.push_back((now, done));
            while self.samples.front().is_some_and(|(at, _)| now - *at > RATE_WINDOW)
                && self.samples.len() > 2
            {
                self.samples.pop_front();
            }
        }
        // What stands still, as a paused restore does for days, is told once.
        if self.written == Some(self.numbers()) {
            (self.unwritten, self.written_at) = (false, Some(now));
            return None;
        }
        Some((JobEventKind::Progress, None))
    }

    fn numbers(&self) -> Numbers {
        Numbers {
            done: self.done,
            total: self.total,
            replayed_to: self.replayed_to,
            replayed_lsn: self.replayed_lsn,
            rate: self.rate(),
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "a rate is shown with three digits")]
    fn rate(&self) -> Option<f64> {
        let (first, last) = (self.samples.front()?, self.samples.back()?);
        let span = (last.0 - first.0).as_secs_f64();
        (span > 0.2).then(|| last.1.saturating_sub(first.1) as f64 / span)
    }

    fn write(
        &mut self,
        kind: JobEventKind,
        message: Option<String>,
        code: Option<String>,
    ) -> JobEvent {
        self.seq += 1;
        let event = JobEvent {
            job: self.job,
            seq: self.seq,
            at: Utc::now(),
            phase: self.phase.clone(),
            kind,
            done: self.done,
            total: self.total,
            unit: self.unit.map(ToOwned::to_owned),
            rate: if kind == JobEventKind::Progress { self.rate() } else { None },
            replayed_to: self.replayed_to,
            replayed_lsn: self.replayed_lsn,
            target: self.target.clone(),
            target_lsn: self.target_lsn,
            message,
            code,
        };
        if kind == JobEventKind::Progress {
            self.written_at = Some(Instant::now());
            self.written = Some(self.numbers());
            self.unwritten = false;
        } else {
            self.written = None;
        }
        // A journal that cannot be written (a full disk) must not stop a restore.
        if let Ok(mut line) = serde_json::to_vec(&event) {
            line.push(b'\n');
            if let Err(error) = self.file.write_all(&line) {
                tracing::warn!(job = %self.job, %error, "the journal could not be written");
            }
        }
        event
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_stands_still_is_told_once() {
        let place = tempfile::tempdir().unwrap();
        let reporter = Reporter::open(JobId(uuid::Uuid::nil()), place.path(), None).unwrap();
        reporter.phase("replaying", Some("bytes"), Some(100));
        let told = || {
            let journal = std::fs::read_to_string(place.path().join("journal")).unwrap();
            journal.lines().filter(|line| line.contains("\"progress\"")).count()
        };
        // Five times as long as it takes to be told again.
        let began = Instant::now();
        while began.elapsed() < 5 * PROGRESS_EVERY {
            reporter.replayed(None, Lsn(16), 16);
        }
        // The numbers, and that the rate is none.
        assert!((1..=2).contains(&told()), "{}", told());
        let before = told();
        reporter.replayed(None, Lsn(32), 32);
        reporter.flush();
        assert_eq!(told(), before + 1);
    }
}
