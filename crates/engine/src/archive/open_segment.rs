//! The segment that is being received, and how it is cut into objects.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use holdfast_postgres::{Lsn, SegmentNo, TimelineId, WalRecord, WalSegmentSize, WalStreamReader};
use tokio::time::Instant;

use super::archived::Archived;
use super::index::{SegmentIndex, blake3_of};
use super::markers::MarkerGatherer;
use super::upload::{Replaces, Upload};
use super::{segment_path, slice_directory};
use crate::cluster::Cluster;
use crate::error::{EngineError, Result};

/// So many slices of one size are merged into one of the next: the work stays small however many
/// there are, and so does their number.
const MERGE_AFTER: usize = 24;

/// Where a session starts.
pub(super) struct Start {
    pub(super) timeline: TimelineId,
    pub(super) lsn: Lsn,
    /// Where the server left this timeline for another; none when it is on it.
    pub(super) ends: Option<Lsn>,
    /// WAL of the segment at `lsn` that is archived already, as slices.
    pub(super) archived: Archived,
    /// The reader, having seen the segment before, so that a record that crosses is read whole.
    pub(super) reader: WalStreamReader,
    /// What is lost once the stream begins here.
    pub(super) lost: Vec<super::Gap>,
}

/// Which way a segment takes to where it is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Slices now and then, then the whole segment; acknowledged as they are stored.
    Plain,
    /// Every commit is waited for: a slice at once. The whole segment follows behind, where it holds
    /// nobody up.
    AtOnce,
    /// Slices at once into the spool, where they are acknowledged; slices now and then and the whole
    /// segment into the store behind it.
    Spooled,
}

/// What goes where; the front is what the server is waiting for.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    pub(super) front: VecDeque<Upload>,
    pub(super) back: VecDeque<Upload>,
}

#[derive(Debug)]
struct Slice {
    path: String,
    from: Lsn,
    level: u8,
}

/// What one place holds of the segment as slices.
#[derive(Debug)]
struct Slicer {
    /// First byte that no slice holds.
    to: Lsn,
    slices: Vec<Slice>,
    /// When the first byte that no slice holds arrived.
    waiting_since: Option<Instant>,
}

impl Slicer {
    fn from(lsn: Lsn) -> Self {
        Self { to: lsn, slices: Vec::new(), waiting_since: None }
    }

    fn noted(&mut self, position: Lsn) {
        if position > self.to {
            self.waiting_since.get_or_insert_with(Instant::now);
        }
    }

    /// From where the next slice has to reach, and which ones it replaces.
    fn next(&mut self) -> (Lsn, u8, Vec<String>) {
        let (mut from, mut level, mut replaced) = (self.to, 0, Vec::new());
        loop {
            let alike = self.slices.iter().rev().take_while(|s| s.level == level).count();
            if alike < MERGE_AFTER {
                return (from, level, replaced);
            }
            let merged = self.slices.split_off(self.slices.len() - alike);
            from = merged.first().map_or(from, |s| s.from);
            replaced.extend(merged.into_iter().map(|s| s.path));
            level = level.saturating_add(1);
        }
    }
}

/// The segment that is being received.
pub(super) struct OpenSegment {
    system: holdfast_postgres::SystemIdentifier,
    pub(super) timeline: TimelineId,
    size: WalSegmentSize,
    major: u32,
    segment: SegmentNo,
    bytes: BytesMut,
    reader: WalStreamReader,
    index: SegmentIndex,
    markers: MarkerGatherer,
    /// What is archived of this segment from before: compared, not stored again.
    archived: Archived,
    way: Way,
    front: Slicer,
    back: Slicer,
    records: Vec<WalRecord>,
}

/// Room for a segment, so that it never has to be moved while it grows.
fn room(size: WalSegmentSize) -> BytesMut {
    BytesMut::with_capacity(usize::try_from(size.bytes()).unwrap_or(0))
}

