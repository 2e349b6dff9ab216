//! What can go wrong, told so that somebody can act on it.
//!
//! An [`EngineError`] crosses every front end as an [`ErrorObject`]; the command turns its
//! [`Outcome`] into an exit code.

use std::path::PathBuf;

use holdfast_repository::RepositoryError;
use holdfast_wire::WireError;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The form in which an error reaches the command's output and the window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ts_rs::TS)]
pub struct ErrorObject {
    /// Stable, lower-case words joined by underscores; never translated.
    pub code: String,
    /// What happened.
    pub message: String,
    /// What it means and what to do.
    pub hint: Option<String>,
    /// Whether the same request may succeed later with nothing changed.
    pub retryable: bool,
    /// Facts for a program: nearest targets, paths, sizes.
    #[ts(type = "unknown")]
    pub details: Value,
}

/// The kind of ending, from which the command's exit code follows (see the command's manual).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A fault of the program itself: 1.
    Fault,
    /// The request makes no sense as written: 2.
    Usage,
    /// A precondition does not hold; nothing was changed: 3.
    Refused,
    /// The named thing does not exist: 4.
    NotFound,
    /// Something stored or restored is not what it must be: 5.
    Integrity,
    /// The key or the role does not allow it: 6.
    NotPermitted,
    /// A server or a store cannot be reached; worth a retry: 7.
    Unreachable,
    /// Cancelled by whoever ran it: 8.
    Cancelled,
}

impl Outcome {
    /// The exit code of the `holdfast` command.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Fault => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::NotFound => 4,
            Self::Integrity => 5,
            Self::NotPermitted => 6,
            Self::Unreachable => 7,
            Self::Cancelled => 8,
        }
    }
}

