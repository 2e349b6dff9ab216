//! TLS as libpq means it (`fe-secure-openssl.c`), on rustls with ring.

mod chain;
mod end_point;
mod names;
mod verifier;

use std::fs::File;
use std::io::Read as _;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use data_encoding::HEXLOWER;
use ring::digest;
use rustls::client::ResolvesClientCert;
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::dsn::{Dsn, HostPort, RootCertificates, SslMode, TlsVersion};
use crate::error::{CertificateProblem, WireError};
use verifier::{Refusal, ServerVerifier, TrustedRoots};

/// Largest certificate or key file that is read, in bytes.
const MAX_PEM_BYTES: u64 = 8 * 1024 * 1024;

/// What is known about an encrypted connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsFacts {
    /// `TLSv1.2` or `TLSv1.3`.
    pub protocol: String,
    /// SHA-256 of the server's certificate (DER), 64 lower-case hexadecimal digits.
    pub peer_certificate_sha256: String,
}

/// Makes an established TCP connection into an encrypted one.
pub(crate) async fn handshake(
    dsn: &Dsn,
    host: &HostPort,
    peer: IpAddr,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, WireError> {
    let failure = {
        let (host, mode) = (host.to_string(), dsn.sslmode);
        move |problem, source| WireError::Tls { host: host.clone(), mode, problem, source }
    };
    let config = {
        // Files are read and, for the system's roots, hundreds of certificates parsed.
        let (dsn, name) = (dsn.clone(), host.host.clone());
        tokio::task::spawn_blocking(move || client_config(&dsn, &name))
            .await
            .map_err(|error| failure(CertificateProblem::Handshake, Some(error.into())))?
            .map_err(|problem| match problem {
                ConfigFailure::Unreadable { what, path, source } => {
                    WireError::FileUnreadable { what, path, source }
                }
                ConfigFailure::Problem(problem) => failure(problem, None),
            })?
    };
    // What is no DNS name cannot be told by SNI; the address serves as the session's name then.
    let name = ServerName::try_from(host.host.clone()).unwrap_or_else(|_| ServerName::from(peer));
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|error| {
        let problem = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>())
            .map_or(CertificateProblem::Handshake, problem_of);
        failure(problem, Some(error.into()))
    })
}

/// Facts of an encrypted connection, and the hash that SCRAM binds to.
pub(crate) fn facts(
    stream: &TlsStream<TcpStream>,
) -> Result<(TlsFacts, Option<Vec<u8>>), &'static str> {
    let (_, session) = stream.get_ref();
    let certificate = session
        .peer_certificates()
        .and_then(<[_]>::first)
        .ok_or("the server presented no certificate")?;
    let protocol = match session.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
        _ => return Err("the version of TLS is not known"),
    };
    let hash = digest::digest(&digest::SHA256, certificate);
    Ok((
        TlsFacts {
            protocol: protocol.to_owned(),
            peer_certificate_sha256: HEXLOWER.encode(hash.as_ref()),
        },
        end_point::hash(certificate),
    ))
}

enum ConfigFailure {
    Unreadable { what: &'static str, path: std::path::PathBuf, source: std::io::Error },
    Problem(CertificateProblem),
}

/// The configuration for one host. The provider is passed explicitly: a second one anywhere in the
/// program would make rustls' own choice panic.
fn client_config(dsn: &Dsn, host: &str) -> Result<ClientConfig, ConfigFailure> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let roots = match &dsn.sslrootcert {
        Some(RootCertificates::System) => Some(system_roots()?),
        Some(RootCertificates::File(path)) => Some(file_roots(path)?),
        None if dsn.sslmode.needs_roots() => {
            return Err(ConfigFailure::Problem(CertificateProblem::NoRoots));
        }
        None => None,
    };
    let name = (dsn.sslmode == SslMode::VerifyFull).then(|| host.to_owned());
    let verifier = Arc::new(ServerVerifier::new(roots, name, algorithms));
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&protocol_versions(dsn.tls_versions))
        .map_err(|_| ConfigFailure::Problem(CertificateProblem::Handshake))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match &dsn.sslcert {
        Some(certificate) => builder.with_client_cert_resolver(client_certificate(
            certificate,
            dsn.sslkey.as_deref(),
            &provider,
        )?),
        None => builder.with_no_client_auth(),
    };
    config.enable_sni = dsn.sslsni;
    if dsn.direct_tls {
        config.alpn_protocols = vec![b"postgresql".to_vec()];
    }
    Ok(config)
}

