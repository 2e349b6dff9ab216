//! The primitives, each behind one narrow function: HKDF-SHA256 (RFC 5869), AES-256-GCM,
//! Ed25519 (RFC 8032), HPKE's exporter (RFC 9180 §5.3), Argon2id (RFC 9106).

use hpke::aead::ExportOnlyAead;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use zeroize::Zeroizing;

use crate::error::{RepositoryError, Result};

/// A secret of 32 bytes that is wiped when dropped.
pub(crate) type Secret = Zeroizing<[u8; 32]>;

/// Bytes that AES-256-GCM adds.
pub(crate) const TAG_BYTES: usize = 16;

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// HKDF-SHA256 to 32 bytes. The parts of `info` are concatenated.
pub(crate) fn derive(secret: &[u8], salt: &[u8], info: &[&[u8]]) -> Secret {
    let mut out = Zeroizing::new([0u8; 32]);
    let prk = Salt::new(HKDF_SHA256, salt).extract(secret);
    prk.expand(info, Length(32))
        .and_then(|okm| okm.fill(out.as_mut()))
        .expect("HKDF-SHA256 expands to up to 8160 bytes, and 32 are asked for");
    out
}

/// Random bytes from the operating system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0u8; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| RepositoryError::worker("the system's random generator failed"))?;
    Ok(bytes)
}

/// One AES-256-GCM key. Nonces are counters: a key seals one object only.
pub(crate) struct Cipher(LessSafeKey);

impl Cipher {
    pub(crate) fn new(key: &[u8; 32]) -> Result<Self> {
        let key = UnboundKey::new(&AES_256_GCM, key)
            .map_err(|_| RepositoryError::worker("AES-256-GCM refused a key of 32 bytes"))?;
        Ok(Self(LessSafeKey::new(key)))
    }

    /// Encrypts in place and appends the tag.
    pub(crate) fn seal(&self, counter: u64, aad: &[u8], plain: &mut Vec<u8>) -> Result<()> {
        self.0
            .seal_in_place_append_tag(nonce(counter), Aad::from(aad), plain)
            .map_err(|_| RepositoryError::worker("AES-256-GCM refused to seal"))
    }

    /// Decrypts in place; `None` when the bytes, the counter or `aad` are not what was sealed.
    pub(crate) fn open<'a>(
        &self,
        counter: u64,
        aad: &[u8],
        sealed: &'a mut [u8],
    ) -> Option<&'a mut [u8]> {
        self.0.open_in_place(nonce(counter), Aad::from(aad), sealed).ok()
    }
}

/// Four zero bytes, then the counter as big-endian u64.
fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0u8; 12];
    bytes[4..].copy_from_slice(&counter.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

/// An Ed25519 signing key made from a derived seed.
pub(crate) struct Signer {
    pair: Ed25519KeyPair,
    public: [u8; 32],
}

impl Signer {
    pub(crate) fn from_seed(seed: &Secret) -> Result<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_slice())
            .map_err(|_| RepositoryError::worker("Ed25519 refused a seed of 32 bytes"))?;
        let mut public = [0u8; 32];
        public.copy_from_slice(pair.public_key().as_ref());
        Ok(Self { pair, public })
    }

    pub(crate) fn public(&self) -> &[u8; 32] {
        &self.public
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut bytes = [0u8; 64];
        bytes.copy_from_slice(self.pair.sign(message).as_ref());
        bytes
    }
}

/// Whether `signature` over `message` is by `public`.
pub(crate) fn signed_by(public: &[u8; 32], message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, public).verify(message, signature).is_ok()
}

/// The public half of the key pair that content is sealed to.
#[derive(Clone)]
pub(crate) struct SealingKey(<X25519HkdfSha256 as Kem>::PublicKey);

/// The private half: whoever has it reads content.
#[derive(Clone)]
pub(crate) struct OpeningKey(<X25519HkdfSha256 as Kem>::PrivateKey);

/// What the exporter is asked for.
const EXPORT: &[u8] = b"holdfast/1/content-key";

impl SealingKey {
    pub(crate) fn from_bytes(bytes: &[u8; 32]) -> Option<Self> {
        <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(bytes).ok().map(Self)
    }

    pub(crate) fn to_bytes(&self) -> [u8; 32] {
        let mut bytes = [0u8; 32];
        bytes.copy_from_slice(&self.0.to_bytes());
        bytes
    }

