//! The recovery key: 32 random bytes that can be printed, read aloud and typed in again.
//!
//! It is written in fourteen groups of five characters of Crockford's base32 alphabet (no I, L, O,
//! U). The first four characters of a group carry data, the fifth is a check over GF(32) that
//! also depends on the group's place, so that a mistyped character, two neighbours exchanged or two
//! groups exchanged are found and *named*. Thirteen groups carry the key (260 bits, the last four
//! zero), the fourteenth a 20-bit BLAKE3 checksum of the whole.

use ring::rand::{SecureRandom, SystemRandom};
use secrecy::SecretString;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::error::{RepositoryError, Result};

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const GROUPS: usize = 14;
const DATA_GROUPS: usize = 13;
const CHECKSUM_DOMAIN: &str = "holdfast 1 recovery key checksum";

/// A printed way in. `Debug` shows nothing of it; [`RecoveryKey::display`] hands the text out as a
/// secret.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct RecoveryKey([u8; 32]);

/// Where a typed recovery key differs from any that was ever printed. Groups count from 1.
#[derive(Debug, Clone, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RecoveryKeyError {
    /// Too few or too many characters.
    #[error("it has {found} characters where {expected} were printed (spaces and dashes aside)")]
    Length {
        /// Characters found.
        found: usize,
        /// Characters a key has.
        expected: usize,
    },
    /// A character that is never printed.
    #[error("group {group} contains {character:?}, which no recovery key contains")]
    Character {
        /// The group, from 1.
        group: usize,
        /// The character.
        character: char,
    },
    /// A group whose check character does not fit.
    #[error("group {group} ({text}) has a typing mistake")]
    Group {
        /// The group, from 1.
        group: usize,
        /// The group as it was typed.
        text: String,
    },
    /// Every group fits, but not the whole.
    #[error("the groups do not belong together")]
    Checksum,
}

impl RecoveryKey {
    /// A new random key.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn generate() -> Result<Self> {
        let mut bytes = [0u8; 32];
        SystemRandom::new()
            .fill(&mut bytes)
            .map_err(|_| RepositoryError::worker("the system's random generator failed"))?;
        Ok(Self(bytes))
    }

    /// From bytes kept elsewhere.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The text to print: fourteen groups of five characters with dashes between.
    pub fn display(&self) -> SecretString {
        let mut values = symbols(&self.0);
        values.extend_from_slice(&checksum(&self.0));
        let mut text = String::with_capacity(GROUPS * 6);
        for (place, group) in values.chunks(4).enumerate() {
            if place > 0 {
                text.push('-');
            }
            for value in group {
                text.push(letter(*value));
            }
            text.push(letter(check(place, group)));
        }
        values.zeroize();
        SecretString::from(text)
    }

    /// Reads a typed key. Case, spaces and dashes do not matter; O is read as 0, I and L as 1.
    ///
    /// # Errors
    /// [`RecoveryKeyError`] names the first group that is wrong.
    pub fn parse(text: &str) -> Result<Self, RecoveryKeyError> {
        let mut values = Vec::with_capacity(GROUPS * 5);
        let mut typed = String::new();
        for character in
            text.chars().filter(|c| !c.is_whitespace() && !matches!(c, '-' | '–' | '_'))
        {
            let group = values.len() / 5 + 1;
            let value = value(character).ok_or(RecoveryKeyError::Character { group, character })?;
            values.push(value);
            typed.push(character);
        }
        let expected = GROUPS * 5;
        // A missing or doubled character shifts what follows: name the group where it starts.
        for (place, group) in values.chunks_exact(5).take(GROUPS).enumerate() {
            if check(place, &group[..4]) != group[4] {
                if values.len() != expected {
                    break;
                }
                return Err(RecoveryKeyError::Group {
                    group: place + 1,
                    text: typed.chars().skip(place * 5).take(5).collect(),
                });
            }
        }
        if values.len() != expected {
            return Err(RecoveryKeyError::Length { found: values.len(), expected });
        }
        let data: Vec<u8> = values.chunks_exact(5).flat_map(|g| g[..4].to_vec()).collect();
        values.zeroize();
        let (body, tail) = data.split_at(DATA_GROUPS * 4);
        let mut key = [0u8; 32];
        for (bit, target) in (0..256).map(|bit| (bit, bit / 8)) {
            let symbol = body[bit / 5];
            if symbol >> (4 - bit % 5) & 1 == 1 {
                key[target] |= 0x80 >> (bit % 8);
            }
        }
        let padding_is_zero = body.last().is_some_and(|last| last.trailing_zeros() >= 4);
        if !padding_is_zero || tail != checksum(&key) {
            return Err(RecoveryKeyError::Checksum);
        }
        Ok(Self(key))
    }
}

