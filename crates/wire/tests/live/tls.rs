//! Every mode against right and wrong certificates.

use std::path::{Path, PathBuf};
use std::process::Command;

use holdfast_wire::{CertificateProblem, Connection, SessionKind, WireError};
use tempfile::TempDir;

use crate::on_each_major;
use crate::server::{Server, Setup, error_of, outcome, path, secret};

const SQL: SessionKind = SessionKind::Sql;

/// A directory with certificates made by the `openssl` command.
struct Authority {
    folder: TempDir,
}

impl Authority {
    fn new() -> Self {
        let authority = Self { folder: tempfile::tempdir().unwrap() };
        for name in ["ca", "other"] {
            authority.self_signed(name, &format!("/CN={name}"), EC);
        }
        authority
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn openssl(&self, arguments: &[&str]) {
        let out = Command::new("openssl")
            .args(arguments)
            .current_dir(self.folder.path())
            .output()
            .unwrap();
        assert!(out.status.success(), "{arguments:?} {}", String::from_utf8_lossy(&out.stderr));
    }

    /// A self-signed certificate with CA:TRUE, as `openssl req -x509` makes it.
    fn self_signed(&self, name: &str, subject: &str, newkey: &[&str]) {
        let (key, certificate) = (format!("{name}.key"), format!("{name}.crt"));
        let mut arguments = vec!["req", "-x509", "-nodes", "-days", "3650", "-subj", subject];
        arguments.extend(["-keyout", key.as_str(), "-out", certificate.as_str()]);
        arguments.extend(newkey);
        self.openssl(&arguments);
    }

    /// A certificate signed by `ca`; without `extensions` of version 1.
    fn signed(
        &self,
        name: &str,
        subject: &str,
        extensions: Option<&str>,
        newkey: &[&str],
        sign: &[&str],
    ) {
        let (key, request, certificate) =
            (format!("{name}.key"), format!("{name}.csr"), format!("{name}.crt"));
        let mut arguments = vec!["req", "-new", "-nodes", "-subj", subject];
        arguments.extend(["-keyout", key.as_str(), "-out", request.as_str()]);
        arguments.extend(newkey);
        self.openssl(&arguments);
        let mut arguments =
            vec!["x509", "-req", "-in", request.as_str(), "-CA", "ca.crt", "-CAkey", "ca.key"];
        arguments.extend(["-CAcreateserial", "-out", certificate.as_str()]);
        if !sign.contains(&"-days") {
            arguments.extend(["-days", "365"]);
        }
        arguments.extend(sign);
        let file = format!("{name}.ext");
        if let Some(extensions) = extensions {
            std::fs::write(self.file(&file), extensions).unwrap();
            arguments.extend(["-extfile", file.as_str()]);
        }
        self.openssl(&arguments);
    }

    fn setup(&self, name: &str, hba: &[&str]) -> Setup {
        let tls = (
            self.file(&format!("{name}.crt")),
            self.file(&format!("{name}.key")),
            Some(self.file("ca.crt")),
        );
        Setup { tls: Some(tls), ..Setup::hba(hba) }
    }
}

const EC: &[&str] = &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];
const RSA: &[&str] = &["-newkey", "rsa:2048"];
const NAMES: &str = "subjectAltName = DNS:db.test, IP:127.0.0.2\n";

/// `sslrootcert=…` for a file of the authority.
fn root(authority: &Authority, name: &str) -> String {
    format!("sslrootcert={}", path(&authority.file(name)))
}

async fn with_role(major: u32, setup: &Setup) -> Server {
    let server = Server::start(major, setup);
    server.sql("CREATE ROLE u LOGIN PASSWORD 'p'").await;
    server
}

