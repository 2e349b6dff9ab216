//! The short commands of the replication grammar (`repl_gram.y`).

use holdfast_postgres::{BackupGrammar, Lsn, SystemIdentifier, TimelineId, VersionTraits};
use serde::{Deserialize, Serialize};

use crate::connection::{Connection, SessionKind};
use crate::error::WireError;
use crate::query::{self, RawResultSet};
use crate::sql_text;

/// What `IDENTIFY_SYSTEM` answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemIdentity {
    /// Which cluster this is.
    pub system_identifier: SystemIdentifier,
    /// The timeline it is on.
    pub timeline: TimelineId,
    /// Up to where its WAL is flushed (on a standby: replayed and received).
    pub flush_lsn: Lsn,
    /// The session's database, if it has one.
    pub database: Option<String>,
}

/// What is known about a replication slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotFacts {
    /// WAL from here on is kept; `None` when the slot has reserved nothing.
    pub restart_lsn: Option<Lsn>,
    /// The timeline of `restart_lsn`, where the server tells.
    pub restart_timeline: Option<TimelineId>,
    /// `physical` or `logical`.
    pub kind: String,
}

impl Connection {
    /// Which cluster this is, and where it stands.
    pub async fn identify_system(&mut self) -> Result<SystemIdentity, WireError> {
        let row =
            self.query_row("IDENTIFY_SYSTEM").await?.ok_or_else(|| no_row("IDENTIFY_SYSTEM"))?;
        let cell = |n: usize| row.get(n).cloned().flatten();
        let value = |n: usize| cell(n).ok_or_else(|| no_row("IDENTIFY_SYSTEM"));
        Ok(SystemIdentity {
            system_identifier: parse("system identifier", &value(0)?)?,
            timeline: parse("timeline", &value(1)?)?,
            flush_lsn: parse("position", &value(2)?)?,
            database: cell(3),
        })
    }

    /// The value of a setting, with its unit, as `SHOW` gives it.
    pub async fn show(&mut self, name: &str) -> Result<String, WireError> {
        let command = format!("SHOW {}", sql_text::setting(name)?);
        self.query_value(&command).await?.ok_or_else(|| no_row("SHOW"))
    }

    /// Name and content of a timeline's history file. Timeline 1 has none: the server answers 58P01.
    pub async fn timeline_history(
        &mut self,
        timeline: TimelineId,
    ) -> Result<(String, Vec<u8>), WireError> {
        let sets = self.raw_query(&format!("TIMELINE_HISTORY {timeline}")).await?;
        let row = first_row(sets).ok_or_else(|| no_row("TIMELINE_HISTORY"))?;
        match row.as_slice() {
            [Some(name), Some(content)] => Ok((query::text(name), content.to_vec())),
            _ => Err(no_row("TIMELINE_HISTORY")),
        }
    }

    /// Creates a physical slot that keeps WAL from the last checkpoint's redo position on.
    ///
    /// # Errors
    /// [`WireError::Server`] with 42710 when a slot of this name exists, 53400 when no place is left.
    pub async fn create_physical_slot(&mut self, name: &str) -> Result<(), WireError> {
        let command = if self.kind == SessionKind::Sql {
            format!(
                "SELECT pg_catalog.pg_create_physical_replication_slot({}, true)",
                sql_text::literal(name)?
            )
        } else {
            let slot = sql_text::identifier(name)?;
            match self.traits("replication slots")?.backup_grammar {
                BackupGrammar::Keywords => {
                    format!("CREATE_REPLICATION_SLOT {slot} PHYSICAL RESERVE_WAL")
                }
                BackupGrammar::Parenthesised => {
                    format!("CREATE_REPLICATION_SLOT {slot} PHYSICAL (RESERVE_WAL)")
                }
            }
        };
        self.raw_query(&command).await.map(drop)
    }

