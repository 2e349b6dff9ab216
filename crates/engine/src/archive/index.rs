//! The commit index: what recovery can stop at, per segment, written beside the WAL it describes.
//!
//! A record belongs to the segment in which it ends. The index can be rebuilt from the WAL.

use holdfast_postgres::{
    LocatedEvent, Lsn, PgTimestamp, RecordSpan, SegmentNo, ServerLimits, TimelineId, WalEvent,
    WalRecord, WalSegmentSize, Xid, created_tablespace, decode_event,
};
use serde::{Deserialize, Serialize};

use super::markers::{MarkerGatherer, SegmentMarkers};
use crate::error::{EngineError, Result};

/// What a stretch of archived WAL holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SegmentIndex {
    /// Who wrote it.
    pub timeline: TimelineId,
    /// Which segment it is of.
    pub segment: SegmentNo,
    /// Bytes of one segment.
    pub segment_size: WalSegmentSize,
    /// First byte covered.
    pub from: Lsn,
    /// First byte not covered.
    pub to: Lsn,
    /// Start of the first record that ends here.
    pub first_record: Option<Lsn>,
    /// The last record that ends here.
    pub last_record: Option<RecordSpan>,
    /// Transaction ends, in WAL order.
    pub transactions: Vec<TransactionEnd>,
    /// Named restore points, in WAL order.
    pub points: Vec<NamedPoint>,
    /// Changes of the settings that a replaying server must match, with where each record starts.
    pub limits: Vec<(Lsn, ServerLimits)>,
    /// Tablespaces made at a path of their own, with where each record starts.
    #[serde(default)]
    pub tablespaces: Vec<(Lsn, String)>,
    /// What destroyed rows; none where nobody has looked, which says nothing.
    #[serde(default)]
    pub markers: Option<SegmentMarkers>,
    /// BLAKE3 of the WAL, hex: whoever may not read it tells by this whether other WAL is the same. None where
    /// it was not written down, or not of these bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blake3: Option<String>,
}

/// What is written down of the bytes of a stretch of WAL.
pub(super) fn blake3_of(wal: &[u8]) -> String {
    blake3::hash(wal).to_hex().to_string()
}

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionKind {
    /// It committed.
    Commit,
    /// It was rolled back.
    Abort,
}

/// The end of one transaction. In JSON an array: kind (0 commit, 1 abort), start, end, xid, microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "(u8, u64, u64, u32, i64)", from = "(u8, u64, u64, u32, i64)")]
pub struct TransactionEnd {
    /// Commit or abort; a prepared transaction's second phase counts as its end.
    pub kind: TransactionKind,
    /// The record.
    pub span: RecordSpan,
    /// The transaction.
    pub xid: Xid,
    /// The time written in the record.
    pub time: PgTimestamp,
}

impl From<TransactionEnd> for (u8, u64, u64, u32, i64) {
    fn from(t: TransactionEnd) -> Self {
        (
            u8::from(t.kind == TransactionKind::Abort),
            t.span.start.0,
            t.span.end.0,
            t.xid.0,
            t.time.0,
        )
    }
}

impl From<(u8, u64, u64, u32, i64)> for TransactionEnd {
    fn from((kind, start, end, xid, time): (u8, u64, u64, u32, i64)) -> Self {
        Self {
            kind: if kind == 0 { TransactionKind::Commit } else { TransactionKind::Abort },
            span: RecordSpan { start: Lsn(start), end: Lsn(end) },
            xid: Xid(xid),
            time: PgTimestamp(time),
        }
    }
}

/// A named restore point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedPoint {
    /// The record.
    pub span: RecordSpan,
    /// Its name.
    pub name: String,
    /// When it was made.
    pub time: PgTimestamp,
}

impl SegmentIndex {
    pub(crate) fn new(
        timeline: TimelineId,
        segment: SegmentNo,
        segment_size: WalSegmentSize,
        from: Lsn,
    ) -> Self {
        Self {
            timeline,
            segment,
            segment_size,
            from,
            to: from,
            first_record: None,
            last_record: None,
            transactions: Vec::new(),
            points: Vec::new(),
            limits: Vec::new(),
            tablespaces: Vec::new(),
            markers: Some(SegmentMarkers::new()),
            blake3: None,
        }
    }

