//! `global/pg_control` (`pg_control.h`, `controldata_utils.c`).
//!
//! The struct is written as the server's compiler lays it out; the offsets below are those of every
//! 64-bit little-endian build. Control version 1300 (majors 13 to 16) and 1700 place everything this
//! parser reads at the same offsets, 1700 having put `wal_level` into padding of the checkpoint;
//! 1800 adds `default_char_signedness` behind `data_checksum_version`, which moves the CRC.

use serde::{Deserialize, Serialize};

use crate::lsn::Lsn;
use crate::system::SystemIdentifier;
use crate::timeline::TimelineId;
use crate::timestamp::PgTimestamp;
use crate::wal::event::ServerLimits;
use crate::wal::segment::WalSegmentSize;

/// Byte offsets in `ControlFileData`.
mod offset {
    pub(super) const SYSTEM_IDENTIFIER: usize = 0;
    pub(super) const CONTROL_VERSION: usize = 8;
    pub(super) const CATALOG_VERSION: usize = 12;
    pub(super) const STATE: usize = 16;
    pub(super) const CHECKPOINT: usize = 32;
    pub(super) const CHECKPOINT_REDO: usize = 40;
    pub(super) const CHECKPOINT_TIMELINE: usize = 48;
    pub(super) const CHECKPOINT_TIME: usize = 104;
    pub(super) const MIN_RECOVERY_POINT: usize = 136;
    pub(super) const WAL_LEVEL: usize = 172;
    pub(super) const MAX_CONNECTIONS: usize = 180;
    pub(super) const MAX_WORKER_PROCESSES: usize = 184;
    pub(super) const MAX_WAL_SENDERS: usize = 188;
    pub(super) const MAX_PREPARED_XACTS: usize = 192;
    pub(super) const MAX_LOCKS_PER_XACT: usize = 196;
    pub(super) const TRACK_COMMIT_TIMESTAMP: usize = 200;
    pub(super) const FLOAT_FORMAT: usize = 208;
    pub(super) const BLOCK_SIZE: usize = 216;
    pub(super) const RELATION_SEGMENT_BLOCKS: usize = 220;
    pub(super) const WAL_BLOCK_SIZE: usize = 224;
    pub(super) const WAL_SEGMENT_SIZE: usize = 228;
    pub(super) const DATA_CHECKSUM_VERSION: usize = 252;
}

/// Where the CRC stands up to control version 1700.
const CRC_OFFSET_1300: usize = 288;
/// Where the CRC stands in control version 1800.
const CRC_OFFSET_1800: usize = 292;
/// The constant a server stores to prove its floating point format.
const FLOAT_FORMAT: f64 = 1_234_567.0;
/// Seconds from 1970-01-01 to 2000-01-01.
const EPOCH_SECONDS: i64 = 946_684_800;

/// `DBState`: what the cluster was doing when the file was last written.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u32)]
pub enum ClusterState {
    /// Just initialised.
    Startup = 0,
    /// Shut down cleanly.
    ShutDown = 1,
    /// Shut down cleanly while a standby or in archive recovery.
    ShutDownInRecovery = 2,
    /// A shutdown has begun.
    ShuttingDown = 3,
    /// Replaying after a crash.
    InCrashRecovery = 4,
    /// Replaying as a standby or from an archive.
    InArchiveRecovery = 5,
    /// Open for writing; also what a running primary's backup says.
    InProduction = 6,
}

impl ClusterState {
    fn of(number: u32) -> Option<Self> {
        Some(match number {
            0 => ClusterState::Startup,
            1 => ClusterState::ShutDown,
            2 => ClusterState::ShutDownInRecovery,
            3 => ClusterState::ShuttingDown,
            4 => ClusterState::InCrashRecovery,
            5 => ClusterState::InArchiveRecovery,
            6 => ClusterState::InProduction,
            _ => return None,
        })
    }
}

/// What `pg_control` says of a cluster.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct ControlFile {
    /// The cluster's number.
    pub system_identifier: SystemIdentifier,
    /// The layout of this file: 1300, 1700 or 1800.
    pub control_version: u32,
    /// The layout of the system catalogs.
    pub catalog_version: u32,
    /// What the cluster was doing.
    pub state: ClusterState,
    /// Start of the last checkpoint's record.
    pub checkpoint: Lsn,
    /// Where replay from that checkpoint begins.
    pub redo: Lsn,
    /// The timeline of the last checkpoint.
    pub timeline: TimelineId,
    /// In recovery, how far replay must get before the data is consistent; else invalid.
    pub min_recovery_point: Lsn,
    /// The settings a standby must not undercut.
    pub limits: ServerLimits,
    /// Bytes per data page.
    pub block_size: u32,
    /// Pages per relation segment file.
    pub relation_segment_blocks: u32,
    /// Bytes per WAL page.
    pub wal_block_size: u32,
    /// Bytes per WAL segment.
    pub wal_segment_size: WalSegmentSize,
    /// Whether data pages carry checksums.
    pub data_checksums: bool,
    /// When the last checkpoint began, to the second.
    pub checkpoint_time: PgTimestamp,
}

