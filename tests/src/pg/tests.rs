#![allow(clippy::unwrap_used)]
use super::*;
use std::{fs, process::Command, time::Duration};

const MAJORS: [u32; 5] = [14, 15, 16, 17, 18];

#[test]
fn servers_answer_with_their_version() {
    for major in MAJORS {
        let server = TestServer::start(major).unwrap();
        let number: u32 = server.psql("SHOW server_version_num").unwrap().parse().unwrap();
        assert_eq!(number / 10_000, major);
        assert_eq!(server.psql("SHOW data_checksums").unwrap(), "on");
        let rows = server.query("SELECT 1, NULL, '' UNION ALL SELECT 2, 'a|b', E'c\\nd'").unwrap();
        assert_eq!(rows[0], [Some("1".into()), None, Some(String::new())]);
        assert_eq!(rows[1], [Some("2".into()), Some("a|b".into()), Some("c\nd".into())]);
        assert!(server.query("SELECT 1 WHERE false").unwrap().is_empty());
        assert!(server.psql("SELECT 1/0").unwrap_err().to_string().contains("division by zero"));
    }
}

#[test]
fn every_server_is_another_cluster() {
    let identifier = |server: &TestServer| {
        server.control_value(server.data(), "Database system identifier").unwrap()
    };
    let (one, two) = (TestServer::start(15).unwrap(), TestServer::start(15).unwrap());
    assert_ne!(identifier(&one), identifier(&two));
    assert_eq!(
        one.psql("SELECT system_identifier FROM pg_control_system()").unwrap(),
        identifier(&one)
    );
}

#[test]
fn layout_and_settings_are_as_asked() {
    let server = TestServer::builder(17)
        .checksums(false)
        .wal_segment_size(1)
        .config("wal_level = logical")
        .hba("host all all 127.0.0.1/32 scram-sha-256")
        .password("it's secret")
        .ssl()
        .start()
        .unwrap();
    assert_eq!(server.psql("SHOW data_checksums").unwrap(), "off");
    assert_eq!(server.psql("SHOW wal_segment_size").unwrap(), "1MB");
    assert_eq!(server.psql("SHOW wal_level").unwrap(), "logical");
    let ca = server.ca().unwrap().certificate();
    let verified = |authority: &std::path::Path, password: &str| {
        server
            .command("psql")
            .env("PGHOST", "127.0.0.1")
            .env("PGPASSWORD", password)
            .env("PGSSLMODE", "verify-full")
            .env("PGSSLROOTCERT", authority)
            .args(["-XAtc", "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"])
            .output()
            .unwrap()
    };
    let told = verified(&ca, "it's secret");
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    assert_eq!(told.stdout, b"t\n");
    assert!(!verified(&ca, "wrong").status.success());
    let other = tempfile::tempdir().unwrap();
    let stranger = TestCa::new(other.path()).unwrap().certificate();
    assert!(!verified(&stranger, "it's secret").status.success());
}

#[test]
fn stops_crashes_and_starts_again() {
    let mut server = TestServer::start(17).unwrap();
    server.psql("CREATE TABLE t AS SELECT 1 AS n").unwrap();
    server.restart(StopMode::Fast).unwrap();
    server.psql("INSERT INTO t VALUES (2)").unwrap();
    server.restart(StopMode::Immediate).unwrap();
    assert!(server.log().contains("automatic recovery in progress"), "{}", server.log());
    server.kill().unwrap();
    assert!(!server.is_running());
    server.start_again().unwrap();
    assert_eq!(server.psql("SELECT sum(n) FROM t").unwrap(), "3");
}

#[test]
fn standby_follows_and_is_promoted() {
    for major in MAJORS {
        let primary = TestServer::start(major).unwrap();
        primary.psql("SELECT pg_create_physical_replication_slot('s', true)").unwrap();
        let standby = TestServer::standby_of(&primary, Some("s")).unwrap();
        primary.pgbench_init(1).unwrap();
        primary.pgbench(&["-t", "10"]).unwrap();
        let reached = primary.psql("SELECT pg_current_wal_lsn()").unwrap();
        crate::wait_for("the standby", Duration::from_mins(1), || {
            let caught_up = format!("SELECT pg_last_wal_replay_lsn() >= '{reached}'");
            standby.psql(&caught_up).is_ok_and(|answer| answer == "t")
        });
        standby.promote().unwrap();
        assert_eq!(standby.psql("SELECT count(*) FROM pgbench_history").unwrap(), "10");
        let timeline = standby.psql("SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)");
        assert_eq!(timeline.unwrap(), "00000002");
    }
}

#[test]
fn runs_a_copied_data_directory() {
    let server = TestServer::start(17).unwrap();
    server.add_documents(50).unwrap();
    let copy = server.new_folder("copy").unwrap();
    let mut backup = server.command("pg_basebackup");
    backup.arg("--pgdata").arg(&copy).args(["--checkpoint=fast", "--no-sync"]);
    assert!(backup.status().unwrap().success());
    server.verify_backup(&copy, &[]).unwrap();
    {
        let second = TestServer::builder(17).data_directory(&copy).start().unwrap();
        assert_eq!(second.psql("SELECT count(*) FROM docs").unwrap(), "50");
    }
    assert!(copy.join("PG_VERSION").exists());
    assert!(server.verify_backup(&copy, &[]).is_err());
}

#[test]
fn says_why_a_server_does_not_start() {
    let error = TestServer::builder(15).config("no_such_setting = 1").start().unwrap_err();
    assert!(error.to_string().contains("no_such_setting"), "{error}");
    let error = TestServer::start(9).unwrap_err();
    assert!(error.to_string().contains("cargo xtask setup"), "{error}");
}

#[test]
fn leaves_nothing_behind() {
    let server = TestServer::start(15).unwrap();
    let (home, pid) = (server.home().to_path_buf(), server.pid().unwrap());
    drop(server);
    assert!(!home.exists());
    assert!(!fs::exists(format!("/proc/{pid}")).unwrap());
}

/// Not a test of its own: the process that the next test kills.
#[test]
#[ignore = "run by vanishes_with_a_killed_test"]
fn waits_to_be_killed() {
    let Some(note) = std::env::var_os("HOLDFAST_TESTS_NOTE") else { return };
    let server = TestServer::start(15).unwrap();
    let text = format!("{} {}", server.pid().unwrap(), server.home().display());
    let written = std::path::Path::new(&note).with_extension("new");
    fs::write(&written, text).unwrap();
    fs::rename(written, &note).unwrap();
    std::thread::park_timeout(Duration::from_mins(2));
}

#[test]
fn vanishes_with_a_killed_test() {
    let folder = tempfile::tempdir().unwrap();
    let note = folder.path().join("note");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "pg::tests::waits_to_be_killed", "--ignored"])
        .env("HOLDFAST_TESTS_NOTE", &note)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let text = crate::wait_for_value("the server", Duration::from_mins(1), || {
        fs::read_to_string(&note).ok()
    });
    child.kill().unwrap();
    child.wait().unwrap();
    let (pid, home) = text.split_once(' ').unwrap();
    crate::wait_for("the guard's work", Duration::from_secs(30), || {
        let postmaster = fs::read_to_string(format!("/proc/{pid}/cmdline"));
        !postmaster.is_ok_and(|line| line.contains("postgres")) && !fs::exists(home).unwrap()
    });
}
