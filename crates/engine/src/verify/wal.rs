//! Archived WAL read record by record: their checksums, their chain from segment to segment, what the index
//! says of each segment, and the place where one timeline leaves another.

use holdfast_postgres::{
    Lsn, SegmentNo, TimelineId, VersionTraits, WalExpectations, WalReadError, WalRecord,
    WalStreamReader,
};
use holdfast_repository::Repository;

use super::request::Scope;
use super::{VerifyFinding, error, is_damage};
use crate::archive::markers::MarkerGatherer;
use crate::archive::{ArchiveView, NamedPoint, SegmentIndex, StoredSegment, TransactionEnd};
use crate::error::{EngineError, Result};
use crate::jobs::JobContext;

/// Bytes whose records are in memory at a time; a record may be longer.
const PART_BYTES: usize = 256 * 1024;

/// What reading found.
#[derive(Debug, Default)]
pub(super) struct WalRead {
    pub(super) records: u64,
    pub(super) findings: Vec<VerifyFinding>,
}

/// Reads the WAL of a cluster, as far as `scope` goes.
///
/// # Errors
/// When the store cannot be reached, or the job was cancelled. Damage is a finding.
pub(super) async fn read(
    job: &JobContext,
    repository: &Repository,
    view: &ArchiveView,
    scope: &Scope,
) -> Result<WalRead> {
    let size = view.segment_size;
    let chosen: Vec<(TimelineId, SegmentNo, &StoredSegment)> = view
        .timelines()
        .flat_map(|t| view.segments(t).map(move |(n, s)| (t, n, s)))
        .filter(|(timeline, number, stored)| {
            scope.reads_wal(*timeline, size.start_of(*number), stored.end(), path_of(stored))
        })
        .collect();
    let total = chosen.iter().map(|(_, number, s)| s.end().distance_from(size.start_of(*number)));
    job.reporter.phase("reading WAL", Some("bytes"), Some(total.sum()));
    let mut found = WalRead::default();
    let mut done = 0;
    let mut chain: Option<Chain> = None;
    for (n, (timeline, number, stored)) in chosen.iter().enumerate() {
        job.check()?;
        let bytes = match view.read_segment(repository, stored).await {
            Ok(bytes) => bytes,
            Err(problem) if is_damage(&problem) => {
                chain = None;
                let message = format!("its WAL cannot be read: {}", problem.to_object().message);
                found.findings.push(error("wal", path_of(stored), message));
                continue;
            }
            Err(problem) => return Err(problem),
        };
        let start = size.start_of(*number);
        let mut link = match chain.take() {
            Some(link) if link.timeline == *timeline && link.reader.position() == start => link,
            _ => Chain::begin(view, *timeline, start),
        };
        let (length, segment) = (bytes.len() as u64, *number);
        let read = tokio::task::spawn_blocking(move || {
            let outcome = link.read(segment, &bytes);
            (link, outcome)
        });
        let outcome;
        (link, outcome) =
            read.await.map_err(|e| EngineError::Fault(format!("a worker thread failed: {e}")))?;
        found.records += link.records;
        let goes_on = chosen.get(n + 1).is_some_and(|(t, _, _)| t == timeline);
        match outcome {
            Ok(index) => {
                let wrong = link.differs(stored, &index, start);
                found.findings.extend(wrong.map(|what| error("wal", path_of(stored), what)));
                chain = Some(link);
            }
            // The zeros after the last record of a timeline that ended.
            Err(problem) if problem.is_end_of_wal() && !goes_on => {}
            Err(problem) => {
                let message =
                    format!("{problem}; no recovery can pass through this part of the log");
                found.findings.push(error("wal", path_of(stored), message));
            }
        }
        done += length;
        job.reporter.done(done);
    }
    forks(repository, view, scope, &mut found.findings).await?;
    Ok(found)
}

/// The path by which a segment is named: of its first piece.
fn path_of(stored: &StoredSegment) -> &str {
    stored.pieces.first().map_or("", |piece| piece.path.as_str())
}

/// Segments that follow each other.
struct Chain {
    timeline: TimelineId,
    /// Where the reader saw its first byte: what crosses into there has a head that it did not see.
    begin: Lsn,
    reader: WalStreamReader,
    size: holdfast_postgres::WalSegmentSize,
    /// How many end in the segment read last.
    records: u64,
}

