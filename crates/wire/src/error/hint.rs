//! What a failure means and what to do about it.

use std::fmt::Write as _;
use std::io::ErrorKind;

use crate::dsn::SslMode;
use crate::error::{CertificateProblem, HbaRefusal, ServerError, WireError};

pub(super) fn of(error: &WireError) -> String {
    match error {
        WireError::BadDsn { .. } => {
            "Write it as libpq does: \"host=db.example.org port=5432 user=backup dbname=postgres sslmode=verify-full\" \
             or \"postgresql://backup@db.example.org:5432/postgres?sslmode=verify-full\"."
                .to_owned()
        }
        WireError::PasswordInDsn { .. } => {
            "Secrets do not belong on a command line, where every process can read them. Take it out of the connection \
             string and put it into ~/.pgpass (mode 0600), into PGPASSWORD, or into the keychain."
                .to_owned()
        }
        WireError::PasswordMissing { user, method, passfile } => {
            let file = passfile
                .as_ref()
                .map_or_else(|| "~/.pgpass".to_owned(), |path| path.display().to_string());
            format!(
                "The server wants {} from \"{user}\". A password is looked for in the keychain, in PGPASSWORD, in the \
                 service file, and in {file} (a line host:port:database:user:password; the database \"replication\" \
                 fits too). None of them had one for this host, port and user.",
                method.name()
            )
        }
        WireError::PassfileUnsafe { path, .. } => format!(
            "A password file that others can read is not used. Run: chmod 600 '{}'",
            path.display()
        ),
        WireError::FileUnreadable { path, .. } => format!(
            "The connection string, the environment or the service file names {}. Check that it exists and that you may \
             read it, or take the setting away.",
            path.display()
        ),
        WireError::HostNotFound { host, .. } => format!(
            "The name \"{host}\" could not be resolved. Check its spelling, and whether this machine is in the network \
             (VPN) that knows it."
        ),
        WireError::Unreachable { host, source } => unreachable_hint(host, source.kind()),
        WireError::Timeout { during, .. } => format!(
            "The other side stayed silent while {during}. A firewall that drops packets, an overloaded server or a cut \
             network looks like this. Try again; give more time with connect_timeout when it was the connection."
        ),
        WireError::TlsRefusedByServer { mode, .. } => format!(
            "sslmode={mode} asks for encryption, and the server answered that it has none (ssl = off, or this is not the \
             address of PostgreSQL itself but of a pooler without TLS). Turn ssl on at the server. Choose sslmode=prefer or \
             sslmode=disable only in a network that you trust."
        ),
        WireError::Tls { mode, problem, .. } => tls_hint(*mode, problem),
        WireError::AuthenticationFailed { user, .. } => format!(
            "The password is wrong, the role \"{user}\" has none or it has expired (VALID UNTIL), or the role does not \
             exist: the server does not tell which. Try the same password with psql."
        ),
        WireError::ServerNotVerified { .. } => {
            "With SCRAM the server has to prove that it knows the password's verifier, and this one did not. Somebody may \
             stand between you and the server, or a pooler answers in its place. Nothing was sent that reveals the password. \
             Connect to the server itself, with sslmode=verify-full."
                .to_owned()
        }
        WireError::UnsupportedAuth { .. } => {
            "The line of pg_hba.conf that fits this connection asks for this method. Add a line above it with the method \
             scram-sha-256 for this user and address, or relax require_auth and channel_binding if you set them."
                .to_owned()
        }
        WireError::HbaRefused(refusal) => hba_hint(refusal),
        WireError::WrongSession { wanted, .. } => format!(
            "The server is up, but not in the state that target_session_attrs={wanted} asks for (a standby where the primary \
             was wanted, or the reverse). Name more hosts, or ask for target_session_attrs=any."
        ),
        WireError::Server(server) => server_hint(server),
        WireError::WalRemoved { start, .. } => format!(
            "WAL from {start} on cannot be had from this server any more: there is a permanent gap in the archive unless \
             another standby or an archive still has it. Take a new base backup now. A replication slot keeps the server from \
             removing what was not yet received; raise max_slot_wal_keep_size if the slot was invalidated."
        ),
        WireError::ChecksumFailure { warnings, .. } => format!(
            "All data arrived, but the server found damaged pages while reading ({} warning(s) name files and blocks). The \
             disk or memory of the server is suspect. Keep the backup quarantined, keep older good backups, and find what the \
             pages belong to with pg_amcheck before the next failure.",
            warnings.len()
        ),
        WireError::Protocol { .. } => {
            "What answers there is not a PostgreSQL server of a supported version, or something between changes the bytes (a \
             proxy, a pooler). Connect to the server itself."
                .to_owned()
        }
        WireError::Misuse { .. } => "This is a fault of Holdfast. Please report it.".to_owned(),
        WireError::ResultTooLarge { .. } => "Ask for less at a time.".to_owned(),
        WireError::UnsupportedVersion { .. } => {
            "PostgreSQL 14 to 18 are supported; incremental backups begin with 17.".to_owned()
        }
        WireError::ManifestSource { .. } => {
            "The manifest of the earlier backup could not be read from the repository. Take a full backup instead.".to_owned()
        }
        WireError::Closed { .. } => {
            "The server ended the session, was restarted, or the network was cut. The server's log has its side of the story. \
             Trying again is safe."
                .to_owned()
        }
    }
}

