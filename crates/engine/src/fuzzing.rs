//! What the indexes of archived WAL go through once they are authenticated: for the fuzzer. A writer with
//! a key may still have been wrong, or hostile. Not part of the interface.

use holdfast_postgres::{Lsn, SystemIdentifier, WalSegmentSize};
use holdfast_repository::ObjectKind;

use crate::archive::{ArchiveView, Leg, Piece, SegmentIndex};
use crate::timeline::outline::SegmentOutline;

/// So many indexes are read of one input.
const INDEXES: usize = 8;

/// Indexes as they are stored, one after the other: each is outlined, all of them are one archive.
pub fn segment_indexes(bytes: &[u8]) {
    let indexes: Vec<SegmentIndex> = serde_json::Deserializer::from_slice(bytes)
        .into_iter::<SegmentIndex>()
        .map_while(Result::ok)
        .take(INDEXES)
        .collect();
    for index in &indexes {
        if let Ok(text) = serde_json::to_string(index) {
            let again = serde_json::from_str::<SegmentIndex>(&text);
            assert_eq!(again.ok().as_ref(), Some(index), "an index is not read as it was written");
        }
        let outline = SegmentOutline::of(index);
        let kept =
            serde_json::to_string(&outline).ok().and_then(|text| SegmentOutline::read(&text));
        assert_eq!(
            kept.map(|kept| kept.bins),
            Some(outline.bins),
            "an outline is not kept as it is"
        );
    }
    let Some(size) = indexes.first().map(|index| index.segment_size) else { return };
    let ends: usize =
        indexes.iter().map(|index| index.transactions.len() + index.points.len()).sum();
    archive(indexes, size, ends);
}

fn archive(indexes: Vec<SegmentIndex>, size: WalSegmentSize, ends: usize) {
    let pieces = indexes
        .into_iter()
        .enumerate()
        .map(|(number, index)| {
            let piece =
                Piece { path: format!("wal/{number}"), kind: ObjectKind::WalSegment, index };
            (piece, 0)
        })
        .collect();
    let view = ArchiveView::of_pieces(SystemIdentifier(1), size, pieces);
    for timeline in view.timelines() {
        for (from, to) in view.runs(timeline) {
            assert!(from < to, "a stretch of WAL that holds nothing");
        }
        let legs = [Leg { timeline, from: Lsn::INVALID, to: None }];
        let events = view.events(&legs, Lsn::INVALID, Lsn(u64::MAX));
        assert!(events.len() <= ends, "an event is told twice");
        for (segment, stored) in view.segments(timeline) {
            assert_eq!(view.file_for(&legs, segment).map(|file| file.segment), Some(segment));
            let reached = view.reachable_from(&legs, size.start_of(segment));
            assert!(reached >= stored.end(), "what a segment holds is not reached from its start");
        }
    }
    let _ = view.frontier();
}