/// Every failure of the engine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The conversation with a PostgreSQL server failed.
    #[error("the PostgreSQL server could not be used")]
    Wire(#[from] WireError),
    /// The repository could not do what was asked.
    #[error("the repository could not be used")]
    Repository(#[source] RepositoryError),
    /// The catalog (a local SQLite database) failed.
    #[error("the catalog could not {doing}")]
    Catalog {
        /// What was attempted.
        doing: &'static str,
        /// SQLite's own error.
        #[source]
        source: sqlx::Error,
    },
    /// A file of this machine could not be used.
    #[error("could not {doing} {}", path.display())]
    File {
        /// The verb: "read", "create", "sync".
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// The operating system's answer.
        #[source]
        source: std::io::Error,
    },
    /// A precondition does not hold; nothing was changed.
    #[error("{message}")]
    Refused {
        /// Stable code.
        code: &'static str,
        /// What does not hold.
        message: String,
        /// What to do.
        hint: String,
        /// Facts for a program.
        details: Value,
    },
    /// The request makes no sense as written.
    #[error("{message}")]
    Usage {
        /// What is wrong with it.
        message: String,
        /// How it should be written.
        hint: String,
    },
    /// The named thing does not exist.
    #[error("there is no {what} \"{name}\"")]
    NotFound {
        /// The kind of thing.
        what: &'static str,
        /// The name that was asked for.
        name: String,
    },
    /// Something stored or restored is not what it must be.
    #[error("{message}")]
    Integrity {
        /// Stable code.
        code: &'static str,
        /// What differs from what.
        message: String,
        /// The consequence and what to do.
        hint: String,
        /// Facts for a program.
        details: Value,
    },
    /// The key that would be needed is not at hand.
    #[error("{message}")]
    NotPermitted {
        /// Stable code.
        code: &'static str,
        /// What is missing.
        message: String,
        /// Where it is looked for.
        hint: String,
    },
    /// A program of PostgreSQL that the engine ran ended badly.
    #[error("{program} failed")]
    Program {
        /// Which program.
        program: String,
        /// The end of what it printed.
        output: String,
    },
    /// A restore failed that can go on: what it wrote is kept.
    #[error("{source}")]
    Resumable {
        /// The job that can be resumed.
        job: String,
        /// Why it failed.
        #[source]
        source: Box<EngineError>,
    },
    /// Cancelled by whoever ran it.
    #[error("cancelled")]
    Cancelled,
    /// A fault of the program itself.
    #[error("internal fault: {0}")]
    Fault(String),
}

impl From<RepositoryError> for EngineError {
    /// A failure of the engine's own sink comes back as what it was; a cancellation is one everywhere.
    fn from(error: RepositoryError) -> Self {
        match error {
            RepositoryError::Cancelled => Self::Cancelled,
            RepositoryError::Sink { source } => match source.0.downcast::<Self>() {
                Ok(own) => *own,
                Err(other) => Self::Repository(RepositoryError::Sink {
                    source: holdfast_repository::SinkError(other),
                }),
            },
            other => Self::Repository(other),
        }
    }
}

/// The engine's result.
pub type Result<T, E = EngineError> = std::result::Result<T, E>;

impl EngineError {
    /// A refusal without further facts.
    pub fn refused(
        code: &'static str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self::Refused { code, message: message.into(), hint: hint.into(), details: Value::Null }
    }

    /// An integrity failure without further facts.
    pub fn integrity(
        code: &'static str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self::Integrity { code, message: message.into(), hint: hint.into(), details: Value::Null }
    }

    /// A malformed request.
    pub fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), hint: hint.into() }
    }

    /// For `map_err` on operations with files.
    pub fn file(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { doing, path, source }
    }

    /// For `map_err` on statements of the catalog.
    pub(crate) fn catalog(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Catalog { doing, source }
    }

    /// The stable code of the error object.
    pub fn code(&self) -> &str {
        match self {
            Self::Wire(e) => e.code(),
            Self::Repository(e) => repository_code(e),
            Self::Catalog { source, .. } if is_catalog_full(source) => "disk_full",
            Self::Catalog { .. } => "catalog_failed",
            Self::File { source, .. } if is_disk_full(source) => "disk_full",
            Self::File { .. } => "file_failed",
            Self::Refused { code, .. }
            | Self::Integrity { code, .. }
            | Self::NotPermitted { code, .. } => code,
            Self::Usage { .. } => "usage",
            Self::NotFound { .. } => "not_found",
            Self::Program { output, .. } if says_disk_full(output) => "disk_full",
            Self::Program { .. } => "program_failed",
            Self::Resumable { source, .. } => source.code(),
            Self::Cancelled => "cancelled",
            Self::Fault(_) => "internal_fault",
        }
    }

    /// What it means and what to do, when there is something to say.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Wire(e) => Some(e.hint()),
            Self::Repository(e) => Some(e.hint()),
            Self::Catalog { source, .. } if is_catalog_full(source) => Some(
                "The disk that holds Holdfast's home directory is full. Free some space, or choose another home with \
                 HOLDFAST_HOME; the repository is not touched by this."
                    .to_owned(),
            ),
            Self::Catalog { .. } => Some(
                "The catalog is a cache: move catalog.db out of the home directory and run `holdfast repo attach URL`."
                    .to_owned(),
            ),
            Self::File { source, path, .. } if is_disk_full(source) => Some(format!(
                "The disk that holds {} is full. Free some space or choose another place; what was stored before stays usable.",
                path.display()
            )),
            Self::File { .. } => Some("Check that the path exists and that you may write there.".to_owned()),
            Self::Refused { hint, .. }
            | Self::Integrity { hint, .. }
            | Self::NotPermitted { hint, .. }
            | Self::Usage { hint, .. } => Some(hint.clone()),
            Self::NotFound { what, .. } => Some(format!("List what there is with `holdfast {}`.", match *what {
                "job" | "restore" | "directory set aside by the restore" => "jobs list",
                "cluster" => "cluster list",
                "repository" => "repo list",
                "key slot" => "repo keys list",
                "hold" => "hold list NAME",
                "mark for removal" => "retention queue NAME",
                "replica" => "replicate NAME --status",
                _ => "points NAME",
            })),
            Self::Program { output, .. } => Some(output.clone()),
            Self::Resumable { job, source } => Some(format!(
                "{} What was written is kept: `holdfast restore resume {job}` goes on, `holdfast restore discard {job}` \
                 removes it.",
                source.hint().unwrap_or_default()
            )),
            Self::Cancelled => None,
            Self::Fault(_) => Some("This is a fault of Holdfast. Please report it with the job's journal.".to_owned()),
        }
    }

    /// The kind of ending.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Wire(e) => wire_outcome(e),
            Self::Repository(e) => repository_outcome(e),
            Self::Catalog { source, .. } if is_catalog_full(source) => Outcome::Refused,
            Self::File { source, .. } if is_disk_full(source) => Outcome::Refused,
            Self::File { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                Outcome::NotFound
            }
            Self::File { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                Outcome::NotPermitted
            }
            Self::Refused { .. } => Outcome::Refused,
            Self::Usage { .. } => Outcome::Usage,
            Self::NotFound { .. } => Outcome::NotFound,
            Self::Integrity { .. } => Outcome::Integrity,
            Self::NotPermitted { .. } => Outcome::NotPermitted,
            Self::Program { output, .. } if says_disk_full(output) => Outcome::Refused,
            Self::Resumable { source, .. } => source.outcome(),
            Self::Cancelled => Outcome::Cancelled,
            Self::Catalog { .. } | Self::File { .. } | Self::Program { .. } | Self::Fault(_) => {
                Outcome::Fault
            }
        }
    }

    /// What really failed.
    fn cause(&self) -> &Self {
        match self {
            Self::Resumable { source, .. } => source.cause(),
            other => other,
        }
    }

    /// The error as it crosses to a front end.
    pub fn to_object(&self) -> ErrorObject {
        let retryable = match self.cause() {
            Self::Wire(e) => e.retryable(),
            Self::Repository(e) => e.retryable(),
            _ => false,
        };
        let details = match self.cause() {
            Self::Refused { details, .. } | Self::Integrity { details, .. } => details.clone(),
            Self::NotFound { what, name } => json!({ "what": what, "name": name }),
            Self::File { path, .. } => json!({ "path": path }),
            _ => Value::Null,
        };
        ErrorObject {
            code: self.code().to_owned(),
            message: with_causes(self),
            hint: self.hint(),
            retryable,
            details,
        }
    }
}