fn unreachable_hint(host: &str, kind: ErrorKind) -> String {
    match kind {
        ErrorKind::ConnectionRefused => format!(
            "The machine answers, but nothing listens at {host}. Is PostgreSQL running there, on this port, and does \
             listen_addresses include the address?"
        ),
        ErrorKind::NotFound => format!(
            "There is no socket at {host}. Is PostgreSQL running on this machine, and are directory and port the ones of its \
             unix_socket_directories and port?"
        ),
        ErrorKind::PermissionDenied => {
            format!(
                "The operating system does not let you use {host}. Check the permissions of the socket."
            )
        }
        ErrorKind::TimedOut => format!(
            "No answer from {host}. A firewall that drops packets, a wrong address or a machine that is off looks like this."
        ),
        _ => format!("Check the address {host}, the network and the firewall between."),
    }
}

fn tls_hint(mode: SslMode, problem: &CertificateProblem) -> String {
    match problem {
        CertificateProblem::NoRoots => format!(
            "sslmode={mode} compares the server's certificate with root certificates, and there are none: no sslrootcert is \
             set and ~/.postgresql/root.crt does not exist. Name the file of your authority with sslrootcert=FILE, or use the \
             operating system's with sslrootcert=system."
        ),
        CertificateProblem::UnknownIssuer => format!(
            "sslmode={mode} was asked for, and the server presented a certificate that no certificate in sslrootcert has \
             signed. Either this is not your server, or sslrootcert is the wrong file: it must hold the authority (or the \
             self-signed certificate itself). sslmode=require without a root file encrypts without knowing with whom."
        ),
        CertificateProblem::NameMismatch { wanted, presented } => {
            let names = if presented.is_empty() { "no name at all".to_owned() } else { presented.join(", ") };
            format!(
                "sslmode=verify-full compares names: you connected to \"{wanted}\", and the certificate is for {names}. Connect \
                 by a name of the certificate (hostaddr= can give the address), or choose sslmode=verify-ca, which checks the \
                 authority only."
            )
        }
        CertificateProblem::NotValidNow => {
            "The server's certificate has expired or is not valid yet. Renew it at the server, and check this machine's clock."
                .to_owned()
        }
        CertificateProblem::Handshake => {
            "Both sides could not agree on how to encrypt. The server may offer nothing newer than TLS 1.1, may insist on a \
             client certificate (sslcert, sslkey), or what answers is not PostgreSQL."
                .to_owned()
        }
        CertificateProblem::BadFile { path, .. } => format!(
            "Replace {} with a PEM file of the right kind. A private key must not be encrypted, must belong to the certificate \
             and must be readable by you alone (chmod 600).",
            path.display()
        ),
    }
}

fn hba_hint(refusal: &HbaRefusal) -> String {
    let line = refusal.line();
    let mut text = String::new();
    if refusal.database.is_none() || refusal.tried_database {
        text.push_str(
            "The server has no line for replication connections of this role from this address. ",
        );
        if refusal.tried_database {
            text.push_str(
                "replication=database, which passes as an ordinary connection, was tried as well and refused too. ",
            );
        }
    } else {
        text.push_str("The server has no line for this role, database and address. ");
    }
    if !refusal.encrypted && refusal.address.is_some() {
        let _ = write!(
            text,
            "The connection was not encrypted (sslmode={}); if the file has hostssl lines only, sslmode=require would fit. ",
            refusal.sslmode
        );
    }
    let _ = write!(
        text,
        "Add this line to pg_hba.conf on the server, above lines that would reject it, and run SELECT pg_reload_conf():\n    {line}"
    );
    text
}

impl HbaRefusal {
    /// The line of `pg_hba.conf` that would let this connection in, fields by single spaces.
    pub fn line(&self) -> String {
        let database = self
            .database
            .as_deref()
            .filter(|_| !self.tried_database)
            .map_or_else(|| "replication".to_owned(), quoted_token);
        let user = quoted_token(&self.user);
        match &self.address {
            None => format!("local {database} {user} scram-sha-256"),
            Some(address) => {
                let kind = if self.encrypted { "hostssl" } else { "host" };
                let mask = if address.contains(':') { "128" } else { "32" };
                format!("{kind} {database} {user} {address}/{mask} scram-sha-256")
            }
        }
    }
}

