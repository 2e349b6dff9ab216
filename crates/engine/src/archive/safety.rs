//! What our replication slot may cost the server: before it is made, and while it is there.
//!
//! A slot keeps WAL for as long as nobody reads it. PostgreSQL does not tell how much of its disk is
//! free; what is not known is null, never 0.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use holdfast_postgres::ServerVersion;
use holdfast_wire::{Connection, WireError};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::synchronous::{self, Membership};
use crate::cluster::Cluster;
use crate::error::{EngineError, Result};
use crate::home::Home;
use crate::jobs::Reporter;
use crate::size::bytes;
use crate::{Engine, Finding, Severity};

/// How often a slot that is in use is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long the WAL rate is measured where the server has no statistics of it.
const MEASURE: Duration = Duration::from_millis(500);
/// Statistics of a shorter time say little.
const ENOUGH_SECONDS: f64 = 60.0;

/// What a slot that nobody reads costs the server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ts_rs::TS)]
pub struct SlotCost {
    /// The most WAL that slots keep (`max_slot_wal_keep_size`); null when there is no limit.
    #[ts(type = "number | null")]
    pub keep_limit_bytes: Option<u64>,
    /// What lies in `pg_wal` now; null when our role may not look.
    #[ts(type = "number | null")]
    pub wal_bytes: Option<u64>,
    /// Free space of the server's disk; null unless the server runs on this machine.
    #[ts(type = "number | null")]
    pub free_bytes: Option<u64>,
    /// WAL that the server writes in a second, by its own statistics or a short measurement.
    pub wal_bytes_per_second: Option<f64>,
    /// Over how many seconds that was measured.
    pub measured_seconds: Option<f64>,
    /// After how long without a reader the disk is full; null where that is unknown or cannot happen.
    pub hours_until_full: Option<f64>,
    /// After how long without a reader the server gives the slot up; null without a limit.
    pub hours_until_lost: Option<f64>,
}

impl SlotCost {
    pub(crate) async fn look(sql: &mut Connection, local: bool) -> Result<Self, WireError> {
        let text = sql.show("max_slot_wal_keep_size").await?;
        let keep_limit_bytes = if text == "-1" { None } else { crate::cluster::parse_size(&text) };
        let wal_bytes = sql
            .catalog_value("SELECT sum(size) FROM pg_catalog.pg_ls_waldir()")
            .await
            .ok()
            .flatten()
            .and_then(|n| n.parse().ok());
        let free_bytes = if local { free_space(sql).await } else { None };
        let rate = rate(sql).await?;
        let mut cost = Self {
            keep_limit_bytes,
            wal_bytes,
            free_bytes,
            wal_bytes_per_second: rate.map(|r| r.0),
            measured_seconds: rate.map(|r| r.1),
            hours_until_full: None,
            hours_until_lost: None,
        };
        cost.work_out();
        Ok(cost)
    }

    #[allow(clippy::cast_precision_loss, reason = "hours with one digit")]
    fn work_out(&mut self) {
        let Some(rate) = self.wal_bytes_per_second.filter(|rate| *rate > 0.0) else { return };
        let hours = |bytes: u64| bytes as f64 / rate / 3600.0;
        self.hours_until_lost = self.keep_limit_bytes.map(hours);
        self.hours_until_full = self
            .free_bytes
            .filter(|free| self.keep_limit_bytes.is_none_or(|limit| limit > *free))
            .map(hours);
    }

