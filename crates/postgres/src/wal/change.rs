//! What a record does to rows, relation files and databases: what a person asks about after an
//! accident (`heapam_xlog.h`, `storage_xlog.h`, `dbcommands_xlog.h`, `relmapper.h`, `xact.h`).

use super::block::{BlockReference, RelationLocator};
use super::error::{WalReadError, WalReadErrorKind};
use super::record::{Cursor, WalRecord, rmgr};
use super::xact;
use crate::system::Xid;
use crate::timestamp::PgTimestamp;

/// One thing that a record does.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum WalChange {
    /// Rows came into a table.
    Inserted {
        /// The table's file.
        relation: RelationLocator,
        /// How many.
        rows: u32,
    },
    /// A row got a new version.
    Updated {
        /// The table's file.
        relation: RelationLocator,
    },
    /// A row went.
    Deleted {
        /// The table's file.
        relation: RelationLocator,
    },
    /// `TRUNCATE`, named as such only at `wal_level = logical`; by the tables' oids.
    Truncated {
        /// The database.
        database: u32,
        /// Oids of the tables.
        tables: Vec<u32>,
    },
    /// A relation file was made.
    FileCreated {
        /// Which.
        relation: RelationLocator,
    },
    /// Pages were written as wholes: a relation is being built or rewritten.
    PagesWritten {
        /// Whose; the main fork's only.
        relation: RelationLocator,
    },
    /// A transaction ended.
    TransactionEnded {
        /// The transaction; of a prepared one the id it was prepared under.
        xid: Xid,
        /// Whether it committed.
        committed: bool,
        /// When.
        time: PgTimestamp,
        /// Its subtransactions.
        subtransactions: Vec<Xid>,
        /// Relation files that went with it.
        dropped: Vec<RelationLocator>,
    },
    /// A database was made as a copy of another one's files.
    DatabaseCreated {
        /// Its oid.
        database: u32,
        /// Oid of the one it was copied from; none when its pages follow in the WAL.
        template: Option<u32>,
    },
    /// A database was dropped.
    DatabaseDropped {
        /// Its oid.
        database: u32,
    },
    /// The files of the mapped catalogs of a database changed.
    MapUpdated {
        /// The database; 0 for the shared catalogs.
        database: u32,
        /// The new map, as in `pg_filenode.map`.
        map: Vec<u8>,
    },
    /// The list of running transactions: what has this number or a higher one begins later in the WAL.
    Running {
        /// The next transaction's number (`nextXid`).
        next: Xid,
    },
}

const OPERATION: u8 = 0x70;

mod heap {
    pub(super) const INSERT: u8 = 0x00;
    pub(super) const DELETE: u8 = 0x10;
    pub(super) const UPDATE: u8 = 0x20;
    pub(super) const TRUNCATE: u8 = 0x30;
    pub(super) const HOT_UPDATE: u8 = 0x40;
    pub(super) const MULTI_INSERT: u8 = 0x50;
    /// Flag of a delete: it takes back a speculative insertion, which nobody saw.
    pub(super) const DELETE_IS_SUPER: u8 = 1 << 3;
}

/// `XLOG_FPI_FOR_HINT` and `XLOG_FPI`.
const PAGE_IMAGES: [u8; 2] = [0xA0, 0xB0];
const SMGR_CREATE: u8 = 0x10;
const RELMAP_UPDATE: u8 = 0x00;
/// `XLOG_RUNNING_XACTS` of `standbydefs.h`.
const RUNNING_XACTS: u8 = 0x10;