/// A name as a token of `pg_hba.conf`: quoted when it could be read as a keyword or as several.
fn quoted_token(name: &str) -> String {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
        && !matches!(name, "" | "all" | "sameuser" | "samerole" | "samegroup" | "replication");
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

fn server_hint(server: &ServerError) -> String {
    let own = match server.code() {
        "wal_level_too_low" => {
            "wal_level is minimal. Set wal_level = replica (or logical) at the server and restart it: without it there is no \
             base backup and no WAL to stream."
        }
        "replication_not_permitted" => {
            "The role may log in but not replicate. As a superuser: ALTER ROLE <role> REPLICATION;"
        }
        "permission_denied" => {
            "The role lacks a privilege. The server's message names what was denied."
        }
        "wal_senders_off" => {
            "max_wal_senders is 0, so the server takes no replication connection at all. Set max_wal_senders = 10 and \
             max_replication_slots = 10 at the server and restart it."
        }
        "too_many_connections" => {
            "All of the server's places are taken: max_wal_senders for replication, max_connections otherwise. End a \
             replication connection that nobody needs (pg_stat_replication), or raise the limit and restart the server."
        }
        "too_many_slots" => {
            "max_replication_slots are in use. Drop one that nobody needs (pg_replication_slots), or raise the limit."
        }
        "slot_active" => {
            "The replication slot is in use by another session (pg_replication_slots.active_pid). Is a second archiver of this \
             cluster running? After a cut network the server frees it when wal_sender_timeout has passed."
        }
        "slot_exists" => "A replication slot with this name exists already.",
        "slot_missing" => {
            "There is no such replication slot or object. It may have been dropped, or this is another server."
        }
        "database_missing" => "There is no such database. Name an existing one with dbname=.",
        "authentication_failed" => {
            "The server did not accept the login: the role does not exist or may not log in, or the method of the pg_hba.conf \
             line (peer, ident, cert) does not fit this user."
        }
        "server_starting" => {
            "The server is starting, recovering or stopping and takes no connections yet. Try again shortly."
        }
        "server_shutting_down" => {
            "The server is being stopped or its administrator ended the session."
        }
        "wal_removed" => {
            "A file that is needed has been removed from the server. For WAL this is a permanent gap: take a new base backup."
        }
        "server_disk_full" => "The server's disk is full. Make room there first.",
        "server_data_corrupted" => {
            "The server found damaged data. Check its disk and memory, and keep older backups."
        }
        "server_not_ready_for_this" => {
            "The server is not in the state that this command needs; its message says which."
        }
        _ => "The message is the server's own; its log may say more.",
    };
    match &server.hint {
        Some(hint) => format!("{own} The server adds: {hint}"),
        None => own.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal() -> HbaRefusal {
        HbaRefusal {
            user: "backup".into(),
            database: None,
            address: Some("10.0.0.5".into()),
            encrypted: true,
            sslmode: SslMode::Prefer,
            tried_database: false,
            server: ServerError::default(),
        }
    }

    #[test]
    fn the_line_to_add_is_exact() {
        assert_eq!(refusal().line(), "hostssl replication backup 10.0.0.5/32 scram-sha-256");
        let v6 = HbaRefusal { address: Some("fd00::1".into()), encrypted: false, ..refusal() };
        assert_eq!(v6.line(), "host replication backup fd00::1/128 scram-sha-256");
        let local = HbaRefusal { address: None, user: "my role".into(), ..refusal() };
        assert_eq!(local.line(), "local replication \"my role\" scram-sha-256");
        let database = HbaRefusal { database: Some("app".into()), ..refusal() };
        assert_eq!(database.line(), "hostssl app backup 10.0.0.5/32 scram-sha-256");
    }

    #[test]
    fn the_hint_says_that_the_other_way_in_was_tried() {
        let both = HbaRefusal { tried_database: true, encrypted: false, ..refusal() };
        let text = WireError::HbaRefused(Box::new(both)).hint();
        assert!(text.contains("replication=database"), "{text}");
        assert!(text.contains("sslmode=require"), "{text}");
        assert!(text.ends_with("host replication backup 10.0.0.5/32 scram-sha-256"), "{text}");
    }

    #[test]
    fn server_errors_have_their_own_advice() {
        let full = ServerError { sqlstate: "53300".into(), ..ServerError::default() };
        assert_eq!(full.code(), "too_many_connections");
        assert!(full.retryable());
        let off = ServerError {
            message:
                "number of requested standby connections exceeds \"max_wal_senders\" (currently 0)"
                    .into(),
            ..full.clone()
        };
        assert_eq!(off.code(), "wal_senders_off");
        assert!(!off.retryable());
        assert!(server_hint(&full).contains("max_wal_senders"));
        let level = ServerError {
            sqlstate: "55000".into(),
            message: "WAL level not sufficient for making an online backup".into(),
            hint: Some("wal_level must be set".into()),
            ..ServerError::default()
        };
        assert_eq!(level.code(), "wal_level_too_low");
        assert!(server_hint(&level).contains("The server adds: wal_level must be set"));
    }
}
