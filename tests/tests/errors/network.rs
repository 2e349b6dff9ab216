//! Networks and stores that fail in the middle.

use super::{fails, unlocked};
use holdfast_tests::{
    pg::TestServer,
    places::free_port,
    protected::{CLUSTER, Protected},
    proxy::{Direction, Fault, FaultProxy},
    store::SeaweedFs,
    wait_for,
};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_mins(2);

#[test]
fn a_store_that_is_not_there_is_told_soon() {
    let home = tempfile::tempdir().unwrap();
    let port = free_port().unwrap();
    let cli = unlocked(home.path())
        .env("AWS_ACCESS_KEY_ID", "x")
        .env("AWS_SECRET_ACCESS_KEY", "y")
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{port}"))
        .env("AWS_ALLOW_HTTP", "true");
    let began = Instant::now();
    let error =
        fails(&cli, &["repo", "create", "s3://nowhere/backups"], 7, "repository_unreachable");
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
    assert!(!error.to_string().contains("\"y\""));
    // Whoever does not want to wait is not held up either.
    let running = cli.start(&["--json", "repo", "attach", "s3://nowhere/backups"]).unwrap();
    let began = Instant::now();
    std::thread::sleep(Duration::from_millis(300));
    let ended = running.terminate(Duration::from_secs(20)).unwrap();
    assert_eq!(ended.code, 8, "{ended}");
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

#[test]
fn a_cut_connection_costs_a_backup_and_nothing_else() {
    let server = TestServer::start(17).unwrap();
    server.add_documents(60_000).unwrap();
    // The slot begins here, so that the WAL stream is short.
    server.psql("CHECKPOINT").unwrap();
    let proxy = FaultProxy::start(server.address()).unwrap();
    let dsn = server.dsn_at("127.0.0.1", proxy.port());
    let site = Protected::with(server, &dsn, None, Vec::new()).unwrap();
    let backup = ["backup", CLUSTER, "--wire-compression", "none"];
    // More than the WAL stream carries beside it: a cut of that one is mended without a word.
    for fault in [Fault::Cut, Fault::Reset] {
        proxy.once(Direction::ToClient, 60_000_000, fault);
        let error = fails(&site.cli, &backup, 7, "connection_closed");
        assert!(error["message"].as_str().unwrap().len() > 20, "{error}");
        assert!(site.points().unwrap()["snapshots"].as_array().unwrap().is_empty());
    }
    // A byte turned over on the way: PostgreSQL's own manifest tells.
    proxy.heal();
    proxy.once(Direction::ToClient, 60_000_000, Fault::Corrupt);
    let (code, error) = holdfast_tests::protected::failure(&site.cli, &backup).unwrap();
    assert!(code == 5 || error["code"] == "protocol_violation", "{code}: {error}");
    assert!(site.points().unwrap()["snapshots"].as_array().unwrap().is_empty());
    proxy.heal();
    site.backup().unwrap();
    let verified = site.cli.json(&["verify", CLUSTER]).unwrap();
    assert!(
        verified["findings"].as_array().unwrap().iter().all(|f| f["severity"] == "info"),
        "{verified}"
    );
}

#[test]
fn an_archive_goes_on_after_cuts() {
    let server = TestServer::start(15).unwrap();
    let proxy = FaultProxy::start(server.address()).unwrap();
    let dsn = server.dsn_at("127.0.0.1", proxy.port());
    let site = Protected::with(server, &dsn, None, Vec::new()).unwrap();
    site.backup().unwrap();
    site.server.psql("CREATE TABLE t (n int, text text)").unwrap();
    let archive = site
        .cli
        .start(&["--json", "--progress", "json", "archive", CLUSTER, "--once-to", "0/8000000"])
        .unwrap();
    let streams = || archive.stderr().matches("streaming timeline").count();
    wait_for("the stream", PATIENCE, || streams() == 1);
    for round in 1..=3 {
        site.server
            .psql(
                "INSERT INTO t SELECT n, repeat(md5(n::text), 10) FROM generate_series(1, 20000) n",
            )
            .unwrap();
        proxy.reset_all();
        wait_for("the next stream", PATIENCE, || streams() == round + 1);
    }
    // Enough WAL for the asked position.
    site.server
        .psql("INSERT INTO t SELECT n, repeat(md5(n::text), 20) FROM generate_series(1, 200000) n")
        .unwrap();
    let ended = archive.finish(PATIENCE).unwrap();
    assert_eq!(ended.code, 0, "{ended}");
    let copy = site.restore("latest", "copy", &["--start"]).unwrap();
    let counted: u64 = copy.psql("SELECT count(*) FROM t").unwrap().parse().unwrap();
    assert!(counted >= 60_000, "{counted}");
}

#[test]
fn a_slow_store_is_slow_and_not_wrong() {
    let store = SeaweedFs::start().unwrap();
    store.create_bucket("slow").unwrap();
    let proxy = FaultProxy::start(store.address()).unwrap();
    proxy.set_latency(Duration::from_millis(60));
    proxy.set_bandwidth(Some(8_000_000));
    let environment = store.env_at(&format!("http://127.0.0.1:{}", proxy.port()));
    let server = TestServer::start(17).unwrap();
    server.add_documents(20_000).unwrap();
    let dsn = server.dsn();
    let site = Protected::with(server, &dsn, Some("s3://slow/backups"), environment).unwrap();
    let backup = site.cli.start(&["--json", "--progress", "json", "backup", CLUSTER]).unwrap();
    wait_for("the copy", PATIENCE, || backup.stderr().contains("\"phase\":\"copying\""));
    // A store that hangs for a while in the middle.
    proxy.set_stalled(true);
    std::thread::sleep(Duration::from_secs(4));
    proxy.set_stalled(false);
    let ended = backup.finish(PATIENCE).unwrap();
    assert_eq!(ended.code, 0, "{ended}");
    assert_eq!(site.cli.json(&["verify", CLUSTER]).unwrap()["ok"], true);
}