/// Decodes what a record of a server of major version `major` does; `blocks` and `main` are
/// [`WalRecord::parts`]. `None` for records of no interest here.
///
/// # Errors
/// [`WalReadErrorKind::Content`] when the record does not have its kind's shape.
pub fn decode_change(
    record: &WalRecord,
    blocks: &[BlockReference<'_>],
    main: &[u8],
    major: u32,
) -> Result<Option<WalChange>, WalReadError> {
    let (what, change) = match record.rmgr {
        rmgr::HEAP => ("heap", heap_change(record.info & OPERATION, blocks, main)),
        rmgr::HEAP2 if record.info & OPERATION == heap::MULTI_INSERT => {
            ("heap", multi_insert(blocks, main))
        }
        rmgr::XLOG if PAGE_IMAGES.contains(&(record.info & 0xF0)) => {
            let first = blocks.iter().find(|b| b.fork == 0);
            let change = first.map(|b| WalChange::PagesWritten { relation: b.relation });
            return Ok(change);
        }
        rmgr::SMGR if record.info & 0xF0 == SMGR_CREATE => ("storage", file_created(main)),
        rmgr::DBASE => ("database", database(record.info & 0xF0, main, major)),
        rmgr::RELMAP if record.info & 0xF0 == RELMAP_UPDATE => ("relation map", map(main)),
        rmgr::XACT => ("transaction end", ended(record, main, major)),
        rmgr::STANDBY if record.info & 0xF0 == RUNNING_XACTS => {
            ("running transactions", running(main))
        }
        _ => return Ok(None),
    };
    change.ok_or_else(|| WalReadError::new(record.span.start, WalReadErrorKind::Content { what }))
}

/// `None`: malformed. `Some(None)`: of no interest.
type Decoded = Option<Option<WalChange>>;

fn heap_change(operation: u8, blocks: &[BlockReference<'_>], main: &[u8]) -> Decoded {
    let relation = || blocks.iter().find(|b| b.id == 0).map(|b| b.relation);
    Some(Some(match operation {
        heap::INSERT => WalChange::Inserted { relation: relation()?, rows: 1 },
        heap::UPDATE | heap::HOT_UPDATE => WalChange::Updated { relation: relation()? },
        heap::DELETE => {
            let mut main = Cursor::new(main);
            main.skip(7)?;
            if main.u8()? & heap::DELETE_IS_SUPER != 0 {
                return Some(None);
            }
            WalChange::Deleted { relation: relation()? }
        }
        heap::TRUNCATE => {
            let mut main = Cursor::new(main);
            let database = main.u32()?;
            let count = usize::try_from(main.u32()?).ok()?;
            main.skip(4)?;
            if main.remaining() != count.checked_mul(4)? {
                return None;
            }
            let tables = std::iter::from_fn(|| main.u32()).collect();
            WalChange::Truncated { database, tables }
        }
        _ => return Some(None),
    }))
}

fn multi_insert(blocks: &[BlockReference<'_>], main: &[u8]) -> Decoded {
    let relation = blocks.iter().find(|b| b.id == 0)?.relation;
    let mut main = Cursor::new(main);
    main.skip(2)?;
    Some(Some(WalChange::Inserted { relation, rows: main.u16()?.into() }))
}

fn file_created(main: &[u8]) -> Decoded {
    let mut main = Cursor::new(main);
    let relation = RelationLocator::read(&mut main)?;
    let fork = main.u32()?;
    Some((fork == 0).then_some(WalChange::FileCreated { relation }))
}

/// Until 14 the kinds were "create" and "drop"; 15 has two ways to create.
fn database(kind: u8, main: &[u8], major: u32) -> Decoded {
    let mut main = Cursor::new(main);
    let database = main.u32()?;
    Some(Some(match (kind, major) {
        (0x00, _) => {
            main.skip(4)?;
            WalChange::DatabaseCreated { database, template: Some(main.u32()?) }
        }
        (0x10, 15..) => WalChange::DatabaseCreated { database, template: None },
        (0x10, _) | (0x20, 15..) => WalChange::DatabaseDropped { database },
        _ => return Some(None),
    }))
}

fn map(main: &[u8]) -> Decoded {
    let mut main = Cursor::new(main);
    let database = main.u32()?;
    main.skip(4)?;
    let length = usize::try_from(main.u32()?).ok()?;
    Some(Some(WalChange::MapUpdated { database, map: main.take(length)?.to_vec() }))
}

/// `xl_running_xacts`: two counts, a flag with its padding, then the next transaction.
fn running(main: &[u8]) -> Decoded {
    let mut main = Cursor::new(main);
    main.skip(12)?;
    Some(Some(WalChange::Running { next: Xid(main.u32()?) }))
}

fn ended(record: &WalRecord, main: &[u8], major: u32) -> Decoded {
    let committed = match record.info & OPERATION {
        xact::COMMIT | xact::COMMIT_PREPARED => true,
        xact::ABORT | xact::ABORT_PREPARED => false,
        _ => return Some(None),
    };
    let end = xact::transaction_end(main, record.info, major)?;
    Some(Some(WalChange::TransactionEnded {
        xid: end.prepared_xid.unwrap_or(record.xid),
        committed,
        time: end.time,
        subtransactions: end.subtransactions,
        dropped: end.dropped,
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::lsn::Lsn;
    use crate::wal::record::RecordSpan;

    fn record(rmgr: u8, info: u8, main: &[u8]) -> WalRecord {
        let mut data = vec![0, 0x20, 0, 0];
        for number in [1663u32, 5, 16_384, 0] {
            data.extend(number.to_le_bytes());
        }
        data.extend([255, u8::try_from(main.len()).unwrap()]);
        data.extend(main);
        let span = RecordSpan { start: Lsn(0x28), end: Lsn(0x60) };
        WalRecord { span, prev: Lsn(0), xid: Xid(7), rmgr, info, data }
    }

    fn change(rmgr: u8, info: u8, main: &[u8], major: u32) -> Option<WalChange> {
        let record = record(rmgr, info, main);
        let (blocks, main) = record.parts(major).unwrap();
        decode_change(&record, &blocks, main, major).unwrap()
    }

    #[test]
    fn rows_come_and_go() {
        let relation = RelationLocator { tablespace: 1663, database: 5, relfilenode: 16_384 };
        let insert = change(rmgr::HEAP, 0x80, &[1, 0, 0], 15);
        assert_eq!(insert, Some(WalChange::Inserted { relation, rows: 1 }));
        let several = change(rmgr::HEAP2, 0x50, &[0, 0, 9, 0], 17);
        assert_eq!(several, Some(WalChange::Inserted { relation, rows: 9 }));
        let delete = change(rmgr::HEAP, 0x10, &[7, 0, 0, 0, 1, 0, 0, 0], 15);
        assert_eq!(delete, Some(WalChange::Deleted { relation }));
        let taken_back = change(rmgr::HEAP, 0x10, &[7, 0, 0, 0, 1, 0, 0, 8], 15);
        assert_eq!(taken_back, None);
        assert_eq!(change(rmgr::HEAP, 0x60, &[], 15), None, "a row lock");
    }

    #[test]
    fn databases_are_made_in_two_ways_since_15() {
        let made = [9, 0, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0];
        let copied = Some(WalChange::DatabaseCreated { database: 9, template: Some(5) });
        assert_eq!(change(rmgr::DBASE, 0x00, &made, 14), copied);
        assert_eq!(
            change(rmgr::DBASE, 0x10, &made[..8], 15),
            Some(WalChange::DatabaseCreated { database: 9, template: None })
        );
        let gone = Some(WalChange::DatabaseDropped { database: 9 });
        assert_eq!(change(rmgr::DBASE, 0x10, &made[..8], 14), gone);
        assert_eq!(change(rmgr::DBASE, 0x20, &made[..8], 17), gone);
    }

    #[test]
    fn running_transactions_tell_the_next_one() {
        let mut main = [0u8; 24];
        main[12..16].copy_from_slice(&777u32.to_le_bytes());
        let told = change(rmgr::STANDBY, 0x10, &main, 17);
        assert_eq!(told, Some(WalChange::Running { next: Xid(777) }));
        assert_eq!(change(rmgr::STANDBY, 0x00, &main, 17), None, "a lock");
    }

    #[test]
    fn what_is_cut_short_is_an_error() {
        let record = record(rmgr::HEAP, 0x10, &[7, 0]);
        let (blocks, main) = record.parts(15).unwrap();
        assert!(decode_change(&record, &blocks, main, 15).is_err());
    }
}
