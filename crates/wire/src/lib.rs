//! A client of PostgreSQL's frontend/backend protocol, made for replication.
//!
//! One thin connection serves everything the product asks of a server: the walsender's commands
//! (`IDENTIFY_SYSTEM`, `BASE_BACKUP`, `START_REPLICATION`, …) and plain queries in the simple query
//! protocol. There is no pool, no prepared statement and no type mapping.
//!
//! | Module | Subject | Source of truth |
//! |---|---|---|
//! | [`dsn`] | connection strings, service files, password files | `fe-connect.c`, libpq's manual |
//! | `transport` | TCP, TLS and Unix sockets | `fe-secure.c` |
//! | `tls` | what each `sslmode` accepts, client certificates, channel binding | `fe-secure-openssl.c`, RFC 5929 |
//! | `frame`, `message` | message boundaries and the few messages that matter | protocol.sgml |
//! | `authentication` | trust, password, MD5, SCRAM as a state machine | RFC 5802, RFC 7677 |
//! | `connection`, `query` | a session that is idle between commands | protocol.sgml |
//! | `base_backup` | `BASE_BACKUP` in both grammars and both stream forms | `basebackup.c`, `basebackup_copy.c` |
//! | `wal_stream` | `START_REPLICATION … PHYSICAL` | `walsender.c` |
//!
//! Order is safety here, so it is in the types: [`Connection::base_backup`] and
//! [`Connection::start_physical`] consume the connection, and only the end of the exchange gives it
//! back. Dropping a [`BaseBackup`] or [`WalStream`] closes the socket.
//!
//! Everything a server sends is untrusted: frames have a cap, result sets have a cap, counts are
//! checked against the bytes that are really there, and no input panics.

mod authentication;
mod base_backup;
mod connect;
mod connection;
mod copy;
pub mod dsn;
mod error;
mod frame;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod manifest_upload;
mod message;
mod query;
mod replication;
mod sql_text;
mod tls;
mod transport;
mod wal_stream;

pub use base_backup::{BackupEnd, BackupEvent, BaseBackup, BaseBackupOptions, TablespaceRow};
pub use connect::ReplicationAccess;
pub use connection::{Connection, ServerFacts, SessionKind};
pub use copy::{CopyIn, CopyOut};
pub use dsn::{ChannelBindingMode, Dsn, HostPort, RootCertificates, SslMode, TargetSession};
pub use error::{AuthenticationMethod, CertificateProblem, HbaRefusal, ServerError, WireError};
pub use manifest_upload::MAX_MANIFEST_BYTES;
pub use query::{MAX_RESULT_BYTES, ResultSet};
pub use replication::{SlotFacts, SystemIdentity};
pub use tls::TlsFacts;
pub use wal_stream::{NextTimeline, StartedStream, WalMessage, WalStream};

/// A notice of the server: the same fields as an error, but the command went on.
pub type ServerNotice = ServerError;