impl OpenSegment {
    pub(super) fn new(cluster: &Cluster, start: Start, way: Way) -> Self {
        let segment = cluster.segment_size.segment_of(start.lsn);
        let held = start.lsn.saturating_add(start.archived.length() as u64);
        Self {
            system: cluster.system_identifier,
            timeline: start.timeline,
            size: cluster.segment_size,
            major: cluster.server_version.major(),
            segment,
            bytes: room(cluster.segment_size),
            reader: start.reader,
            index: SegmentIndex::new(start.timeline, segment, cluster.segment_size, start.lsn),
            markers: MarkerGatherer::new(),
            archived: start.archived,
            way,
            front: Slicer::from(held),
            back: Slicer::from(held),
            records: Vec::new(),
        }
    }

    fn start(&self) -> Lsn {
        self.size.start_of(self.segment)
    }

    /// The next byte expected.
    pub(super) fn position(&self) -> Lsn {
        self.start().saturating_add(self.bytes.len() as u64)
    }

    /// Takes a message's bytes; what is whole now goes out.
    pub(super) fn take(&mut self, start: Lsn, mut bytes: &[u8], out: &mut Outgoing) -> Result<u64> {
        if start != self.position() {
            return Err(EngineError::Fault(format!(
                "the server sent WAL from {start} where {} was next",
                self.position()
            )));
        }
        let mut sealed = 0;
        while !bytes.is_empty() {
            let room =
                usize::try_from(self.size.end_of(self.segment).distance_from(self.position()))
                    .unwrap_or(usize::MAX);
            let (now, rest) = bytes.split_at(bytes.len().min(room));
            bytes = rest;
            let seen = self.bytes.len();
            self.bytes.extend_from_slice(now);
            self.compare_with_archived(seen)?;
            self.read(now)?;
            let position = self.position();
            self.front.noted(position);
            self.back.noted(position);
            if position == self.size.end_of(self.segment) {
                sealed += 1;
                self.finish(out, "");
            }
        }
        Ok(sealed)
    }

    fn read(&mut self, bytes: &[u8]) -> Result<()> {
        self.records.clear();
        self.reader.push(bytes, &mut self.records).map_err(|e| {
            EngineError::integrity(
                "wal_stream_damaged",
                format!("the WAL that the server sends is not whole: {e}"),
                "Nothing after this point was acknowledged or stored. Check the server's disk and its log; a standby may \
                 have this WAL intact.",
            )
        })?;
        let major = self.major;
        for record in &self.records {
            self.index.add(record, major, &mut self.markers)?;
        }
        self.index.to = self.position();
        Ok(())
    }

    /// Compares what has come since `seen` bytes of the segment were there.
    fn compare_with_archived(&self, seen: usize) -> Result<()> {
        if self.archived.agrees(&self.bytes, seen) {
            return Ok(());
        }
        let at = self.start().saturating_add(seen as u64);
        Err(EngineError::integrity(
            "wal_differs",
            format!("the server sends other WAL at {at} than what is archived"),
            "Two servers write the same timeline, or the server came back from a copy without a new timeline. Nothing was \
             overwritten. Find out which server is the right one before archiving goes on.",
        ))
    }

    /// Since when bytes wait for a slice in front, and in the store behind the spool.
    pub(super) fn waiting_since(&self) -> (Option<Instant>, Option<Instant>) {
        let behind = (self.way == Way::Spooled).then_some(self.back.waiting_since).flatten();
        (self.front.waiting_since, behind)
    }

    /// What no slice in front holds yet, as a slice; every so often in place of smaller ones.
    pub(super) fn front_slice(&mut self) -> Option<Upload> {
        let mut slicer = std::mem::replace(&mut self.front, Slicer::from(Lsn::INVALID));
        let upload = self.slice(&mut slicer);
        self.front = slicer;
        upload
    }

    /// The same for the store behind a spool.
    pub(super) fn back_slice(&mut self) -> Option<Upload> {
        if self.way != Way::Spooled {
            return None;
        }
        let mut slicer = std::mem::replace(&mut self.back, Slicer::from(Lsn::INVALID));
        let upload = self.slice(&mut slicer);
        self.back = slicer;
        upload
    }

