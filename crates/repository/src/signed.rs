//! Signed JSON: the few objects that must be readable without any key.
//!
//! `{"payload":"<json text>","signature":"<128 lower-case hex digits>"}` without white space. The
//! signature covers a domain string with the document's type, and the payload's exact text. A
//! document is accepted only if serialising what was parsed gives the same bytes again, so that no
//! flipped bit (a space, an upper-case digit) goes unseen.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::crypto::{Signer, from_hex, hex, signed_by};
use crate::error::{RepositoryError, Result};

/// Larger than any signed document; what is longer is not read.
pub(crate) const MAX_SIGNED_BYTES: u64 = 64 * 1024;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wrapper {
    payload: String,
    signature: String,
}

/// A kind of signed document.
pub(crate) trait SignedDocument: Serialize + DeserializeOwned {
    /// Stands in the signed message, so that one kind never passes for another.
    const TYPE: &'static str;
}

fn message<T: SignedDocument>(payload: &str) -> Vec<u8> {
    let mut message = b"holdfast/1/document/".to_vec();
    message.extend_from_slice(T::TYPE.as_bytes());
    message.push(0);
    message.extend_from_slice(payload.as_bytes());
    message
}

fn serialise<T: Serialize>(path: &str, value: &T) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|source| RepositoryError::Document { path: path.to_owned(), source })
}

/// The document's bytes, signed.
pub(crate) fn sign<T: SignedDocument>(path: &str, value: &T, signer: &Signer) -> Result<Vec<u8>> {
    let payload = serialise(path, value)?;
    let signature = hex(&signer.sign(&message::<T>(&payload)));
    Ok(serialise(path, &Wrapper { payload, signature })?.into_bytes())
}

/// A document whose text is canonical but whose signer is not decided yet.
pub(crate) struct Unverified<T> {
    pub(crate) value: T,
    message: Vec<u8>,
    signature: [u8; 64],
}

impl<T> Unverified<T> {
    pub(crate) fn is_signed_by(&self, public: &[u8; 32]) -> bool {
        signed_by(public, &self.message, &self.signature)
    }
}

/// Parses without believing anything yet.
pub(crate) fn parse<T: SignedDocument>(path: &str, bytes: &[u8]) -> Result<Unverified<T>> {
    let corrupt = |what: &str| RepositoryError::corrupt(path, what);
    let wrapper: Wrapper =
        serde_json::from_slice(bytes).map_err(|_| corrupt("it is not a signed document"))?;
    if serialise(path, &wrapper)?.as_bytes() != bytes {
        return Err(corrupt("it is not written as Holdfast writes it"));
    }
    let signature =
        from_hex::<64>(&wrapper.signature).ok_or_else(|| corrupt("its signature is malformed"))?;
    let value: T =
        serde_json::from_str(&wrapper.payload).map_err(|_| corrupt("its fields are not known"))?;
    if serialise(path, &value)? != wrapper.payload {
        return Err(corrupt("its fields are not written as Holdfast writes them"));
    }
    let message = message::<T>(&wrapper.payload);
    Ok(Unverified { value, message, signature })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use zeroize::Zeroizing;

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    #[serde(deny_unknown_fields)]
    struct Note {
        text: String,
        number: u32,
    }
    impl SignedDocument for Note {
        const TYPE: &'static str = "note";
    }

    fn verify<T: SignedDocument>(path: &str, bytes: &[u8], public: &[u8; 32]) -> Result<T> {
        let document = parse::<T>(path, bytes)?;
        if !document.is_signed_by(public) {
            return Err(RepositoryError::corrupt(path, "its signature does not fit its content"));
        }
        Ok(document.value)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn documents_round_trip(text in ".{0,40}", number: u32) {
            let signer = Signer::from_seed(&Zeroizing::new([4; 32])).unwrap();
            let bytes = sign("note", &Note { text: text.clone(), number }, &signer).unwrap();
            let back: Note = verify("note", &bytes, signer.public()).unwrap();
            prop_assert_eq!(back, Note { text, number });
        }
    }

    #[test]
    fn every_flipped_bit_and_every_added_space_is_seen() {
        let signer = Signer::from_seed(&Zeroizing::new([4; 32])).unwrap();
        let note = Note { text: "a \"b\"\n".into(), number: 7 };
        let bytes = sign("note", &note, &signer).unwrap();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                assert!(verify::<Note>("note", &flipped, signer.public()).is_err(), "{at}.{bit}");
            }
            let mut spaced = bytes.clone();
            spaced.insert(at, b' ');
            assert!(verify::<Note>("note", &spaced, signer.public()).is_err(), "{at}");
        }
    }
}
