//! The archive as a synchronous standby: a commit that a client saw is in the archive, whatever happens
//! to the archiver.
#![allow(clippy::unwrap_used)]

use holdfast_tests::{
    cli::Running,
    pg::{StopMode, TestServer},
    protected::{CLUSTER, Protected, failure},
    prove_duration,
    proxy::FaultProxy,
    random::Random,
    store::SeaweedFs,
    wait_for,
    writers::{self, Writers},
};
use serde_json::Value;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_mins(1);
const MEMBER: &str = "holdfast_shop";

fn server(major: u32) -> TestServer {
    let server = TestServer::builder(major).config("autovacuum = off").start().unwrap();
    server.psql("CREATE TABLE t (n int)").unwrap();
    server
}

fn start(site: &Protected, more: &[&str]) -> Running {
    let all = ["--json", "--progress", "json", "archive", CLUSTER, "--synchronous"];
    site.cli.start(&[&all[..], more].concat()).unwrap()
}

fn member(server: &TestServer) -> String {
    let sql =
        format!("SELECT sync_state FROM pg_stat_replication WHERE application_name = '{MEMBER}'");
    server.psql(&sql).unwrap()
}

/// Commits wait for the archive from now on.
fn demand(server: &TestServer) {
    server.configure(&format!("synchronous_standby_names = '{MEMBER}'")).unwrap();
    wait_for("the archive to be waited for", PATIENCE, || member(server) == "sync");
}

fn nobody(server: &TestServer) {
    server.configure("synchronous_standby_names = ''").unwrap();
}

fn alerts(running: &Running) -> String {
    let lines: Vec<_> = running
        .stderr()
        .lines()
        .filter(|l| l.contains("\"kind\":\"alert\""))
        .map(str::to_owned)
        .collect();
    lines.join("\n")
}

/// Each commit returns only once the store has it, and does not wait for a slice's time.
fn a_commit_returns_once_it_is_durable(major: u32) {
    let site = Protected::new(server(major)).unwrap();
    site.backup().unwrap();
    let archive = start(&site, &["--arm-sole-member", "--slice-seconds", "60"]);
    wait_for("the archive", PATIENCE, || member(&site.server) == "async");
    demand(&site.server);
    wait_for("the warning", PATIENCE, || alerts(&archive).contains("sole_synchronous_member"));
    let began = Instant::now();
    for n in 0..5 {
        let xid = site.server.psql(&format!("INSERT INTO t VALUES ({n}) RETURNING xmin")).unwrap();
        let found = site.cli.run(&["--json", "find", CLUSTER, "--xid", &xid]).unwrap();
        assert_eq!(found.code, 0, "the client saw it and the archive does not have it: {found}");
    }
    assert!(began.elapsed() < Duration::from_secs(50), "{:?}", began.elapsed());
    let began = Instant::now();
    let commits: Vec<_> = (0..100).map(|n| format!("INSERT INTO t VALUES ({n});\n")).collect();
    let commits = commits.concat();
    site.server.psql(&format!("{}SELECT 1", commits.replace(";\n", "; COMMIT; BEGIN;"))).unwrap();
    eprintln!("100 synchronous commits on {major}: {:?}", began.elapsed());

    // Applied is not claimed: remote_apply waits in vain, until it is told not to.
    let apply = || {
        site.server
            .command("psql")
            .args(["-XqAt", "-c", "INSERT INTO t VALUES (100)"])
            .env("PGOPTIONS", "-c synchronous_commit=remote_apply")
            .spawn()
            .unwrap()
    };
    let mut client = apply();
    let waits = "FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    wait_for("a commit that is durable and waits to be applied", PATIENCE, || {
        let sql = format!(
            "SELECT (SELECT count(*) {waits}) = 1 AND bool_and(flush_lsn >= pg_current_wal_flush_lsn()) \
             FROM pg_stat_replication WHERE application_name = '{MEMBER}'"
        );
        site.server.psql(&sql).unwrap() == "t"
    });
    assert!(client.try_wait().unwrap().is_none());
    site.server.psql(&format!("SELECT pg_cancel_backend(pid) {waits}")).unwrap();
    client.wait().unwrap();
    let ended = archive.terminate(PATIENCE).unwrap();
    assert_eq!(ended.code, 0, "{ended}");
    let archive = start(&site, &["--arm-sole-member", "--report-apply"]);
    wait_for("the archive to be waited for", PATIENCE, || member(&site.server) == "sync");
    let mut client = apply();
    wait_for("the commit", PATIENCE, || client.try_wait().unwrap().is_some());
    nobody(&site.server);
    archive.terminate(PATIENCE).unwrap();
    let copy = site.restore("latest", "copy", &["--start", "--at-target", "pause"]).unwrap();
    let rows = "SELECT count(*) FROM t";
    assert_eq!(copy.psql(rows).unwrap(), site.server.psql(rows).unwrap());
}

