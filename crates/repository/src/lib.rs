//! The repository of Holdfast: encrypted, compressed, deduplicated, append-mostly, on any object
//! store. It knows nothing of PostgreSQL.
//!
//! The bytes are described in `docs/repository-format.md`. The promises of this crate:
//!
//! - what is acknowledged is durable: every put has been answered by the store, and on a file
//!   system the file and its directory have been synced;
//! - content comes before what refers to it: packs, then index objects, then (by the caller) the
//!   manifest;
//! - what is read is what was written, by a writer whom an owner admitted, at this path of this
//!   repository; anything else is an error that names the object;
//! - memory does not depend on how much there is, except for the index: 48 bytes per extent.

mod access;
mod bundle;
mod collect;
mod container;
mod crypto;
mod delta;
mod documents;
mod error;
mod extent;
#[cfg(feature = "fault-injection")]
pub mod fault;
mod fetch;
mod file_lookup;
mod file_table;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod index;
mod ingest;
mod key_pair;
mod keys;
mod lease;
mod object;
mod recovery;
mod rekey;
mod replica;
mod repository;
mod root;
mod signed;
mod slots;
#[cfg(feature = "insecure-test-kdf")]
#[doc(hidden)]
pub mod stages;
mod store;
mod url;
mod verify;
mod writer_key;
mod writers;

pub use bundle::{Bundle, BundleStats};
pub use collect::{Removed, UnneededPack};
pub use documents::IntoContent;
pub use error::{Cause, RepositoryError};
pub use extent::{ExtentId, ExtentIdParseError};
pub use fetch::{ExtentReader, ExtentSink, FetchPlan, FetchStats, SinkError, WantedExtent};
pub use file_lookup::FileLookup;
pub use file_table::{
    EntryKind, FILES_SUFFIX, FileEntry, FileTableReader, FileTableRef, FileTableWriter,
    SNAPSHOTS_PREFIX,
};
pub use index::{Carriers, Index, PackId};
pub use ingest::{Ingest, IngestOptions, IngestStats, OldExtent};
pub use key_pair::{PrivateKey, PublicKey};
pub use keys::{DeviceId, RepositoryKey, WriterKeys};
pub use lease::{Lease, LeaseError, LeaseInfo};
pub use object::{ObjectEntry, ObjectKind, PutKind, PutReceipt, is_transient};
pub use recovery::{RecoveryKey, RecoveryKeyError};
pub use rekey::{CarriedFiles, Rekey};
pub use replica::{Behind, HeldBack, Replica, ReplicaOptions, ReplicaProgress, Replicated};
pub use repository::{CreateOptions, Repository};
pub use slots::{KdfParams, KeySlot, NewSlot, SlotKind, Unlock};
pub use store::{LockMode, ObjectLock, Store, StoreLock, StoreProbe};
pub use url::RepositoryUrl;
pub use verify::{
    Finding, FindingKind, Severity, VerifiedObject, VerifyLevel, VerifyProgress, VerifyReport,
};
pub use writer_key::WriterKey;
pub use writers::{Writer, WriterRole};
