//! What can go wrong with a repository.
//!
//! Rules: a variant says what was attempted and on which object; the cause is in `source` and is
//! never repeated in the text. [`RepositoryError::code`] is stable and may be matched by scripts.

use crate::recovery::RecoveryKeyError;

/// A cause that comes from a library or from the caller.
pub type Cause = Box<dyn std::error::Error + Send + Sync + 'static>;

/// Every failure of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepositoryError {
    /// An object that was asked for does not exist.
    #[error("{path} does not exist in the repository")]
    NotFound {
        /// Path inside the repository.
        path: String,
    },
    /// No key slot opens with what was given.
    #[error("this passphrase or key does not open the repository")]
    WrongKey,
    /// There is no `holdfast.json` at the location.
    #[error("there is no Holdfast repository at {location}")]
    NotARepository {
        /// Where it was looked for, without credentials.
        location: String,
    },
    /// An object that may only be made once exists already.
    #[error("{path} exists already")]
    AlreadyExists {
        /// Path inside the repository.
        path: String,
    },
    /// An object is not what was written.
    #[error("{object} is damaged: {what}")]
    Corrupt {
        /// Path inside the repository.
        object: String,
        /// What is wrong with it and what it means.
        what: String,
    },
    /// An object carries the signature of a writer that the repository never admitted, or not for such objects.
    #[error("{object} was signed by a writer {reason} ({writer})")]
    UntrustedWriter {
        /// Path inside the repository.
        object: String,
        /// What is said of the writer.
        reason: &'static str,
        /// The writer's Ed25519 public key, hex.
        writer: String,
    },
    /// The store did not answer, or answered with a failure of its own.
    #[error("could not {operation} {path}")]
    Unreachable {
        /// What was attempted: "read", "write", "list", "delete".
        operation: &'static str,
        /// Path inside the repository.
        path: String,
        /// What the store or the network said.
        #[source]
        source: Cause,
    },
    /// The store refuses these credentials, or the file system this user.
    #[error("not allowed to {operation} {path}")]
    Permission {
        /// What was attempted.
        operation: &'static str,
        /// Path inside the repository.
        path: String,
        /// What the store said.
        #[source]
        source: Cause,
    },
    /// The store has no room left.
    #[error("no space left while writing {path}")]
    Full {
        /// The object that was being written; nothing is left under this name.
        path: String,
        /// What the store said.
        #[source]
        source: Cause,
    },
    /// The last way in must not be removed.
    #[error("the last key slot cannot be removed")]
    LastSlot,
    /// Written by a newer Holdfast.
    #[error("{object} has format {found}, which this version cannot read")]
    UnsupportedFormat {
        /// Path inside the repository.
        object: String,
        /// The format number found.
        found: u32,
    },
    /// The keys at hand allow adding but not reading (or administering).
    #[error("{operation} needs the repository key; this device holds only what is needed to add")]
    KeyRequired {
        /// What was attempted.
        operation: &'static str,
    },
    /// What was to become a replica is something else.
    #[error("{location} holds something else than this repository: {what}")]
    Occupied {
        /// Where, without credentials.
        location: String,
        /// What is there.
        what: String,
    },
    /// The store lacks something a repository needs.
    #[error("this store cannot hold a repository: {what}")]
    Unsuitable {
        /// What the store got wrong when it was tested.
        what: String,
    },
    /// A repository address that cannot be understood.
    #[error("{url:?} is not a repository address: {what}")]
    InvalidUrl {
        /// The address, without credentials.
        url: String,
        /// What is wrong.
        what: String,
    },
    /// A call that makes no sense (a caller's mistake).
    #[error("{what}")]
    InvalidArgument {
        /// What is wrong.
        what: String,
    },
    /// A recovery key with a typing mistake.
    #[error("the recovery key cannot be read")]
    InvalidRecoveryKey {
        /// Which group is wrong.
        #[source]
        source: RecoveryKeyError,
    },
    /// A public or private key that is not one.
    #[error("this is not a {what} of Holdfast, or a character of it was changed")]
    InvalidKeyText {
        /// "public key" or "private key".
        what: &'static str,
    },
    /// A local file (spool) failed.
    #[error("could not {operation}")]
    LocalFile {
        /// What was attempted.
        operation: &'static str,
        /// The operating system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The caller's sink refused an extent.
    #[error("a fetched extent could not be written")]
    Sink {
        /// The sink's own error.
        #[source]
        source: crate::fetch::SinkError,
    },
    /// The document is authentic but is not what the caller expected.
    #[error("{path} does not hold what was expected of it")]
    Document {
        /// Path inside the repository.
        path: String,
        /// The JSON mismatch.
        #[source]
        source: serde_json::Error,
    },
    /// The caller cancelled.
    #[error("cancelled")]
    Cancelled,
    /// An earlier call on the same ingest failed; its error was returned then.
    #[error("this ingest has failed already")]
    IngestFailed,
    /// A worker thread ended unexpectedly.
    #[error("a worker of the repository stopped unexpectedly")]
    Worker {
        /// The panic or the runtime's shutdown.
        #[source]
        source: Cause,
    },
}