fn protocol_versions(
    (minimum, maximum): (TlsVersion, TlsVersion),
) -> Vec<&'static SupportedProtocolVersion> {
    [(TlsVersion::V13, &rustls::version::TLS13), (TlsVersion::V12, &rustls::version::TLS12)]
        .into_iter()
        .filter(|(version, _)| (minimum..=maximum).contains(version))
        .map(|(_, supported)| supported)
        .collect()
}

fn system_roots() -> Result<TrustedRoots, ConfigFailure> {
    let found = rustls_native_certs::load_native_certs();
    let roots = TrustedRoots::new(found.certs);
    if roots.is_empty() {
        return Err(ConfigFailure::Problem(CertificateProblem::NoRoots));
    }
    Ok(roots)
}

fn file_roots(path: &Path) -> Result<TrustedRoots, ConfigFailure> {
    let roots = TrustedRoots::new(certificates("root certificate file", path)?);
    if roots.is_empty() {
        return Err(bad_file(path, "it holds no certificate that can be used"));
    }
    Ok(roots)
}

fn client_certificate(
    certificate: &Path,
    key: Option<&Path>,
    provider: &CryptoProvider,
) -> Result<Arc<dyn ResolvesClientCert>, ConfigFailure> {
    let chain = certificates("client certificate", certificate)?;
    let key_path =
        key.ok_or_else(|| bad_file(certificate, "sslkey does not name its private key"))?;
    check_key_mode(key_path)?;
    let bytes = read("client key", key_path)?;
    let key = PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| {
        let text = String::from_utf8_lossy(&bytes);
        bad_file(
            key_path,
            if text.contains("ENCRYPTED") {
                "the private key is encrypted"
            } else {
                "it holds no private key"
            },
        )
    })?;
    let certified = rustls::sign::CertifiedKey::from_der(chain, key, provider)
        .map_err(|_| bad_file(key_path, "the private key does not fit the certificate"))?;
    Ok(Arc::new(rustls::sign::SingleCertAndKey::from(certified)))
}

fn certificates(
    what: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, ConfigFailure> {
    let bytes = read(what, path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        _ => Err(bad_file(path, "it holds no PEM certificate")),
    }
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, ConfigFailure> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_PEM_BYTES).read_to_end(&mut bytes))
        .map_err(|source| ConfigFailure::Unreadable { what, path: path.to_owned(), source })?;
    Ok(bytes)
}

fn bad_file(path: &Path, problem: &str) -> ConfigFailure {
    ConfigFailure::Problem(CertificateProblem::BadFile {
        path: path.to_owned(),
        problem: problem.to_owned(),
    })
}

/// A key is readable by its owner alone; one that root owns, by its group too (as libpq has it).
#[cfg(unix)]
fn check_key_mode(path: &Path) -> Result<(), ConfigFailure> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = std::fs::metadata(path).map_err(|source| ConfigFailure::Unreadable {
        what: "client key",
        path: path.to_owned(),
        source,
    })?;
    let forbidden = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    if metadata.mode() & forbidden != 0 {
        return Err(bad_file(path, "others can read the private key"));
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_key_mode(_: &Path) -> Result<(), ConfigFailure> {
    Ok(())
}

/// What a failed handshake means.
fn problem_of(error: &rustls::Error) -> CertificateProblem {
    use rustls::CertificateError as Certificate;
    let rustls::Error::InvalidCertificate(error) = error else {
        return CertificateProblem::Handshake;
    };
    match error {
        Certificate::Expired
        | Certificate::ExpiredContext { .. }
        | Certificate::NotValidYet
        | Certificate::NotValidYetContext { .. } => CertificateProblem::NotValidNow,
        Certificate::Other(other) => match other.0.downcast_ref::<Refusal>() {
            Some(Refusal::Name { wanted, presented }) => CertificateProblem::NameMismatch {
                wanted: wanted.clone(),
                presented: presented.clone(),
            },
            Some(Refusal::Chain(chain::Failure::NotValidNow)) => CertificateProblem::NotValidNow,
            _ => CertificateProblem::UnknownIssuer,
        },
        _ => CertificateProblem::UnknownIssuer,
    }
}
