//! What can go wrong on the wire, told so that somebody can act on it.
//!
//! Rules: `Display` says what was attempted and what happened, without the source's text; the cause
//! is the `source`; [`WireError::hint`] says what it means and what to do; [`WireError::code`] never
//! changes once released.

mod hint;
mod server;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use holdfast_postgres::{Lsn, ServerVersion, TimelineId};

pub use server::ServerError;

use crate::dsn::SslMode;

/// How a server asked the client to prove who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AuthenticationMethod {
    /// Nothing was asked (`trust`, `cert`, `peer`).
    None,
    /// The password itself.
    Cleartext,
    /// The password under MD5 with a four byte salt.
    Md5,
    /// SCRAM-SHA-256 without channel binding.
    ScramSha256,
    /// SCRAM-SHA-256 bound to the server's certificate.
    ScramSha256Plus,
}

impl AuthenticationMethod {
    /// The name as it stands in `require_auth` and `pg_hba.conf`.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Cleartext => "password",
            Self::Md5 => "md5",
            Self::ScramSha256 => "scram-sha-256",
            Self::ScramSha256Plus => "scram-sha-256-plus",
        }
    }
}

/// Why a server's certificate, or the attempt to judge it, failed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CertificateProblem {
    /// A mode that verifies was asked for, but there is no file of root certificates.
    NoRoots,
    /// No root certificate leads to the server's certificate.
    UnknownIssuer,
    /// The certificate is not for the host name that was connected to.
    NameMismatch {
        /// The host name of the connection string.
        wanted: String,
        /// The names the certificate carries.
        presented: Vec<String>,
    },
    /// The certificate's validity has ended, or not yet begun.
    NotValidNow,
    /// The handshake failed for a reason that is not about trust.
    Handshake,
    /// A client certificate, key or root file is not what it must be.
    BadFile {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

/// A refusal by `pg_hba.conf` (SQLSTATE 28000 raised before any password was asked for).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HbaRefusal {
    /// The role.
    pub user: String,
    /// The database that was asked for; `None` for a physical replication connection.
    pub database: Option<String>,
    /// This machine's address as the server sees it; `None` on a Unix socket.
    pub address: Option<String>,
    /// Whether the refused connection was encrypted.
    pub encrypted: bool,
    /// The mode that was asked for.
    pub sslmode: SslMode,
    /// Whether `replication=database` was tried as well, and refused too.
    pub tried_database: bool,
    /// The server's own words.
    pub server: ServerError,
}

