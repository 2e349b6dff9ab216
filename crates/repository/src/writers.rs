//! `keys/writers/*.json`: who may write to a repository, and what of theirs counts.

use std::sync::{Arc, PoisonError};

use chrono::{DateTime, SubsecRound, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::crypto::{from_hex, hex};
use crate::error::{RepositoryError, Result};
use crate::keys::DeviceId;
use crate::object::ObjectKind;
use crate::repository::Repository;
use crate::root::{KeyDocument, RootDocument, read_key_document};
use crate::signed::{self, MAX_SIGNED_BYTES, SignedDocument};
use crate::writer_key::WriterKey;

/// Where the writers' certificates are.
pub(crate) const WRITERS_PREFIX: &str = "keys/writers";

/// What a writer may do.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WriterRole {
    /// Holds the repository key: everything.
    Operator,
    /// Adds backups and WAL, and reads none of it. Nobody else shares what it has stored.
    Agent,
}

/// Who may write, as it can be shown.
#[derive(Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
pub struct Writer {
    /// The Ed25519 key it signs with, hex.
    pub public_key: String,
    /// Whose signature that is.
    pub device: DeviceId,
    /// What it may do.
    pub role: WriterRole,
    /// What the operator called it; none of an operator's own device.
    pub label: Option<String>,
    /// Where an agent may write, beside packs and their index; everywhere when there is none.
    pub below: Vec<String>,
    /// By the clock of the device that admitted it.
    pub certified_at: DateTime<Utc>,
}

/// The payload of `keys/writers/<public key>.json`, signed by the root key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WriterCertificate {
    repository: Uuid,
    /// As in a slot: tells an interrupted creation's from a damaged one.
    root_public_key: String,
    public_key: String,
    device: DeviceId,
    certified_at: DateTime<Utc>,
    /// A certificate without it is an operator's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    agent: Option<AgentCertificate>,
}

/// What an agent's certificate says of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AgentCertificate {
    name: String,
    /// Prefixes of paths.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    below: Vec<String>,
}

/// What is known of a writer's right.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub(crate) role: WriterRole,
    /// Of an agent.
    below: Arc<[String]>,
}

impl Standing {
    fn of(agent: Option<&AgentCertificate>) -> Self {
        match agent {
            None => Self { role: WriterRole::Operator, below: Arc::default() },
            Some(agent) => Self { role: WriterRole::Agent, below: agent.below.clone().into() },
        }
    }

    /// Whether an object of this kind counts under such a signature.
    fn allows(&self, path: &str, kind: ObjectKind) -> bool {
        self.role == WriterRole::Operator
            || match place_of(kind) {
                AgentsPlace::Nowhere => false,
                AgentsPlace::Anywhere => true,
                AgentsPlace::Below => {
                    self.below.is_empty() || self.below.iter().any(|p| path.starts_with(p.as_str()))
                }
            }
    }
}

impl SignedDocument for WriterCertificate {
    const TYPE: &'static str = "writer";
}

impl WriterCertificate {
    /// Where the certificate of `public_key` is.
    pub(crate) fn path(public_key: &[u8; 32]) -> String {
        format!("{WRITERS_PREFIX}/{}.json", hex(public_key))
    }

    fn describe(self) -> Writer {
        let role = Standing::of(self.agent.as_ref()).role;
        let Self { public_key, device, certified_at, agent, .. } = self;
        let (label, below) = agent.map(|agent| (agent.name, agent.below)).unzip();
        let below = below.unwrap_or_default();
        Writer { public_key, device, role, label, below, certified_at }
    }
}

/// The certificate at `path`, or whose it is when it is not this repository's.
///
/// # Errors
/// When it is not what its name says, or nobody who may has signed it.
pub(crate) fn read_certificate(
    path: &str,
    public: &[u8; 32],
    bytes: &[u8],
    root: &RootDocument,
) -> Result<KeyDocument<WriterCertificate>> {
    let certificate = read_key_document(
        path,
        bytes,
        root,
        |certificate: &WriterCertificate| certificate.repository,
        |certificate| from_hex(&certificate.root_public_key),
    )?;
    match &certificate {
        KeyDocument::Own(own) if from_hex(&own.public_key) != Some(*public) => {
            Err(RepositoryError::corrupt(path, "it certifies another writer"))
        }
        _ => Ok(certificate),
    }
}

