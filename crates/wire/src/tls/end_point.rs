//! The hash of the server's certificate that SCRAM is bound to (`tls-server-end-point`, RFC 5929
//! section 4.1): by the hash of the certificate's signature, with SHA-256 in the place of MD5 and SHA-1.

use ring::digest;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::spki::AlgorithmIdentifierOwned;

const MD5_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.4");
const SHA1_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.5");
const RSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");
const SHA256_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");
const SHA384_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12");
const SHA512_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13");
const SHA1_ECDSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.1");
const SHA256_ECDSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const SHA384_ECDSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
const SHA512_ECDSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.4");
const SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");
const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
const SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");

/// `None` when the certificate cannot be read or its signature has no hash of its own (Ed25519).
pub(super) fn hash(certificate: &[u8]) -> Option<Vec<u8>> {
    let parsed = Certificate::from_der(certificate).ok()?;
    let algorithm = algorithm(&parsed.signature_algorithm)?;
    Some(digest::digest(algorithm, certificate).as_ref().to_vec())
}

fn algorithm(signature: &AlgorithmIdentifierOwned) -> Option<&'static digest::Algorithm> {
    match signature.oid {
        MD5_RSA | SHA1_RSA | SHA1_ECDSA | SHA256_RSA | SHA256_ECDSA => Some(&digest::SHA256),
        SHA384_RSA | SHA384_ECDSA => Some(&digest::SHA384),
        SHA512_RSA | SHA512_ECDSA => Some(&digest::SHA512),
        RSA_PSS => pss_algorithm(signature),
        _ => None,
    }
}

/// RSASSA-PSS-params (RFC 4055): `[0]` names the hash; absent it is SHA-1.
fn pss_algorithm(signature: &AlgorithmIdentifierOwned) -> Option<&'static digest::Algorithm> {
    use x509_cert::der::asn1::ContextSpecific;
    use x509_cert::der::{Reader as _, SliceReader, TagNumber};
    let parameters = signature.parameters.as_ref()?;
    let mut reader = SliceReader::new(parameters.value()).ok()?;
    if reader.is_finished() {
        return Some(&digest::SHA256);
    }
    let hash =
        ContextSpecific::<AlgorithmIdentifierOwned>::decode_explicit(&mut reader, TagNumber::N0)
            .ok()?;
    match hash.map(|hash| hash.value.oid) {
        None | Some(SHA1 | SHA256) => Some(&digest::SHA256),
        Some(SHA384) => Some(&digest::SHA384),
        Some(SHA512) => Some(&digest::SHA512),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_has_no_hash() {
        assert_eq!(hash(b""), None);
        assert_eq!(hash(b"\x30\x03\x02\x01\x01"), None);
    }
}
