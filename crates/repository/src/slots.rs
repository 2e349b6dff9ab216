//! Key slots: the ways in. Each wraps the same repository key under another secret.

use chrono::{DateTime, SubsecRound, Utc};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::crypto::{
    Cipher, OpeningKey, Secret, Signer, TAG_BYTES, argon2id, derive, from_hex, hex, random,
};
use crate::error::{RepositoryError, Result};
use crate::key_pair::{PrivateKey, PublicKey};
use crate::keys::RepositoryKey;
use crate::recovery::RecoveryKey;
use crate::root::KEYS_PREFIX;
use crate::signed::{self, SignedDocument};

/// The cost of a passphrase guess: Argon2id's parameters.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KdfParams {
    /// Memory in KiB.
    memory_kib: u32,
    /// Passes over the memory.
    passes: u32,
    /// Lanes.
    lanes: u32,
}

impl KdfParams {
    /// RFC 9106's second recommended choice with three passes: 64 MiB, t = 3, p = 4.
    pub const RECOMMENDED: KdfParams = KdfParams { memory_kib: 64 * 1024, passes: 3, lanes: 4 };

    /// So cheap that it protects nothing. For tests only; builds without the feature refuse slots
    /// made with it.
    #[cfg(feature = "insecure-test-kdf")]
    pub const INSECURE_FOR_TESTS: KdfParams = KdfParams { memory_kib: 8, passes: 1, lanes: 1 };

    /// Bounds what a stored document can make this machine spend, and what it can weaken.
    fn acceptable(self) -> bool {
        #[cfg(feature = "insecure-test-kdf")]
        if self == Self::INSECURE_FOR_TESTS {
            return true;
        }
        (19 * 1024..=1024 * 1024).contains(&self.memory_kib)
            && (1..=32).contains(&self.passes)
            && (1..=16).contains(&self.lanes)
    }
}

impl Default for KdfParams {
    fn default() -> Self {
        Self::RECOMMENDED
    }
}

/// What kind of secret opens a slot.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SlotKind {
    /// A passphrase, through Argon2id.
    Passphrase,
    /// A printed [`RecoveryKey`].
    RecoveryKey,
    /// 32 bytes kept in an operating system's keychain.
    Keychain,
    /// A person's [`PrivateKey`].
    PublicKey,
}

impl SlotKind {
    /// As it stands in the slot.
    pub fn name(self) -> &'static str {
        match self {
            Self::Passphrase => "passphrase",
            Self::RecoveryKey => "recovery-key",
            Self::Keychain => "keychain",
            Self::PublicKey => "public-key",
        }
    }
}

/// One way in, as it can be shown.
#[derive(Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
pub struct KeySlot {
    /// The slot's id.
    pub id: Uuid,
    /// What opens it.
    pub kind: SlotKind,
    /// What the operator called it.
    pub label: String,
    /// By the clock of the device that added it.
    pub created_at: DateTime<Utc>,
    /// Whose it is, of a slot for a public key: 64 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
}