    /// Drops a slot; whether there was one.
    ///
    /// # Errors
    /// [`WireError::Server`] with 55006 while another session uses it.
    pub async fn drop_slot(&mut self, name: &str) -> Result<bool, WireError> {
        let command = if self.kind == SessionKind::Sql {
            format!("SELECT pg_catalog.pg_drop_replication_slot({})", sql_text::literal(name)?)
        } else {
            format!("DROP_REPLICATION_SLOT {}", sql_text::identifier(name)?)
        };
        match self.raw_query(&command).await {
            Ok(_) => Ok(true),
            // It is gone already: another session was faster, or it never was.
            Err(WireError::Server(error)) if error.sqlstate == "42704" => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads a slot; `None` when there is none of this name.
    ///
    /// # Errors
    /// [`WireError::UnsupportedVersion`] on a session without SQL of a server before 15, which has no
    /// command for it.
    pub async fn read_slot(&mut self, name: &str) -> Result<Option<SlotFacts>, WireError> {
        let by_command = self.kind != SessionKind::Sql
            && self.traits("reading a replication slot")?.read_replication_slot;
        if by_command {
            let command = format!("READ_REPLICATION_SLOT {}", sql_text::identifier(name)?);
            return match self.query_row(&command).await {
                Ok(row) => slot_facts(row),
                // It is there, but the command is for physical slots only.
                Err(WireError::Server(error)) if error.sqlstate == "0A000" => Ok(Some(SlotFacts {
                    restart_lsn: None,
                    restart_timeline: None,
                    kind: "logical".to_owned(),
                })),
                Err(error) => Err(error),
            };
        }
        if self.kind == SessionKind::PhysicalReplication {
            return Err(WireError::UnsupportedVersion {
                version: self.facts.version,
                feature: "reading a replication slot without SQL",
            });
        }
        let sql = format!(
            "SELECT slot_type, restart_lsn, NULL FROM pg_catalog.pg_replication_slots WHERE slot_name = {}",
            sql_text::literal(name)?
        );
        slot_facts(self.catalog_rows(&sql).await?.into_iter().next())
    }

    /// The row of the version table, or the refusal to use `feature` with this server.
    pub(crate) fn traits(
        &self,
        feature: &'static str,
    ) -> Result<&'static VersionTraits, WireError> {
        let version = self.facts.version;
        version.traits().ok_or(WireError::UnsupportedVersion { version, feature })
    }
}

fn first_row(sets: Vec<RawResultSet>) -> Option<Vec<Option<bytes::Bytes>>> {
    sets.into_iter().find(|set| !set.columns.is_empty()).and_then(|set| set.rows.into_iter().next())
}

fn slot_facts(row: Option<Vec<Option<String>>>) -> Result<Option<SlotFacts>, WireError> {
    let Some(row) = row else { return Ok(None) };
    let cell = |n: usize| row.get(n).cloned().flatten();
    // A slot that does not exist is a row of NULLs.
    let Some(kind) = cell(0) else { return Ok(None) };
    let restart_lsn = cell(1).map(|text| parse("restart_lsn", &text)).transpose()?;
    let restart_timeline = cell(2).map(|text| parse("restart_tli", &text)).transpose()?;
    Ok(Some(SlotFacts { restart_lsn, restart_timeline, kind }))
}

fn no_row(command: &str) -> WireError {
    WireError::protocol(format!("{command} was not answered with the row it should have"))
}

/// Reads a value that the server sent as text.
pub(crate) fn parse<T: std::str::FromStr>(what: &str, text: &str) -> Result<T, WireError> {
    text.parse().map_err(|_| WireError::protocol(format!("a {what} cannot be read")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_row_of_nulls_is_no_slot() {
        assert_eq!(slot_facts(None).unwrap(), None);
        assert_eq!(slot_facts(Some(vec![None, None, None])).unwrap(), None);
        let row =
            vec![Some("physical".to_owned()), Some("0/3000028".to_owned()), Some("1".to_owned())];
        let facts = slot_facts(Some(row)).unwrap().unwrap();
        assert_eq!(facts.restart_lsn, Some(Lsn(0x0300_0028)));
        assert_eq!(facts.restart_timeline, TimelineId::new(1));
        let broken = vec![Some("physical".to_owned()), Some("nonsense".to_owned()), None];
        assert!(slot_facts(Some(broken)).is_err());
    }
}