fn wire_outcome(error: &WireError) -> Outcome {
    match error {
        WireError::BadDsn { .. } | WireError::PasswordInDsn { .. } => Outcome::Usage,
        WireError::ChecksumFailure { .. } => Outcome::Integrity,
        WireError::PasswordMissing { .. }
        | WireError::PassfileUnsafe { .. }
        | WireError::AuthenticationFailed { .. }
        | WireError::HbaRefused(_) => Outcome::NotPermitted,
        // 42501 insufficient_privilege, 28000 invalid_authorization_specification
        WireError::Server(e) if e.sqlstate == "42501" || e.sqlstate.starts_with("28") => {
            Outcome::NotPermitted
        }
        WireError::HostNotFound { .. } => Outcome::Unreachable,
        e if e.retryable() => Outcome::Unreachable,
        WireError::Protocol { .. } | WireError::Misuse { .. } => Outcome::Fault,
        _ => Outcome::Refused,
    }
}

/// The repository's own codes in the one style of all codes: no prefix, except where the plain word
/// would not say what it is about.
fn repository_code(error: &RepositoryError) -> &'static str {
    match error {
        RepositoryError::LocalFile { source, .. } if is_disk_full(source) => "disk_full",
        RepositoryError::Full { .. } => "disk_full",
        RepositoryError::NotFound { .. } => "object_not_found",
        RepositoryError::AlreadyExists { .. } => "repository_already_exists",
        RepositoryError::Corrupt { .. } => "repository_corrupt",
        RepositoryError::Unreachable { .. } => "repository_unreachable",
        RepositoryError::Permission { .. } => "repository_permission",
        RepositoryError::LastSlot => "last_key_slot",
        RepositoryError::Occupied { .. } => "place_occupied",
        RepositoryError::Unsuitable { .. } => "repository_unsuitable",
        RepositoryError::LocalFile { .. } => "file_failed",
        RepositoryError::Sink { .. } => "destination_failed",
        RepositoryError::Document { .. } => "repository_document",
        RepositoryError::Worker { .. } => "worker_failed",
        other => other.code().trim_start_matches("repository."),
    }
}

