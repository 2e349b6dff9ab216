//! A person's key pair: somebody hands out the public key, and is given a way in without a secret ever
//! being sent.

use std::fmt;

use secrecy::SecretString;
use zeroize::Zeroizing;

use crate::crypto::{OpeningKey, SealingKey, Secret, from_hex, hex, random};
use crate::error::{RepositoryError, Result};

const PUBLIC_WORD: &str = "holdfast-public-key";
const PRIVATE_WORD: &str = "holdfast-private-key";

/// The public half (X25519), as text `holdfast-public-key <64 hex> <8 hex of a checksum>`.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct PublicKey([u8; 32]);

/// The private half: the input of DeriveKeyPair (RFC 9180 §7.1.3). Wiped when dropped; cannot be shown.
pub struct PrivateKey(Secret);

impl PublicKey {
    /// Finds the key among the lines of a file.
    ///
    /// # Errors
    /// [`RepositoryError::InvalidKeyText`] when there is none, or one with a changed character.
    pub fn parse(text: &str) -> Result<Self> {
        let key = parse(PUBLIC_WORD, text)?;
        SealingKey::from_bytes(&key)
            .map(|_| Self(*key))
            .ok_or(RepositoryError::InvalidKeyText { what: "public key" })
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(crate) fn sealing(&self) -> Result<SealingKey> {
        SealingKey::from_bytes(&self.0)
            .ok_or(RepositoryError::InvalidKeyText { what: "public key" })
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&written(PUBLIC_WORD, &self.0))
    }
}

impl PrivateKey {
    /// A new random key.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn generate() -> Result<Self> {
        Ok(Self(Zeroizing::new(random()?)))
    }

    /// Finds the key among the lines of a file.
    ///
    /// # Errors
    /// [`RepositoryError::InvalidKeyText`] when there is none, or one with a changed character.
    pub fn parse(text: &str) -> Result<Self> {
        parse(PRIVATE_WORD, text).map(Self)
    }

    /// The text to keep.
    pub fn display(&self) -> SecretString {
        SecretString::from(written(PRIVATE_WORD, &self.0))
    }

    /// What others may know.
    pub fn public(&self) -> PublicKey {
        PublicKey(OpeningKey::derive(&self.0).1.to_bytes())
    }

    pub(crate) fn secret(&self) -> Secret {
        self.0.clone()
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(…)")
    }
}

fn written(word: &str, key: &[u8; 32]) -> String {
    format!("{word} {} {}", hex(key), hex(&checksum(word, key)))
}

/// A slot for a key with a changed digit would be one that nobody opens.
fn checksum(word: &str, key: &[u8; 32]) -> [u8; 4] {
    let hash = blake3::derive_key(&format!("holdfast 1 checksum {word}"), key);
    [hash[0], hash[1], hash[2], hash[3]]
}

fn parse(word: &'static str, text: &str) -> Result<Secret> {
    let what = if word == PUBLIC_WORD { "public key" } else { "private key" };
    let invalid = RepositoryError::InvalidKeyText { what };
    let found = text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some(word)).then(|| (words.next(), words.next(), words.next()))
    });
    let Some((Some(key), Some(check), None)) = found else { return Err(invalid) };
    let key = from_hex::<32>(key).map(Zeroizing::new);
    match key {
        Some(key) if from_hex(check) == Some(checksum(word, &key)) => Ok(key),
        _ => Err(invalid),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use secrecy::ExposeSecret as _;

    #[test]
    fn keys_round_trip_and_a_changed_character_is_seen() {
        let private = PrivateKey::generate().unwrap();
        let public = private.public();
        let text = format!("of anna\n\n{public}\n");
        assert_eq!(PublicKey::parse(&text).unwrap(), public);
        let kept = private.display();
        let again = PrivateKey::parse(kept.expose_secret()).unwrap();
        assert_eq!(again.public(), public);
        let line = public.to_string();
        for at in PUBLIC_WORD.len() + 1..line.len() {
            let mut bytes = line.clone().into_bytes();
            bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
            assert!(PublicKey::parse(&String::from_utf8(bytes).unwrap()).is_err(), "{at}");
        }
        assert!(PublicKey::parse(kept.expose_secret()).is_err(), "a private key is no public one");
        assert!(PrivateKey::parse(&line).is_err());
        assert!(!format!("{private:?}").contains(&hex(private.0.as_slice())));
    }
}
