//! Configuration files outside the data directory, as Debian has them.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use holdfast_tests::pg::TestServer;
use holdfast_tests::protected::{CLUSTER, Protected, leftovers};
use serde_json::Value;

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

/// 25: settings that lie outside the data directory are in the backup, and beside the copy; the copy itself
/// starts without them.
fn configuration_outside(major: u32) {
    let server = TestServer::builder(major).configuration_outside().start().unwrap();
    let folder = server.configuration().to_owned();
    let included = folder.join("memory.conf");
    // What is no UTF-8 is kept as it is.
    fs::write(&included, b"work_mem = '7MB'  # caf\xe9\n").unwrap();
    server.configure(&format!("include '{}'", included.display())).unwrap();
    server.psql("CREATE TABLE t AS SELECT generate_series(1, 100) n").unwrap();
    let site = Protected::new(server).unwrap();
    assert!(!site.server.data().join("postgresql.conf").exists());
    let backup = site.backup().unwrap();
    assert_eq!(backup["warnings"], serde_json::json!([]), "{backup:#}");
    site.archive().unwrap();

    let copy = site.restore("latest", "copy", &["--start"]).unwrap();
    assert_eq!(copy.psql("SELECT count(*) FROM t").unwrap(), "100");
    let kept = &copy.result["configuration"];
    assert_eq!(kept["missing"], serde_json::json!([]), "{kept:#}");
    let mut expected: Vec<_> = ["memory.conf", "pg_hba.conf", "pg_ident.conf", "postgresql.conf"]
        .map(|name| folder.join(name))
        .to_vec();
    expected.sort();
    let paths: Vec<_> = texts(&kept["files"]).into_iter().map(Path::new).collect();
    assert_eq!(paths, expected);
    let directory = Path::new(kept["directory"].as_str().unwrap()).to_owned();
    assert_eq!(directory, copy.data().with_file_name("copy.configuration"));
    for path in expected {
        let beside = directory.join(path.strip_prefix("/").unwrap());
        assert_eq!(fs::read(beside).unwrap(), fs::read(&path).unwrap(), "{}", path.display());
    }
    copy.discard().unwrap();
    assert!(!directory.exists(), "the configuration stays after its copy");

    // The files alone are what the server sent, without anything of ours.
    let base = site.destination("base");
    let line = ["restore", "run", CLUSTER, "--target", "latest", "--to", &base, "--fetch-only"];
    let fetched = site.cli.json(&line).unwrap();
    assert_eq!(texts(&fetched["configuration"]["files"]).len(), 4);
    let verified = std::process::Command::new(site.server.binaries().program("pg_verifybackup"))
        .args(["--no-parse-wal", &base])
        .output()
        .unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
}

#[test]
fn catalogue_25_configuration_outside_on_15() {
    configuration_outside(15);
}

#[test]
fn catalogue_25_configuration_outside_on_17() {
    configuration_outside(17);
}

/// What the role may not read is said when the backup is taken and at the restore, never left out in silence.
#[test]
fn configuration_that_cannot_be_read_is_named() {
    let server = TestServer::builder(17).configuration_outside().start().unwrap();
    server.psql("CREATE ROLE backup LOGIN REPLICATION").unwrap();
    let dsn = format!("{} user=backup", server.dsn());
    let site = Protected::with(server, &dsn, None, Vec::new()).unwrap();
    let first = site.backup().unwrap();
    let blind = texts(&first["warnings"]);
    assert!(blind.iter().any(|w| w.contains("pg_read_all_settings")), "{blind:?}");

    site.server.psql("GRANT pg_read_all_settings TO backup").unwrap();
    let backup = site.backup().unwrap();
    let warnings = texts(&backup["warnings"]);
    assert!(
        warnings.iter().any(|w| w.contains("pg_hba.conf") && w.contains("pg_read_server_files")),
        "{warnings:?}"
    );
    site.archive().unwrap();
    let copy = site.restore("latest", "copy", &["--start"]).unwrap();
    assert_eq!(copy.result["configuration"]["files"], serde_json::json!([]));
    assert_eq!(texts(&copy.result["configuration"]["missing"]).len(), 3);
    let data = copy.data();
    copy.discard().unwrap();
    assert!(leftovers(&data, None).is_empty());
}
