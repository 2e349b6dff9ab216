//! A writer's key as text: what an agent is given, and keeps beside its server.

use std::fmt;

use secrecy::SecretString;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::crypto::{SealingKey, Secret, Signer, from_hex, hex};
use crate::error::{RepositoryError, Result};
use crate::keys::{DeviceId, WriterKeys};

const WORD: &str = "holdfast-writer-key";
/// Two ids and five keys.
const BYTES: usize = 2 * 16 + 5 * 32;

/// What a writer needs to add to one repository, and no more: it opens nothing of what is stored. As text
/// `holdfast-writer-key <384 hex> <8 hex of a checksum>`; the digits are the repository's id, the device's, the key
/// that names extents, the one of metadata, the public key that content is sealed to, the public root key, and the
/// seed of the device's signature. Wiped when dropped; cannot be shown by accident.
pub struct WriterKey {
    pub(crate) repository: Uuid,
    pub(crate) device: DeviceId,
    pub(crate) extent_id: Secret,
    pub(crate) metadata: Secret,
    /// X25519.
    pub(crate) sealing: [u8; 32],
    /// Ed25519: a repository in this one's place cannot certify writers of its own.
    pub(crate) root: [u8; 32],
    pub(crate) seed: Secret,
}

impl WriterKey {
    /// The repository it is for.
    pub fn repository(&self) -> Uuid {
        self.repository
    }

    /// Whose signature it makes.
    pub fn device(&self) -> DeviceId {
        self.device
    }

    /// Finds the key among the lines of a file.
    ///
    /// # Errors
    /// [`RepositoryError::InvalidKeyText`] when there is none, or one with a changed character.
    pub fn parse(text: &str) -> Result<Self> {
        Self::find(text).ok_or(RepositoryError::InvalidKeyText { what: "writer key" })
    }

    fn find(text: &str) -> Option<Self> {
        let mut words = text.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            (words.next() == Some(WORD)).then_some(words)
        })?;
        let (digits, check, rest) = (words.next()?, words.next()?, words.next());
        let bytes = Zeroizing::new(from_hex::<BYTES>(digits)?);
        if rest.is_some() || from_hex(check) != Some(checksum(&bytes)) {
            return None;
        }
        let id = |at: usize| -> Option<Uuid> {
            Some(Uuid::from_bytes(*bytes.get(at..at + 16)?.first_chunk()?))
        };
        let key = |n: usize| -> Option<Secret> {
            let at = 32 + n * 32;
            Some(Zeroizing::new(*bytes.get(at..at + 32)?.first_chunk()?))
        };
        let sealing = *key(2)?;
        SealingKey::from_bytes(&sealing)?;
        Some(Self {
            repository: id(0)?,
            device: DeviceId(id(16)?),
            extent_id: key(0)?,
            metadata: key(1)?,
            sealing,
            root: *key(3)?,
            seed: key(4)?,
        })
    }

    /// The text to keep.
    pub fn display(&self) -> SecretString {
        let mut bytes = Zeroizing::new([0u8; BYTES]);
        let parts: [&[u8]; 7] = [
            self.repository.as_bytes(),
            self.device.0.as_bytes(),
            self.extent_id.as_slice(),
            self.metadata.as_slice(),
            &self.sealing,
            &self.root,
            self.seed.as_slice(),
        ];
        let mut at = 0;
        for part in parts {
            bytes[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        let digits = Zeroizing::new(hex(bytes.as_slice()));
        SecretString::from(format!("{WORD} {} {}", *digits, hex(&checksum(&bytes))))
    }

    /// The keys to work with.
    ///
    /// # Errors
    /// [`RepositoryError::InvalidKeyText`] when they are none.
    pub fn keys(&self) -> Result<WriterKeys> {
        Ok(WriterKeys {
            repository: self.repository,
            device: self.device,
            extent_id: self.extent_id.clone(),
            metadata: self.metadata.clone(),
            sealing: SealingKey::from_bytes(&self.sealing)
                .ok_or(RepositoryError::InvalidKeyText { what: "writer key" })?,
            root: self.root,
            signer: Signer::from_seed(&self.seed)?,
        })
    }
}

impl fmt::Debug for WriterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WriterKey({}, device {})", self.repository, self.device)
    }
}

fn checksum(bytes: &[u8; BYTES]) -> [u8; 4] {
    let hash = blake3::derive_key(&format!("holdfast 1 checksum {WORD}"), bytes);
    [hash[0], hash[1], hash[2], hash[3]]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::keys::RepositoryKey;
    use secrecy::ExposeSecret as _;

    #[test]
    fn a_key_round_trips_and_a_changed_character_is_seen() {
        let key = RepositoryKey::generate().unwrap();
        let made = key.writer_key(Uuid::from_u128(1), DeviceId(Uuid::from_u128(2))).unwrap();
        let text = made.display();
        let line = text.expose_secret();
        let file = format!("# of the server in Frankfurt\n\n{line}\n");
        let again = WriterKey::parse(&file).unwrap();
        assert_eq!(again.display().expose_secret(), line);
        assert_eq!(again.keys().unwrap().signer.public(), made.keys().unwrap().signer.public());
        for at in WORD.len() + 1..line.len() {
            let mut bytes = line.to_owned().into_bytes();
            bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
            assert!(WriterKey::parse(&String::from_utf8(bytes).unwrap()).is_err(), "{at}");
        }
        assert!(WriterKey::parse("").is_err());
        assert!(WriterKey::parse(&format!("{line} more")).is_err());
        assert!(!format!("{made:?}").contains(&hex(made.seed.as_slice())));
    }
}
