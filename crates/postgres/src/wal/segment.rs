//! WAL segment files and their names (`xlog_internal.h`).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::lsn::Lsn;
use crate::text::hex32;
use crate::timeline::TimelineId;

/// The size of a cluster's WAL segment files: a power of two from 1 MiB to 1 GiB.
///
/// Fixed by `initdb --wal-segsize` or `pg_resetwal`. JSON form: the number of bytes.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct WalSegmentSize(u32);

/// The ordinal of a segment: its start divided by the segment size, the same on every timeline.
#[derive(
    Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct SegmentNo(pub u64);

/// A number of bytes that no segment file can have.
#[derive(Copy, Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{bytes} is not a WAL segment size: a power of two from 1 MiB to 1 GiB")]
pub struct WalSegmentSizeError {
    /// The number as given.
    pub bytes: u64,
}

impl WalSegmentSize {
    /// What `initdb` chooses when not told otherwise, 16 MiB.
    pub const DEFAULT: WalSegmentSize = WalSegmentSize(16 << 20);

    /// The size of that many bytes, `None` when PostgreSQL would not accept it.
    pub fn new(bytes: u64) -> Option<Self> {
        let bytes = u32::try_from(bytes).ok()?;
        ((1 << 20..=1 << 30).contains(&bytes) && bytes.is_power_of_two())
            .then_some(WalSegmentSize(bytes))
    }

    /// The size in bytes.
    pub fn bytes(self) -> u64 {
        u64::from(self.0)
    }

    /// The segment that holds the byte at `lsn`.
    #[must_use]
    pub fn segment_of(self, lsn: Lsn) -> SegmentNo {
        SegmentNo(lsn.0 / self.bytes())
    }

    /// The first byte of a segment, held at the largest position.
    #[must_use]
    pub fn start_of(self, segment: SegmentNo) -> Lsn {
        Lsn(segment.0.saturating_mul(self.bytes()))
    }

    /// The first byte after a segment, held at the largest position.
    #[must_use]
    pub fn end_of(self, segment: SegmentNo) -> Lsn {
        self.start_of(segment).saturating_add(self.bytes())
    }

    /// The offset of `lsn` inside its segment file.
    #[must_use]
    pub fn offset_in(self, lsn: Lsn) -> u64 {
        lsn.0 % self.bytes()
    }

    /// The start of the segment that holds `lsn`.
    #[must_use]
    pub fn floor(self, lsn: Lsn) -> Lsn {
        Lsn(lsn.0 - self.offset_in(lsn))
    }

    /// Segments per 4 GiB: the second and third part of a file name count within that.
    fn per_log(self) -> u64 {
        (1 << 32) / self.bytes()
    }
}

impl Default for WalSegmentSize {
    fn default() -> Self {
        WalSegmentSize::DEFAULT
    }
}

impl TryFrom<u64> for WalSegmentSize {
    type Error = WalSegmentSizeError;

    fn try_from(bytes: u64) -> Result<Self, Self::Error> {
        WalSegmentSize::new(bytes).ok_or(WalSegmentSizeError { bytes })
    }
}

impl From<WalSegmentSize> for u64 {
    fn from(size: WalSegmentSize) -> u64 {
        size.bytes()
    }
}

impl SegmentNo {
    /// The following segment.
    #[must_use]
    pub fn next(self) -> SegmentNo {
        SegmentNo(self.0.saturating_add(1))
    }

    /// The preceding segment, `None` before the first.
    #[must_use]
    pub fn previous(self) -> Option<SegmentNo> {
        self.0.checked_sub(1).map(SegmentNo)
    }
}

impl fmt::Display for SegmentNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A segment of one timeline, as the server names its file.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug, Serialize, Deserialize)]
pub struct WalFileName {
    /// The timeline that wrote the file.
    pub timeline: TimelineId,
    /// Which segment.
    pub segment: SegmentNo,
}