    /// What it means, as findings with numbers.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "shown to people"
        )]
        let hourly = |rate: f64| bytes((rate * 3600.0) as u64);
        let rate = match (self.wal_bytes_per_second, self.measured_seconds) {
            (Some(rate), Some(seconds)) if rate > 0.0 => {
                format!("at {}/h (measured over {})", hourly(rate), span(seconds))
            }
            _ => "at a rate that is not known".to_owned(),
        };
        let after = |hours: Option<f64>| {
            hours.map_or_else(
                || "after a time that is not known".to_owned(),
                |h| format!("after {}", span(h * 3600.0)),
            )
        };
        let free = self
            .free_bytes
            .map_or_else(|| "free space unknown".to_owned(), |b| format!("{} free", bytes(b)));
        let Some(limit) = self.keep_limit_bytes else {
            let when = self.hours_until_full.map_or_else(
                || format!("fills the disk {rate} ({free})"),
                |h| format!("the disk fills in {} {rate}, {free}", span(h * 3600.0)),
            );
            return vec![Finding::new(
                Severity::Warning,
                "slot_may_fill_disk",
                format!(
                    "max_slot_wal_keep_size is unlimited: while nobody streams, our slot keeps WAL and {when}"
                ),
                Some(
                    "ALTER SYSTEM SET max_slot_wal_keep_size = '64GB'; SELECT pg_reload_conf(); -- or archive with \
                     --drop-slot-after"
                        .to_owned(),
                ),
            )];
        };
        let limit_text = bytes(limit);
        let mut findings = Vec::new();
        if self.free_bytes.is_some_and(|free| free < limit) {
            findings.push(Finding::new(
                Severity::Warning,
                "slot_may_fill_disk",
                format!(
                    "max_slot_wal_keep_size is {limit_text} and the server has less ({free}): while nobody streams, the \
                     disk is full {} {rate}",
                    after(self.hours_until_full)
                ),
                Some(
                    "Set max_slot_wal_keep_size below the space that is free for WAL.".to_owned(),
                ),
            ));
        }
        findings.push(Finding::new(
            if self.hours_until_lost.is_some_and(|h| h < 8.0) {
                Severity::Warning
            } else {
                Severity::Info
            },
            "slot_keeps_at_most",
            format!(
                "our slot keeps at most {limit_text}: when nobody streams it is lost {} {rate}, and a new backup is needed then",
                after(self.hours_until_lost)
            ),
            None,
        ));
        findings
    }
}

/// Bytes a second, and over how many seconds: the server's statistics, else a short measurement.
async fn rate(sql: &mut Connection) -> Result<Option<(f64, f64)>, WireError> {
    let rows = sql
        .catalog_rows(
            "SELECT wal_bytes::text, extract(epoch FROM now() - stats_reset)::text FROM pg_catalog.pg_stat_wal",
        )
        .await;
    let number = |cell: Option<&Option<String>>| {
        cell.and_then(|c| c.as_deref()).and_then(|c| c.parse::<f64>().ok())
    };
    if let Ok(rows) = rows
        && let Some(row) = rows.first()
        && let (Some(bytes), Some(seconds)) = (number(row.first()), number(row.get(1)))
        && seconds >= ENOUGH_SECONDS
    {
        return Ok(Some((bytes / seconds, seconds)));
    }
    let at = "SELECT pg_catalog.pg_wal_lsn_diff(CASE WHEN pg_catalog.pg_is_in_recovery() THEN \
              pg_catalog.pg_last_wal_receive_lsn() ELSE pg_catalog.pg_current_wal_lsn() END, '0/0')::text";
    let position = |text: Option<String>| text.and_then(|t| t.parse::<f64>().ok());
    let began = tokio::time::Instant::now();
    let Some(before) = position(sql.catalog_value(at).await?) else { return Ok(None) };
    tokio::time::sleep(MEASURE).await;
    let Some(after) = position(sql.catalog_value(at).await?) else { return Ok(None) };
    let seconds = began.elapsed().as_secs_f64();
    Ok(Some(((after - before).max(0.0) / seconds, seconds)))
}

