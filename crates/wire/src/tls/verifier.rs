//! Which server certificates are accepted.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use std::sync::Arc;
use x509_cert::Certificate;
use x509_cert::der::{Decode as _, Encode as _};

use crate::tls::chain;
use crate::tls::names::Names;

/// Root certificates, in the form each of the two judges needs.
#[derive(Debug)]
pub(super) struct TrustedRoots {
    store: RootCertStore,
    certificates: Vec<CertificateDer<'static>>,
}

impl TrustedRoots {
    /// Takes all certificates that can be used, and leaves out the others: systems carry some.
    pub(super) fn new(certificates: Vec<CertificateDer<'static>>) -> Self {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(certificates.iter().cloned());
        let certificates = certificates
            .into_iter()
            .filter(|certificate| Certificate::from_der(certificate).is_ok())
            .collect();
        Self { store, certificates }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.store.is_empty() && self.certificates.is_empty()
    }
}

/// Why a certificate was refused, where rustls has no word for it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("the certificate is not for the host \"{wanted}\"")]
    Name { wanted: String, presented: Vec<String> },
    #[error(transparent)]
    Chain(chain::Failure),
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refusal))))
    }
}

/// Checks as much as the mode asks for. Whatever it is, the server must prove that it holds the
/// certificate's key: channel binding would mean nothing otherwise.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    /// `None`: any certificate will do.
    roots: Option<TrustedRoots>,
    /// The host to compare names with; `None`: any name will do.
    host: Option<String>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerVerifier {
    pub(super) fn new(
        roots: Option<TrustedRoots>,
        host: Option<String>,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Self {
        Self { roots, host, algorithms }
    }

    fn verify_chain(
        &self,
        roots: &TrustedRoots,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let strict = ParsedCertificate::try_from(leaf).and_then(|parsed| {
            verify_server_cert_signed_by_trust_anchor(
                &parsed,
                &roots.store,
                intermediates,
                now,
                self.algorithms.all,
            )
        });
        match strict {
            // What the strict verifier has no own word for: an authority's certificate used by a
            // server, or a version it does not read, here or among the issuers.
            Err(Error::InvalidCertificate(
                CertificateError::Other(_)
                | CertificateError::BadEncoding
                | CertificateError::UnknownIssuer,
            )) => chain::verify(leaf, intermediates, &roots.certificates, now, &self.algorithms)
                .map_err(|failure| Refusal::Chain(failure).into()),
            other => other,
        }
    }

    fn public_key(leaf: &CertificateDer<'_>) -> Result<SubjectPublicKeyInfoDer<'static>, Error> {
        if let Ok(parsed) = ParsedCertificate::try_from(leaf) {
            return Ok(parsed.subject_public_key_info());
        }
        Certificate::from_der(leaf)
            .and_then(|parsed| parsed.tbs_certificate.subject_public_key_info.to_der())
            .map(SubjectPublicKeyInfoDer::from)
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(roots) = &self.roots {
            self.verify_chain(roots, end_entity, intermediates, now)?;
        }
        if let Some(host) = &self.host {
            let certificate = Certificate::from_der(end_entity)
                .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
            let names = Names::of(&certificate);
            if !names.fit(host) {
                let (wanted, presented) = (host.clone(), names.presented());
                return Err(Refusal::Name { wanted, presented }.into());
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        use x509_cert::spki::SubjectPublicKeyInfoOwned;
        let bad = || Error::InvalidCertificate(CertificateError::BadSignature);
        let der = Self::public_key(certificate)?;
        let key = SubjectPublicKeyInfoOwned::from_der(&der).map_err(|_| bad())?;
        let key_id = chain::contents(&key.algorithm).ok_or_else(bad)?;
        let bits = key.subject_public_key.as_bytes().ok_or_else(bad)?;
        // In TLS 1.2 a scheme leaves the curve open: the certificate's key decides among several.
        let fits = self
            .algorithms
            .mapping
            .iter()
            .filter(|(scheme, _)| *scheme == signed.scheme)
            .flat_map(|(_, algorithms)| algorithms.iter())
            .filter(|algorithm| algorithm.public_key_alg_id().as_ref() == key_id)
            .any(|algorithm| algorithm.verify_signature(bits, message, signed.signature()).is_ok());
        if fits { Ok(HandshakeSignatureValid::assertion()) } else { Err(bad()) }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = Self::public_key(certificate)?;
        verify_tls13_signature_with_raw_key(message, &key, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
