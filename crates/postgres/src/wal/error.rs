//! What can be wrong with WAL.

use crate::lsn::Lsn;
use crate::system::SystemIdentifier;

/// WAL that cannot be read on from a position.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("WAL at {lsn}: {kind}")]
pub struct WalReadError {
    /// Start of the record or page at fault.
    pub lsn: Lsn,
    /// What is wrong there.
    pub kind: WalReadErrorKind,
}

/// What is wrong with the WAL at a position.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum WalReadErrorKind {
    /// Zeros where a page header or a record should begin: nothing was ever written from here on.
    #[error("nothing was written here")]
    NeverWritten,
    /// The reader was set up with a block size that is no power of two from 1 to 64 KiB.
    #[error("{bytes} is not a WAL block size")]
    BlockSize {
        /// The size given.
        bytes: u32,
    },
    /// The reader was to start elsewhere than at a page boundary.
    #[error("not the start of a WAL page")]
    NotAPageStart,
    /// The page's magic is another major version's, or none at all.
    #[error("the page has magic {found:04X} instead of {expected:04X}")]
    Magic {
        /// The magic read.
        found: u16,
        /// The magic of this stream.
        expected: u16,
    },
    /// The page's flags are unknown, or contradict each other or the page's place.
    #[error("the page has impossible flags {flags:04X}")]
    PageFlags {
        /// `xlp_info`.
        flags: u16,
    },
    /// The page belongs elsewhere: a recycled file, or bytes went missing.
    #[error("the page says it belongs at {found}")]
    PageAddress {
        /// `xlp_pageaddr`.
        found: Lsn,
    },
    /// The page is of a timeline that cannot stand here.
    #[error("the page is of timeline {found} instead of {expected}")]
    Timeline {
        /// `xlp_tli`.
        found: u32,
        /// The timeline of this stream, or of the page before.
        expected: u32,
    },
    /// The segment was written by another cluster.
    #[error("the segment is of cluster {found} instead of {expected}")]
    System {
        /// `xlp_sysid`.
        found: SystemIdentifier,
        /// The cluster of this stream.
        expected: SystemIdentifier,
    },
    /// The segment was written with other sizes.
    #[error(
        "the segment has {segment_size} bytes in blocks of {block_size}, which is not this cluster's size"
    )]
    Geometry {
        /// `xlp_seg_size`.
        segment_size: u32,
        /// `xlp_xlog_blcksz`.
        block_size: u32,
    },
    /// A record's continuation is missing, or longer or shorter than its head says.
    #[error("the page continues a record by {found} bytes instead of {expected}")]
    Continuation {
        /// `xlp_rem_len`, zero when the page continues nothing.
        found: u32,
        /// What the record still lacks, zero when there is none.
        expected: u32,
    },
    /// A record's length is less than its header or more than a server can replay.
    #[error("the record says it has {found} bytes")]
    RecordLength {
        /// `xl_tot_len`.
        found: u32,
    },
    /// The record does not follow the one before.
    #[error("the record follows one at {found} instead of {expected}")]
    PreviousRecord {
        /// `xl_prev`.
        found: Lsn,
        /// Start of the record before.
        expected: Lsn,
    },
    /// The record's CRC-32C does not match.
    #[error("the record is damaged: its CRC is {stored:08X}, its content's {computed:08X}")]
    Crc {
        /// `xl_crc`.
        stored: u32,
        /// The CRC of the content.
        computed: u32,
    },
    /// A record's content does not have the shape its kind has.
    #[error("the {what} record is malformed")]
    Content {
        /// Which kind of record.
        what: &'static str,
    },
    /// The record was to be decoded for a major version whose layouts are not known.
    #[error("records of PostgreSQL {major} cannot be decoded")]
    UnsupportedMajor {
        /// The major version.
        major: u32,
    },
}

impl WalReadError {
    pub(crate) fn new(lsn: Lsn, kind: WalReadErrorKind) -> Self {
        WalReadError { lsn, kind }
    }

    /// Whether the WAL simply ends here, as a segment file does that is zero-padded to its size.
    #[must_use]
    pub fn is_end_of_wal(&self) -> bool {
        self.kind == WalReadErrorKind::NeverWritten
    }
}
