//! What a segment's index says in short: all of it but the transactions one by one.
//!
//! An index has an entry for every transaction; ten years of them are read in milliseconds only when
//! they are not read at all. The outline keeps how many there are, when, and which are the first and last.

use holdfast_postgres::PgTimestamp;
use serde::{Deserialize, Serialize};

use crate::archive::{SegmentIndex, TransactionEnd, TransactionKind};

/// Commits of one segment are counted in at most this many spans of time.
const BINS: usize = 64;
/// Raised when outlines hold more than before, so that old ones are made anew.
const VERSION: u32 = 1;

/// A segment's index without its transactions.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SegmentOutline {
    version: u32,
    /// The index, its list of transactions empty.
    pub index: SegmentIndex,
    /// The first two transaction ends. The first may have begun in the segment before; the second did not.
    heads: Vec<TransactionEnd>,
    /// The last transaction end.
    pub last: Option<TransactionEnd>,
    /// The last commit.
    pub last_commit: Option<TransactionEnd>,
    /// How many transactions ended here, either way.
    pub ends: u64,
    /// The earliest and latest time in it, of transaction ends and restore points. Commit times do not
    /// follow the order of the WAL.
    pub times: Option<(PgTimestamp, PgTimestamp)>,
    /// The smallest and largest transaction id that ended here.
    pub xids: Option<(u32, u32)>,
    /// The earliest and latest commit.
    pub commit_times: Option<(PgTimestamp, PgTimestamp)>,
    /// Commits by time: spans of equal width from the earliest commit to the latest.
    pub bins: Vec<u32>,
}

impl SegmentOutline {
    pub(crate) fn of(index: &SegmentIndex) -> Self {
        let ends = &index.transactions;
        let commits = || ends.iter().filter(|t| t.kind == TransactionKind::Commit);
        let times = ends.iter().map(|t| t.time).chain(index.points.iter().map(|p| p.time));
        let commit_times = range(commits().map(|t| t.time));
        let count = commits().count();
        let mut bins = vec![0_u32; BINS.min(count)];
        if let Some((from, to)) = commit_times {
            for commit in commits() {
                let bin = bin_of(commit.time, from, to, bins.len());
                bins[bin] = bins[bin].saturating_add(1);
            }
        }
        Self {
            version: VERSION,
            heads: ends.iter().take(2).copied().collect(),
            last: ends.last().copied(),
            last_commit: commits().next_back().copied(),
            ends: ends.len() as u64,
            times: range(times),
            xids: range(ends.iter().map(|t| t.xid.0)),
            commit_times,
            bins,
            index: SegmentIndex { transactions: Vec::new(), ..index.clone() },
        }
    }

    /// Reads a kept outline; none when it is of an older version.
    pub(crate) fn read(text: &str) -> Option<Self> {
        serde_json::from_str::<Self>(text).ok().filter(|outline| outline.version == VERSION)
    }

    /// The first transaction end.
    pub(super) fn first(&self) -> Option<TransactionEnd> {
        self.heads.first().copied()
    }

    /// The first transaction end whose record starts at `begin` or later, when it is among the first two.
    pub(super) fn first_from(&self, begin: holdfast_postgres::Lsn) -> Option<TransactionEnd> {
        self.heads.iter().find(|t| t.span.start >= begin).copied()
    }

    /// Commits in all bins.
    #[cfg(test)]
    pub(super) fn commits(&self) -> u64 {
        self.bins.iter().map(|count| u64::from(*count)).sum()
    }

    /// Microseconds that one bin spans.
    pub(super) fn bin_width(&self) -> i64 {
        self.commit_times.map_or(0, |(from, to)| {
            to.0.saturating_sub(from.0) / i64::try_from(self.bins.len().max(1)).unwrap_or(1)
        })
    }
}

fn range<T: Ord + Copy>(values: impl Iterator<Item = T>) -> Option<(T, T)> {
    values.fold(None, |found, value| match found {
        None => Some((value, value)),
        Some((low, high)) => Some((value.min(low), value.max(high))),
    })
}

fn bin_of(time: PgTimestamp, from: PgTimestamp, to: PgTimestamp, bins: usize) -> usize {
    let span = i128::from(to.0) - i128::from(from.0) + 1;
    let offset = i128::from(time.0) - i128::from(from.0);
    let bin = offset.saturating_mul(bins as i128) / span;
    usize::try_from(bin).unwrap_or(0).min(bins.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use holdfast_postgres::{Lsn, RecordSpan, SegmentNo, TimelineId, WalSegmentSize, Xid};
    use proptest::prelude::*;

    fn index(ends: &[(bool, i64)]) -> SegmentIndex {
        SegmentIndex {
            timeline: TimelineId::FIRST,
            segment: SegmentNo(1),
            segment_size: WalSegmentSize::new(1 << 20).unwrap(),
            from: Lsn(1 << 20),
            to: Lsn(2 << 20),
            first_record: None,
            last_record: None,
            markers: None,
            blake3: None,
            transactions: ends
                .iter()
                .enumerate()
                .map(|(number, (committed, time))| {
                    let at = (1 << 20) + number as u64 * 64;
                    TransactionEnd {
                        kind: if *committed {
                            TransactionKind::Commit
                        } else {
                            TransactionKind::Abort
                        },
                        span: RecordSpan { start: Lsn(at), end: Lsn(at + 48) },
                        xid: Xid(700 + u32::try_from(number).unwrap()),
                        time: PgTimestamp(*time),
                    }
                })
                .collect(),
            points: Vec::new(),
            limits: Vec::new(),
            tablespaces: Vec::new(),
        }
    }

    proptest! {
        #[test]
        fn no_commit_is_lost_or_counted_twice(
            ends in proptest::collection::vec((any::<bool>(), -1_000_000_i64..1_000_000), 0..300)
        ) {
            let outline = SegmentOutline::of(&index(&ends));
            let commits = ends.iter().filter(|(committed, _)| *committed).count() as u64;
            prop_assert_eq!(outline.commits(), commits);
            prop_assert_eq!(outline.ends, ends.len() as u64);
            prop_assert!(outline.bins.len() <= BINS);
            prop_assert!(outline.index.transactions.is_empty());
            let kept = SegmentOutline::read(&serde_json::to_string(&outline).unwrap()).unwrap();
            prop_assert_eq!(kept.bins, outline.bins);
            prop_assert_eq!(kept.times, outline.times);
        }
    }

    #[test]
    fn the_first_end_is_one_that_began_in_the_stretch() {
        let outline = SegmentOutline::of(&index(&[(true, 5), (false, 6), (true, 7)]));
        let first = outline.first_from(Lsn((1 << 20) + 1)).unwrap();
        assert_eq!(first.xid, Xid(701));
        assert_eq!(outline.last_commit.unwrap().xid, Xid(702));
        assert_eq!(outline.xids, Some((700, 702)));
    }

    #[test]
    fn an_outline_of_another_version_is_made_anew() {
        let text = serde_json::to_string(&SegmentOutline::of(&index(&[]))).unwrap();
        assert!(SegmentOutline::read(&text).is_some());
        assert!(SegmentOutline::read(&text.replace("\"version\":1", "\"version\":0")).is_none());
    }
}
