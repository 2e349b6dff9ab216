//! Ends of transactions (`xl_xact_commit` and `xl_xact_abort` of `xact.h`).
//!
//! ```text
//! i64 time
//! u32 xinfo                              if the record's info has 0x80; then, by bits of xinfo:
//!   0  u32 database, u32 tablespace
//!   1  u32 n, n transaction ids          subtransactions
//!   2  u32 n, n relation locators of 12  dropped relations
//!   8  u32 n, n statistics items         15+; 12 bytes each, 16 from 18 on
//!   3  u32 n, n messages of 16           invalidations, commits only
//!   4  u32 transaction id                of the prepared transaction, then by bit 7 its name
//!   5  origin                            not read
//! ```

use super::block::RelationLocator;
use super::record::Cursor;
use crate::system::Xid;
use crate::timestamp::PgTimestamp;

/// `XLOG_XACT_HAS_INFO`.
const HAS_INFO: u8 = 0x80;

const HAS_DATABASE: u32 = 1 << 0;
const HAS_SUBTRANSACTIONS: u32 = 1 << 1;
const HAS_RELATIONS: u32 = 1 << 2;
const HAS_INVALIDATIONS: u32 = 1 << 3;
const HAS_TWOPHASE: u32 = 1 << 4;
const HAS_DROPPED_STATISTICS: u32 = 1 << 8;

/// Kinds of records, under the mask 0x70.
pub(super) const COMMIT: u8 = 0x00;
pub(super) const ABORT: u8 = 0x20;
pub(super) const COMMIT_PREPARED: u8 = 0x30;
pub(super) const ABORT_PREPARED: u8 = 0x40;

/// When a transaction ended, which one if the record names another than its own, and what went with
/// it.
pub(super) struct TransactionEnd {
    pub(super) time: PgTimestamp,
    pub(super) prepared_xid: Option<Xid>,
    pub(super) subtransactions: Vec<Xid>,
    pub(super) dropped: Vec<RelationLocator>,
}

/// Reads a commit's or abort's main data.
pub(super) fn transaction_end(data: &[u8], info: u8, major: u32) -> Option<TransactionEnd> {
    let mut data = Cursor::new(data);
    let time = PgTimestamp(data.i64()?);
    let xinfo = if info & HAS_INFO != 0 { data.u32()? } else { 0 };
    let has = |flag| xinfo & flag != 0;
    if has(HAS_DATABASE) {
        data.skip(8)?;
    }
    let mut subtransactions = Vec::new();
    if has(HAS_SUBTRANSACTIONS) {
        for _ in 0..data.u32()? {
            subtransactions.push(Xid(data.u32()?));
        }
    }
    let mut dropped = Vec::new();
    if has(HAS_RELATIONS) {
        for _ in 0..data.u32()? {
            dropped.push(RelationLocator::read(&mut data)?);
        }
    }
    if major >= 15 && has(HAS_DROPPED_STATISTICS) {
        data.skip_counted(if major >= 18 { 16 } else { 12 })?;
    }
    // An abort never sets the bit: its invalidations were never sent.
    if has(HAS_INVALIDATIONS) {
        data.skip_counted(16)?;
    }
    let prepared_xid = if has(HAS_TWOPHASE) { Some(Xid(data.u32()?)) } else { None };
    Some(TransactionEnd { time, prepared_xid, subtransactions, dropped })
}