    /// A fresh content key and what a reader needs to find it again (RFC 9180 §5.1.1, mode base).
    pub(crate) fn encapsulate(&self, info: &[u8]) -> Result<([u8; 32], Secret)> {
        let failed = |e: hpke::HpkeError| RepositoryError::worker(e.to_string());
        let (encapsulated, context) = hpke::setup_sender::<
            ExportOnlyAead,
            HkdfSha256,
            X25519HkdfSha256,
        >(&OpModeS::Base, &self.0, info)
        .map_err(failed)?;
        let mut key = Zeroizing::new([0u8; 32]);
        context.export(EXPORT, key.as_mut()).map_err(failed)?;
        let mut bytes = [0u8; 32];
        bytes.copy_from_slice(&encapsulated.to_bytes());
        Ok((bytes, key))
    }
}

impl OpeningKey {
    /// DeriveKeyPair of RFC 9180 §7.1.3.
    pub(crate) fn derive(seed: &Secret) -> (Self, SealingKey) {
        let (private, public) = X25519HkdfSha256::derive_keypair(seed.as_slice());
        (Self(private), SealingKey(public))
    }

    /// The content key behind `encapsulated`; `None` when it is not a valid point.
    pub(crate) fn decapsulate(&self, encapsulated: &[u8; 32], info: &[u8]) -> Option<Secret> {
        let encapsulated = <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(encapsulated).ok()?;
        let context = hpke::setup_receiver::<ExportOnlyAead, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            &self.0,
            &encapsulated,
            info,
        )
        .ok()?;
        let mut key = Zeroizing::new([0u8; 32]);
        context.export(EXPORT, key.as_mut()).ok()?;
        Some(key)
    }
}

/// Argon2id version 1.3 to 32 bytes. Takes the time and the memory its parameters say: call it
/// from a blocking thread.
pub(crate) fn argon2id(
    passphrase: &[u8],
    salt: &[u8],
    memory_kib: u32,
    passes: u32,
    lanes: u32,
) -> Option<Secret> {
    let params = argon2::Params::new(memory_kib, passes, lanes, Some(32)).ok()?;
    let mut out = Zeroizing::new([0u8; 32]);
    argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params)
        .hash_password_into(passphrase, salt, out.as_mut())
        .ok()?;
    Some(out)
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

/// Exactly `N` bytes from lower-case hexadecimal; `None` for anything else, upper case included.
pub(crate) fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0u8; N];
    if text.len() != N * 2 {
        return None;
    }
    let written = data_encoding::HEXLOWER.decode_mut(text.as_bytes(), &mut bytes).ok()?;
    (written == N).then_some(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn hkdf_matches_rfc_5869_test_case_1() {
        let okm = derive(
            &[0x0b; 22],
            &from_hex::<13>("000102030405060708090a0b0c").unwrap(),
            &[&from_hex::<10>("f0f1f2f3f4f5f6f7f8f9").unwrap()],
        );
        assert_eq!(
            hex(okm.as_slice()),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"
        );
    }

    #[test]
    fn hpke_key_pair_matches_rfc_9180_a_1_1() {
        let ikm =
            from_hex::<32>("6db9df30aa07dd42ee5e8181afdb977e538f5e1fec8a06223f33f7013e525037")
                .unwrap();
        let (_, public) = OpeningKey::derive(&Zeroizing::new(ikm));
        assert_eq!(
            hex(&public.to_bytes()),
            "3948cfe0ad1ddb695d780e59077195da6c56506b027329794ab02bca80815c4d"
        );
    }

    #[test]
    fn a_content_key_comes_back_only_with_the_same_info() {
        let (private, public) = OpeningKey::derive(&Zeroizing::new([5; 32]));
        let (encapsulated, key) = public.encapsulate(b"here").unwrap();
        assert_eq!(private.decapsulate(&encapsulated, b"here").unwrap(), key);
        assert_ne!(private.decapsulate(&encapsulated, b"there").unwrap(), key);
        let (other, _) = OpeningKey::derive(&Zeroizing::new([6; 32]));
        assert_ne!(other.decapsulate(&encapsulated, b"here").unwrap(), key);
    }

    #[test]
    fn sealed_bytes_open_only_with_their_counter_and_context() {
        let cipher = Cipher::new(&[3; 32]).unwrap();
        let mut sealed = b"text".to_vec();
        cipher.seal(7, b"aad", &mut sealed).unwrap();
        assert_eq!(sealed.len(), 4 + TAG_BYTES);
        assert!(cipher.open(8, b"aad", &mut sealed.clone()).is_none());
        assert!(cipher.open(7, b"add", &mut sealed.clone()).is_none());
        assert_eq!(cipher.open(7, b"aad", &mut sealed).unwrap(), b"text");
    }
}