/// The writer whose certificate is at a path; none when none can be there.
pub(crate) fn writer_of(path: &str) -> Option<[u8; 32]> {
    let name = path.strip_prefix(WRITERS_PREFIX)?.strip_prefix('/')?.strip_suffix(".json")?;
    let public = from_hex(name)?;
    (WriterCertificate::path(&public) == path).then_some(public)
}

/// Where an agent's signature under an object counts.
enum AgentsPlace {
    Nowhere,
    Anywhere,
    /// Where its certificate says.
    Below,
}

/// What decides about other objects is for operators: a stolen agent marks nothing for removal, and proves nothing.
/// What belongs to a cluster can be limited to some of them.
fn place_of(kind: ObjectKind) -> AgentsPlace {
    match kind {
        ObjectKind::Pack | ObjectKind::Index | ObjectKind::Audit | ObjectKind::Lease => {
            AgentsPlace::Anywhere
        }
        ObjectKind::FileTable
        | ObjectKind::Snapshot
        | ObjectKind::WalSegment
        | ObjectKind::WalSlice
        | ObjectKind::TimelineHistory
        | ObjectKind::Coverage
        | ObjectKind::Cluster => AgentsPlace::Below,
        ObjectKind::Proof
        | ObjectKind::Policy
        | ObjectKind::Incident
        | ObjectKind::Tombstone
        | ObjectKind::Bundle => AgentsPlace::Nowhere,
    }
}

impl Repository {
    /// Who may write, oldest first. Damaged certificates are left out: verification names them.
    ///
    /// # Errors
    /// What the store says.
    pub async fn writers(&self) -> Result<Vec<Writer>> {
        let mut writers = Vec::new();
        for entry in self.store().list(WRITERS_PREFIX).await? {
            let Some(public) = writer_of(&entry.path) else { continue };
            let read = match self.store().get_limited(&entry.path, MAX_SIGNED_BYTES).await {
                Ok(bytes) => read_certificate(&entry.path, &public, &bytes, &self.inner.root),
                Err(error) => Err(error),
            };
            match read {
                Ok(KeyDocument::Own(certificate)) => writers.push(certificate.describe()),
                Ok(KeyDocument::Foreign) | Err(RepositoryError::NotFound { .. }) => {}
                Err(error @ RepositoryError::Corrupt { .. }) => {
                    tracing::warn!(%error, "a writer's certificate cannot be used");
                }
                Err(error) => return Err(error),
            }
        }
        writers.sort_by_key(|writer| (writer.certified_at, writer.device));
        Ok(writers)
    }

    /// Admits an agent: a writer that may add, and open nothing of what is stored. `label` is what it is called
    /// in lists; with `below`, only what it writes below one of these prefixes counts, beside packs, their index and
    /// leases. The key is not kept anywhere: whoever loses it admits another agent.
    ///
    /// # Errors
    /// [`RepositoryError::KeyRequired`] without the repository key; what the store says.
    pub async fn admit_agent(&self, label: &str, below: &[String]) -> Result<(Writer, WriterKey)> {
        let owner = self.owner("admitting a writer")?;
        let device = DeviceId::generate();
        let key = owner.key.writer_key(self.id(), device)?;
        let public = *key.keys()?.signer.public();
        let agent = AgentCertificate { name: label.to_owned(), below: below.to_vec() };
        self.certify(&public, device, Some(agent)).await?;
        let path = WriterCertificate::path(&public);
        let bytes = self.store().get_limited(&path, MAX_SIGNED_BYTES).await?;
        match read_certificate(&path, &public, &bytes, &self.inner.root)? {
            KeyDocument::Own(certificate) => Ok((certificate.describe(), key)),
            KeyDocument::Foreign => {
                Err(RepositoryError::corrupt(&path, "read back, it is not what was written"))
            }
        }
    }

    pub(crate) async fn certify_self(&self) -> Result<()> {
        self.certify(self.inner.writer.signer.public(), self.inner.writer.device, None).await
    }