#[test]
fn a_commit_returns_once_it_is_durable_on_15() {
    a_commit_returns_once_it_is_durable(15);
}

#[test]
fn a_commit_returns_once_it_is_durable_on_17() {
    a_commit_returns_once_it_is_durable(17);
}

/// Killed at any moment, with the store or the spool as what counts: what a client saw committed is
/// restorable. The flush position never comes out of memory.
fn no_commit_a_client_saw_is_lost(major: u32, durability: &str) {
    let name = format!("no_commit_a_client_saw_is_lost({major}, {durability})");
    let site = Protected::new(TestServer::start(major).unwrap()).unwrap();
    Writers::prepare(&site.server).unwrap();
    site.backup().unwrap();
    let mut random = Random::announced(&name);
    let until = Instant::now() + prove_duration(Duration::from_secs(10));
    let mut acknowledged = Vec::new();
    let mut round = 0;
    while round < 2 || Instant::now() < until {
        round += 1;
        let options = ["--arm-sole-member", "--durability", durability];
        let mut archive = start(&site, &options);
        wait_for("the archive", PATIENCE, || !member(&site.server).is_empty());
        demand(&site.server);
        let writers = Writers::start(&site.server, round).unwrap();
        let enough = usize::try_from(random.below(200)).unwrap();
        wait_for("acknowledged rows", PATIENCE, || writers.acknowledged().len() > enough);
        archive.kill().unwrap();
        // What was acknowledged a moment after the kill was durable before it.
        acknowledged.extend(writers.acknowledged());
        drop(writers);
        // A spool is emptied into the store by the next run, before anything else.
        nobody(&site.server);
        site.archive().unwrap();
        let copy = site.restore("latest", "copy", &["--start"]).unwrap();
        let lost = writers::lost(&copy.psql(writers::ROWS).unwrap(), &acknowledged);
        assert!(lost.is_empty(), "{name}, round {round}: of {} {lost:?}", acknowledged.len());
        copy.discard().unwrap();
    }
    assert!(acknowledged.len() > 10, "{}", acknowledged.len());
    eprintln!("{name}: {round} kills, {} acknowledged rows, none lost", acknowledged.len());
}

#[test]
fn catalogue_13_no_commit_a_client_saw_is_lost_on_15() {
    no_commit_a_client_saw_is_lost(15, "store");
}

#[test]
fn catalogue_13_no_commit_a_client_saw_is_lost_on_17() {
    no_commit_a_client_saw_is_lost(17, "store");
}

#[test]
fn catalogue_13_no_commit_a_client_saw_is_lost_with_a_spool_on_15() {
    no_commit_a_client_saw_is_lost(15, "spool");
}

#[test]
fn catalogue_13_no_commit_a_client_saw_is_lost_with_a_spool_on_17() {
    no_commit_a_client_saw_is_lost(17, "spool");
}

/// Commits that would wait for the archive alone are a decision, not an accident.
#[test]
fn a_sole_member_has_to_be_armed() {
    let site = Protected::new(server(15)).unwrap();
    site.backup().unwrap();
    site.server.configure(&format!("synchronous_standby_names = '{MEMBER}'")).unwrap();
    let (code, error) = failure(&site.cli, &["archive", CLUSTER, "--synchronous"]).unwrap();
    assert_eq!((code, error["code"].as_str()), (3, Some("sole_synchronous_member")), "{error}");
    // Another standby that is there makes it one of several.
    let standby = TestServer::standby_of(&site.server, None).unwrap();
    let other = "SELECT application_name FROM pg_stat_replication WHERE state = 'streaming'";
    wait_for("the standby to stream", PATIENCE, || site.server.psql(other).unwrap() != "");
    let other = site.server.psql(other).unwrap();
    site.server
        .configure(&format!("synchronous_standby_names = 'ANY 1 ({MEMBER}, \"{other}\")'"))
        .unwrap();
    let mut archive = start(&site, &[]);
    wait_for("the archive to be waited for", PATIENCE, || {
        assert!(archive.is_running().unwrap(), "{}", archive.stderr());
        member(&site.server) == "quorum"
    });
    assert_eq!(alerts(&archive), "");
    site.server.psql("INSERT INTO t VALUES (1)").unwrap();
    // The other one goes: now it is the only one, and somebody is told.
    drop(standby);
    wait_for("the alert", PATIENCE, || alerts(&archive).contains("sole_synchronous_member"));
    nobody(&site.server);
    assert_eq!(archive.terminate(PATIENCE).unwrap().code, 0);
}