    fn slice(&self, slicer: &mut Slicer) -> Option<Upload> {
        let position = self.position();
        if position <= slicer.to {
            return None;
        }
        let (from, level, replaced) = slicer.next();
        let offset = usize::try_from(from.distance_from(self.start())).unwrap_or(0);
        let directory = slice_directory(self.system, self.timeline, self.segment, self.size);
        let path = format!("{directory}{offset:08x}-{:08x}", self.bytes.len());
        slicer.slices.push(Slice { path: path.clone(), from, level });
        slicer.to = position;
        slicer.waiting_since = None;
        Some(Upload {
            path,
            sealed: false,
            bytes: Bytes::copy_from_slice(&self.bytes[offset..]),
            index: SegmentIndex {
                blake3: Some(blake3_of(&self.bytes[offset..])),
                ..self.index.since(from)
            },
            durable_to: position,
            replaces: if replaced.is_empty() {
                Replaces::Nothing
            } else {
                Replaces::Slices(replaced)
            },
        })
    }

    /// The segment has all the bytes it will ever have.
    fn finish(&mut self, out: &mut Outgoing, suffix: &str) {
        let behind = match self.way {
            Way::Plain => false,
            // Of a segment that arrived in one go nothing is stored: it is stored once, whole.
            Way::AtOnce => self.front.to > self.start(),
            Way::Spooled => true,
        };
        if behind {
            out.front.extend(self.front_slice());
        }
        let mut upload = self.seal();
        upload.path.push_str(suffix);
        if behind { out.back.push_back(upload) } else { out.front.push_back(upload) }
    }

    fn seal(&mut self) -> Upload {
        let end = self.position();
        let next = SegmentNo(self.segment.0 + 1);
        let mut index = std::mem::replace(
            &mut self.index,
            SegmentIndex::new(self.timeline, next, self.size, end),
        );
        index.blake3 = Some(blake3_of(&self.bytes));
        let upload = Upload {
            path: segment_path(self.system, self.timeline, self.segment, self.size),
            sealed: true,
            bytes: std::mem::replace(&mut self.bytes, room(self.size)).freeze(),
            index,
            durable_to: end,
            replaces: Replaces::Directory(slice_directory(
                self.system,
                self.timeline,
                self.segment,
                self.size,
            )),
        };
        self.segment = next;
        self.archived = Archived::nothing();
        self.front = Slicer::from(end);
        self.back = Slicer::from(end);
        upload
    }

    /// The tail of a timeline that ended: kept at its true length. What was archived of it beyond
    /// the place where the server left it is history all the same, of a server that is gone.
    pub(super) fn tail(&mut self, out: &mut Outgoing) -> Result<()> {
        // The segment was whole before: it is archived under its own name.
        if self.archived.length() as u64 == self.size.bytes() {
            return Ok(());
        }
        // Which cannot be read here stays as it is, in slices.
        let Some(beyond) = self.archived.beyond(self.bytes.len()) else { return Ok(()) };
        self.bytes.extend_from_slice(&beyond);
        self.read(&beyond)?;
        if !self.bytes.is_empty() {
            self.finish(out, ".partial");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However many slices are made, few are kept, and together they cover everything.
    #[test]
    fn slices_are_merged_by_size() {
        let mut slicer = Slicer::from(Lsn(0));
        let mut most = 0;
        for at in 1..=20_000_u64 {
            let (from, level, replaced) = slicer.next();
            assert!(replaced.len() <= MERGE_AFTER * usize::from(level), "{}", replaced.len());
            slicer.slices.push(Slice { path: at.to_string(), from, level });
            slicer.to = Lsn(at);
            most = most.max(slicer.slices.len());
            let mut end = Lsn(0);
            for (n, slice) in slicer.slices.iter().enumerate() {
                assert_eq!(slice.from, end);
                end = slicer.slices.get(n + 1).map_or(slicer.to, |next| next.from);
            }
        }
        assert!(most < MERGE_AFTER * 5, "{most}");
    }
}
