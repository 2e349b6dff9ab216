//! What is to be kept: the policy of a cluster, and where its versions are.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use holdfast_repository::{ObjectKind, Repository, RepositoryError};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Span;
use crate::catalog::Catalog;
use crate::error::{EngineError, Result};
use crate::snapshot::cached_document;

/// The form of the document that this version reads and writes.
const FORMAT: u32 = 1;
/// More bytes than any policy has.
pub const MAX_POLICY_BYTES: u64 = 1 << 20;
/// More dated overrides than anybody looks through.
const MAX_OVERRIDES: usize = 100;
/// Letters in the name of an override.
const MAX_NAME: usize = 64;

/// What is to be kept of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The form of this document: 1.
    pub format: u32,
    /// What is kept at any time of the year.
    pub keep: Keep,
    /// Bytes that the kept snapshots and WAL should not exceed. Snapshots that only a rule keeps give way,
    /// the oldest first; what a window, a hold or the way back to now needs never does.
    #[serde(default)]
    #[ts(type = "number | null")]
    pub size_cap: Option<u64>,
    /// What is kept beside that of certain days.
    #[serde(default)]
    pub overrides: Vec<Override>,
}

/// How long what is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
#[serde(deny_unknown_fields)]
pub struct Keep {
    /// For so long the newest snapshot of each hour.
    #[serde(default)]
    #[ts(type = "string | null")]
    pub hourly: Option<Span>,
    /// For so long the newest snapshot of each day (UTC).
    #[serde(default)]
    #[ts(type = "string | null")]
    pub daily: Option<Span>,
    /// For so long the newest snapshot of each week (ISO 8601, from Monday, UTC).
    #[serde(default)]
    #[ts(type = "string | null")]
    pub weekly: Option<Span>,
    /// For so long the newest snapshot of each month.
    #[serde(default)]
    #[ts(type = "string | null")]
    pub monthly: Option<Span>,
    /// For so long the newest snapshot of each year.
    #[serde(default)]
    #[ts(type = "string | null")]
    pub yearly: Option<Span>,
    /// For so long every transaction can be gone back to.
    #[serde(default)]
    #[ts(type = "string | null")]
    pub any_point: Option<Span>,
}

/// What is kept of snapshots and WAL that were written between two times, beside what is kept anyway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
#[serde(deny_unknown_fields)]
pub struct Override {
    /// What it is called in plans.
    pub name: String,
    /// What was written at this time or later.
    #[ts(type = "string")]
    pub from: DateTime<Utc>,
    /// What was written before this time.
    #[ts(type = "string")]
    pub to: DateTime<Utc>,
    /// How long what of it is kept, counted from when it was written.
    pub keep: Keep,
}

/// How often a rule keeps a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Every {
    /// The newest of each hour.
    Hour,
    /// The newest of each day.
    Day,
    /// The newest of each week.
    Week,
    /// The newest of each month.
    Month,
    /// The newest of each year.
    Year,
}

