//! The values that single keywords of a connection string take.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{AuthenticationMethod, WireError};

/// One place to try.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HostPort {
    /// A host name, an address, or the absolute path of a directory with a Unix socket. It is what
    /// `verify-full` and the password file compare.
    pub host: String,
    /// The address to connect to instead of resolving `host`.
    pub hostaddr: Option<IpAddr>,
    /// The TCP port, or the number in the socket's name.
    pub port: u16,
}

impl HostPort {
    /// Whether this is a Unix socket.
    pub fn is_unix(&self) -> bool {
        self.hostaddr.is_none() && self.host.starts_with('/')
    }

    /// The path of the socket (`pqcomm.h`: `UNIXSOCK_PATH`); `None` for TCP.
    pub fn socket_path(&self) -> Option<PathBuf> {
        self.is_unix().then(|| PathBuf::from(&self.host).join(format!(".s.PGSQL.{}", self.port)))
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.socket_path() {
            Some(path) => write!(f, "{}", path.display()),
            None if self.host.contains(':') => write!(f, "[{}]:{}", self.host, self.port),
            None => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// How much encryption is asked for, as libpq means it. On a Unix socket none of them matters.
/// Ordered from the weakest to the strongest.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum SslMode {
    /// Never encrypted.
    Disable,
    /// Plain first; encrypted when `pg_hba.conf` refuses that.
    Allow,
    /// Encrypted first; plain when the server has no TLS, the handshake fails or it is refused.
    #[default]
    Prefer,
    /// Encrypted; the certificate is checked only when there is a root file.
    Require,
    /// Encrypted, and a root certificate has signed the server's.
    VerifyCa,
    /// As `VerifyCa`, and the certificate is for the host name.
    VerifyFull,
}

impl SslMode {
    /// The value as it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }

    pub(super) fn parse(text: &str) -> Result<Self, WireError> {
        [Self::Disable, Self::Allow, Self::Prefer, Self::Require, Self::VerifyCa, Self::VerifyFull]
            .into_iter()
            .find(|mode| mode.name() == text)
            .ok_or_else(|| {
                WireError::bad_dsn(format!(
                    "sslmode is \"{text}\", and must be disable, allow, prefer, require, verify-ca or verify-full"
                ))
            })
    }

    /// Whether plain text is out of the question.
    pub(crate) fn needs_tls(self) -> bool {
        self >= Self::Require
    }

    /// Whether the certificate must be checked even when no root file was named.
    pub(crate) fn needs_roots(self) -> bool {
        self >= Self::VerifyCa
    }
}

impl fmt::Display for SslMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which authorities are trusted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RootCertificates {
    /// The certificates of a PEM file.
    File(PathBuf),
    /// The operating system's (`sslrootcert=system`); implies `verify-full`.
    System,
}

/// Whether SCRAM is bound to the server's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChannelBindingMode {
    /// Never.
    Disable,
    /// When both sides can.
    #[default]
    Prefer,
    /// Or not at all.
    Require,
}

impl ChannelBindingMode {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
        }
    }

    pub(super) fn parse(text: &str) -> Result<Self, WireError> {
        [Self::Disable, Self::Prefer, Self::Require]
            .into_iter()
            .find(|mode| mode.name() == text)
            .ok_or_else(|| WireError::bad_dsn("channel_binding must be disable, prefer or require"))
    }
}

/// Which kind of server will do (`target_session_attrs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TargetSession {
    /// Any.
    #[default]
    Any,
    /// One that takes writes.
    ReadWrite,
    /// One that does not.
    ReadOnly,
    /// A primary.
    Primary,
    /// A standby.
    Standby,
    /// A standby, or any when there is none.
    PreferStandby,
}

impl TargetSession {
    /// The value as it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::ReadWrite => "read-write",
            Self::ReadOnly => "read-only",
            Self::Primary => "primary",
            Self::Standby => "standby",
            Self::PreferStandby => "prefer-standby",
        }
    }

    pub(super) fn parse(text: &str) -> Result<Self, WireError> {
        [Self::Any, Self::ReadWrite, Self::ReadOnly, Self::Primary, Self::Standby, Self::PreferStandby]
            .into_iter()
            .find(|wanted| wanted.name() == text)
            .ok_or_else(|| {
                WireError::bad_dsn(
                    "target_session_attrs must be any, read-write, read-only, primary, standby or prefer-standby",
                )
            })
    }
}

