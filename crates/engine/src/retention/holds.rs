//! Legal holds: what is kept until somebody lifts the hold, whatever the policy says.

use chrono::{DateTime, Utc};
use holdfast_repository::Repository;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::catalog::Catalog;
use crate::error::{EngineError, Result};
use crate::standing::{self, Standing};

/// Letters in the reason of a hold.
const MAX_REASON: usize = 500;

/// What a hold is placed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Held {
    /// One snapshot, with the WAL that it needs itself.
    Snapshot(Uuid),
    /// Every snapshot and every transaction between two times.
    Between {
        /// From.
        from: DateTime<Utc>,
        /// To, inclusive.
        to: DateTime<Utc>,
    },
}

/// A hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
pub struct Hold {
    /// UUID version 7.
    #[ts(type = "string")]
    pub id: Uuid,
    /// What is held.
    #[ts(type = "{ snapshot: string } | { between: { from: Time; to: Time } }")]
    pub on: Held,
    /// Why, in somebody's words.
    pub reason: String,
    /// When it was placed, by the clock of the machine that placed it.
    #[ts(type = "Time")]
    pub placed_at: DateTime<Utc>,
}

impl Standing for Hold {
    fn id(&self) -> Uuid {
        self.id
    }
}

impl Hold {
    /// # Errors
    /// Usage where the time ends before it begins, or the reason is missing or too long.
    pub(super) fn new(on: Held, reason: &str) -> Result<Self> {
        if let Held::Between { from, to } = on
            && from > to
        {
            return Err(EngineError::usage(
                "the hold ends before it begins",
                "--from is the first moment that is held, --to the last.",
            ));
        }
        let reason = reason.trim();
        if reason.is_empty() || reason.chars().count() > MAX_REASON {
            return Err(EngineError::usage(
                "a hold has a reason of 1 to 500 letters",
                "Say why in --reason, such as a case number: whoever wants to lift it has to know.",
            ));
        }
        Ok(Self { id: Uuid::now_v7(), on, reason: reason.to_owned(), placed_at: Utc::now() })
    }
}

/// The id of a hold as somebody wrote it; what is none names no hold.
///
/// # Errors
/// [`EngineError::NotFound`].
pub fn parse_hold(text: &str) -> Result<Uuid> {
    text.parse().map_err(|_| no_hold(text))
}

pub(super) fn no_hold(name: &str) -> EngineError {
    EngineError::NotFound { what: "hold", name: name.to_owned() }
}

fn prefix(cluster: Uuid) -> String {
    format!("policies/holds/{cluster}/")
}

/// The holds of a cluster that are not lifted, oldest first.
pub(super) async fn list(
    catalog: &Catalog,
    repository: &Repository,
    cluster: Uuid,
) -> Result<Vec<Hold>> {
    let mut holds: Vec<Hold> = standing::list(catalog, repository, &prefix(cluster)).await?;
    holds.sort_by_key(|hold| (hold.placed_at, hold.id));
    Ok(holds)
}

/// Places a hold.
pub(super) async fn place(repository: &Repository, cluster: Uuid, hold: &Hold) -> Result<()> {
    standing::place(repository, &prefix(cluster), hold).await
}

/// Lifts a hold that is there.
pub(super) async fn lift(repository: &Repository, cluster: Uuid, hold: Uuid) -> Result<()> {
    standing::lift(repository, &prefix(cluster), hold).await
}
