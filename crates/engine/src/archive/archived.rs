//! What is archived of a segment that is received again.

use bytes::Bytes;
use holdfast_postgres::Lsn;

use super::index::blake3_of;
use super::view::StoredSegment;

/// The archived part of a segment, from its first byte on.
#[derive(Debug)]
pub(super) enum Archived {
    /// Its bytes.
    Bytes(Bytes),
    /// What its pieces hash to: this machine may add to the repository and not read it.
    Digests(Vec<Digest>),
}

/// A piece of a segment.
#[derive(Debug)]
pub(super) struct Digest {
    from: usize,
    to: usize,
    /// Hex; none of a piece whose index does not say it.
    blake3: Option<String>,
}

impl Archived {
    pub(super) fn nothing() -> Self {
        Self::Bytes(Bytes::new())
    }

    /// What is known of a segment without reading it.
    pub(super) fn digests_of(stored: &StoredSegment, start: Lsn) -> Self {
        let offset = |lsn: Lsn| usize::try_from(lsn.distance_from(start)).unwrap_or(usize::MAX);
        let digest = |piece: &super::Piece| Digest {
            from: offset(piece.index.from),
            to: offset(piece.index.to),
            blake3: piece.index.blake3.clone(),
        };
        Self::Digests(stored.pieces.iter().map(digest).collect())
    }

    /// Bytes from the segment's start on.
    pub(super) fn length(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Digests(pieces) => pieces.iter().map(|piece| piece.to).max().unwrap_or(0),
        }
    }

    /// Whether what is received is what is archived: `received` are the segment's bytes up to now, of which those
    /// before `seen` have been compared.
    pub(super) fn agrees(&self, received: &[u8], seen: usize) -> bool {
        match self {
            Self::Bytes(archived) => {
                let end = archived.len().min(received.len());
                archived.get(seen..end) == received.get(seen..end)
            }
            Self::Digests(pieces) => pieces
                .iter()
                .filter(|piece| seen < piece.to && piece.to <= received.len())
                .all(|piece| {
                    let held = received.get(piece.from..piece.to).unwrap_or_default();
                    piece.blake3.as_ref().is_none_or(|blake3| *blake3 == blake3_of(held))
                }),
        }
    }

    /// What is archived behind the first `received` bytes; none when it cannot be read here.
    pub(super) fn beyond(&self, received: usize) -> Option<Bytes> {
        match self {
            Self::Bytes(bytes) => Some(bytes.slice(received.min(bytes.len())..)),
            Self::Digests(_) => (self.length() <= received).then(Bytes::new),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_seen_with_and_without_the_bytes() {
        let bytes: Vec<u8> = (0..100).collect();
        let digest =
            |from: usize, to: usize| Digest { from, to, blake3: Some(blake3_of(&bytes[from..to])) };
        let digests = Archived::Digests(vec![digest(0, 30), digest(20, 60)]);
        let known = Archived::Bytes(Bytes::copy_from_slice(&bytes[..60]));
        for archived in [&digests, &known] {
            assert_eq!(archived.length(), 60);
            let mut seen = 0;
            for end in [10, 30, 55, 80, 100] {
                assert!(archived.agrees(&bytes[..end], seen), "{end}");
                seen = end;
            }
            let mut other = bytes.clone();
            other[59] ^= 1;
            assert!(archived.agrees(&other[..55], 30));
            assert!(!archived.agrees(&other[..60], 55));
            other[59] ^= 1;
            other[60] ^= 1;
            assert!(archived.agrees(&other, 0), "nothing is known of what is behind");
        }
        assert_eq!(known.beyond(50).as_deref(), Some(&bytes[50..60]));
        assert_eq!(digests.beyond(50), None);
        assert_eq!(digests.beyond(60), Some(Bytes::new()));
        assert_eq!(known.beyond(70), Some(Bytes::new()));
    }
}
