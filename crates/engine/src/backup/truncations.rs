//! Relations that were truncated since the previous snapshot, which are therefore read whole.
//!
//! For these a server's incremental file cannot be relied on, up to 17.11 and 18.6 at least. It merges its
//! WAL summaries in the order in which its directory lists them (`PrepareForIncrementalBackup` in
//! `basebackup_incremental.c`), and a truncation forgets the changed blocks behind it
//! (`BlockRefTableEntrySetLimitBlock` in `blkreftable.c`): merged after a later summary, it forgets blocks
//! that were written since. Blocks that such a relation was given back without WAL, as `COPY` does, are
//! not changed blocks either. In both cases what stood there before the truncation comes back:
//! deleted rows appear, new ones are lost.
//!
//! A file that the previous backup's manifest does not list is sent whole (`GetFileBackupMethod`). So what
//! the summaries say was truncated is left out of the manifest that is sent.

use std::collections::HashSet;

use holdfast_postgres::{Lsn, TimelineId, relation_file};
use holdfast_wire::{Connection, WireError};

use super::incremental::Basis;
use crate::Engine;
use crate::cluster::Cluster;
use crate::error::{EngineError, Result};
use crate::jobs::Reporter;

/// The truncated relations in a server's WAL summaries, as far as these were read.
pub(super) struct Truncations {
    session: Connection,
    since: Lsn,
    read: HashSet<Summary>,
    relations: TruncatedRelations,
}

/// Truncated relations by the number of their files, whatever the database: those of another one with
/// the same number are read whole without need.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TruncatedRelations(HashSet<u32>);

/// One summary: the WAL of a timeline between two places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Summary {
    timeline: TimelineId,
    start: Lsn,
    end: Lsn,
}

impl TruncatedRelations {
    #[cfg(test)]
    pub(super) fn of<const N: usize>(relfilenodes: [u32; N]) -> Self {
        Self(HashSet::from(relfilenodes))
    }

    /// Whether the file at this path of a data directory belongs to one of them.
    pub(super) fn own(&self, path: &str) -> bool {
        relation_file(path).is_some_and(|file| self.0.contains(&file.relfilenode))
    }
}

impl Truncations {
    /// Reads the summaries that there are of what follows `basis`'s start, in an ordinary session to the
    /// server of `walsender`.
    ///
    /// # Errors
    /// [`EngineError::Refused`] when the server does not show its summaries.
    pub(super) async fn since(
        basis: &Basis,
        engine: &Engine,
        cluster: &Cluster,
        walsender: &Connection,
        reporter: &Reporter,
    ) -> Result<Self> {
        let mut session = engine.connect_sql(cluster).await?;
        // Several servers may answer to one name, and only this one's summaries count.
        let pid = walsender.facts().backend_pid;
        let sql = format!(
            "SELECT 1 FROM pg_catalog.pg_stat_activity WHERE pid = {pid} AND backend_type = 'walsender'"
        );
        if session.catalog_value(&sql).await?.is_none() {
            return Err(unreadable(
                "an ordinary session does not reach the server that sends the backup",
                "Let the connection string name one server, or take a full backup.",
            ));
        }
        let mut truncations = Self {
            session,
            since: basis.start_lsn,
            read: HashSet::new(),
            relations: TruncatedRelations::default(),
        };
        truncations.read_up_to(Lsn(u64::MAX), reporter).await?;
        Ok(truncations)
    }

    /// The relations found so far.
    pub(super) fn relations(&self) -> &TruncatedRelations {
        &self.relations
    }

    /// Reads the summaries that were written meanwhile and begin before `end`; whether they name a relation
    /// that was not known.
    ///
    /// # Errors
    /// As [`Truncations::since`].
    pub(super) async fn read_up_to(&mut self, end: Lsn, reporter: &Reporter) -> Result<bool> {
        let sql = format!(
            "SELECT tli, start_lsn, end_lsn FROM pg_catalog.pg_available_wal_summaries() \
             WHERE end_lsn > '{}' AND start_lsn < '{end}' ORDER BY start_lsn",
            self.since
        );
        let listed = rows(&mut self.session, &sql).await?;
        let listed = listed.iter().map(|row| Summary::parse(row)).collect::<Result<Vec<_>>>()?;
        let new: Vec<_> = listed.into_iter().filter(|one| !self.read.contains(one)).collect();
        let known = self.relations.0.len();
        reporter.phase(
            "reading the server's WAL summaries",
            Some("summaries"),
            Some(new.len() as u64),
        );
        for (done, summary) in (1..).zip(new) {
            // A limit of 0 is a relation made, dropped or emptied: that is sent whole anyway.
            let Summary { timeline, start, end } = summary;
            let sql = format!(
                "SELECT DISTINCT relfilenode FROM \
                 pg_catalog.pg_wal_summary_contents({timeline}, '{start}', '{end}') \
                 WHERE is_limit_block AND relblocknumber > 0"
            );
            for row in rows(&mut self.session, &sql).await? {
                self.relations.0.insert(cell(&row, 0)?);
            }
            self.read.insert(summary);
            reporter.done(done);
        }
        Ok(self.relations.0.len() > known)
    }

    /// Ends the session.
    pub(super) async fn close(self) {
        self.session.close().await;
    }
}

impl Summary {
    fn parse(row: &[Option<String>]) -> Result<Self> {
        Ok(Self { timeline: cell(row, 0)?, start: cell(row, 1)?, end: cell(row, 2)? })
    }
}

/// The rows of one query. What the server has against it is a reason for a full backup.
async fn rows(session: &mut Connection, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
    match session.catalog_rows(sql).await {
        Ok(rows) => Ok(rows),
        Err(WireError::Server(error)) => Err(unreadable(
            &error.message,
            "Let the role execute pg_available_wal_summaries() and pg_wal_summary_contents(), or take a full backup.",
        )),
        Err(error) => Err(error.into()),
    }
}

fn cell<T: std::str::FromStr>(row: &[Option<String>], number: usize) -> Result<T> {
    row.get(number).and_then(Option::as_ref).and_then(|text| text.parse().ok()).ok_or_else(|| {
        EngineError::Fault(format!("the server describes its WAL summaries with {row:?}"))
    })
}

fn unreadable(why: &str, hint: &str) -> EngineError {
    EngineError::refused(
        "wal_summaries_unreadable",
        format!("what was truncated since the previous snapshot cannot be read: {why}"),
        hint,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_a_truncated_relation_is_read_whole() {
        let truncated = TruncatedRelations::of([16384]);
        for path in
            ["base/5/16384", "base/5/16384.3", "base/5/16384_vm", "pg_tblspc/9/PG_17_1/5/16384"]
        {
            assert!(truncated.own(path), "{path}");
        }
        for path in ["base/5/16385", "base/16384/1259", "base/16384/PG_VERSION", "pg_xact/0000"] {
            assert!(!truncated.own(path), "{path}");
        }
    }
}
