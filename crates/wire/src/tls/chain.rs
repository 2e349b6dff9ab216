//! A second opinion on certificates that rustls does not read.
//!
//! OpenSSL, and with it libpq, accepts two things that are everywhere in PostgreSQL installations and
//! that the strict verifier refuses: a self-signed certificate with `CA:TRUE` used by the server itself
//! (Debian's "snakeoil", `openssl req -x509`), and certificates of version 1 (what `openssl x509 -req`
//! without an extension file makes, as PostgreSQL's own manual shows). This module judges only those,
//! completely and narrowly (RFC 5280 section 6): signatures, dates, authority, path length, purpose; a
//! critical extension that it does not know, or any name constraint, is a refusal.

use std::time::Duration;

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_cert::Certificate;
use x509_cert::certificate::Version;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{Decode as _, Encode as _, Header, Reader as _, SliceReader};
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage};
use x509_cert::spki::AlgorithmIdentifierOwned;

const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
const EXTENDED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");
const ALTERNATIVE_NAMES: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
const NAME_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.30");
const ANY_PURPOSE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37.0");
const SERVER_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");

/// Longest path from the server's certificate to a root.
const MAX_DEPTH: usize = 6;

/// How many signatures are checked before giving up: the server chooses what it sends.
const MAX_SIGNATURES: usize = 50;

/// How many certificates of the server's are looked at.
const MAX_INTERMEDIATES: usize = 16;

/// Why a chain is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    #[error("the certificate cannot be read")]
    Unreadable,
    #[error("a certificate is not valid at this time")]
    NotValidNow,
    #[error("a certificate is not meant for this use")]
    WrongUse,
    #[error("no root certificate leads to the certificate")]
    NoPath,
}