impl Chain {
    fn begin(view: &ArchiveView, timeline: TimelineId, start: Lsn) -> Self {
        let expected = WalExpectations {
            system_identifier: Some(view.system),
            timeline: Some(timeline),
            wal_magic: None,
        };
        Self {
            timeline,
            begin: start,
            reader: WalStreamReader::at_segment(start, view.segment_size, expected),
            size: view.segment_size,
            records: 0,
        }
    }

    /// Reads one segment's bytes; what recovery can stop at in them.
    fn read(&mut self, segment: SegmentNo, bytes: &[u8]) -> Result<SegmentIndex, WalReadError> {
        self.records = 0;
        let magic = bytes.get(..2).map_or(0, |m| u16::from_le_bytes([m[0], m[1]]));
        let major = VersionTraits::of_wal_magic(magic).map_or(0, |traits| traits.major);
        let start = self.size.start_of(segment);
        let mut index = SegmentIndex::new(self.timeline, segment, self.size, start);
        // Markers are not compared: what they tell depends on the segments before.
        let mut markers = MarkerGatherer::new();
        let mut records: Vec<WalRecord> = Vec::new();
        for part in bytes.chunks(PART_BYTES) {
            records.clear();
            let read = self.reader.push(part, &mut records);
            self.records += records.len() as u64;
            for record in &records {
                // A record that is not understood was refused when the WAL was archived.
                if index.add(record, major, &mut markers).is_err() {
                    let kind = holdfast_postgres::WalReadErrorKind::Content { what: "stored" };
                    return Err(WalReadError { lsn: record.span.start, kind });
                }
            }
            read?;
        }
        Ok(index)
    }

    /// How a whole segment's index differs from what was read; none when it does not. What crosses into it
    /// may be seen by one of the two only, depending on where each began to read.
    fn differs(&self, stored: &StoredSegment, read: &SegmentIndex, start: Lsn) -> Option<String> {
        let [piece] = stored.pieces.as_slice() else { return None };
        let whole = |t: &TransactionEnd| t.span.start >= start;
        let transactions = |index: &SegmentIndex| {
            index.transactions.iter().filter(|t| whole(t)).copied().collect::<Vec<_>>()
        };
        let points = |index: &SegmentIndex| {
            let own = index.points.iter().filter(|p| p.span.start >= start);
            own.cloned().collect::<Vec<NamedPoint>>()
        };
        let same = transactions(&piece.index) == transactions(read)
            && points(&piece.index) == points(read)
            && (piece.index.last_record == read.last_record || self.begin == start);
        (!same).then(|| {
            "its index does not say what is in it: points in it may be shown that are none, or not be found".to_owned()
        })
    }
}

/// Where a timeline leaves its parent, both hold the same bytes up to that place.
async fn forks(
    repository: &Repository,
    view: &ArchiveView,
    scope: &Scope,
    findings: &mut Vec<VerifyFinding>,
) -> Result<()> {
    let size = view.segment_size;
    for (child, history) in &view.histories {
        let Some(switch) = history.switches.last() else { continue };
        let number = size.segment_of(switch.switch_lsn);
        let (Some(before), Some(after)) =
            (view.segment(switch.parent, number), view.segment(*child, number))
        else {
            continue;
        };
        let (start, end) = (size.start_of(number), switch.switch_lsn);
        if !scope.reads_wal(switch.parent, start, end, path_of(before))
            || !scope.reads_wal(*child, start, end, path_of(after))
        {
            continue;
        }
        let read = async {
            let before = view.read_segment(repository, before).await?;
            Ok::<_, EngineError>((before, view.read_segment(repository, after).await?))
        };
        let (before, after_bytes) = match read.await {
            Ok(both) => both,
            // What is damaged was found above.
            Err(problem) if is_damage(&problem) => continue,
            Err(problem) => return Err(problem),
        };
        let common = usize::try_from(end.distance_from(start))
            .unwrap_or(usize::MAX)
            .min(before.len())
            .min(after_bytes.len());
        if before.get(..common) != after_bytes.get(..common) {
            let message = format!(
                "timeline {child} leaves timeline {} at {end}, but does not hold the same WAL up to there: one of the two \
                 is of another server",
                switch.parent
            );
            findings.push(error("wal", path_of(after), message));
        }
    }
    Ok(())
}