async fn every_mode(major: u32) {
    let authority = Authority::new();
    authority.signed("server", "/CN=ignored", Some(NAMES), EC, &[]);
    let server =
        with_role(major, &authority.setup("server", &["host all u all scram-sha-256"])).await;
    let (good, bad) = (root(&authority, "ca.crt"), root(&authority, "other.crt"));
    let connect = async |text: &str| {
        let dsn = server.tcp(&format!("user=u dbname=postgres {text}"));
        Connection::connect(&dsn, Some(&secret("p")), SQL).await
    };
    let encrypted = async |text: &str| connect(text).await.unwrap().facts().tls.is_some();
    assert!(!encrypted("sslmode=disable").await);
    assert!(!encrypted("sslmode=allow").await, "plain works, so plain it is");
    assert!(encrypted("sslmode=prefer").await);
    assert!(!encrypted(&format!("sslmode=prefer {bad}")).await, "falls back as libpq does");
    assert!(encrypted("sslmode=require").await);
    assert!(encrypted(&format!("sslmode=require {good}")).await);
    assert!(encrypted(&format!("sslmode=verify-ca {good} host=wrong.test")).await);
    assert!(encrypted(&format!("sslmode=verify-full {good} host=db.test")).await);
    assert!(encrypted("sslmode=require channel_binding=require").await);
    assert!(encrypted("sslmode=require channel_binding=disable sslsni=0").await);

    let refused = async |text: &str| match connect(text).await {
        Err(WireError::Tls { problem, .. }) => problem,
        other => panic!("{text}: {other:?}"),
    };
    // A root file makes `require` as strict as `verify-ca`.
    assert_eq!(refused(&format!("sslmode=require {bad}")).await, CertificateProblem::UnknownIssuer);
    assert_eq!(
        refused(&format!("sslmode=verify-ca {bad}")).await,
        CertificateProblem::UnknownIssuer
    );
    assert_eq!(refused("sslmode=verify-ca").await, CertificateProblem::NoRoots);
    let mismatch = refused(&format!("sslmode=verify-full {good} host=wrong.test")).await;
    let presented = vec!["db.test".to_owned(), "127.0.0.2".to_owned()];
    assert_eq!(
        mismatch,
        CertificateProblem::NameMismatch { wanted: "wrong.test".into(), presented }
    );
    // Without a name the address is compared.
    assert!(matches!(
        refused(&format!("sslmode=verify-full {good}")).await,
        CertificateProblem::NameMismatch { .. }
    ));
    assert!(matches!(
        refused("sslmode=verify-full sslrootcert=system host=db.test").await,
        CertificateProblem::UnknownIssuer | CertificateProblem::NoRoots
    ));
    let error = error_of(connect("sslmode=require sslrootcert=/does/not/exist").await);
    assert_eq!(error.code(), "file_unreadable");
    let error = error_of(connect("sslmode=disable channel_binding=require").await);
    assert_eq!(error.code(), "authentication_unsupported");

    let facts =
        connect("sslmode=require ssl_max_protocol_version=TLSv1.2 channel_binding=require").await;
    let tls = facts.unwrap().facts().tls.clone().unwrap();
    assert_eq!(tls.protocol, "TLSv1.2");
    assert_eq!(tls.peer_certificate_sha256.len(), 64);
    let tls = connect("sslmode=require").await.unwrap().facts().tls.clone().unwrap();
    assert_eq!(tls.protocol, "TLSv1.3");
    let direct = connect("sslmode=require sslnegotiation=direct").await;
    assert_eq!(direct.is_ok(), major >= 17, "{direct:?}");
    // A socket has no TLS, whatever the mode.
    let socket =
        server.socket(&format!("user=postgres dbname=postgres sslmode=verify-full {good}"));
    assert_eq!(outcome(&socket, None, SQL).await, "ok");
}
on_each_major!(every_mode);

async fn no_tls_at_all(major: u32) {
    let server = with_role(major, &Setup::hba(&["host all u all scram-sha-256"])).await;
    let dsn = |mode: &str| server.tcp(&format!("user=u dbname=postgres sslmode={mode}"));
    assert_eq!(outcome(&dsn("prefer"), Some("p"), SQL).await, "ok");
    assert_eq!(outcome(&dsn("allow"), Some("p"), SQL).await, "ok");
    let error = error_of(Connection::connect(&dsn("require"), Some(&secret("p")), SQL).await);
    assert_eq!(error.code(), "tls_refused");
    let hint = error.hint();
    assert!(hint.contains("sslmode=require") && hint.contains("sslmode=prefer"), "{hint}");
}
on_each_major!(no_tls_at_all);