/// Whether `leaf` is trusted at `now`: it is one of `roots`, or a path of signatures leads to one.
pub(super) fn verify(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    roots: &[CertificateDer<'static>],
    now: UnixTime,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<(), Failure> {
    let certificate = Certificate::from_der(leaf).map_err(|_| Failure::Unreadable)?;
    let parse = |der: &CertificateDer<'_>| Certificate::from_der(der).ok();
    let mut search = Search {
        roots: roots.iter().filter_map(parse).collect(),
        intermediates: intermediates.iter().take(MAX_INTERMEDIATES).filter_map(parse).collect(),
        now: Duration::from_secs(now.as_secs()),
        algorithms,
        signatures_left: MAX_SIGNATURES,
    };
    search.check_dates(&certificate)?;
    check_extensions(&certificate)?;
    if self_issued(&certificate)
        && roots.iter().any(|root| root.as_ref() == leaf.as_ref())
        && search.signed_by(&certificate, &certificate)
    {
        return Ok(());
    }
    search.climb(&certificate, 0)
}

struct Search<'a> {
    roots: Vec<Certificate>,
    intermediates: Vec<Certificate>,
    now: Duration,
    algorithms: &'a WebPkiSupportedAlgorithms,
    signatures_left: usize,
}

impl Search<'_> {
    /// Looks for an issuer of `below`, which has `depth` authorities below it; roots first.
    fn climb(&mut self, below: &Certificate, depth: usize) -> Result<(), Failure> {
        if depth >= MAX_DEPTH {
            return Err(Failure::NoPath);
        }
        let mut failure = Failure::NoPath;
        for n in 0..self.roots.len() + self.intermediates.len() {
            let trusted = n < self.roots.len();
            let Some(issuer) = self.roots.iter().chain(&self.intermediates).nth(n).cloned() else {
                break;
            };
            if issuer.tbs_certificate.subject != below.tbs_certificate.issuer {
                continue;
            }
            if let Err(error) = self.check_authority(&issuer, depth, trusted) {
                failure = error;
                continue;
            }
            if !self.signed_by(below, &issuer) {
                continue;
            }
            if trusted && self_issued(&issuer) {
                return Ok(());
            }
            match self.climb(&issuer, depth + 1) {
                Ok(()) => return Ok(()),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Whether a certificate may sign others.
    fn check_authority(
        &self,
        issuer: &Certificate,
        depth: usize,
        trusted: bool,
    ) -> Result<(), Failure> {
        self.check_dates(issuer)?;
        check_extensions(issuer)?;
        let tbs = &issuer.tbs_certificate;
        if tbs.version == Version::V1 {
            // Version 1 cannot say whether it is an authority: only a root that was named can be one.
            return if trusted && self_issued(issuer) { Ok(()) } else { Err(Failure::WrongUse) };
        }
        let Ok(Some((_, constraints))) = tbs.get::<BasicConstraints>() else {
            return Err(Failure::WrongUse);
        };
        let too_deep =
            constraints.path_len_constraint.is_some_and(|limit| depth > usize::from(limit));
        let signs = match tbs.get::<KeyUsage>() {
            Ok(Some((_, usage))) => usage.key_cert_sign(),
            Ok(None) => true,
            Err(_) => false,
        };
        if constraints.ca && signs && !too_deep { Ok(()) } else { Err(Failure::WrongUse) }
    }

    fn check_dates(&self, certificate: &Certificate) -> Result<(), Failure> {
        let validity = &certificate.tbs_certificate.validity;
        let valid = validity.not_before.to_unix_duration() <= self.now
            && self.now <= validity.not_after.to_unix_duration();
        if valid { Ok(()) } else { Err(Failure::NotValidNow) }
    }

    fn signed_by(&mut self, certificate: &Certificate, issuer: &Certificate) -> bool {
        if self.signatures_left == 0 {
            return false;
        }
        self.signatures_left -= 1;
        let key = &issuer.tbs_certificate.subject_public_key_info;
        let (Some(signature_id), Some(key_id), Some(bits), Some(signature), Ok(message)) = (
            contents(&certificate.signature_algorithm),
            contents(&key.algorithm),
            key.subject_public_key.as_bytes(),
            certificate.signature.as_bytes(),
            certificate.tbs_certificate.to_der(),
        ) else {
            return false;
        };
        // The algorithm stands twice in a certificate; only inside is it signed.
        certificate.signature_algorithm == certificate.tbs_certificate.signature
            && self.algorithms.all.iter().any(|algorithm| {
                algorithm.signature_alg_id().as_ref() == signature_id
                    && algorithm.public_key_alg_id().as_ref() == key_id
                    && algorithm.verify_signature(bits, &message, signature).is_ok()
            })
    }
}

fn self_issued(certificate: &Certificate) -> bool {
    certificate.tbs_certificate.subject == certificate.tbs_certificate.issuer
}

/// Refuses what is critical and not understood, constraints that are not enforced here, and, of the
/// server's certificate and its issuers alike, a purpose that excludes servers.
fn check_extensions(certificate: &Certificate) -> Result<(), Failure> {
    let extensions = certificate.tbs_certificate.extensions.as_deref().unwrap_or(&[]);
    for extension in extensions {
        let known = [BASIC_CONSTRAINTS, KEY_USAGE, EXTENDED_KEY_USAGE, ALTERNATIVE_NAMES]
            .contains(&extension.extn_id);
        if extension.extn_id == NAME_CONSTRAINTS || (extension.critical && !known) {
            return Err(Failure::WrongUse);
        }
    }
    match certificate.tbs_certificate.get::<ExtendedKeyUsage>() {
        Ok(None) => Ok(()),
        Ok(Some((_, ExtendedKeyUsage(purposes))))
            if purposes.iter().any(|purpose| [SERVER_AUTH, ANY_PURPOSE].contains(purpose)) =>
        {
            Ok(())
        }
        Ok(Some(_)) | Err(_) => Err(Failure::WrongUse),
    }
}

/// The contents of an AlgorithmIdentifier's SEQUENCE, the form in which algorithms are compared.
pub(super) fn contents(algorithm: &AlgorithmIdentifierOwned) -> Option<Vec<u8>> {
    let der = algorithm.to_der().ok()?;
    let mut reader = SliceReader::new(&der).ok()?;
    let header = Header::decode(&mut reader).ok()?;
    reader.read_vec(header.length).ok()
}