/// Free space where the server's WAL lies, when it lies on this machine and can be seen.
async fn free_space(sql: &mut Connection) -> Option<u64> {
    let directory = PathBuf::from(sql.show("data_directory").await.ok()?).join("pg_wal");
    tokio::task::spawn_blocking(move || {
        // Another machine's path, seen through a tunnel, is not there or is not a server's.
        directory.is_dir().then(|| crate::disk::free_space(&directory)).flatten()
    })
    .await
    .ok()
    .flatten()
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole units")]
fn span(seconds: f64) -> String {
    match seconds.max(0.0) {
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{} min", (s / 60.0).round() as u64),
        s if s < 172_800.0 => format!("{} h", (s / 3600.0).round() as u64),
        s => format!("{} d", (s / 86_400.0).round() as u64),
    }
}

/// Minor versions before which a checkpoint that races with the creation of a slot could invalidate it
/// at once.
pub(crate) fn minor_version_finding(version: ServerVersion) -> Option<Finding> {
    let fixed = match version.major() {
        14 => 21,
        15 => 16,
        16 => 12,
        17 => 8,
        18 => 2,
        _ => return None,
    };
    (version.minor() < fixed).then(|| {
        Finding::new(
            Severity::Warning,
            "minor_version_old",
            format!(
                "PostgreSQL {version} may give up a replication slot the moment it is made, and starts a copy whose first \
                 WAL is missing; {}.{fixed} does not",
                version.major()
            ),
            Some(format!("Update to the newest minor version of PostgreSQL {}.", version.major())),
        )
    })
}

/// Our slot as the server last showed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
pub struct SlotState {
    /// Its name.
    pub name: String,
    /// `reserved`, `extended`, `unreserved` or `lost`; null when the slot has reserved nothing.
    pub wal_status: Option<String>,
    /// WAL that it holds back.
    #[ts(type = "number | null")]
    pub held_bytes: Option<u64>,
    /// WAL that may still be written before it is lost; null without a limit.
    #[ts(type = "number | null")]
    pub safe_bytes: Option<u64>,
    /// Why it was invalidated (17 and later).
    pub invalidation_reason: Option<String>,
    /// When that was.
    #[ts(type = "string")]
    pub seen_at: DateTime<Utc>,
}

impl SlotState {
    /// Reads it; `None` when there is no such slot.
    pub(crate) async fn look(sql: &mut Connection, name: &str) -> Result<Option<Self>, WireError> {
        let reason = if sql.facts().version.major() >= 17 { "invalidation_reason" } else { "NULL" };
        let statement = format!(
            "SELECT wal_status, pg_catalog.pg_wal_lsn_diff(CASE WHEN pg_catalog.pg_is_in_recovery() THEN \
             pg_catalog.pg_last_wal_receive_lsn() ELSE pg_catalog.pg_current_wal_lsn() END, restart_lsn)::bigint::text, \
             safe_wal_size::text, {reason} FROM pg_catalog.pg_replication_slots WHERE slot_name = '{name}'"
        );
        let Some(row) = sql.catalog_rows(&statement).await?.into_iter().next() else {
            return Ok(None);
        };
        let cell = |n: usize| row.get(n).cloned().flatten();
        let bytes = |n: usize| {
            cell(n).and_then(|t| t.parse::<i64>().ok()).map(|n| u64::try_from(n).unwrap_or(0))
        };
        Ok(Some(Self {
            name: name.to_owned(),
            wal_status: cell(0),
            held_bytes: bytes(1),
            safe_bytes: bytes(2),
            invalidation_reason: cell(3),
            seen_at: Utc::now(),
        }))
    }

    /// Whether somebody has to know: the slot is about to be lost, or is lost.
    fn is_worrying(&self) -> bool {
        matches!(self.wal_status.as_deref(), Some("unreserved" | "lost"))
            || self.invalidation_reason.is_some()
    }

    fn sentence(&self) -> String {
        let held = self.held_bytes.map_or_else(|| "an unknown amount of WAL".to_owned(), bytes);
        let status = self.wal_status.as_deref().unwrap_or("not reserved");
        let why =
            self.invalidation_reason.as_deref().map(|r| format!(" ({r})")).unwrap_or_default();
        let next = match status {
            "unreserved" => ": the next checkpoint may remove WAL that is not archived yet",
            "lost" => ": WAL that was not archived yet is gone",
            "extended" => ": more than max_wal_size is kept for it",
            _ => "",
        };
        format!("the replication slot {} is {status}{why}, it holds {held} back{next}", self.name)
    }
}

fn state_path(home: &Home, cluster: &Cluster) -> PathBuf {
    home.root().join("slots").join(format!("{}.json", cluster.id))
}

/// What this machine saw of the slot last; none when it never looked.
pub(crate) fn last_seen(home: &Home, cluster: &Cluster) -> Option<SlotState> {
    serde_json::from_slice(&std::fs::read(state_path(home, cluster)).ok()?).ok()
}

fn note(home: &Home, cluster: &Cluster, state: &SlotState) -> Result<()> {
    let path = state_path(home, cluster);
    let directory = path.parent().unwrap_or(home.root()).to_path_buf();
    std::fs::create_dir_all(&directory).map_err(EngineError::file("create", &directory))?;
    let text = serde_json::to_vec(state)
        .map_err(|e| EngineError::Fault(format!("the state of a slot: {e}")))?;
    let mut file =
        tempfile::NamedTempFile::new_in(&directory).map_err(EngineError::file("create", &path))?;
    std::io::Write::write_all(&mut file, &text).map_err(EngineError::file("write", &path))?;
    file.persist(&path).map(drop).map_err(|e| EngineError::file("write", &path)(e.error))
}

/// Looks at the slot while it is in use. Ends with the stream it belongs to.
#[derive(Debug)]
pub(super) struct SlotWatch {
    task: tokio::task::JoinHandle<()>,
    /// The slot holds more back than is allowed: how much.
    pub(super) too_much: watch::Receiver<Option<u64>>,
}

impl Drop for SlotWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl SlotWatch {
    pub(super) fn start(
        engine: Engine,
        cluster: Cluster,
        reporter: Option<Reporter>,
        allowed: Option<u64>,
        synchronous: Option<(String, Membership)>,
    ) -> Self {
        let (exceeded, too_much) = watch::channel(None);
        let task = tokio::spawn(async move {
            let mut told: Option<String> = None;
            let mut synchronous = synchronous;
            loop {
                // Looking is no condition for archiving: a server without room for one more session
                // is archived all the same.
                let seen = async {
                    let mut sql = engine.connect_sql(&cluster).await?;
                    let seen = SlotState::look(&mut sql, &cluster.slot).await;
                    if let Some((name, told)) = &mut synchronous
                        && let Ok(now) = Membership::look(&mut sql, name).await
                        && std::mem::replace(told, now) != now
                        && now == Membership::Sole
                        && let Some(reporter) = &reporter
                    {
                        reporter.alert("sole_synchronous_member", synchronous::sole_sentence(name));
                    }
                    sql.close().await;
                    Ok::<_, EngineError>(seen?)
                }
                .await;
                match seen {
                    Ok(Some(state)) => {
                        let (home, of, noted) =
                            (engine.home().clone(), cluster.clone(), state.clone());
                        let kept =
                            tokio::task::spawn_blocking(move || note(&home, &of, &noted)).await;
                        if !matches!(kept, Ok(Ok(()))) {
                            tracing::debug!(?kept, "the state of the slot was not kept");
                        }
                        let status =
                            format!("{:?} {:?}", state.wal_status, state.invalidation_reason);
                        let changed = told.as_ref() != Some(&status);
                        if changed && (state.is_worrying() || told.is_some()) {
                            match &reporter {
                                Some(reporter) if state.is_worrying() => {
                                    reporter.alert("slot_state", state.sentence());
                                }
                                Some(reporter) => reporter.log(state.sentence()),
                                None => tracing::warn!("{}", state.sentence()),
                            }
                        }
                        told = Some(status);
                        if let (Some(held), Some(allowed)) = (state.held_bytes, allowed)
                            && held > allowed
                        {
                            exceeded.send_replace(Some(held));
                        }
                    }
                    Ok(None) => {}
                    Err(error) => tracing::debug!(%error, "the slot could not be looked at"),
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
        Self { task, too_much }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn cost(limit: Option<u64>, free: Option<u64>, rate: Option<f64>) -> SlotCost {
        let mut cost = SlotCost {
            keep_limit_bytes: limit,
            wal_bytes: None,
            free_bytes: free,
            wal_bytes_per_second: rate,
            measured_seconds: rate.map(|_| 3600.0),
            hours_until_full: None,
            hours_until_lost: None,
        };
        cost.work_out();
        cost
    }

    #[test]
    fn the_disk_fills_in_nine_hours() {
        let gib = 1_u64 << 30;
        let rate = 10.0 * f64::from(1 << 30) / 3600.0;
        let unlimited = cost(None, Some(90 * gib), Some(rate));
        assert!((unlimited.hours_until_full.unwrap() - 9.0).abs() < 1e-9);
        let told = &unlimited.findings()[0];
        assert_eq!(told.code, "slot_may_fill_disk");
        assert!(told.message.contains("fills in 9 h"), "{}", told.message);
        assert!(told.message.contains("10.0 GiB/h"), "{}", told.message);

        let limited = cost(Some(30 * gib), Some(90 * gib), Some(rate));
        assert_eq!(limited.hours_until_full, None, "the limit is reached first");
        assert!(limited.findings()[0].message.contains("after 3 h"));
        let small = cost(Some(200 * gib), Some(90 * gib), Some(rate));
        assert_eq!(small.findings().len(), 2);

        let unknown = cost(None, None, None);
        assert_eq!((unknown.hours_until_full, unknown.hours_until_lost), (None, None));
        assert!(unknown.findings()[0].message.contains("free space unknown"));
    }

    #[test]
    fn old_minor_versions_are_named() {
        let finding = |n| minor_version_finding(ServerVersion(n));
        assert!(finding(150_015).is_some());
        assert!(finding(150_016).is_none());
        assert!(finding(180_001).is_some());
        assert!(finding(170_011).is_none());
    }
}
