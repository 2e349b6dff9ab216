//! Servers that are not there, not reachable, not permitted, or not the right ones.

use super::{fails, unlocked};
use holdfast_tests::{
    cli::Cli,
    pg::{StopMode, TestCa, TestServer},
    places::free_port,
    protected::{CLUSTER, Protected},
};
use serde_json::Value;
use std::path::Path;

fn with_repository(home: &Path) -> Cli {
    let cli = unlocked(home);
    cli.json(&["repo", "create", &home.join("repository").display().to_string()]).unwrap();
    cli
}

fn add(dsn: &str) -> [&str; 5] {
    ["cluster", "add", CLUSTER, "--dsn", dsn]
}

/// Whether the check found something of this severity and code.
fn finding(check: &Value, severity: &str, code: &str) -> Option<Value> {
    let all = check["findings"].as_array().unwrap();
    all.iter().find(|finding| finding["severity"] == severity && finding["code"] == code).cloned()
}

#[track_caller]
fn found(check: &Value, severity: &str, code: &str) -> Value {
    finding(check, severity, code).unwrap_or_else(|| panic!("no {severity} {code} in {check}"))
}

#[test]
fn nobody_listens() {
    let home = tempfile::tempdir().unwrap();
    let cli = with_repository(home.path());
    let port = free_port().unwrap();
    let dsn = format!("host=127.0.0.1 port={port} user=postgres dbname=postgres connect_timeout=5");
    fails(&cli, &add(&dsn), 7, "server_unreachable");
    let socket = format!("host={} port={port} user=postgres", home.path().display());
    fails(&cli, &add(&socket), 7, "server_unreachable");
    fails(&cli, &add("host=no-such-host.invalid user=postgres"), 7, "host_not_found");
    // A password does not belong on a command line, and is not repeated.
    for dsn in [
        "host=127.0.0.1 password=hunter2 user=postgres",
        "postgresql://postgres:hunter2@127.0.0.1/postgres",
    ] {
        let error = fails(&cli, &add(dsn), 2, "password_in_dsn");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
    fails(&cli, &add("host=127.0.0.1 colour=blue"), 2, "bad_dsn");
    assert_eq!(cli.json(&["cluster", "list"]).unwrap()["clusters"].as_array().unwrap().len(), 0);
}

#[test]
fn passwords_and_access_rules() {
    let server = TestServer::builder(17)
        .password("right")
        .hba("host postgres postgres 127.0.0.1/32 scram-sha-256")
        .hba("host postgres managed 127.0.0.1/32 trust")
        .hba("host all plain 127.0.0.1/32 trust")
        .hba("host replication plain 127.0.0.1/32 trust")
        .start()
        .unwrap();
    server
        .psql("CREATE ROLE managed LOGIN REPLICATION; CREATE ROLE plain LOGIN; CREATE ROLE nobody LOGIN REPLICATION;
               GRANT pg_read_all_settings TO managed, plain")
        .unwrap();
    let home = tempfile::tempdir().unwrap();
    let cli = with_repository(home.path());
    let dsn =
        |user: &str| format!("host=127.0.0.1 port={} user={user} dbname=postgres", server.port());

    fails(&cli, &add(&dsn("postgres")), 6, "password_missing");
    fails(
        &cli.clone().env("PGPASSWORD", "wrong"),
        &add(&dsn("postgres")),
        6,
        "authentication_failed",
    );
    fails(&cli, &add(&dsn("nobody")), 6, "hba_refused");
    fails(&cli, &add(&dsn("plain")), 6, "replication_not_permitted");
    fails(&cli, &[&add(&dsn("managed"))[..], &["--save-password"]].concat(), 2, "usage");

    // No line for replication, but one for the database: that way is found, and it works.
    let added = cli.json(&add(&dsn("managed"))).unwrap();
    assert_eq!(added["mode"], "physical_via_database");
    let check = cli.json(&["cluster", "check", CLUSTER]).unwrap();
    assert_eq!(
        (&check["reachable"], &check["mode"]),
        (&true.into(), &"physical_via_database".into())
    );
    assert!(
        found(&check, "info", "replication_possible")["message"]
            .as_str()
            .unwrap()
            .contains("pg_hba.conf")
    );
    cli.json(&["backup", CLUSTER]).unwrap();
    fails(&cli, &add(&dsn("managed")), 3, "name_taken");

    // With the right password, from the environment and from a passfile; a careless passfile is not read.
    let through = ["cluster", "add", "second", "--dsn", &dsn("postgres")].map(str::to_owned);
    let through: Vec<_> = through.iter().map(String::as_str).collect();
    let passfile = home.path().join("passfile");
    std::fs::write(&passfile, format!("127.0.0.1:{}:*:postgres:right\n", server.port())).unwrap();
    let with_passfile = cli.clone().env("PGPASSFILE", &passfile);
    std::fs::set_permissions(&passfile, std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .unwrap();
    fails(&with_passfile, &through, 6, "passfile_unsafe");
    std::fs::set_permissions(&passfile, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .unwrap();
    with_passfile.json(&through).unwrap();
    // The cluster remembers which passfile it was added with, never what stands in it.
    cli.json(&["cluster", "check", "second"]).unwrap();
    std::fs::remove_file(&passfile).unwrap();
    let check = cli.json(&["cluster", "check", "second"]).unwrap();
    assert_eq!(check["reachable"], false, "{check}");
    found(&check, "error", "password_missing");
    let check =
        cli.clone().env("PGPASSWORD", "right").json(&["cluster", "check", "second"]).unwrap();
    // It may log in, and no line lets it replicate in the one way; the other way is open.
    assert_eq!(check["mode"], "physical_via_database");
}

#[test]
fn encryption_is_not_bargained_over() {
    let server = TestServer::builder(17)
        .ssl()
        .hba("hostssl all all 127.0.0.1/32 trust")
        .hba("hostssl replication all 127.0.0.1/32 trust");
    let server = server.start().unwrap();
    let home = tempfile::tempdir().unwrap();
    let cli = with_repository(home.path());
    let other = TestCa::new(&home.path().join("other")).unwrap();
    let dsn = |more: &str| format!("{} {more}", server.dsn());
    let ca = |ca: &TestCa| format!("sslrootcert={}", ca.certificate().display());
    let right = ca(server.ca().unwrap());

    fails(
        &cli,
        &add(&dsn(&format!("sslmode=verify-full {}", ca(&other)))),
        3,
        "certificate_untrusted",
    );
    fails(&cli, &add(&dsn("sslmode=verify-full sslrootcert=/nonexistent")), 3, "file_unreadable");
    // The certificate is for the address; a name that it does not have is not this server.
    let named = format!(
        "host=other.invalid hostaddr=127.0.0.1 port={} user=postgres dbname=postgres",
        server.port()
    );
    fails(&cli, &add(&format!("{named} sslmode=verify-full {right}")), 3, "certificate_untrusted");
    fails(&cli, &add(&dsn("sslmode=disable")), 6, "hba_refused");
    cli.json(&add(&dsn(&format!("sslmode=verify-full {right}")))).unwrap();

    let plain = TestServer::start(15).unwrap();
    fails(
        &cli,
        &["cluster", "add", "plain", "--dsn", &format!("{} sslmode=require", plain.dsn())],
        3,
        "tls_refused",
    );
}

#[test]
fn another_server_at_the_same_address() {
    let mut site = Protected::new(TestServer::start(17).unwrap()).unwrap();
    site.backup().unwrap();
    let port = site.server.port();
    let other = TestServer::start(17).unwrap();
    site.server.stop(StopMode::Fast).unwrap();
    fails(&site.cli, &["backup", CLUSTER], 7, "server_unreachable");
    let _proxy = other_at(port, &other);
    fails(&site.cli, &["backup", CLUSTER], 3, "foreign_system_identifier");
    fails(&site.cli, &["archive", CLUSTER, "--once-to", "0/1"], 3, "foreign_system_identifier");
    let check = site.cli.json(&["cluster", "check", CLUSTER]).unwrap();
    found(&check, "error", "foreign_system_identifier");
    assert_eq!(site.points().unwrap()["snapshots"].as_array().unwrap().len(), 1);
}

/// Makes `server` answer on another port, too.
fn other_at(port: u16, server: &TestServer) -> Forward {
    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let upstream = server.address();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = std::net::TcpStream::connect(upstream) else { continue };
            for (mut from, mut to) in [
                (client.try_clone().unwrap(), server.try_clone().unwrap()),
                (server.try_clone().unwrap(), client.try_clone().unwrap()),
            ] {
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    });
    Forward
}

/// The forwarding ends with the test's process.
struct Forward;

#[test]
fn check_says_what_is_missing_and_what_repairs_it() {
    let server = TestServer::builder(17)
        .config("wal_level = minimal")
        .config("max_wal_senders = 0")
        .config("max_replication_slots = 0")
        .checksums(false)
        .start()
        .unwrap();
    let home = tempfile::tempdir().unwrap();
    let cli = with_repository(home.path());
    let (code, error) = holdfast_tests::protected::failure(&cli, &add(&server.dsn())).unwrap();
    assert_eq!(code, 3, "{error}");

    // A cluster that was fine when it was added.
    let mut server = TestServer::builder(17).checksums(false).start().unwrap();
    cli.json(&add(&server.dsn())).unwrap();
    let check = cli.json(&["cluster", "check", CLUSTER]).unwrap();
    assert_eq!((&check["reachable"], &check["mode"]), (&true.into(), &"physical".into()));
    assert!(check["data_bytes"].as_u64().unwrap() > 1_000_000);
    assert_eq!(check["timeline"], 1);
    found(&check, "ok", "replication_possible");
    found(&check, "warning", "no_data_checksums");
    found(&check, "warning", "slot_may_fill_disk");
    assert!(finding(&check, "warning", "no_tls").is_none(), "loopback needs no encryption");
    for finding in check["findings"].as_array().unwrap() {
        let repair = finding["severity"] == "warning" || finding["severity"] == "error";
        assert!(!repair || finding["repair"].is_string(), "{finding}");
    }

    for line in ["wal_level = minimal", "max_wal_senders = 0", "max_replication_slots = 0"] {
        server.configure(line).unwrap();
    }
    server.restart(StopMode::Fast).unwrap();
    let check = cli.json(&["cluster", "check", CLUSTER]).unwrap();
    assert!(
        found(&check, "error", "wal_level_minimal")["repair"]
            .as_str()
            .unwrap()
            .contains("wal_level")
    );
    found(&check, "error", "too_few_wal_senders");
    found(&check, "error", "no_replication_slots");
    let (code, error) = holdfast_tests::protected::failure(&cli, &["backup", CLUSTER]).unwrap();
    assert_eq!(code, 3, "{error}");

    server.stop(StopMode::Fast).unwrap();
    let check = cli.json(&["cluster", "check", CLUSTER]).unwrap();
    assert_eq!(check["reachable"], false);
    assert!(check["mode"].is_null() && check["data_bytes"].is_null());
    found(&check, "error", "server_unreachable");
}

#[test]
fn a_server_that_dies_during_a_backup() {
    let mut site = Protected::new(TestServer::start(17).unwrap()).unwrap();
    site.server.add_documents(150_000).unwrap();
    let backup = site.cli.start(&["--json", "--progress", "json", "backup", CLUSTER]).unwrap();
    holdfast_tests::wait_for("copying", std::time::Duration::from_mins(1), || {
        backup.stderr().contains("\"phase\":\"copying\"")
    });
    site.server.stop(StopMode::Immediate).unwrap();
    let ended = backup.finish(std::time::Duration::from_mins(1)).unwrap();
    assert_eq!(ended.code, 7, "{ended}");
    assert_eq!(ended.json().unwrap()["error"]["retryable"], true);
    assert!(site.points().unwrap()["snapshots"].as_array().unwrap().is_empty());
    site.server.start_again().unwrap();
    // The port is the same unless somebody took it meanwhile.
    site.backup().unwrap();
    assert_eq!(site.points().unwrap()["snapshots"].as_array().unwrap().len(), 1);
    assert_eq!(site.cli.json(&["verify", CLUSTER]).unwrap()["ok"], true);
}
