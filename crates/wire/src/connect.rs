//! From a connection string to a ready session: hosts, addresses, encryption, authentication.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use holdfast_postgres::ServerVersion;
use postgres_protocol::message::frontend;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::authentication::{Authenticator, Step};
use crate::connection::{Connection, ServerFacts, SessionKind, note_parameter};
use crate::dsn::{Dsn, HostPort, SslMode, TargetSession};
use crate::error::{AuthenticationMethod, CertificateProblem, HbaRefusal, ServerError, WireError};
use crate::frame::{FRAME_CAP, Framed};
use crate::message::{self, Cursor, tag};
use crate::transport::{self, Encryption, Opened};

/// How a walsender session was let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplicationAccess {
    /// By a `replication` line of `pg_hba.conf`.
    Physical,
    /// As a connection of a database (`replication=database`): what is left where a provider's
    /// `pg_hba.conf` has no line for replication. Labelled, because a provider may forbid it.
    ViaDatabase,
}

impl Connection {
    /// Opens a session. Several hosts are tried in order until one answers and fits
    /// `target_session_attrs`; a refusal of user or password ends the search, as in libpq.
    ///
    /// # Errors
    /// Anything that can go wrong on the way; see [`WireError`].
    pub async fn connect(
        dsn: &Dsn,
        password: Option<&SecretString>,
        kind: SessionKind,
    ) -> Result<Connection, WireError> {
        let passes: &[TargetSession] = match dsn.target_session {
            TargetSession::PreferStandby => &[TargetSession::Standby, TargetSession::Any],
            TargetSession::Any => &[TargetSession::Any],
            TargetSession::ReadWrite => &[TargetSession::ReadWrite],
            TargetSession::ReadOnly => &[TargetSession::ReadOnly],
            TargetSession::Primary => &[TargetSession::Primary],
            TargetSession::Standby => &[TargetSession::Standby],
        };
        let mut failures = Vec::new();
        for wanted in passes {
            failures.clear();
            for host in &dsn.hosts {
                match connect_host(dsn, password, kind, host).await {
                    Ok(connection) if fits(&connection.facts, *wanted) => return Ok(connection),
                    Ok(connection) => {
                        connection.close().await;
                        failures.push(WireError::WrongSession {
                            host: host.to_string(),
                            wanted: dsn.target_session.name(),
                        });
                    }
                    Err(error) if try_next(&error) => failures.push(error),
                    Err(error) => return Err(error),
                }
            }
        }
        Err(combined(failures))
    }