fn repository_outcome(error: &RepositoryError) -> Outcome {
    match error {
        RepositoryError::WrongKey
        | RepositoryError::KeyRequired { .. }
        | RepositoryError::InvalidRecoveryKey { .. }
        | RepositoryError::Permission { .. } => Outcome::NotPermitted,
        RepositoryError::Corrupt { .. }
        | RepositoryError::UntrustedWriter { .. }
        | RepositoryError::Document { .. } => Outcome::Integrity,
        RepositoryError::NotFound { .. } | RepositoryError::NotARepository { .. } => {
            Outcome::NotFound
        }
        RepositoryError::Unreachable { .. } => Outcome::Unreachable,
        RepositoryError::InvalidUrl { .. }
        | RepositoryError::InvalidKeyText { .. }
        | RepositoryError::InvalidArgument { .. } => Outcome::Usage,
        RepositoryError::Cancelled => Outcome::Cancelled,
        RepositoryError::LocalFile { source, .. } if is_disk_full(source) => Outcome::Refused,
        RepositoryError::LocalFile { .. }
        | RepositoryError::IngestFailed
        | RepositoryError::Worker { .. } => Outcome::Fault,
        _ => Outcome::Refused,
    }
}

/// The message followed by its causes, each once.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

/// SQLite says `SQLITE_FULL` (13) when the database or its log cannot grow, and `SQLITE_IOERR_SHMSIZE` (4874)
/// when the index of the log cannot.
fn is_catalog_full(error: &sqlx::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(sqlx::Error::Database(found)) = error.downcast_ref::<sqlx::Error>()
            && found.code().is_some_and(|code| code == "13" || code == "4874")
        {
            return true;
        }
        if let Some(io) = error.downcast_ref::<std::io::Error>()
            && is_disk_full(io)
        {
            return true;
        }
        cause = error.source();
    }
    false
}

/// PostgreSQL's programs run with untranslated messages: this is `strerror(ENOSPC)`.
fn says_disk_full(output: &str) -> bool {
    output.contains("No space left on device")
}

fn is_disk_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_a_refusal_with_its_own_code() {
        let error = EngineError::File {
            doing: "write",
            path: "/x".into(),
            source: std::io::Error::from(std::io::ErrorKind::StorageFull),
        };
        assert_eq!(error.code(), "disk_full");
        assert_eq!(error.outcome().exit_code(), 3);
        assert!(error.to_object().message.starts_with("could not write /x"));
    }

    #[test]
    fn codes_have_one_style() {
        for (error, code) in [
            (RepositoryError::WrongKey, "wrong_key"),
            (
                RepositoryError::AlreadyExists { path: "holdfast.json".into() },
                "repository_already_exists",
            ),
            (RepositoryError::NotARepository { location: "/x".into() }, "not_a_repository"),
            (
                RepositoryError::Full { path: "packs/x".into(), source: "no space".into() },
                "disk_full",
            ),
            (RepositoryError::LastSlot, "last_key_slot"),
        ] {
            assert_eq!(EngineError::Repository(error).code(), code);
        }
    }

    #[test]
    fn causes_follow_the_message() {
        let error = EngineError::Catalog { doing: "open", source: sqlx::Error::PoolClosed };
        assert!(error.to_object().message.starts_with("the catalog could not open: "));
    }
}