    async fn certify(
        &self,
        public: &[u8; 32],
        device: DeviceId,
        agent: Option<AgentCertificate>,
    ) -> Result<()> {
        let owner = self.owner("admitting a writer")?;
        let path = WriterCertificate::path(public);
        let usable = match self.inner.store.get_limited(&path, MAX_SIGNED_BYTES).await {
            Ok(bytes) => self.check_certificate(&path, &bytes, public),
            Err(error) => Err(error),
        };
        let standing = Standing::of(agent.as_ref());
        let make = || {
            let certificate = WriterCertificate {
                repository: self.id(),
                root_public_key: hex(owner.root.public()),
                public_key: hex(public),
                device,
                certified_at: Utc::now().trunc_subsecs(6),
                agent: agent.clone(),
            };
            signed::sign(&path, &certificate, &owner.root)
        };
        let standing = match usable {
            Ok(standing) => standing,
            Err(RepositoryError::NotFound { .. }) => {
                match self.inner.store.put_new(&path, make()?).await {
                    // Two windows of one device open it at once.
                    Ok(()) | Err(RepositoryError::AlreadyExists { .. }) => {}
                    Err(error) => return Err(error),
                }
                standing
            }
            Err(RepositoryError::Corrupt { .. }) => {
                // The certificate is derived from the key, so a damaged one can be made again.
                self.inner.store.put_replacing(&path, make()?).await?;
                standing
            }
            Err(error) => return Err(error),
        };
        self.remember(public, standing);
        Ok(())
    }

    fn check_certificate(&self, path: &str, bytes: &[u8], public: &[u8; 32]) -> Result<Standing> {
        match read_certificate(path, public, bytes, &self.inner.root)? {
            KeyDocument::Own(certificate) => Ok(Standing::of(certificate.agent.as_ref())),
            KeyDocument::Foreign => {
                Err(RepositoryError::corrupt(path, "its signature does not fit its content"))
            }
        }
    }

    fn remember(&self, public: &[u8; 32], standing: Standing) {
        let mut trusted = self.inner.trusted.write().unwrap_or_else(PoisonError::into_inner);
        trusted.insert(*public, standing);
    }

    /// Whether what this process writes counts: an owner has certified it. One that was opened to be read is
    /// not asked to.
    pub fn is_certified(&self) -> bool {
        let trusted = self.inner.trusted.read().unwrap_or_else(PoisonError::into_inner);
        trusted.contains_key(self.inner.writer.signer.public())
    }

    fn known(&self, public: &[u8; 32]) -> Option<Standing> {
        let trusted = self.inner.trusted.read().unwrap_or_else(PoisonError::into_inner);
        trusted.get(public).cloned()
    }

    /// Makes sure that an owner has certified `public`, who has signed `object`; what it may do.
    pub(crate) async fn role_of(&self, object: &str, public: &[u8; 32]) -> Result<WriterRole> {
        Ok(self.standing_of(object, public).await?.role)
    }

    /// Whether `public`, who has signed `object`, is an operator or this device.
    pub(crate) async fn vouches_for(&self, object: &str, public: &[u8; 32]) -> Result<bool> {
        let own = public == self.inner.writer.signer.public();
        Ok(own || self.role_of(object, public).await? == WriterRole::Operator)
    }

    async fn standing_of(&self, object: &str, public: &[u8; 32]) -> Result<Standing> {
        if let Some(standing) = self.known(public) {
            return Ok(standing);
        }
        let path = WriterCertificate::path(public);
        let untrusted = || untrusted_writer(object, public, "this repository does not know");
        let bytes = match self.inner.store.get_limited(&path, MAX_SIGNED_BYTES).await {
            Ok(bytes) => bytes,
            Err(RepositoryError::NotFound { .. }) => return Err(untrusted()),
            Err(error) => return Err(error),
        };
        let standing = self.check_certificate(&path, &bytes, public)?;
        self.remember(public, standing.clone());
        Ok(standing)
    }

    /// Makes sure that the signer of an object may have written one of its kind there.
    pub(crate) async fn trust(
        &self,
        object: &str,
        kind: ObjectKind,
        public: &[u8; 32],
    ) -> Result<()> {
        if self.standing_of(object, public).await?.allows(object, kind) {
            return Ok(());
        }
        let reason = match place_of(kind) {
            AgentsPlace::Nowhere => "who may only add backups and WAL",
            _ => "who may only add to other clusters",
        };
        Err(untrusted_writer(object, public, reason))
    }