/// Short form used throughout the crate.
pub(crate) type Result<T, E = RepositoryError> = std::result::Result<T, E>;

impl RepositoryError {
    /// A stable name for scripts and for the page that explains it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "repository.not_found",
            Self::WrongKey => "repository.wrong_key",
            Self::NotARepository { .. } => "repository.not_a_repository",
            Self::AlreadyExists { .. } => "repository.already_exists",
            Self::Corrupt { .. } => "repository.corrupt",
            Self::UntrustedWriter { .. } => "repository.untrusted_writer",
            Self::Unreachable { .. } => "repository.unreachable",
            Self::Permission { .. } => "repository.permission",
            Self::Full { .. } => "repository.full",
            Self::LastSlot => "repository.last_slot",
            Self::UnsupportedFormat { .. } => "repository.unsupported_format",
            Self::KeyRequired { .. } => "repository.key_required",
            Self::Occupied { .. } => "repository.occupied",
            Self::Unsuitable { .. } => "repository.unsuitable",
            Self::InvalidUrl { .. } => "repository.invalid_url",
            Self::InvalidArgument { .. } => "repository.invalid_argument",
            Self::InvalidRecoveryKey { .. } => "repository.invalid_recovery_key",
            Self::InvalidKeyText { .. } => "repository.invalid_key_text",
            Self::LocalFile { .. } => "repository.local_file",
            Self::Sink { .. } => "repository.sink",
            Self::Document { .. } => "repository.document",
            Self::Cancelled => "repository.cancelled",
            Self::IngestFailed => "repository.ingest_failed",
            Self::Worker { .. } => "repository.worker",
        }
    }

    /// What the operator can do about it, in one or two sentences.
    pub fn hint(&self) -> String {
        match self {
            Self::NotFound { .. } => "Run a verification to learn what else is missing.",
            Self::WrongKey => {
                "Check the passphrase, or use the printed recovery key. Nothing was read or changed."
            }
            Self::NotARepository { .. } => {
                "Check the address and the prefix, and that the drive is mounted; or create a \
                 repository there."
            }
            Self::AlreadyExists { .. } => {
                "Objects are written once. Open the existing one or choose another place."
            }
            Self::Corrupt { .. } => {
                "Run a verification for the whole extent of the damage, and restore the object \
                 from a copy of the repository."
            }
            Self::UntrustedWriter { .. } => {
                "Somebody without the repository key has written here, or the writer's certificate \
                 under keys/writers was removed, or an agent's key was stolen. The object is not used."
            }
            Self::Unreachable { .. } => {
                "Check the network and the store, then try again: nothing is stored twice."
            }
            Self::Permission { .. } => "Check the credentials and their rights on this location.",
            Self::Full { .. } => {
                "Free some space or enlarge the store, then run again; nothing half-written counts."
            }
            Self::LastSlot => "Add another passphrase or recovery key first.",
            Self::UnsupportedFormat { .. } => "Use a newer version of Holdfast.",
            Self::KeyRequired { .. } => "Open the repository with a passphrase or a recovery key.",
            Self::Occupied { .. } => {
                "Choose a place where nothing is, or a replica of this repository. Nothing was \
                 written there."
            }
            Self::Unsuitable { .. } => {
                "Use another store or file system: see the tested properties."
            }
            Self::InvalidUrl { .. } => {
                "Use /path, file:///path, s3://bucket/prefix, gs://bucket/prefix or \
                 az://container/prefix; credentials come from the environment."
            }
            Self::InvalidArgument { .. } => "This is a mistake in the calling program.",
            Self::InvalidRecoveryKey { .. } => "Compare the named group with the printed sheet.",
            Self::InvalidKeyText { .. } => {
                "Ask for the file again that `holdfast repo keys generate` has written."
            }
            Self::LocalFile { .. } => "Check that there is room, and that you may write there.",
            Self::Sink { .. } => "Check the destination's free space and rights.",
            Self::Document { .. } => "The object may come from a newer version of Holdfast.",
            Self::Cancelled => "Start again when ready.",
            Self::IngestFailed => "See the first error.",
            Self::Worker { .. } => "Try again; report it if it happens twice.",
        }
        .to_owned()
    }

    /// Whether the same call may succeed later without anybody changing anything.
    pub fn retryable(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Worker { .. })
    }

    pub(crate) fn corrupt(object: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Corrupt { object: object.into(), what: what.into() }
    }

    pub(crate) fn worker(source: impl Into<Cause>) -> Self {
        Self::Worker { source: source.into() }
    }

    /// Sorts a store's error by what the operator has to do about it.
    pub(crate) fn from_store(
        operation: &'static str,
        path: &str,
        error: object_store::Error,
    ) -> Self {
        let path = path.to_owned();
        match &error {
            object_store::Error::NotFound { .. } => return Self::NotFound { path },
            object_store::Error::AlreadyExists { .. }
            | object_store::Error::Precondition { .. } => return Self::AlreadyExists { path },
            object_store::Error::PermissionDenied { .. }
            | object_store::Error::Unauthenticated { .. } => {
                return Self::Permission { operation, path, source: error.into() };
            }
            _ => {}
        }
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(current) = cause {
            if let Some(io) = current.downcast_ref::<std::io::Error>() {
                match io.kind() {
                    std::io::ErrorKind::StorageFull
                    | std::io::ErrorKind::QuotaExceeded
                    | std::io::ErrorKind::FileTooLarge => {
                        return Self::Full { path, source: error.into() };
                    }
                    std::io::ErrorKind::PermissionDenied
                    | std::io::ErrorKind::ReadOnlyFilesystem => {
                        return Self::Permission { operation, path, source: error.into() };
                    }
                    _ => {}
                }
            }
            cause = current.source();
        }
        Self::Unreachable { operation, path, source: error.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_apart_from_an_absent_store() {
        let full = object_store::Error::Generic {
            store: "LocalFileSystem",
            source: Box::new(std::io::Error::from(std::io::ErrorKind::StorageFull)),
        };
        let error = RepositoryError::from_store("write", "packs/aa/x", full);
        assert_eq!(error.code(), "repository.full");
        assert!(!error.retryable());
        let away = object_store::Error::Generic {
            store: "S3",
            source: Box::new(std::io::Error::from(std::io::ErrorKind::ConnectionRefused)),
        };
        let error = RepositoryError::from_store("write", "packs/aa/x", away);
        assert_eq!(error.code(), "repository.unreachable");
        assert!(error.retryable());
        assert!(!error.to_string().contains("refused"), "the cause is not in the text");
    }
}