impl WalFileName {
    /// 24 upper-case hexadecimal digits: timeline, 4 GiB block, segment in that block.
    ///
    /// A segment beyond the end of the WAL's 64 bits has no name of 24 digits; none that comes from
    /// an [`Lsn`] is.
    #[must_use]
    pub fn render(self, size: WalSegmentSize) -> String {
        let (log, part) = (self.segment.0 / size.per_log(), self.segment.0 % size.per_log());
        format!("{:08X}{log:08X}{part:08X}", self.timeline.get())
    }

    /// Reads a plain segment name; `None` for anything else, suffixes such as `.partial` included.
    #[must_use]
    pub fn parse(name: &str, size: WalSegmentSize) -> Option<WalFileName> {
        if name.len() != 24
            || !name.is_ascii()
            || name.bytes().any(|byte| byte.is_ascii_lowercase())
        {
            return None;
        }
        let timeline = TimelineId::new(hex32(name.get(..8)?)?)?;
        let log = u64::from(hex32(name.get(8..16)?)?);
        let part = u64::from(hex32(name.get(16..)?)?);
        (part < size.per_log())
            .then(|| WalFileName { timeline, segment: SegmentNo(log * size.per_log() + part) })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_powers_of_two() {
        for bytes in [0, 1 << 19, (1 << 20) + 1, 3 << 20, 1 << 31, u64::MAX] {
            assert_eq!(WalSegmentSize::new(bytes), None, "{bytes}");
            assert!(serde_json::from_str::<WalSegmentSize>(&bytes.to_string()).is_err());
        }
        assert_eq!(WalSegmentSize::new(1 << 24), Some(WalSegmentSize::default()));
        assert_eq!(serde_json::to_string(&WalSegmentSize::DEFAULT).unwrap(), "16777216");
        assert_eq!(serde_json::from_str::<WalSegmentSize>("1048576").unwrap().bytes(), 1 << 20);
    }

    #[test]
    fn names_files_as_the_server_does() {
        let size = WalSegmentSize::DEFAULT;
        let name = WalFileName {
            timeline: TimelineId::FIRST,
            segment: size.segment_of(Lsn(0x1_0200_0028)),
        };
        assert_eq!(name.render(size), "000000010000000100000002");
        assert_eq!(WalFileName::parse("000000010000000100000002", size), Some(name));
        for text in [
            "000000000000000100000002",
            "000000010000000100000100",
            "00000001000000010000000a",
            "000000010000000100000002.partial",
            "00000001000000010000000",
            "+00000010000000100000002",
            "00000002.history",
            "0000000100000001000000é",
        ] {
            assert_eq!(WalFileName::parse(text, size), None, "{text}");
        }
    }

    #[test]
    fn the_ends_of_the_space_hold() {
        let size = WalSegmentSize::DEFAULT;
        let last = size.segment_of(Lsn(u64::MAX));
        assert_eq!(size.end_of(last), Lsn(u64::MAX));
        assert_eq!(size.start_of(SegmentNo(u64::MAX)), Lsn(u64::MAX));
        assert_eq!(SegmentNo(u64::MAX).next(), SegmentNo(u64::MAX));
        assert_eq!(SegmentNo(0).previous(), None);
        assert_eq!(SegmentNo(3).previous().unwrap().next().to_string(), "3");
    }

    proptest! {
        #[test]
        fn segments_tile_the_wal(power in 20u32..=30, lsn: u64, timeline in 1u32..) {
            let size = WalSegmentSize::new(1 << power).unwrap();
            let lsn = Lsn(lsn);
            let segment = size.segment_of(lsn);
            prop_assert_eq!(size.floor(lsn), size.start_of(segment));
            prop_assert_eq!(size.start_of(segment).0 + size.offset_in(lsn), lsn.0);
            prop_assert!(lsn <= size.end_of(segment));
            let name = WalFileName { timeline: TimelineId::new(timeline).unwrap(), segment };
            let text = name.render(size);
            prop_assert_eq!(text.len(), 24);
            prop_assert_eq!(WalFileName::parse(&text, size), Some(name));
        }

        #[test]
        fn random_names_never_panic(name in "\\PC{0,30}") {
            let _ = WalFileName::parse(&name, WalSegmentSize::DEFAULT);
        }
    }
}