/// 256 bits as 52 five-bit symbols, most significant bit first.
fn symbols(key: &[u8; 32]) -> Vec<u8> {
    (0..DATA_GROUPS * 4)
        .map(|symbol| {
            (0..5).fold(0u8, |value, offset| {
                let bit = symbol * 5 + offset;
                let set = bit < 256 && key[bit / 8] >> (7 - bit % 8) & 1 == 1;
                value << 1 | u8::from(set)
            })
        })
        .collect()
}

fn checksum(key: &[u8; 32]) -> [u8; 4] {
    let hash = blake3::derive_key(CHECKSUM_DOMAIN, key);
    [hash[0] & 31, hash[1] & 31, hash[2] & 31, hash[3] & 31]
}

/// The check character of a group: Σ α^(i+1)·vᵢ + α^place over GF(32).
fn check(place: usize, group: &[u8]) -> u8 {
    let mut weight = 1;
    let mut sum = power(place);
    for value in group {
        weight = times(weight, 2);
        sum ^= times(weight, *value);
    }
    sum
}

fn power(exponent: usize) -> u8 {
    (0..exponent).fold(1, |value, _| times(value, 2))
}

/// Multiplication in GF(2⁵) modulo x⁵ + x² + 1.
fn times(mut a: u8, mut b: u8) -> u8 {
    let mut product = 0;
    while b > 0 {
        if b & 1 == 1 {
            product ^= a;
        }
        a <<= 1;
        if a & 0x20 != 0 {
            a ^= 0x25;
        }
        b >>= 1;
    }
    product
}

fn letter(value: u8) -> char {
    char::from(ALPHABET[usize::from(value & 31)])
}

fn value(character: char) -> Option<u8> {
    let upper = match character.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        other => other,
    };
    let place = ALPHABET.iter().position(|letter| char::from(*letter) == upper)?;
    u8::try_from(place).ok()
}

impl std::fmt::Debug for RecoveryKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RecoveryKey(…)")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use secrecy::ExposeSecret;

    proptest! {
        #[test]
        fn what_is_printed_reads_back(bytes in any::<[u8; 32]>()) {
            let text = RecoveryKey::from_bytes(bytes).display();
            let shouted = text.expose_secret().to_lowercase().replace('-', " ");
            prop_assert_eq!(RecoveryKey::parse(&shouted).unwrap().0, bytes);
        }

        #[test]
        fn one_wrong_character_names_its_group(
            bytes in any::<[u8; 32]>(), at in 0usize..70, shift in 1usize..32,
        ) {
            let text = RecoveryKey::from_bytes(bytes).display();
            let mut typed: Vec<char> =
                text.expose_secret().chars().filter(|c| *c != '-').collect();
            let old = usize::from(value(typed[at]).unwrap());
            typed[at] = char::from(ALPHABET[(old + shift) % 32]);
            let typed: String = typed.into_iter().collect();
            let Err(RecoveryKeyError::Group { group, .. }) = RecoveryKey::parse(&typed) else {
                return Err(TestCaseError::fail("not found"));
            };
            prop_assert_eq!(group, at / 5 + 1);
        }

        #[test]
        fn neighbours_exchanged_are_found(bytes in any::<[u8; 32]>(), at in 0usize..69) {
            let text = RecoveryKey::from_bytes(bytes).display();
            let mut typed: Vec<char> =
                text.expose_secret().chars().filter(|c| *c != '-').collect();
            prop_assume!(typed[at] != typed[at + 1]);
            typed.swap(at, at + 1);
            let typed: String = typed.into_iter().collect();
            prop_assert!(RecoveryKey::parse(&typed).is_err());
        }

        #[test]
        fn groups_exchanged_are_found(
            bytes in any::<[u8; 32]>(), a in 0usize..14, b in 0usize..14,
        ) {
            let text = RecoveryKey::from_bytes(bytes).display();
            let mut groups: Vec<&str> = text.expose_secret().split('-').collect();
            prop_assume!(a != b);
            groups.swap(a, b);
            prop_assert!(RecoveryKey::parse(&groups.join("-")).is_err());
        }
    }

    #[test]
    fn a_missing_character_is_a_matter_of_length() {
        let text = RecoveryKey::from_bytes([7; 32]).display();
        let mut typed = text.expose_secret().to_owned();
        typed.remove(3);
        let error = RecoveryKey::parse(&typed).unwrap_err();
        assert_eq!(error, RecoveryKeyError::Length { found: 69, expected: 70 });
        let error = RecoveryKey::parse("0000U").unwrap_err();
        assert_eq!(error, RecoveryKeyError::Character { group: 1, character: 'U' });
    }
}
