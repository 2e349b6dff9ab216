//! The records that recovery can stop at or that tell the state of the cluster.

use serde::{Deserialize, Serialize};

use super::error::{WalReadError, WalReadErrorKind};
use super::record::{Cursor, RecordSpan, WalRecord, rmgr};
use super::xact;
use crate::lsn::Lsn;
use crate::system::Xid;
use crate::timeline::TimelineId;
use crate::timestamp::PgTimestamp;

/// Settings that a standby must set at least as high as its primary, as the WAL and `pg_control`
/// carry them (`xl_parameter_change`).
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq, Hash, Serialize, Deserialize)]
pub struct ServerLimits {
    /// `max_connections`.
    pub max_connections: u32,
    /// `max_worker_processes`.
    pub max_worker_processes: u32,
    /// `max_wal_senders`.
    pub max_wal_senders: u32,
    /// `max_prepared_transactions`.
    pub max_prepared_xacts: u32,
    /// `max_locks_per_transaction`.
    pub max_locks_per_xact: u32,
    /// `wal_level`: 0 minimal, 1 replica, 2 logical.
    pub wal_level: u32,
    /// `track_commit_timestamp`.
    pub track_commit_timestamp: bool,
}

/// What a record means to recovery.
///
/// The transaction id is the top transaction's, the one `recovery_target_xid` matches; of a prepared
/// transaction it is the id it was prepared under. Times are those `recovery_target_time` compares.
#[derive(Clone, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum WalEvent {
    /// A transaction committed.
    Commit {
        /// The transaction.
        xid: Xid,
        /// When.
        time: PgTimestamp,
    },
    /// A transaction rolled back.
    Abort {
        /// The transaction.
        xid: Xid,
        /// When.
        time: PgTimestamp,
    },
    /// `COMMIT PREPARED`.
    CommitPrepared {
        /// The prepared transaction.
        xid: Xid,
        /// When it was committed, not prepared.
        time: PgTimestamp,
    },
    /// `ROLLBACK PREPARED`.
    AbortPrepared {
        /// The prepared transaction.
        xid: Xid,
        /// When it was rolled back, not prepared.
        time: PgTimestamp,
    },
    /// `pg_create_restore_point`.
    RestorePoint {
        /// Its name, at most 63 bytes; bytes that are no UTF-8 are replaced.
        name: String,
        /// When.
        time: PgTimestamp,
    },
    /// A base backup ended: replay that began at its start is consistent from here on.
    BackupEnd {
        /// Where the backup's WAL starts.
        start_lsn: Lsn,
    },
    /// A checkpoint.
    Checkpoint {
        /// Where replay from it begins.
        redo: Lsn,
        /// The timeline it was made on.
        timeline: TimelineId,
        /// Whether the server ran on, as opposed to a shutdown checkpoint.
        online: bool,
    },
    /// Recovery ended without a checkpoint: a new timeline begins.
    EndOfRecovery {
        /// The new timeline.
        timeline: TimelineId,
        /// The timeline left.
        previous_timeline: TimelineId,
    },
    /// The server started with other settings.
    ParameterChange(ServerLimits),
    /// The list of running transactions, from which a hot standby can open.
    RunningXacts,
    /// `pg_switch_wal`: the rest of the segment is unused.
    Switch,
}

/// An event and where it stands.
#[derive(Clone, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
pub struct LocatedEvent {
    /// The record's place.
    pub span: RecordSpan,
    /// What it means.
    pub event: WalEvent,
}

/// Kinds of records of [`rmgr::XLOG`] (`pg_control.h`).
mod xlog {
    pub(super) const CHECKPOINT_SHUTDOWN: u8 = 0x00;
    pub(super) const CHECKPOINT_ONLINE: u8 = 0x10;
    pub(super) const SWITCH: u8 = super::super::record::XLOG_SWITCH;
    pub(super) const BACKUP_END: u8 = 0x50;
    pub(super) const PARAMETER_CHANGE: u8 = 0x60;
    pub(super) const RESTORE_POINT: u8 = 0x70;
    pub(super) const END_OF_RECOVERY: u8 = 0x90;
}

/// `XLOG_RUNNING_XACTS` of [`rmgr::STANDBY`] (`standbydefs.h`).
const RUNNING_XACTS: u8 = 0x10;
/// `MAXFNAMELEN`, the room a restore point's name has.
const RESTORE_POINT_NAME: usize = 64;