/// A way in to be added.
#[derive(Copy, Clone)]
#[non_exhaustive]
pub enum NewSlot<'a> {
    /// Opened by this passphrase.
    Passphrase(&'a SecretString),
    /// Opened by this printed key.
    RecoveryKey(&'a RecoveryKey),
    /// Opened by these 32 bytes, which the caller keeps in the keychain.
    Keychain(&'a [u8; 32]),
    /// Opened by the private half of this key.
    PublicKey(&'a PublicKey),
}

impl NewSlot<'_> {
    pub(crate) fn kind(&self) -> SlotKind {
        match self {
            Self::Passphrase(_) => SlotKind::Passphrase,
            Self::RecoveryKey(_) => SlotKind::RecoveryKey,
            Self::Keychain(_) => SlotKind::Keychain,
            Self::PublicKey(_) => SlotKind::PublicKey,
        }
    }

    /// What a slot is called when nobody named it.
    pub fn default_label(&self) -> &'static str {
        match self {
            Self::Passphrase(_) => "Passphrase",
            Self::RecoveryKey(_) => "Recovery key",
            Self::Keychain(_) => "Keychain of this device",
            Self::PublicKey(_) => "Public key",
        }
    }

    pub(crate) fn secret(&self) -> SlotSecret {
        match self {
            Self::Passphrase(text) => SlotSecret::passphrase(text),
            Self::RecoveryKey(key) => SlotSecret::Key(Zeroizing::new(*key.as_bytes())),
            Self::Keychain(bytes) => SlotSecret::Key(Zeroizing::new(**bytes)),
            Self::PublicKey(key) => SlotSecret::Recipient(**key),
        }
    }
}

/// What the operator presents.
#[derive(Copy, Clone)]
#[non_exhaustive]
pub enum Unlock<'a> {
    /// A passphrase.
    Passphrase(&'a SecretString),
    /// A printed recovery key, as typed.
    RecoveryKey(&'a SecretString),
    /// 32 bytes from the keychain.
    Wrapping(&'a [u8; 32]),
    /// A person's own key.
    PrivateKey(&'a PrivateKey),
}

impl Unlock<'_> {
    pub(crate) fn kind(&self) -> SlotKind {
        match self {
            Self::Passphrase(_) => SlotKind::Passphrase,
            Self::RecoveryKey(_) => SlotKind::RecoveryKey,
            Self::Wrapping(_) => SlotKind::Keychain,
            Self::PrivateKey(_) => SlotKind::PublicKey,
        }
    }

    pub(crate) fn secret(&self) -> Result<SlotSecret> {
        Ok(match self {
            Self::Passphrase(text) => SlotSecret::passphrase(text),
            Self::RecoveryKey(text) => {
                let key = RecoveryKey::parse(text.expose_secret())
                    .map_err(|source| RepositoryError::InvalidRecoveryKey { source })?;
                SlotSecret::Key(Zeroizing::new(*key.as_bytes()))
            }
            Self::Wrapping(bytes) => SlotSecret::Key(Zeroizing::new(**bytes)),
            Self::PrivateKey(key) => SlotSecret::Private(key.secret()),
        })
    }
}

/// An owned copy that can go to a blocking thread.
pub(crate) enum SlotSecret {
    Passphrase(Zeroizing<Vec<u8>>),
    Key(Secret),
    /// Makes a slot that only another's private key opens.
    Recipient(PublicKey),
    Private(Secret),
}

impl SlotSecret {
    fn passphrase(text: &SecretString) -> Self {
        Self::Passphrase(Zeroizing::new(text.expose_secret().as_bytes().to_vec()))
    }
}

/// The key that wraps, out of a secret of 32 bytes.
fn wrapping_key(kind: SlotKind, secret: &Secret, salt: &[u8; 32]) -> Secret {
    derive(secret.as_slice(), salt, &[b"holdfast/1/slot/", kind.name().as_bytes()])
}

/// To whom a slot is sealed (HPKE, as content is).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Recipient {
    /// X25519, hex.
    public_key: String,
    /// HPKE's encapsulated key, hex.
    encapsulated_key: String,
}

/// What HPKE binds the shared secret to: "holdfast/1/slot/public-key\0" | repository | slot | public key.
fn recipient_info(repository: Uuid, slot: Uuid, public_key: &[u8; 32]) -> Vec<u8> {
    let mut info = b"holdfast/1/slot/public-key\0".to_vec();
    info.extend_from_slice(repository.as_bytes());
    info.extend_from_slice(slot.as_bytes());
    info.extend_from_slice(public_key);
    info
}

/// The payload of `keys/<id>.json`, signed by the root key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SlotDocument {
    pub(crate) repository: Uuid,
    /// Named here too, so that what an interrupted creation left behind is told from damage.
    pub(crate) root_public_key: String,
    pub(crate) id: Uuid,
    pub(crate) kind: SlotKind,
    pub(crate) label: String,
    pub(crate) created_at: DateTime<Utc>,
    /// For passphrases: Argon2id's parameters.
    pub(crate) argon2id: Option<KdfParams>,
    /// 32 bytes, hex.
    pub(crate) salt: String,
    /// AES-256-GCM, nonce zero, of the repository key; hex. The wrapping key is never used twice.
    pub(crate) wrapped_key: String,
    /// For public keys only; in other slots the field is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) recipient: Option<Recipient>,
}

impl SignedDocument for SlotDocument {
    const TYPE: &'static str = "slot";
}

impl SlotDocument {
    /// Wraps `key`. Slow for passphrases: call it from a blocking thread.
    pub(crate) fn wrap(
        repository: Uuid,
        root: &Signer,
        key: &RepositoryKey,
        (kind, secret): (SlotKind, &SlotSecret),
        label: String,
        kdf: KdfParams,
    ) -> Result<Self> {
        let salt: [u8; 32] = random()?;
        let id = Uuid::new_v4();
        let argon2id = (kind == SlotKind::Passphrase).then_some(kdf);
        let mut recipient = None;
        let wrapping = match secret {
            SlotSecret::Passphrase(text) => stretch(text, &salt, kdf).ok_or_else(|| {
                RepositoryError::InvalidArgument { what: format!("{kdf:?} cannot be used") }
            })?,
            SlotSecret::Key(key) => wrapping_key(kind, key, &salt),
            SlotSecret::Recipient(public) => {
                let info = recipient_info(repository, id, public.as_bytes());
                let (encapsulated, shared) = public.sealing()?.encapsulate(&info)?;
                recipient = Some(Recipient {
                    public_key: hex(public.as_bytes()),
                    encapsulated_key: hex(&encapsulated),
                });
                wrapping_key(kind, &shared, &salt)
            }
            SlotSecret::Private(_) => {
                let what = "a slot is made with a public key, not with a private one".to_owned();
                return Err(RepositoryError::InvalidArgument { what });
            }
        };
        let mut wrapped = Vec::with_capacity(32 + TAG_BYTES);
        wrapped.extend_from_slice(key.as_bytes());
        Cipher::new(&wrapping)?.seal(0, &aad(repository, id, kind), &mut wrapped)?;
        Ok(Self {
            repository,
            root_public_key: hex(root.public()),
            id,
            kind,
            label,
            created_at: Utc::now().trunc_subsecs(6),
            argon2id,
            salt: hex(&salt),
            wrapped_key: hex(&wrapped),
            recipient,
        })
    }

    /// The repository key, if `secret` opens this slot; slow for passphrases.
    pub(crate) fn unwrap(&self, secret: &SlotSecret) -> Result<Option<RepositoryKey>> {
        let corrupt =
            || RepositoryError::corrupt(self.path(), "its values make no sense; it opens nothing");
        let salt: [u8; 32] = from_hex(&self.salt).ok_or_else(corrupt)?;
        let mut wrapped: [u8; 32 + TAG_BYTES] = from_hex(&self.wrapped_key).ok_or_else(corrupt)?;
        if (self.kind == SlotKind::Passphrase) != self.argon2id.is_some_and(KdfParams::acceptable)
            || (self.kind == SlotKind::PublicKey) != self.recipient.is_some()
        {
            return Err(corrupt());
        }
        let wrapping = match (secret, self.argon2id, &self.recipient) {
            (SlotSecret::Passphrase(text), Some(kdf), _) => {
                stretch(text, &salt, kdf).ok_or_else(corrupt)?
            }
            (SlotSecret::Key(key), None, None) => wrapping_key(self.kind, key, &salt),
            (SlotSecret::Private(seed), _, Some(recipient)) => {
                let (opening, public) = OpeningKey::derive(seed);
                let public = public.to_bytes();
                if recipient.public_key != hex(&public) {
                    return Ok(None);
                }
                let encapsulated =
                    from_hex::<32>(&recipient.encapsulated_key).ok_or_else(corrupt)?;
                let info = recipient_info(self.repository, self.id, &public);
                let shared = opening.decapsulate(&encapsulated, &info).ok_or_else(corrupt)?;
                wrapping_key(self.kind, &shared, &salt)
            }
            _ => return Ok(None),
        };
        let aad = aad(self.repository, self.id, self.kind);
        Ok(Cipher::new(&wrapping)?.open(0, &aad, &mut wrapped).and_then(|plain| {
            let mut key = Zeroizing::new([0u8; 32]);
            key.copy_from_slice(plain.first_chunk::<32>()?);
            Some(RepositoryKey::from_secret(key))
        }))
    }

    pub(crate) fn path(&self) -> String {
        slot_path(self.id)
    }

    pub(crate) fn encode(&self, root: &Signer) -> Result<Vec<u8>> {
        signed::sign(&self.path(), self, root)
    }

    pub(crate) fn describe(&self) -> KeySlot {
        KeySlot {
            id: self.id,
            kind: self.kind,
            label: self.label.clone(),
            created_at: self.created_at,
            public_key: self.recipient.as_ref().map(|recipient| recipient.public_key.clone()),
        }
    }
}

/// The key that wraps, out of a passphrase: slow.
fn stretch(passphrase: &[u8], salt: &[u8; 32], kdf: KdfParams) -> Option<Secret> {
    let kdf = Some(kdf).filter(|kdf| kdf.acceptable())?;
    argon2id(passphrase, salt, kdf.memory_kib, kdf.passes, kdf.lanes)
}

/// Where a slot is.
pub(crate) fn slot_path(id: Uuid) -> String {
    format!("{KEYS_PREFIX}/{}.json", id.hyphenated())
}

/// The slot whose file this is, when it is one.
pub(crate) fn parse_slot_path(path: &str) -> Option<Uuid> {
    let name = path.strip_prefix("keys/")?.strip_suffix(".json")?;
    let id = Uuid::parse_str(name).ok()?;
    (slot_path(id) == path).then_some(id)
}

/// repository id | slot id | kind's name
fn aad(repository: Uuid, id: Uuid, kind: SlotKind) -> Vec<u8> {
    let mut aad = repository.as_bytes().to_vec();
    aad.extend_from_slice(id.as_bytes());
    aad.extend_from_slice(kind.name().as_bytes());
    aad
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_slot_opens_only_with_its_secret() {
        let id = Uuid::from_u128(3);
        let key = RepositoryKey::from_secret(Zeroizing::new([1; 32]));
        let root = key.root_signer(id).unwrap();
        let right = SecretString::from("right");
        let wrong = SecretString::from("wrong");
        let new = NewSlot::Passphrase(&right);
        let slot = SlotDocument::wrap(
            id,
            &root,
            &key,
            (new.kind(), &new.secret()),
            "a".into(),
            KdfParams::INSECURE_FOR_TESTS,
        )
        .unwrap();
        let opened = slot.unwrap(&Unlock::Passphrase(&right).secret().unwrap()).unwrap();
        assert_eq!(opened.unwrap().as_bytes(), key.as_bytes());
        assert!(slot.unwrap(&Unlock::Passphrase(&wrong).secret().unwrap()).unwrap().is_none());
        let mut moved = slot.clone();
        moved.id = Uuid::from_u128(4);
        assert!(moved.unwrap(&Unlock::Passphrase(&right).secret().unwrap()).unwrap().is_none());
    }

    #[test]
    fn a_public_key_makes_a_slot_that_only_its_private_half_opens() {
        let id = Uuid::from_u128(3);
        let key = RepositoryKey::from_secret(Zeroizing::new([1; 32]));
        let root = key.root_signer(id).unwrap();
        let (anna, ben) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
        let public = anna.public();
        let new = NewSlot::PublicKey(&public);
        let secret = (new.kind(), &new.secret());
        let slot =
            SlotDocument::wrap(id, &root, &key, secret, "anna".into(), KdfParams::RECOMMENDED)
                .unwrap();
        let open = |slot: &SlotDocument, with: &PrivateKey| {
            slot.unwrap(&Unlock::PrivateKey(with).secret().unwrap())
        };
        assert_eq!(open(&slot, &anna).unwrap().unwrap().as_bytes(), key.as_bytes());
        assert!(open(&slot, &ben).unwrap().is_none());
        let mut moved = slot.clone();
        moved.id = Uuid::from_u128(4);
        assert!(open(&moved, &anna).unwrap().is_none());
        // Ben's name over Anna's slot opens for nobody.
        let mut renamed = slot.clone();
        renamed.recipient.as_mut().unwrap().public_key = hex(ben.public().as_bytes());
        assert!(open(&renamed, &ben).unwrap().is_none());
        assert!(open(&renamed, &anna).unwrap().is_none());
        let mut bare = slot;
        bare.recipient = None;
        assert!(open(&bare, &anna).is_err());
    }

    #[test]
    fn absurd_costs_are_refused() {
        let absurd = KdfParams { memory_kib: u32::MAX, passes: 1, lanes: 1 };
        assert!(!absurd.acceptable());
        let weak = KdfParams { memory_kib: 64, passes: 1, lanes: 1 };
        assert!(!weak.acceptable());
        assert!(KdfParams::RECOMMENDED.acceptable());
    }

    #[test]
    fn only_slots_look_like_slots() {
        let id = Uuid::from_u128(5);
        assert_eq!(parse_slot_path(&slot_path(id)), Some(id));
        assert_eq!(parse_slot_path("keys/writers/aa.json"), None);
        assert_eq!(parse_slot_path(&slot_path(id).to_uppercase()), None);
    }
}