/// Every failure of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The connection string cannot be understood.
    #[error("the connection string cannot be used: {problem}")]
    BadDsn {
        /// What is wrong with it; never holds a secret.
        problem: String,
    },
    /// The connection string carries a secret.
    #[error("the connection string carries a secret (\"{keyword}\")")]
    PasswordInDsn {
        /// The keyword that carries it.
        keyword: String,
    },
    /// The server asks for a password and none is at hand.
    #[error("the server asks for the password of \"{user}\" and none was found")]
    PasswordMissing {
        /// The role.
        user: String,
        /// What the server asked for.
        method: AuthenticationMethod,
        /// The file in which a password would have been looked for.
        passfile: Option<PathBuf>,
    },
    /// The password file can be read by others.
    #[error("the password file {} can be read by others (mode {mode:04o})", path.display())]
    PassfileUnsafe {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file that the connection string names cannot be read.
    #[error("could not read the {what} {}", path.display())]
    FileUnreadable {
        /// What kind of file.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// The operating system's answer.
        #[source]
        source: io::Error,
    },
    /// The host's name has no address.
    #[error("the host \"{host}\" has no address")]
    HostNotFound {
        /// The name.
        host: String,
        /// The resolver's answer.
        #[source]
        source: io::Error,
    },
    /// Nobody answers there.
    #[error("could not connect to {host}")]
    Unreachable {
        /// Host and port, or the socket's path; all of them when several were tried.
        host: String,
        /// The last answer of the operating system.
        #[source]
        source: io::Error,
    },
    /// The server did not answer in time.
    #[error("no answer within {} s while {during}", limit.as_secs())]
    Timeout {
        /// What was being done.
        during: String,
        /// How long was waited.
        limit: Duration,
    },
    /// The server does not speak TLS and the mode asks for it.
    #[error("{host} does not accept encrypted connections, and sslmode={mode} asks for one")]
    TlsRefusedByServer {
        /// Host and port.
        host: String,
        /// The mode that was asked for.
        mode: SslMode,
    },
    /// The encrypted connection could not be made.
    #[error("could not make an encrypted connection to {host} (sslmode={mode})")]
    Tls {
        /// Host and port.
        host: String,
        /// The mode that was asked for.
        mode: SslMode,
        /// What kind of failure.
        problem: CertificateProblem,
        /// The cause, where there is one.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The server says that user and password do not fit.
    #[error("the server did not accept the password of \"{user}\"")]
    AuthenticationFailed {
        /// The role.
        user: String,
        /// How the password was proven.
        method: AuthenticationMethod,
        /// The server's own words.
        #[source]
        server: Box<ServerError>,
    },
    /// The server claims success without having proven that it knows the password.
    #[error("the server did not prove who it is: {problem}")]
    ServerNotVerified {
        /// What is missing.
        problem: String,
    },
    /// The server asks for a way of authentication that is not offered here, or not allowed.
    #[error("cannot authenticate with {method}: {problem}")]
    UnsupportedAuth {
        /// What the server asked for.
        method: String,
        /// Why not.
        problem: String,
    },
    /// No line of `pg_hba.conf` lets this connection in.
    #[error("pg_hba.conf of the server does not let \"{}\" in", .0.user)]
    HbaRefused(Box<HbaRefusal>),
    /// No host fits `target_session_attrs`.
    #[error("{host} is not a server as target_session_attrs={wanted} asks for")]
    WrongSession {
        /// Host and port.
        host: String,
        /// What was asked for.
        wanted: &'static str,
    },
    /// The server answered with an error.
    #[error("the server answered {} ({})", .0.message, .0.sqlstate)]
    Server(Box<ServerError>),
    /// The WAL that was asked for does not exist any more (58P01): a permanent gap.
    #[error("the server has already removed the WAL from {start} on timeline {timeline}")]
    WalRemoved {
        /// The position that was asked for.
        start: Lsn,
        /// Its timeline.
        timeline: TimelineId,
        /// The server's own words.
        #[source]
        server: Box<ServerError>,
    },
    /// The server found damaged pages during the base backup (XX001, sent after everything else).
    #[error("the server found pages with a wrong checksum during the base backup")]
    ChecksumFailure {
        /// Where the backup ended; its data arrived whole.
        end_lsn: Option<Lsn>,
        /// The timeline at its end.
        timeline: Option<TimelineId>,
        /// The server's warnings: up to five damaged pages of every file, by name.
        warnings: Vec<ServerError>,
        /// The server's own words.
        #[source]
        server: Box<ServerError>,
    },
    /// What arrived is not the protocol.
    #[error("the server broke the protocol: {what}")]
    Protocol {
        /// What was expected and what came.
        what: String,
    },
    /// The connection was used out of order.
    #[error("the connection cannot be used like this: {what}")]
    Misuse {
        /// What was called when.
        what: &'static str,
    },
    /// The answer is larger than it may be.
    #[error("the answer is larger than {limit} bytes")]
    ResultTooLarge {
        /// The cap in bytes.
        limit: usize,
    },
    /// The server is too old, or too new, for what was asked.
    #[error("PostgreSQL {version} cannot be used for {feature}")]
    UnsupportedVersion {
        /// The server's version.
        version: ServerVersion,
        /// What was asked.
        feature: &'static str,
    },
    /// The manifest that was to be uploaded could not be read.
    #[error("the manifest to upload could not be read")]
    ManifestSource {
        /// The reader's error.
        #[source]
        source: io::Error,
    },
    /// The connection ended.
    #[error("the server closed the connection while {during}")]
    Closed {
        /// What was being done.
        during: &'static str,
        /// The operating system's answer, where there is one.
        #[source]
        source: Option<io::Error>,
    },
}

impl From<ServerError> for WireError {
    fn from(error: ServerError) -> Self {
        Self::Server(Box::new(error))
    }
}

impl WireError {
    /// The code of the server's own error, when it is one.
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Self::Server(server) => Some(&server.sqlstate),
            _ => None,
        }
    }

    pub(crate) fn protocol(what: impl Into<String>) -> Self {
        Self::Protocol { what: what.into() }
    }

    pub(crate) fn bad_dsn(problem: impl Into<String>) -> Self {
        Self::BadDsn { problem: problem.into() }
    }

    /// What the operating system's answer on an established connection means.
    pub(crate) fn from_io(during: &'static str, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::UnexpectedEof {
            Self::Closed { during, source: None }
        } else {
            Self::Closed { during, source: Some(source) }
        }
    }

    /// The server's own words, where the failure came from it.
    pub fn server(&self) -> Option<&ServerError> {
        match self {
            Self::Server(server)
            | Self::AuthenticationFailed { server, .. }
            | Self::WalRemoved { server, .. }
            | Self::ChecksumFailure { server, .. } => Some(server),
            Self::HbaRefused(refusal) => Some(&refusal.server),
            _ => None,
        }
    }

    /// A stable name: lower-case words joined by underscores, never translated.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadDsn { .. } => "bad_dsn",
            Self::PasswordInDsn { .. } => "password_in_dsn",
            Self::PasswordMissing { .. } => "password_missing",
            Self::PassfileUnsafe { .. } => "passfile_unsafe",
            Self::FileUnreadable { .. } => "file_unreadable",
            Self::HostNotFound { .. } => "host_not_found",
            Self::Unreachable { .. } => "server_unreachable",
            Self::Timeout { .. } => "timeout",
            Self::TlsRefusedByServer { .. } => "tls_refused",
            Self::Tls { problem, .. } => match problem {
                CertificateProblem::Handshake | CertificateProblem::BadFile { .. } => "tls_failed",
                CertificateProblem::NoRoots
                | CertificateProblem::UnknownIssuer
                | CertificateProblem::NameMismatch { .. }
                | CertificateProblem::NotValidNow => "certificate_untrusted",
            },
            Self::AuthenticationFailed { .. } => "authentication_failed",
            Self::ServerNotVerified { .. } => "server_not_verified",
            Self::UnsupportedAuth { .. } => "authentication_unsupported",
            Self::HbaRefused(_) => "hba_refused",
            Self::WrongSession { .. } => "wrong_session",
            Self::Server(server) => server.code(),
            Self::WalRemoved { .. } => "wal_removed",
            Self::ChecksumFailure { .. } => "page_checksum_failure",
            Self::Protocol { .. } => "protocol_violation",
            Self::Misuse { .. } => "connection_misuse",
            Self::ResultTooLarge { .. } => "result_too_large",
            Self::UnsupportedVersion { .. } => "version_unsupported",
            Self::ManifestSource { .. } => "manifest_unreadable",
            Self::Closed { .. } => "connection_closed",
        }
    }

    /// Whether the same request may succeed later with nothing changed.
    pub fn retryable(&self) -> bool {
        match self {
            Self::HostNotFound { .. }
            | Self::Unreachable { .. }
            | Self::Timeout { .. }
            | Self::WrongSession { .. }
            | Self::Closed { .. } => true,
            Self::Server(server) => server.retryable(),
            _ => false,
        }
    }

    /// What it means and what to do, in whole sentences.
    pub fn hint(&self) -> String {
        hint::of(self)
    }
}
