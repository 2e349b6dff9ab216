//! Proves that PostgreSQL stopped where the archive says it must: it is not assumed.

use std::path::Path;

use holdfast_postgres::Lsn;

use super::plan::Prepared;
use super::replay::Paused;
use super::resolve::StopRule;
use crate::server::private::ServerLocation;
use crate::{Finding, Severity};

/// A page header may lie between the end of one record and the start of the next.
const LARGEST_PAGE_HEADER: u64 = 40;

/// Compares what the paused server and its log say with the prediction.
pub(super) fn stop(prepared: &Prepared, paused: &Paused, log: &Path) -> Vec<Finding> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let line = text.lines().rev().find(|l| l.contains("recovery stopping")).unwrap_or_default();
    let mut findings = vec![said(prepared, line), position(prepared, paused.replayed)];
    findings.push(last_transaction(prepared, paused));
    findings
}

fn finding(good: bool, code: &str, message: String) -> Finding {
    Finding::new(if good { Severity::Ok } else { Severity::Error }, code, message, None)
}

/// PostgreSQL's own sentence about its stop.
fn said(prepared: &Prepared, line: &str) -> Finding {
    let sentence = line.split_once("LOG:").map_or(line, |(_, said)| said).trim();
    // It names the record at which it stopped, which need not begin where the target is.
    let record = |target: &Lsn| prepared.stop.at.map_or(*target, |record| record.start);
    let expected = match &prepared.stop.rule {
        StopRule::Immediate => "recovery stopping after reaching consistency".to_owned(),
        StopRule::Lsn(lsn) if prepared.stop.before => {
            format!("recovery stopping before WAL location (LSN) \"{}\"", record(lsn))
        }
        StopRule::Lsn(lsn) => {
            format!("recovery stopping after WAL location (LSN) \"{}\"", record(lsn))
        }
        StopRule::Name(name) => format!("recovery stopping at restore point \"{name}\""),
        StopRule::Xid(xid) if prepared.stop.before => {
            format!("recovery stopping before <end> of transaction {xid},")
        }
        StopRule::Xid(xid) => format!("recovery stopping after <end> of transaction {xid},"),
        StopRule::Time(_) => match stop_xid(prepared) {
            Some(xid) => format!("recovery stopping before <end> of transaction {xid},"),
            None => "recovery stopping before".to_owned(),
        },
    };
    let plain = sentence
        .replace(" before commit of ", " before <end> of ")
        .replace(" before abort of ", " before <end> of ")
        .replace(" after commit of ", " after <end> of ")
        .replace(" after abort of ", " after <end> of ");
    finding(
        plain.starts_with(&expected),
        "stop_as_predicted",
        if sentence.is_empty() {
            "PostgreSQL did not say where it stopped".to_owned()
        } else {
            format!("PostgreSQL: {sentence}")
        },
    )
}

/// The transaction before whose end a stop by time happens.
fn stop_xid(prepared: &Prepared) -> Option<String> {
    prepared.plan.stops_before.as_ref().map(|c| c.xid.clone())
}

/// The end of the last replayed record against the prediction.
pub(super) fn position(prepared: &Prepared, replayed: Lsn) -> Finding {
    let end = prepared.end();
    let (low, high) = (end.0.saturating_sub(LARGEST_PAGE_HEADER), end.0 + LARGEST_PAGE_HEADER);
    finding(
        (low..=high).contains(&replayed.0),
        "position_as_predicted",
        format!("replayed to {replayed}, predicted {end}"),
    )
}

/// The time in the last replayed transaction end against the index, to the microsecond.
fn last_transaction(prepared: &Prepared, paused: &Paused) -> Finding {
    let predicted = prepared.last_noted_transaction.map(|t| t.time);
    let text = |t: Option<holdfast_postgres::PgTimestamp>| {
        t.map_or_else(|| "none".to_owned(), |t| t.to_string())
    };
    finding(
        predicted == paused.last_transaction,
        "last_transaction_as_predicted",
        format!(
            "last transaction replayed ended at {}, predicted {}",
            text(paused.last_transaction),
            text(predicted)
        ),
    )
}

/// Connects to every database that allows it, and looks for collations that changed.
pub(super) async fn databases(location: &ServerLocation, major: u32) -> Vec<Finding> {
    let mut findings = Vec::new();
    let list = async {
        let mut connection = location.connect("postgres").await?;
        let rows = connection
            .catalog_rows(
                "SELECT datname FROM pg_catalog.pg_database WHERE datallowconn ORDER BY oid",
            )
            .await?;
        Ok::<Vec<String>, crate::EngineError>(
            rows.into_iter().filter_map(|r| r.into_iter().next().flatten()).collect(),
        )
    }
    .await;
    let names = match list {
        Ok(names) => names,
        Err(error) => {
            findings.push(finding(
                false,
                "databases_open",
                format!("the copy cannot be asked: {}", error.to_object().message),
            ));
            return findings;
        }
    };
    for name in &names {
        let opened = async {
            let mut connection = location.connect(name).await?;
            let relations =
                connection.catalog_value("SELECT count(*) FROM pg_catalog.pg_class WHERE relkind IN ('r', 'p', 'm')").await?;
            let mut changed = None;
            if major >= 15 {
                let sql = "SELECT datcollversion || ' -> ' || pg_catalog.pg_database_collation_actual_version(oid) \
                           FROM pg_catalog.pg_database WHERE datname = current_database() \
                           AND datcollversion IS DISTINCT FROM pg_catalog.pg_database_collation_actual_version(oid)";
                changed = connection.catalog_value(sql).await?;
            }
            Ok::<_, crate::EngineError>((relations.unwrap_or_default(), changed))
        }
        .await;
        match opened {
            Ok((relations, changed)) => {
                findings.push(finding(
                    true,
                    "database_opens",
                    format!("database {name} opens; {relations} relations"),
                ));
                if let Some(changed) = changed {
                    findings.push(Finding::new(
                        Severity::Warning,
                        "collation_version_changed",
                        format!("database {name}: its collation changed ({changed})"),
                        Some(format!("REINDEX DATABASE \"{name}\"; ALTER DATABASE \"{name}\" REFRESH COLLATION VERSION;")),
                    ));
                }
            }
            Err(error) => findings.push(finding(
                false,
                "database_opens",
                format!("database {name} does not open: {}", error.to_object().message),
            )),
        }
    }
    findings
}