    /// Makes sure that an object of this kind counts when this process writes it there.
    ///
    /// # Errors
    /// [`RepositoryError::KeyRequired`] for what decides about other objects, and for other clusters than an agent's
    /// own, without the repository key.
    pub fn may_write(&self, path: &str, kind: ObjectKind) -> Result<()> {
        // Without a certificate only an operator has got this far.
        let standing = self.known(self.inner.writer.signer.public());
        if self.can_read() || standing.is_some_and(|standing| standing.allows(path, kind)) {
            return Ok(());
        }
        Err(RepositoryError::KeyRequired { operation: decision(kind) })
    }
}

fn untrusted_writer(object: &str, public: &[u8; 32], reason: &'static str) -> RepositoryError {
    RepositoryError::UntrustedWriter { object: object.to_owned(), reason, writer: hex(public) }
}

/// What writing an object of a kind that is not an agent's means.
fn decision(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Tombstone => "marking something for removal",
        ObjectKind::Proof => "recording a proof",
        ObjectKind::Policy => "changing a policy",
        ObjectKind::Incident => "recording an incident",
        _ => "adding to another cluster than this agent's",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Mutex;

    use bytes::Bytes;
    use serde_json::json;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::container::Suite;
    use crate::container::write::{in_memory, to_raw};
    use crate::extent::ExtentId;
    use crate::index::ExtentEntry;
    use crate::{CreateOptions, ExtentSink, KdfParams, NewSlot, SinkError, Store, WantedExtent};

    async fn repository() -> Repository {
        let store = Store::from_object_store(Arc::new(object_store::memory::InMemory::new()), "");
        let slots = [NewSlot::Keychain(&[7; 32])];
        let options = CreateOptions::default().with_kdf(KdfParams::INSECURE_FOR_TESTS);
        Repository::create(store, DeviceId::generate(), &slots, options).await.unwrap()
    }

    async fn agent_of(repository: &Repository, label: &str) -> Repository {
        let (_, key) = repository.admit_agent(label, &[]).await.unwrap();
        Repository::open_for_writing(repository.store().clone(), &key).await.unwrap()
    }

    fn noise(repository: &Repository, seed: u8) -> Bytes {
        let mut bytes = vec![0; repository.extent_size()];
        blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
        bytes.into()
    }

    /// An object as a stolen key could sign it, without asking whether it may.
    async fn forge(agent: &Repository, path: &str, kind: ObjectKind) {
        let inner = &agent.inner;
        let body = to_raw(path, &json!({})).unwrap();
        let frames = std::iter::empty();
        let made =
            in_memory(&inner.writer, &inner.codec, path, kind, Suite::Empty, frames, body).unwrap();
        agent.store().put_new(path, made.out).await.unwrap();
    }

    #[tokio::test]
    async fn what_decides_about_other_objects_is_not_an_agents() {
        let repository = repository().await;
        let agent = agent_of(&repository, "server").await;
        for code in 1..=16 {
            let kind = ObjectKind::from_code(code).unwrap();
            let path = format!("objects/{code}");
            let put = agent.put_document(&path, kind, &json!({})).await;
            if put.is_err() {
                forge(&agent, &path, kind).await;
            }
            let read = repository.get_document::<serde_json::Value>(&path, kind).await;
            let decides = matches!(
                kind,
                ObjectKind::Proof
                    | ObjectKind::Policy
                    | ObjectKind::Incident
                    | ObjectKind::Tombstone
                    | ObjectKind::Bundle
            );
            assert_eq!(
                matches!(put, Err(RepositoryError::KeyRequired { .. })),
                decides,
                "{kind}: {put:?}"
            );
            assert_eq!(
                matches!(read, Err(RepositoryError::UntrustedWriter { .. })),
                decides,
                "{kind}: {read:?}"
            );
            assert_eq!(read.is_ok(), !decides, "{kind}: {read:?}");
        }
    }

    #[tokio::test]
    async fn an_agent_of_one_cluster_adds_to_no_other() {
        let repository = repository().await;
        let below = ["snapshots/1/".to_owned(), "wal/7/".to_owned()];
        let (_, key) = repository.admit_agent("server", &below).await.unwrap();
        let store = repository.store().clone();
        let agent = Repository::open_for_writing(store, &key).await.unwrap();
        for (path, kind, counts) in [
            ("snapshots/1/a", ObjectKind::Snapshot, true),
            ("snapshots/11/a", ObjectKind::Snapshot, false),
            ("wal/7/a", ObjectKind::WalSegment, true),
            ("wal/8/a", ObjectKind::WalSegment, false),
            ("elsewhere/a", ObjectKind::Coverage, false),
            ("index/a", ObjectKind::Index, true),
        ] {
            let put = agent.put_document(path, kind, &json!({})).await;
            if put.is_err() {
                forge(&agent, path, kind).await;
            }
            assert_eq!(put.is_ok(), counts, "{path}: {put:?}");
            let read = repository.get_document::<serde_json::Value>(path, kind).await;
            assert_eq!(read.is_ok(), counts, "{path}: {read:?}");
        }
    }

    #[derive(Default)]
    struct Kept(Mutex<Vec<Bytes>>);

    impl ExtentSink for Kept {
        fn write(&self, _: u64, _: &ExtentId, bytes: &[u8]) -> Result<(), SinkError> {
            self.0.lock().unwrap().push(Bytes::copy_from_slice(bytes));
            Ok(())
        }
    }

    /// Stores other bytes under the names of `victims`.
    async fn poison(agent: &Repository, victims: &[ExtentId]) {
        let ingest = agent.begin_ingest().await.unwrap();
        let wrong = noise(agent, 99);
        for id in victims {
            let entry = ExtentEntry::whole(*id, u32::try_from(wrong.len()).unwrap());
            ingest.add_under(entry, wrong.to_vec()).await.unwrap();
        }
        ingest.flush().await.unwrap();
    }

    async fn add(repository: &Repository, content: &[Bytes]) -> (Vec<ExtentId>, u64) {
        let ingest = repository.begin_ingest().await.unwrap();
        let mut ids = Vec::new();
        for bytes in content {
            ids.push(ingest.add_extent(bytes.clone()).await.unwrap());
        }
        (ids, ingest.flush().await.unwrap().extents_new)
    }

    /// The stolen agent writes before and after its victims: an operator, and another agent.
    #[tokio::test]
    async fn a_stolen_agent_does_not_poison_what_others_store() {
        let repository = repository().await;
        let (thief, other) =
            (agent_of(&repository, "stolen").await, agent_of(&repository, "other").await);
        let content: Vec<Bytes> = (0..4).map(|seed| noise(&repository, seed)).collect();
        let names: Vec<ExtentId> = content.iter().map(|b| repository.extent_id(b)).collect();
        poison(&thief, &names).await;
        assert_eq!(add(&thief, &content).await.1, 0, "it believes itself");
        let (ids, new) = add(&other, &content).await;
        assert_eq!((ids.as_slice(), new), (names.as_slice(), 4));
        poison(&thief, &names).await;
        let cancel = CancellationToken::new();
        let wanted = || names.iter().map(|id| WantedExtent { id: *id, token: 0 }).collect();
        let kept = Arc::new(Kept::default());
        let sink: Arc<dyn ExtentSink> = Arc::<Kept>::clone(&kept);
        let stats = repository.fetch_extents(wanted(), 2, sink, &cancel).await.unwrap();
        assert_eq!(stats.extents, 4);
        let mut read = kept.0.lock().unwrap().clone();
        read.sort_unstable();
        let mut stored = content.clone();
        stored.sort_unstable();
        assert_eq!(read, stored, "from the pack of the agent that does not lie");
        // The operator shares with neither, and finds its own before theirs.
        assert_eq!(add(&repository, &content).await.1, 4);
        assert_eq!(add(&repository, &content).await.1, 0);
        let sink: Arc<dyn ExtentSink> = Arc::new(Kept::default());
        let stats = repository.fetch_extents(wanted(), 2, sink, &cancel).await.unwrap();
        assert_eq!((stats.extents, stats.from_another_pack), (4, 0));
        assert_eq!(add(&other, &content).await.1, 0, "an agent shares with operators");
    }

    #[tokio::test]
    async fn agents_are_listed_with_their_names() {
        let repository = repository().await;
        let below = ["wal/7/".to_owned()];
        let (agent, key) = repository.admit_agent("server in Frankfurt", &below).await.unwrap();
        assert_eq!((agent.role, agent.device), (WriterRole::Agent, key.device()));
        let writers = repository.writers().await.unwrap();
        assert_eq!(writers.len(), 2);
        assert!(writers.contains(&agent));
        let own = writers.iter().find(|w| w.device == repository.device()).unwrap();
        assert_eq!((own.role, own.label.as_deref()), (WriterRole::Operator, None));
    }
}