/// A store that stands still: with the store as what counts, the archive leaves rather than hold up
/// commits and the server's shutdown, and comes back; with a spool nobody notices.
fn a_stalled_store(major: u32) {
    let store = SeaweedFs::start().unwrap();
    store.create_bucket("backups").unwrap();
    let proxy = FaultProxy::start(store.address()).unwrap();
    let environment = store.env_at(&format!("http://{}", proxy.address()));
    let server = server(major);
    let dsn = server.dsn();
    let mut site = Protected::with(server, &dsn, Some("s3://backups/shop"), environment).unwrap();
    site.backup().unwrap();

    let archive = start(&site, &["--arm-sole-member", "--stall-seconds", "2"]);
    wait_for("the archive", PATIENCE, || !member(&site.server).is_empty());
    demand(&site.server);
    site.server.psql("INSERT INTO t VALUES (1)").unwrap();
    proxy.set_stalled(true);
    let mut client = site
        .server
        .command("psql")
        .args(["-XqAt", "-c", "INSERT INTO t VALUES (2)"])
        // The least that a commit can wait for: that the standby's system has it.
        .env("PGOPTIONS", "-c synchronous_commit=remote_write")
        .spawn()
        .unwrap();
    let began = Instant::now();
    wait_for("the archive to leave", PATIENCE, || member(&site.server).is_empty());
    eprintln!("left a stalled store after {:?} on {major}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert!(client.try_wait().unwrap().is_none(), "nothing has made that commit durable");
    wait_for("the alert", PATIENCE, || alerts(&archive).contains("durability_stalled"));
    // The shutdown does not wait for an archive that cannot confirm anything.
    let began = Instant::now();
    site.server.stop(StopMode::Fast).unwrap();
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    client.wait().unwrap();
    proxy.set_stalled(false);
    site.server.start_again().unwrap();
    wait_for("the archive to come back", Duration::from_mins(2), || member(&site.server) == "sync");
    site.server.psql("INSERT INTO t VALUES (3)").unwrap();
    assert_eq!(archive.terminate(PATIENCE).unwrap().code, 0);

    // With a spool commits go on, and what was acknowledged reaches the store after a crash.
    let mut archive = start(&site, &["--arm-sole-member", "--durability", "spool"]);
    wait_for("the archive to be waited for", PATIENCE, || member(&site.server) == "sync");
    proxy.set_stalled(true);
    for n in 10..20 {
        site.server.psql(&format!("INSERT INTO t VALUES ({n})")).unwrap();
    }
    archive.kill().unwrap();
    proxy.set_stalled(false);
    let spooled = site.root().join("home/spool");
    let count = || {
        let mut folders = vec![spooled.clone()];
        let mut files = 0;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.path().is_dir() {
                    folders.push(entry.path());
                } else {
                    files += usize::from(entry.path().display().to_string().contains("/slices/"));
                }
            }
        }
        files
    };
    assert!(count() > 0, "what the store does not have is in the spool");
    // The server is away: what is restorable now came out of the spool alone.
    nobody(&site.server);
    site.server.stop(StopMode::Fast).unwrap();
    let _ = site.cli.run(&["--json", "archive", CLUSTER]).unwrap();
    assert_eq!(count(), 0);
    let copy = site.restore("latest", "copy", &["--start", "--at-target", "pause"]).unwrap();
    let rows = "SELECT count(*) FROM t WHERE n BETWEEN 10 AND 19";
    assert_eq!(copy.psql(rows).unwrap(), "10");
}

#[test]
fn a_stalled_store_on_15() {
    a_stalled_store(15);
}

#[test]
fn a_stalled_store_on_17() {
    a_stalled_store(17);
}

/// Slices reach the store within a second when that is asked for, without anybody waiting for them.
#[test]
fn slices_are_stored_within_a_second() {
    let site = Protected::new(server(17)).unwrap();
    site.backup().unwrap();
    let archive = site
        .cli
        .start(&["--json", "--progress", "json", "archive", CLUSTER, "--slice-seconds", "0.5"])
        .unwrap();
    wait_for("the archive", PATIENCE, || archive.stderr().contains("\"phase\":\"streaming\""));
    let slices = std::path::Path::new(site.url()).join("slices");
    let newest = || {
        let mut folders = vec![slices.clone()];
        let mut newest = None;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.path().is_dir() {
                    folders.push(entry.path());
                } else if let Ok(changed) = entry.metadata().and_then(|m| m.modified()) {
                    newest = newest.max(Some(changed));
                }
            }
        }
        newest
    };
    let mut took = Vec::new();
    for n in 0..5 {
        let committed = std::time::SystemTime::now();
        site.server.psql(&format!("INSERT INTO t VALUES ({n})")).unwrap();
        wait_for("a slice", PATIENCE, || newest().is_some_and(|at| at > committed));
        took.push(newest().unwrap().duration_since(committed).unwrap());
    }
    took.sort();
    eprintln!("from before the commit to the slice in the store: {took:?}");
    // The machine may be busy with other tests: the middle one counts.
    assert!(took[2] < Duration::from_secs(1), "{took:?}");
    let ended = archive.terminate(PATIENCE).unwrap();
    let result: Value = ended.json().unwrap();
    assert_eq!(result["durable_lsn"], result["stored_lsn"], "{result}");
}