impl Keep {
    /// The rules that keep snapshots, with how long each does.
    pub(super) fn rules(&self) -> impl Iterator<Item = (Every, Span)> {
        [
            (Every::Hour, self.hourly),
            (Every::Day, self.daily),
            (Every::Week, self.weekly),
            (Every::Month, self.monthly),
            (Every::Year, self.yearly),
        ]
        .into_iter()
        .filter_map(|(every, span)| Some((every, span?)))
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for Policy {
    /// Hourly for two days, daily for 30 days, weekly for 12 months; any point in the last 30 days.
    fn default() -> Self {
        Self {
            format: FORMAT,
            keep: Keep {
                hourly: Some(Span::hours(48)),
                daily: Some(Span::days(30)),
                weekly: Some(Span::months(12)),
                monthly: None,
                yearly: None,
                any_point: Some(Span::days(30)),
            },
            size_cap: None,
            overrides: Vec::new(),
        }
    }
}

impl Policy {
    /// Reads and checks what somebody wrote.
    ///
    /// # Errors
    /// Usage, naming what is wrong with it.
    pub fn parse(text: &[u8]) -> Result<Self> {
        let policy: Self = serde_json::from_slice(text).map_err(|e| {
            EngineError::usage(
                format!("the policy cannot be read: {e}"),
                "It is one JSON document; `holdfast policy show NAME --json` has one under \"policy\" to begin with.",
            )
        })?;
        policy.check()?;
        Ok(policy)
    }

    /// # Errors
    /// Usage where it is of another form, keeps nothing, or an override makes no sense.
    fn check(&self) -> Result<()> {
        let wrong = |message: String, hint: &str| Err(EngineError::usage(message, hint));
        if self.format != FORMAT {
            return wrong(
                format!("the policy is of format {}", self.format),
                "This version of Holdfast knows format 1.",
            );
        }
        if self.keep.is_empty() {
            return wrong(
                "the policy keeps nothing".to_owned(),
                "Give at least one of hourly, daily, weekly, monthly, yearly, any_point under \"keep\".",
            );
        }
        if self.size_cap == Some(0) {
            return wrong(
                "a size cap of 0 bytes keeps nothing".to_owned(),
                "Leave size_cap out, or give it in bytes.",
            );
        }
        if self.overrides.len() > MAX_OVERRIDES {
            return wrong(
                format!("the policy has {} overrides", self.overrides.len()),
                "There may be 100 of them.",
            );
        }
        let mut names = BTreeSet::new();
        for each in &self.overrides {
            let name = &each.name;
            let plain = !name.is_empty()
                && name.chars().count() <= MAX_NAME
                && !name.chars().any(char::is_control);
            if !plain || !names.insert(name) {
                let shown: String = name.chars().take(MAX_NAME).collect();
                return wrong(
                    format!("{shown:?} cannot be the name of an override"),
                    "Each has a name of its own, of 1 to 64 letters.",
                );
            }
            if each.from >= each.to {
                return wrong(
                    format!("the override {name:?} ends before it begins"),
                    "\"from\" is its first moment, \"to\" the first moment after it.",
                );
            }
            if each.keep.is_empty() {
                return wrong(
                    format!("the override {name:?} keeps nothing"),
                    "An override keeps more than the policy does, never less: say what under its \"keep\".",
                );
            }
        }
        Ok(())
    }
}

/// A version of a cluster's policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
pub struct PolicyVersion {
    /// Counted from 1; 0 for the policy of a cluster for which none was set.
    #[ts(type = "number")]
    pub version: u64,
    /// When it was set, by the clock of the machine that set it; none for version 0.
    #[ts(type = "string | null")]
    pub set_at: Option<DateTime<Utc>>,
    /// What it says.
    pub policy: Policy,
}

fn prefix(cluster: Uuid) -> String {
    format!("policies/retention/{cluster}/")
}

fn version_of(path: &str) -> Option<u64> {
    let digits = path.rsplit('/').next()?;
    (digits.len() == 16).then(|| digits.parse().ok()).flatten()
}

/// The policy that counts now: the highest version, or the default where none was set.
pub(super) async fn current(
    catalog: &Catalog,
    repository: &Repository,
    cluster: Uuid,
) -> Result<PolicyVersion> {
    let entries = repository.list(&prefix(cluster)).await?;
    let newest = entries.into_iter().filter_map(|e| Some((version_of(&e.path)?, e.path))).max();
    let Some((_, path)) = newest else {
        return Ok(PolicyVersion { version: 0, set_at: None, policy: Policy::default() });
    };
    let found: PolicyVersion =
        cached_document(catalog, repository, &path, ObjectKind::Policy).await?;
    found.policy.check().map_err(|error| {
        EngineError::integrity(
            "policy_unreadable",
            format!("{path} is no policy of this version: {error}"),
            "A newer version of Holdfast may have set it: use that one. Until then nothing is planned.",
        )
    })?;
    Ok(found)
}

/// Stores a policy as the next version.
pub(super) async fn set(
    catalog: &Catalog,
    repository: &Repository,
    cluster: Uuid,
    policy: Policy,
) -> Result<PolicyVersion> {
    policy.check()?;
    let version = current(catalog, repository, cluster).await?.version.saturating_add(1);
    let stored = PolicyVersion { version, set_at: Some(Utc::now()), policy };
    let path = format!("{}{version:016}", prefix(cluster));
    match repository.put_document(&path, ObjectKind::Policy, &stored).await {
        Ok(()) => Ok(stored),
        Err(RepositoryError::AlreadyExists { .. }) => Err(EngineError::refused(
            "policy_changed",
            "somebody else has set a policy for this cluster at this moment",
            "Look at it with `holdfast policy show NAME`, then set yours again.",
        )),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn refused(text: &str) -> String {
        Policy::parse(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_policy_is_what_was_written() {
        let text = r#"{"format":1,"keep":{"daily":"30d","any_point":"30d"},"size_cap":1000000,
            "overrides":[{"name":"June","from":"2026-06-01T00:00:00+02:00","to":"2026-07-01T00:00:00Z",
                          "keep":{"hourly":"60d","any_point":"60d"}}]}"#;
        let policy = Policy::parse(text.as_bytes()).unwrap();
        assert_eq!(policy.keep.rules().collect::<Vec<_>>(), [(Every::Day, Span::days(30))]);
        assert_eq!(policy.overrides[0].from.to_rfc3339(), "2026-05-31T22:00:00+00:00");
        let again = serde_json::to_vec(&policy).unwrap();
        assert_eq!(Policy::parse(&again).unwrap(), policy);
        Policy::parse(&serde_json::to_vec(&Policy::default()).unwrap()).unwrap();
    }

    /// Failure catalogue 17: a rule that is misspelt or left out by mistake does not drop what it kept.
    #[test]
    fn catalogue_17_a_policy_that_keeps_less_than_was_meant_is_refused() {
        assert!(refused("{}").contains("format"));
        assert!(refused(r#"{"format":2,"keep":{"daily":"1d"}}"#).contains("format 2"));
        assert!(refused(r#"{"format":1,"keep":{}}"#).contains("keeps nothing"));
        assert!(refused(r#"{"format":1,"keep":{"daily":"30"}}"#).contains("length of time"));
        // A misspelt rule would be one that keeps nothing.
        assert!(refused(r#"{"format":1,"keep":{"dayly":"30d"}}"#).contains("dayly"));
        assert!(refused(r#"{"format":1,"keep":{"daily":"1d"},"size_cap":0}"#).contains("0 bytes"));
        let with = |more: &str| {
            refused(&format!(r#"{{"format":1,"keep":{{"daily":"1d"}},"overrides":[{more}]}}"#))
        };
        let june = r#"{"name":"June","from":"2026-06-01T00:00:00Z","to":"2026-07-01T00:00:00Z","keep":{"daily":"9d"}}"#;
        assert!(with(&format!("{june},{june}")).contains("name"));
        assert!(with(&june.replace("2026-07", "2026-05")).contains("before it begins"));
        assert!(
            with(&june.replace("2026-06-01T00:00:00Z", "2026-06-01T00:00:00"))
                .contains("cannot be read")
        );
        assert!(with(&june.replace(r#""daily":"9d""#, "")).contains("keeps nothing"));
    }

    #[test]
    fn versions_are_numbers_not_names() {
        assert_eq!(version_of("policies/retention/x/0000000000000010"), Some(10));
        for path in ["policies/retention/x/10", "policies/retention/x/000000000000001a", ""] {
            assert_eq!(version_of(path), None);
        }
    }
}