    /// Opens a walsender session for backups: with `replication=true`, and when `pg_hba.conf` has no
    /// line for that, with `replication=database`.
    ///
    /// # Errors
    /// As [`Connection::connect`]; when both ways are refused, [`WireError::HbaRefused`] says so.
    pub async fn connect_for_backup(
        dsn: &Dsn,
        password: Option<&SecretString>,
    ) -> Result<(Connection, ReplicationAccess), WireError> {
        let first = match Self::connect(dsn, password, SessionKind::PhysicalReplication).await {
            Ok(connection) => return Ok((connection, ReplicationAccess::Physical)),
            Err(WireError::HbaRefused(first)) => first,
            Err(error) => return Err(error),
        };
        match Self::connect(dsn, password, SessionKind::DatabaseReplication).await {
            Ok(connection) => Ok((connection, ReplicationAccess::ViaDatabase)),
            Err(WireError::HbaRefused(second)) => {
                Err(WireError::HbaRefused(Box::new(HbaRefusal {
                    tried_database: true,
                    database: second.database,
                    ..*first
                })))
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether another host may do better.
fn try_next(error: &WireError) -> bool {
    match error {
        WireError::HostNotFound { .. }
        | WireError::Unreachable { .. }
        | WireError::Timeout { .. }
        | WireError::Closed { .. } => true,
        WireError::Server(server) => server.sqlstate == "57P03",
        _ => false,
    }
}

/// One error for several hosts: the last one, naming all when none of them answered.
fn combined(mut failures: Vec<WireError>) -> WireError {
    let all = failures
        .iter()
        .map(|failure| match failure {
            WireError::Unreachable { host, .. } => Some(host.as_str()),
            _ => None,
        })
        .collect::<Option<Vec<_>>>()
        .map(|hosts| hosts.join(", "));
    match (failures.pop(), all) {
        (Some(WireError::Unreachable { source, .. }), Some(host)) => {
            WireError::Unreachable { host, source }
        }
        (Some(last), _) => last,
        (None, _) => WireError::bad_dsn("it names no host"),
    }
}

/// Whether a server is of the kind that is wanted, by what it reports of itself (servers from 14).
fn fits(facts: &ServerFacts, wanted: TargetSession) -> bool {
    let on = |name: &str| facts.parameters.get(name).is_some_and(|value| value == "on");
    let standby = on("in_hot_standby");
    let read_only = standby || on("default_transaction_read_only");
    match wanted {
        TargetSession::Any | TargetSession::PreferStandby => true,
        TargetSession::ReadWrite => !read_only,
        TargetSession::ReadOnly => read_only,
        TargetSession::Primary => !standby,
        TargetSession::Standby => standby,
    }
}

async fn connect_host(
    dsn: &Dsn,
    password: Option<&SecretString>,
    kind: SessionKind,
    host: &HostPort,
) -> Result<Connection, WireError> {
    let limit = dsn.connect_timeout;
    let addresses = within(limit, host, transport::addresses(host)).await?;
    let mut last = None;
    for address in addresses {
        match within(limit, host, attempts(dsn, password, kind, host, address)).await {
            Err(error @ (WireError::Unreachable { .. } | WireError::Timeout { .. })) => {
                last = Some(error);
            }
            result => return result,
        }
    }
    Err(last.unwrap_or_else(|| WireError::Unreachable {
        host: host.to_string(),
        source: io::Error::from(io::ErrorKind::AddrNotAvailable),
    }))
}

async fn within<T>(
    limit: Duration,
    host: &HostPort,
    work: impl Future<Output = Result<T, WireError>>,
) -> Result<T, WireError> {
    if limit.is_zero() {
        return work.await;
    }
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        Err(WireError::Timeout { during: format!("connecting to {host}"), limit })
    })
}

/// One attempt, or two where the mode has a second choice.
async fn attempts(
    dsn: &Dsn,
    password: Option<&SecretString>,
    kind: SessionKind,
    host: &HostPort,
    address: Option<SocketAddr>,
) -> Result<Connection, WireError> {
    let (first, second) = match dsn.sslmode {
        _ if address.is_none() => (Encryption::Plain, None),
        SslMode::Disable => (Encryption::Plain, None),
        SslMode::Allow => (Encryption::Plain, Some(Encryption::Required)),
        SslMode::Prefer => (Encryption::IfOffered, Some(Encryption::Plain)),
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => (Encryption::Required, None),
    };
    let error = match session(dsn, password, kind, host, address, first).await {
        Ok(connection) => return Ok(connection),
        Err(error) => error,
    };
    let Some(second) = second.filter(|_| has_second_choice(&error, dsn.sslmode)) else {
        return Err(error);
    };
    match session(dsn, password, kind, host, address, second).await {
        // The first choice was the better one: its refusal is the one to put right.
        Err(WireError::HbaRefused(_) | WireError::TlsRefusedByServer { .. })
            if matches!(error, WireError::HbaRefused(_)) =>
        {
            Err(error)
        }
        result => result,
    }
}

/// Whether the failure is one that the other kind of connection may not have. A wrong password is
/// not: libpq would send it again without encryption, which helps nobody.
fn has_second_choice(error: &WireError, mode: SslMode) -> bool {
    match error {
        WireError::HbaRefused(refusal) => refusal.encrypted == (mode == SslMode::Prefer),
        WireError::Tls { problem, .. } => !matches!(problem, CertificateProblem::BadFile { .. }),
        _ => false,
    }
}

async fn session(
    dsn: &Dsn,
    password: Option<&SecretString>,
    kind: SessionKind,
    host: &HostPort,
    address: Option<SocketAddr>,
    encryption: Encryption,
) -> Result<Connection, WireError> {
    let opened = transport::open(dsn, host, address, encryption).await?;
    start_up(dsn, password, kind, opened).await
}

/// Sends the start-up message and answers until the server is ready.
async fn start_up(
    dsn: &Dsn,
    password: Option<&SecretString>,
    kind: SessionKind,
    opened: Opened,
) -> Result<Connection, WireError> {
    let during = "starting the session";
    let Opened { transport, tls, end_point_hash } = opened;
    let mut authenticator =
        Authenticator::new(dsn, password, transport.is_private(), tls.is_some(), end_point_hash);
    let mut framed = Framed::new(transport);
    let parameters = start_up_parameters(dsn, kind);
    frontend::startup_message(parameters, framed.output())
        .map_err(|_| WireError::bad_dsn("a value holds a zero byte"))?;
    framed.flush(during).await?;

    let mut authenticated = false;
    let mut parameters = BTreeMap::new();
    let mut backend_pid = 0;
    loop {
        let frame = framed.next(during).await?;
        match frame.tag {
            tag::AUTHENTICATION if !authenticated => {
                let step = authenticator.step(&frame.body, framed.output())?;
                framed.flush(during).await?;
                authenticated = step == Step::Authenticated;
            }
            tag::ERROR => {
                let error = ServerError::parse(&frame.body)?;
                let local_ip = framed.io().local_ip();
                return Err(if authenticated {
                    error.into()
                } else {
                    refusal(dsn, kind, authenticator.method(), tls.is_some(), local_ip, error)
                });
            }
            tag::PARAMETER_STATUS if authenticated => {
                let (name, value) = message::parameter(&frame.body)?;
                note_parameter(&mut parameters, name, value);
            }
            tag::BACKEND_KEY if authenticated => backend_pid = Cursor::new(&frame.body).i32()?,
            tag::READY if authenticated => break,
            tag::NOTICE => {
                let notice = ServerError::parse(&frame.body)?;
                tracing::debug!(severity = %notice.severity, message = %notice.message, "notice");
            }
            tag::NEGOTIATE_VERSION => {
                return Err(WireError::protocol("it does not speak version 3.0 of the protocol"));
            }
            other => {
                return Err(WireError::protocol(format!(
                    "{} came during start-up",
                    message::name_of(other)
                )));
            }
        }
    }
    framed.set_cap(FRAME_CAP);
    let version = parameters
        .get("server_version")
        .and_then(|text| version_number(text))
        .ok_or_else(|| WireError::protocol("it does not tell its version"))?;
    Ok(Connection::ready(framed, ServerFacts { version, parameters, tls, backend_pid }, kind))
}

fn start_up_parameters(dsn: &Dsn, kind: SessionKind) -> Vec<(&'static str, &str)> {
    let mut parameters = vec![("user", dsn.user.as_str())];
    match kind {
        SessionKind::Sql => parameters.push(("database", &dsn.database)),
        SessionKind::PhysicalReplication => parameters.push(("replication", "true")),
        SessionKind::DatabaseReplication => {
            parameters.push(("database", &dsn.database));
            parameters.push(("replication", "database"));
        }
    }
    parameters.push(("application_name", &dsn.application_name));
    parameters.push(("client_encoding", "UTF8"));
    if let Some(options) = &dsn.options {
        parameters.push(("options", options));
    }
    parameters
}

/// What an error before the end of authentication means.
fn refusal(
    dsn: &Dsn,
    kind: SessionKind,
    method: AuthenticationMethod,
    encrypted: bool,
    local_ip: Option<std::net::IpAddr>,
    server: ServerError,
) -> WireError {
    if server.is_hba_refusal() {
        let address = local_ip
            .map(|local| seen_address(&server.message).unwrap_or_else(|| local.to_string()));
        let database = (kind != SessionKind::PhysicalReplication).then(|| dsn.database.clone());
        return WireError::HbaRefused(Box::new(HbaRefusal {
            user: dsn.user.clone(),
            database,
            address,
            encrypted,
            sslmode: dsn.sslmode,
            tried_database: false,
            server,
        }));
    }
    if server.sqlstate == "28P01" {
        let user = dsn.user.clone();
        return WireError::AuthenticationFailed { user, method, server: Box::new(server) };
    }
    server.into()
}

/// The client's address as the server's message repeats it: the first quoted word that is one. This
/// machine's own idea of it is wrong behind address translation.
fn seen_address(message: &str) -> Option<String> {
    message
        .split(['"', '«', '»', '„', '“', '”', '‹', '›'])
        .map(str::trim)
        .find(|word| word.parse::<std::net::IpAddr>().is_ok())
        .map(str::to_owned)
}

/// `17.11 (Debian …)`, `18beta1`, `9.6.24` as `server_version_num`.
fn version_number(text: &str) -> Option<ServerVersion> {
    let word = text.split_whitespace().next()?;
    let mut numbers = word.split('.').map(|part| {
        let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        part.get(..digits).and_then(|digits| digits.parse::<u32>().ok())
    });
    let major = numbers.next()??;
    let minor = numbers.next().flatten().unwrap_or(0);
    if major > 10_000 || minor > 9_999 {
        return None;
    }
    Some(ServerVersion(if major >= 10 {
        major * 10_000 + minor
    } else {
        major * 10_000 + minor * 100 + numbers.next().flatten().unwrap_or(0)
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn versions_as_servers_write_them() {
        let number = |text: &str| version_number(text).map(|version| version.0);
        assert_eq!(number("17.11 (Debian 17.11-1.pgdg12+1)"), Some(170_011));
        assert_eq!(number("18beta1"), Some(180_000));
        assert_eq!(number("15.19"), Some(150_019));
        assert_eq!(number("9.6.24"), Some(90_624));
        assert_eq!(number(""), None);
        assert_eq!(number("PgBouncer"), None);
    }

    #[test]
    fn the_address_is_taken_from_the_message() {
        let message =
            "no pg_hba.conf entry for replication connection from host \"10.0.0.9\", user \"u\"";
        assert_eq!(seen_address(message).as_deref(), Some("10.0.0.9"));
        assert_eq!(seen_address("kein Eintrag für Host »fd00::1«").as_deref(), Some("fd00::1"));
        assert_eq!(seen_address("nothing here"), None);
    }

    #[test]
    fn all_unreachable_hosts_are_named() {
        let unreachable = |host: &str| WireError::Unreachable {
            host: host.to_owned(),
            source: io::Error::from(io::ErrorKind::ConnectionRefused),
        };
        let error = combined(vec![unreachable("a:1"), unreachable("b:2")]);
        assert_eq!(error.to_string(), "could not connect to a:1, b:2");
        assert_eq!(combined(vec![]).code(), "bad_dsn");
    }
}