async fn what_the_file_insists_on(major: u32) {
    let authority = Authority::new();
    authority.signed("server", "/CN=db.test", Some(NAMES), EC, &[]);
    let hba = [
        "hostssl all u all scram-sha-256",
        "hostnossl all plain all scram-sha-256",
        "hostssl all client all cert",
    ];
    let server = with_role(major, &authority.setup("server", &hba)).await;
    server.sql("CREATE ROLE plain LOGIN PASSWORD 'p'; CREATE ROLE client LOGIN").await;
    let of = async |user: &str, mode: &str| {
        let dsn = server.tcp(&format!("user={user} dbname=postgres {mode}"));
        outcome(&dsn, Some("p"), SQL).await
    };
    assert_eq!(of("u", "sslmode=disable").await, "hba_refused");
    assert_eq!(of("u", "sslmode=allow").await, "ok");
    assert_eq!(of("u", "sslmode=prefer").await, "ok");
    assert_eq!(of("plain", "sslmode=require").await, "hba_refused");
    assert_eq!(of("plain", "sslmode=allow").await, "ok");
    assert_eq!(of("plain", "sslmode=prefer").await, "ok");

    // A client certificate is a way in of its own.
    authority.signed("client", "/CN=client", Some("basicConstraints = CA:FALSE\n"), EC, &[]);
    let files = format!(
        "sslmode=require sslcert={} sslkey={}",
        path(&authority.file("client.crt")),
        path(&authority.file("client.key"))
    );
    assert_eq!(of("client", &files).await, "ok");
    assert_eq!(of("client", "sslmode=require").await, "authentication_failed");
    assert_eq!(of("u", &files).await, "ok");
    let swapped = format!(
        "sslmode=require sslcert={} sslkey={}",
        path(&authority.file("client.crt")),
        path(&authority.file("other.key"))
    );
    assert_eq!(of("client", &swapped).await, "tls_failed");
    make_open(&authority.file("client.key"));
    assert_eq!(of("client", &files).await, "tls_failed");
}
on_each_major!(what_the_file_insists_on);

fn make_open(file: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o644)).unwrap();
}

/// Certificates that the strict verifier refuses and libpq accepts, and signatures of many kinds.
async fn unusual_certificates(major: u32) {
    let authority = Authority::new();
    let hba = ["host all u all scram-sha-256"];
    authority.self_signed("snakeoil", "/CN=db.test", EC);
    // Its own signature has no hash that SCRAM could be bound to.
    authority.self_signed("ed25519", "/CN=db.test", &["-newkey", "ed25519"]);
    authority.signed("version1", "/CN=db.test", None, RSA, &[]);
    authority.signed("sha384", "/CN=db.test", Some(NAMES), RSA, &["-sha384"]);
    authority.signed("expired", "/CN=db.test", Some(NAMES), EC, &["-days", "-1"]);
    authority.signed("clientonly", "/CN=db.test", Some("extendedKeyUsage = clientAuth\n"), EC, &[]);
    let cases: &[(&str, &str, &str, &str)] = &[
        ("snakeoil", "snakeoil.crt", "", "ok"),
        ("snakeoil", "ca.crt", "", "certificate_untrusted"),
        ("version1", "ca.crt", "channel_binding=require", "ok"),
        ("version1", "ca.crt", "ssl_max_protocol_version=TLSv1.2", "ok"),
        ("version1", "other.crt", "", "certificate_untrusted"),
        ("version1", "version1.crt", "", "certificate_untrusted"),
        ("sha384", "ca.crt", "channel_binding=require", "ok"),
        ("expired", "ca.crt", "", "certificate_untrusted"),
        ("clientonly", "ca.crt", "", "certificate_untrusted"),
        ("ed25519", "ed25519.crt", "", "ok"),
        ("ed25519", "ed25519.crt", "channel_binding=require", "authentication_unsupported"),
    ];
    let mut server: Option<(&str, Server)> = None;
    for (name, roots, more, expected) in cases {
        if server.as_ref().is_none_or(|(running, _)| running != name) {
            drop(server.take());
            server = Some((name, with_role(major, &authority.setup(name, &hba)).await));
        }
        let (_, running) = server.as_ref().unwrap();
        let text = format!(
            "user=u dbname=postgres sslmode=verify-full host=db.test {}",
            root(&authority, roots)
        );
        let dsn = running.tcp(&format!("{text} {more}"));
        assert_eq!(outcome(&dsn, Some("p"), SQL).await, *expected, "{name} {roots} {more}");
        let wrong = running.tcp(&format!("{text} {more} host=wrong.test"));
        assert_ne!(outcome(&wrong, Some("p"), SQL).await, "ok", "{name} by a wrong name");
    }
}
on_each_major!(unusual_certificates);