/// The methods that `require_auth` lets pass.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RequiredAuthentication {
    /// Whether the list names what is forbidden.
    negated: bool,
    methods: Vec<String>,
}

impl RequiredAuthentication {
    const NAMES: [&'static str; 6] = ["password", "md5", "gss", "sspi", "scram-sha-256", "none"];

    pub(super) fn parse(text: &str) -> Result<Option<Self>, WireError> {
        if text.is_empty() {
            return Ok(None);
        }
        let negated = text.starts_with('!');
        let mut methods = Vec::new();
        for item in text.split(',') {
            let item = item.trim();
            if item.starts_with('!') != negated {
                return Err(WireError::bad_dsn(
                    "require_auth mixes methods with and without \"!\"",
                ));
            }
            let name = item.trim_start_matches('!');
            if !Self::NAMES.contains(&name) || methods.iter().any(|known| known == name) {
                return Err(WireError::bad_dsn(
                    "require_auth is a list of password, md5, gss, sspi, scram-sha-256, none, each once",
                ));
            }
            methods.push(name.to_owned());
        }
        Ok(Some(Self { negated, methods }))
    }

    /// Whether a method may be used.
    pub(crate) fn allows(&self, method: AuthenticationMethod) -> bool {
        let name = match method {
            AuthenticationMethod::ScramSha256Plus => "scram-sha-256",
            other => other.name(),
        };
        self.methods.iter().any(|known| known == name) != self.negated
    }
}

impl fmt::Display for RequiredAuthentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, method) in self.methods.iter().enumerate() {
            if n > 0 {
                f.write_str(",")?;
            }
            write!(f, "{}{method}", if self.negated { "!" } else { "" })?;
        }
        Ok(())
    }
}

/// The oldest and newest version of TLS that is spoken. Older ones than 1.2 do not exist here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsVersion {
    /// TLS 1.2.
    V12,
    /// TLS 1.3.
    V13,
}

impl TlsVersion {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::V12 => "TLSv1.2",
            Self::V13 => "TLSv1.3",
        }
    }

    /// Reads a lower bound: what is older than 1.2 is met by 1.2.
    pub(super) fn parse_minimum(text: &str) -> Result<Self, WireError> {
        match text.to_ascii_lowercase().as_str() {
            "" | "tlsv1" | "tlsv1.1" | "tlsv1.2" => Ok(Self::V12),
            "tlsv1.3" => Ok(Self::V13),
            _ => Err(WireError::bad_dsn("ssl_min_protocol_version must be TLSv1.2 or TLSv1.3")),
        }
    }

    /// Reads an upper bound.
    pub(super) fn parse_maximum(text: &str) -> Result<Self, WireError> {
        match text.to_ascii_lowercase().as_str() {
            "tlsv1.2" => Ok(Self::V12),
            "" | "tlsv1.3" => Ok(Self::V13),
            _ => Err(WireError::bad_dsn("ssl_max_protocol_version must be TLSv1.2 or TLSv1.3")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn modes_are_ordered_by_strength() {
        assert!(SslMode::Prefer < SslMode::Require);
        assert!(!SslMode::Prefer.needs_tls() && SslMode::VerifyCa.needs_tls());
        assert!(!SslMode::Require.needs_roots() && SslMode::VerifyFull.needs_roots());
        assert!(SslMode::parse("verify_full").is_err());
    }

    #[test]
    fn required_authentication_can_be_negated() {
        let only = RequiredAuthentication::parse("scram-sha-256").unwrap().unwrap();
        assert!(only.allows(AuthenticationMethod::ScramSha256Plus));
        assert!(!only.allows(AuthenticationMethod::None));
        let not = RequiredAuthentication::parse("!password,!md5").unwrap().unwrap();
        assert!(!not.allows(AuthenticationMethod::Md5));
        assert!(not.allows(AuthenticationMethod::None));
        assert_eq!(not.to_string(), "!password,!md5");
        assert!(RequiredAuthentication::parse("md5,!password").is_err());
        assert!(RequiredAuthentication::parse("").unwrap().is_none());
    }

    #[test]
    fn sockets_have_a_path() {
        let socket = HostPort { host: "/tmp".into(), hostaddr: None, port: 5433 };
        assert_eq!(socket.to_string(), "/tmp/.s.PGSQL.5433");
        let v6 = HostPort { host: "::1".into(), hostaddr: None, port: 1 };
        assert_eq!(v6.to_string(), "[::1]:1");
    }
}
