//! PostgreSQL's on-disk and on-wire formats as pure values and push parsers.
//!
//! Nothing here opens a file, a socket or a clock: bytes go in, values come out. Every parser takes
//! untrusted input, so each one bounds what it keeps, checks counts before it allocates and returns
//! an error instead of panicking.
//!
//! | Module | Subject | PostgreSQL source |
//! |---|---|---|
//! | [`lsn`] | positions in the WAL | `xlogdefs.h`, `pg_lsn.c` |
//! | [`timeline`] | timeline ids and history files | `timeline.c` |
//! | [`system`] | cluster and transaction identifiers | `pg_control.h`, `transam.h` |
//! | [`timestamp`] | `TimestampTz` | `timestamp.h` |
//! | [`version`] | what differs between supported majors | `xlog_internal.h`, `pg_control.h`, `repl_gram.y` |
//! | [`wal`] | segments, pages, records, events | `xlog_internal.h`, `xlogreader.c`, `xact.h` |
//! | [`page`] | data page checksums | `checksum_impl.h` |
//! | [`heap`] | rows of catalogs | `htup_details.h`, `pg_class.h` |
//! | [`relation`] | names of relation files | `relpath.c` |
//! | [`control`] | `global/pg_control` | `pg_control.h` |
//! | [`tar`] | the archives `BASE_BACKUP` sends | `tar.c` |
//! | [`incremental`] | files of an incremental backup | `basebackup_incremental.h`, `reconstruct.c` |
//! | [`manifest`] | `backup_manifest` | `backup_manifest.c` |
//! | [`label`] | `backup_label`, `tablespace_map` | `xlogbackup.c` |

mod text;

pub mod control;
pub mod heap;
pub mod incremental;
pub mod label;
pub mod lsn;
pub mod manifest;
pub mod page;
pub mod relation;
pub mod system;
pub mod tar;
pub mod timeline;
pub mod timestamp;
pub mod version;
pub mod wal;

pub use control::{ClusterState, ControlFile, ControlFileError};
pub use incremental::{
    BlockSource, INCREMENTAL_MAGIC, INCREMENTAL_PREFIX, IncrementalError, IncrementalEvent,
    IncrementalHeader, IncrementalReader, incremental_target,
};
pub use label::{
    BackupLabel, LabelError, TablespaceMapEntry, parse_tablespace_map, render_tablespace_map,
    without_incremental_lines,
};
pub use lsn::{Lsn, LsnParseError};
pub use manifest::{
    BackupManifest, ChecksumAlgorithm, FileChecksum, ManifestError, ManifestFile, ManifestPath,
    ManifestReader, ManifestSummary, ManifestWriter, WalRange, crc32c_manifest_bytes,
};
pub use page::{PAGE_SIZE_DEFAULT, PageFinding, check_page, page_checksum, page_lsn};
pub use relation::{Fork, RelationFile, relation_file};
pub use system::{IdentifierParseError, SystemIdentifier, Xid};
pub use tar::{TarEntry, TarError, TarEvent, TarKind, TarParser};
pub use timeline::{TimelineHistory, TimelineHistoryError, TimelineId, TimelineSwitch};
pub use timestamp::{PgTimestamp, TimestampParseError};
pub use version::{BackupGrammar, ServerVersion, VersionTraits};
pub use wal::block::{BlockReference, PageImage, RelationLocator};
pub use wal::change::{WalChange, decode_change};
pub use wal::error::{WalReadError, WalReadErrorKind};
pub use wal::event::{LocatedEvent, ServerLimits, WalEvent, decode_event};
pub use wal::reader::{WalExpectations, WalStreamReader};
pub use wal::record::{RecordSpan, WalRecord, rmgr};
pub use wal::segment::{SegmentNo, WalFileName, WalSegmentSize, WalSegmentSizeError};
pub use wal::tablespace::{WalPatch, created_tablespace, tablespace_inside};