/// Decodes a record written by a server of major version `major`; `None` when it is none of
/// [`WalEvent`]'s kinds.
///
/// # Errors
/// [`WalReadErrorKind::UnsupportedMajor`] outside 14 to 18, [`WalReadErrorKind::Content`] when the
/// record does not have its kind's shape.
pub fn decode_event(record: &WalRecord, major: u32) -> Result<Option<WalEvent>, WalReadError> {
    let fail = |kind| WalReadError::new(record.span.start, kind);
    if !(14..=18).contains(&major) {
        return Err(fail(WalReadErrorKind::UnsupportedMajor { major }));
    }
    let kind = record.info & 0xF0;
    let (what, decoded) = match record.rmgr {
        rmgr::XLOG => match kind {
            xlog::SWITCH => return Ok(Some(WalEvent::Switch)),
            xlog::CHECKPOINT_SHUTDOWN | xlog::CHECKPOINT_ONLINE => {
                let online = kind == xlog::CHECKPOINT_ONLINE;
                ("checkpoint", checkpoint(record.main_data(major)?, online))
            }
            xlog::BACKUP_END => ("backup end", backup_end(record.main_data(major)?)),
            xlog::PARAMETER_CHANGE => {
                ("parameter change", parameter_change(record.main_data(major)?))
            }
            xlog::RESTORE_POINT => ("restore point", restore_point(record.main_data(major)?)),
            xlog::END_OF_RECOVERY => ("end of recovery", end_of_recovery(record.main_data(major)?)),
            _ => return Ok(None),
        },
        rmgr::XACT => {
            let kind = kind & 0x70;
            if !matches!(
                kind,
                xact::COMMIT | xact::ABORT | xact::COMMIT_PREPARED | xact::ABORT_PREPARED
            ) {
                return Ok(None);
            }
            ("transaction end", transaction_end(record, kind, record.main_data(major)?, major))
        }
        rmgr::STANDBY if kind == RUNNING_XACTS => return Ok(Some(WalEvent::RunningXacts)),
        _ => return Ok(None),
    };
    decoded.map(Some).ok_or_else(|| fail(WalReadErrorKind::Content { what }))
}

fn transaction_end(record: &WalRecord, kind: u8, data: &[u8], major: u32) -> Option<WalEvent> {
    let end = xact::transaction_end(data, record.info, major)?;
    let time = end.time;
    Some(match kind {
        xact::COMMIT => WalEvent::Commit { xid: record.xid, time },
        xact::ABORT => WalEvent::Abort { xid: record.xid, time },
        // The record's own id is not set here: whoever finishes a prepared transaction has none.
        xact::COMMIT_PREPARED => WalEvent::CommitPrepared { xid: end.prepared_xid?, time },
        _ => WalEvent::AbortPrepared { xid: end.prepared_xid?, time },
    })
}

fn checkpoint(data: &[u8], online: bool) -> Option<WalEvent> {
    let mut data = Cursor::new(data);
    let redo = Lsn(data.u64()?);
    Some(WalEvent::Checkpoint { redo, timeline: TimelineId::new(data.u32()?)?, online })
}

fn backup_end(data: &[u8]) -> Option<WalEvent> {
    Some(WalEvent::BackupEnd { start_lsn: Lsn(Cursor::new(data).u64()?) })
}

fn parameter_change(data: &[u8]) -> Option<WalEvent> {
    let mut data = Cursor::new(data);
    Some(WalEvent::ParameterChange(ServerLimits {
        max_connections: data.u32()?,
        max_worker_processes: data.u32()?,
        max_wal_senders: data.u32()?,
        max_prepared_xacts: data.u32()?,
        max_locks_per_xact: data.u32()?,
        wal_level: data.u32()?,
        track_commit_timestamp: {
            // `wal_log_hints` stands first.
            data.skip(1)?;
            data.u8()? != 0
        },
    }))
}

fn restore_point(data: &[u8]) -> Option<WalEvent> {
    let mut data = Cursor::new(data);
    let time = PgTimestamp(data.i64()?);
    let name = data.take(RESTORE_POINT_NAME)?;
    let name = name.split(|byte| *byte == 0).next()?;
    Some(WalEvent::RestorePoint { name: String::from_utf8_lossy(name).into_owned(), time })
}

fn end_of_recovery(data: &[u8]) -> Option<WalEvent> {
    let mut data = Cursor::new(data);
    data.skip(8)?;
    Some(WalEvent::EndOfRecovery {
        timeline: TimelineId::new(data.u32()?)?,
        previous_timeline: TimelineId::new(data.u32()?)?,
    })
}

#[cfg(test)]
mod tests;