    /// Takes one record that ends in this stretch; `gatherer` has taken those before it.
    pub(crate) fn add(
        &mut self,
        record: &WalRecord,
        major: u32,
        gatherer: &mut MarkerGatherer,
    ) -> Result<()> {
        self.first_record.get_or_insert(record.span.start);
        self.last_record = Some(record.span);
        let event = decode_event(record, major).map_err(|e| {
            EngineError::integrity(
                "wal_record_undecodable",
                format!("the WAL record at {} cannot be decoded: {e}", record.span.start),
                "The archive stops here rather than index WAL that it does not understand. Report it with the server's version.",
            )
        })?;
        match gatherer.take(record, major) {
            Ok(None) => {}
            Ok(Some(marker)) => {
                if let Some(markers) = &mut self.markers {
                    markers.transactions.push(marker);
                }
            }
            // What recovery can stop at is indexed all the same.
            Err(_) => self.markers = None,
        }
        if let Some(path) = created_tablespace(record, major) {
            let path = String::from_utf8_lossy(path).into_owned();
            self.tablespaces.push((record.span.start, path));
        }
        if let Some(event) = event {
            self.add_event(LocatedEvent { span: record.span, event });
        }
        Ok(())
    }

    fn add_event(&mut self, located: LocatedEvent) {
        let span = located.span;
        let mut end =
            |kind, xid, time| self.transactions.push(TransactionEnd { kind, span, xid, time });
        match located.event {
            WalEvent::Commit { xid, time, .. } | WalEvent::CommitPrepared { xid, time, .. } => {
                end(TransactionKind::Commit, xid, time);
            }
            WalEvent::Abort { xid, time, .. } | WalEvent::AbortPrepared { xid, time, .. } => {
                end(TransactionKind::Abort, xid, time);
            }
            WalEvent::RestorePoint { name, time } => {
                self.points.push(NamedPoint { span, name, time })
            }
            WalEvent::ParameterChange(limits) => self.limits.push((span.start, limits)),
            _ => {}
        }
    }

    /// The same for the bytes from `from` on: a slice's part of a segment's index.
    pub(super) fn since(&self, from: Lsn) -> Self {
        let later = |span: &RecordSpan| span.end > from;
        Self {
            from,
            first_record: self.first_record.filter(|_| from == self.from),
            last_record: self.last_record.filter(later),
            transactions: self.transactions.iter().filter(|t| later(&t.span)).copied().collect(),
            points: self.points.iter().filter(|p| later(&p.span)).cloned().collect(),
            limits: self.limits.clone(),
            tablespaces: self.tablespaces.clone(),
            markers: self.markers.clone().map(|mut markers| {
                markers.transactions.retain(|t| later(&t.span));
                markers
            }),
            ..self.clone_head()
        }
    }

    fn clone_head(&self) -> Self {
        Self { to: self.to, ..Self::new(self.timeline, self.segment, self.segment_size, self.from) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_transaction_end_is_a_short_array() {
        let end = TransactionEnd {
            kind: TransactionKind::Abort,
            span: RecordSpan { start: Lsn(8), end: Lsn(64) },
            xid: Xid(7),
            time: PgTimestamp(-5),
        };
        let text = serde_json::to_string(&end).unwrap();
        assert_eq!(text, "[1,8,64,7,-5]");
        assert_eq!(serde_json::from_str::<TransactionEnd>(&text).unwrap(), end);
    }

    #[test]
    fn a_slice_holds_what_ends_after_its_start() {
        let size = WalSegmentSize::new(1 << 20).unwrap();
        let mut index =
            SegmentIndex::new(TimelineId::new(1).unwrap(), SegmentNo(1), size, Lsn(1 << 20));
        for (start, end) in [(100, 200), (200, 300)] {
            index.transactions.push(TransactionEnd {
                kind: TransactionKind::Commit,
                span: RecordSpan { start: Lsn((1 << 20) + start), end: Lsn((1 << 20) + end) },
                xid: Xid(3),
                time: PgTimestamp(0),
            });
        }
        index.to = Lsn((1 << 20) + 300);
        let later = index.since(Lsn((1 << 20) + 200));
        assert_eq!(later.transactions.len(), 1);
        assert_eq!((later.from, later.to), (Lsn((1 << 20) + 200), index.to));
    }
}