/// Why bytes are no `pg_control` this product can use.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ControlFileError {
    /// Fewer bytes than the struct has.
    #[error("pg_control ends after {length} bytes")]
    Truncated {
        /// Bytes given.
        length: usize,
    },
    /// A control version outside the supported majors.
    #[error("pg_control has version {version}, which is not supported")]
    Version {
        /// The version read.
        version: u32,
    },
    /// Written by a server of the other byte order.
    #[error("pg_control was written by a server of the other byte order")]
    ByteOrder,
    /// The CRC-32C does not match the content.
    #[error("pg_control is damaged: its CRC is {stored:08X}, its content's {computed:08X}")]
    Crc {
        /// The CRC in the file.
        stored: u32,
        /// The CRC of the content.
        computed: u32,
    },
    /// A value the server never writes, under a valid CRC.
    #[error("pg_control has an impossible {field}: {value}")]
    Value {
        /// Which value.
        field: &'static str,
        /// The value read.
        value: u64,
    },
}

impl ControlFile {
    /// Reads the file's content; bytes after the struct, normally zeros up to 8 KiB, do not matter.
    ///
    /// # Errors
    /// See [`ControlFileError`].
    pub fn parse(content: &[u8]) -> Result<Self, ControlFileError> {
        let fields = Fields(content);
        let control_version = fields.u32(offset::CONTROL_VERSION)?;
        let crc_offset = match control_version {
            1300 | 1700 => CRC_OFFSET_1300,
            1800 => CRC_OFFSET_1800,
            // The version is a small number, so in the other byte order its low half is zero.
            version if version != 0 && version % 65_536 == 0 => {
                return Err(ControlFileError::ByteOrder);
            }
            version => return Err(ControlFileError::Version { version }),
        };
        let stored = fields.u32(crc_offset)?;
        let computed = crc32c::crc32c(content.get(..crc_offset).unwrap_or_default());
        if stored != computed {
            return Err(ControlFileError::Crc { stored, computed });
        }
        let float_format = fields.u64(offset::FLOAT_FORMAT)?;
        if float_format != FLOAT_FORMAT.to_bits() {
            return Err(ControlFileError::Value { field: "float format", value: float_format });
        }
        let state = fields.u32(offset::STATE)?;
        let timeline = fields.u32(offset::CHECKPOINT_TIMELINE)?;
        let segment_size = fields.u32(offset::WAL_SEGMENT_SIZE)?.into();
        Ok(ControlFile {
            system_identifier: SystemIdentifier(fields.u64(offset::SYSTEM_IDENTIFIER)?),
            control_version,
            catalog_version: fields.u32(offset::CATALOG_VERSION)?,
            state: ClusterState::of(state)
                .ok_or(ControlFileError::Value { field: "state", value: state.into() })?,
            checkpoint: Lsn(fields.u64(offset::CHECKPOINT)?),
            redo: Lsn(fields.u64(offset::CHECKPOINT_REDO)?),
            timeline: TimelineId::new(timeline)
                .ok_or(ControlFileError::Value { field: "timeline", value: 0 })?,
            min_recovery_point: Lsn(fields.u64(offset::MIN_RECOVERY_POINT)?),
            limits: ServerLimits {
                max_connections: fields.u32(offset::MAX_CONNECTIONS)?,
                max_worker_processes: fields.u32(offset::MAX_WORKER_PROCESSES)?,
                max_wal_senders: fields.u32(offset::MAX_WAL_SENDERS)?,
                max_prepared_xacts: fields.u32(offset::MAX_PREPARED_XACTS)?,
                max_locks_per_xact: fields.u32(offset::MAX_LOCKS_PER_XACT)?,
                wal_level: fields.u32(offset::WAL_LEVEL)?,
                track_commit_timestamp: fields.u32(offset::TRACK_COMMIT_TIMESTAMP)? & 0xFF != 0,
            },
            block_size: fields.block_size("block size", offset::BLOCK_SIZE, 32_768)?,
            relation_segment_blocks: fields.u32(offset::RELATION_SEGMENT_BLOCKS)?,
            wal_block_size: fields.block_size("WAL block size", offset::WAL_BLOCK_SIZE, 65_536)?,
            wal_segment_size: WalSegmentSize::new(segment_size).ok_or(ControlFileError::Value {
                field: "WAL segment size",
                value: segment_size,
            })?,
            data_checksums: fields.u32(offset::DATA_CHECKSUM_VERSION)? != 0,
            checkpoint_time: PgTimestamp(
                fields
                    .u64(offset::CHECKPOINT_TIME)?
                    .cast_signed()
                    .saturating_sub(EPOCH_SECONDS)
                    .saturating_mul(1_000_000),
            ),
        })
    }
}

/// Little-endian values at offsets.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&self, offset: usize) -> Result<[u8; N], ControlFileError> {
        self.0
            .get(offset..)
            .and_then(<[u8]>::first_chunk)
            .copied()
            .ok_or(ControlFileError::Truncated { length: self.0.len() })
    }

    fn u32(&self, offset: usize) -> Result<u32, ControlFileError> {
        self.array(offset).map(u32::from_le_bytes)
    }

    fn u64(&self, offset: usize) -> Result<u64, ControlFileError> {
        self.array(offset).map(u64::from_le_bytes)
    }

    /// A power of two from 1 KiB to `largest`.
    fn block_size(
        &self,
        field: &'static str,
        offset: usize,
        largest: u32,
    ) -> Result<u32, ControlFileError> {
        let size = self.u32(offset)?;
        if size.is_power_of_two() && (1024..=largest).contains(&size) {
            Ok(size)
        } else {
            Err(ControlFileError::Value { field, value: size.into() })
        }
    }
}

#[cfg(test)]
mod tests;
