//! Replicas through the command: kept up to date, restored from, and told how far they are behind.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::time::Duration;

use holdfast_tests::cli::Cli;
use holdfast_tests::pg::TestServer;
use holdfast_tests::protected::{CLUSTER, Protected, failure};
use holdfast_tests::store::SeaweedFs;
use serde_json::Value;

const SUM: &str = "SELECT count(*), md5(string_agg(title, '' ORDER BY id)) FROM docs";

fn replicate(cli: &Cli, more: &[&str]) -> Value {
    let mut arguments = vec!["replicate", CLUSTER];
    arguments.extend_from_slice(more);
    cli.json(&arguments).unwrap()
}

fn lag(site: &Protected) -> Value {
    let status = replicate(&site.cli, &["--status"]);
    assert_eq!(status["replicas"].as_array().unwrap().len(), 1, "{status}");
    status["replicas"][0]["lag"].clone()
}

#[test]
fn another_region_takes_over() {
    let store = SeaweedFs::start().unwrap();
    store.create_bucket("backups-us").unwrap();
    // The settings of this bucket alone: the repository itself is in a folder.
    let environment: Vec<_> = store
        .env()
        .into_iter()
        .map(|(name, value)| (format!("HOLDFAST_S3_BACKUPS_US_{}", &name["AWS_".len()..]), value))
        .collect();
    let named: Vec<_> = environment.iter().map(|(n, v)| (n.as_str(), v.clone())).collect();
    let server = TestServer::start(17).unwrap();
    server.add_documents(2_000).unwrap();
    let dsn = server.dsn();
    let site = Protected::with(server, &dsn, None, named.clone()).unwrap();
    let (code, error) = failure(&site.cli, &["replicate", CLUSTER]).unwrap();
    assert_eq!((code, &error["code"]), (3, &"no_replica".into()), "{error}");
    site.backup().unwrap();
    site.archive().unwrap();

    let url = "s3://backups-us/shop";
    let first = replicate(&site.cli, &["--to", url]);
    assert_eq!((&first["ok"], &first["replicas"][0]["url"]), (&true.into(), &url.into()));
    assert!(first["replicas"][0]["objects"].as_u64().unwrap() > 5, "{first}");
    // What it is told of itself comes with it: nothing is left to copy.
    assert_eq!(lag(&site)["objects"], 0);

    site.server.psql("UPDATE docs SET title = title || '!' WHERE id <= 500").unwrap();
    let expected = site.server.psql(SUM).unwrap();
    site.backup().unwrap();
    let bad =
        site.server.psql("BEGIN; DELETE FROM docs; SELECT pg_current_xact_id(); COMMIT").unwrap();
    site.archive().unwrap();
    let behind = lag(&site);
    assert!(behind["objects"].as_u64().unwrap() >= 4, "{behind}");
    assert!(behind["bytes"].as_u64().unwrap() > 0, "{behind}");
    let second = replicate(&site.cli, &[]);
    assert_eq!(second["replicas"][0]["objects"], behind["objects"], "{second}");
    assert_eq!(lag(&site)["objects"], 0);

    let score = &replicate(&site.cli, &["--status"])["score"];
    let of =
        ["copies", "media", "off_site", "immutable", "errors"].map(|name| score[name].as_u64());
    assert_eq!(of, [2, 2, 1, 0, 0].map(Some), "{score}");

    // The first region is lost, and the laptop with it.
    fs::remove_dir_all(site.url()).unwrap();
    let other = Cli::new(site.root().join("other-home"))
        .unwrap()
        .env("HOLDFAST_PASSPHRASE", holdfast_tests::protected::PASSPHRASE)
        .envs(environment);
    other.json(&["repo", "attach", url]).unwrap();
    let verified = other.json(&["verify", CLUSTER, "--level", "pages"]).unwrap();
    assert_eq!(verified["ok"], true, "{verified}");
    let target = format!("xid:{bad}");
    let more = ["--exclusive", "--start", "--at-target", "promote"];
    let copy = site.restore_with(&other, &target, "copy", &more).unwrap();
    assert_eq!(copy.psql(SUM).unwrap(), expected);
    copy.discard().unwrap();
    // It is no replica of itself, and is replicated in turn.
    let status = replicate(&other, &["--status"]);
    assert_eq!(status["replicas"], Value::Array(Vec::new()), "{status}");
    let back = site.destination("back");
    let third = replicate(&other, &["--to", &back]);
    assert_eq!(third["ok"], true, "{third}");
    let forgotten = replicate(&other, &["--forget", &back]);
    assert_eq!(forgotten["url"], back.as_str());
    assert_eq!(replicate(&other, &["--status"])["replicas"], Value::Array(Vec::new()));
}

#[test]
fn a_replication_killed_at_any_moment_goes_on() {
    let server = TestServer::start(17).unwrap();
    server.add_documents(5_000).unwrap();
    let site = Protected::new(server).unwrap();
    site.backup().unwrap();
    site.archive().unwrap();
    let to = site.destination("replica");
    // Slow enough to be killed while it copies, the first time and after another backup.
    for round in 0..2 {
        let slow = ["replicate", CLUSTER, "--to", &to, "--limit-rate", "500kB"];
        let mut running = site.cli.start_job(&slow).unwrap();
        assert!(running.reaches("copying"), "round {round}");
        running.kill().unwrap();
        let ended = running.finish(Duration::from_mins(1)).unwrap();
        assert_eq!(ended.code, 137, "{ended}");
        if round == 0 {
            // What is not whole is no repository yet.
            let other = Cli::new(site.root().join("early")).unwrap();
            let other = other.env("HOLDFAST_PASSPHRASE", holdfast_tests::protected::PASSPHRASE);
            let (code, error) = failure(&other, &["repo", "attach", &to]).unwrap();
            assert_eq!((code, &error["code"]), (4, &"not_a_repository".into()), "{error}");
        } else {
            let checked = site.cli.json(&["verify", "--bundle", &to]).unwrap();
            assert_eq!(checked["ok"], true, "{checked}");
        }
        let done = replicate(&site.cli, &[]);
        assert_eq!(done["ok"], true, "{done}");
        assert_eq!(lag(&site)["objects"], 0);
        let checked = site.cli.json(&["verify", "--bundle", &to]).unwrap();
        assert_eq!(checked["ok"], true, "{checked}");
        site.server.psql("UPDATE docs SET title = title || '!'").unwrap();
        site.backup().unwrap();
    }
}

#[test]
fn places_that_are_no_replica_are_refused() {
    let server = TestServer::start(17).unwrap();
    let site = Protected::new(server).unwrap();
    let to = |url: &str| failure(&site.cli, &["replicate", CLUSTER, "--to", url]).unwrap();
    for own in [site.url().to_owned(), format!("{}/inside", site.url())] {
        let (code, error) = to(&own);
        assert_eq!((code, &error["code"]), (2, &"usage".into()), "{error}");
    }
    let other = site.destination("photos");
    fs::create_dir(&other).unwrap();
    fs::write(format!("{other}/summer.jpg"), "a picture").unwrap();
    let (code, error) = to(&other);
    assert_eq!((code, &error["code"]), (3, &"place_occupied".into()), "{error}");
    assert_eq!(fs::read_dir(&other).unwrap().count(), 1);
    let another = site.destination("another");
    site.cli.json(&["repo", "create", &another]).unwrap();
    let (code, error) = to(&another);
    assert_eq!((code, &error["code"]), (3, &"place_occupied".into()), "{error}");
    let (code, error) = to("s3://credentials:in@it/x");
    assert_eq!((code, &error["code"]), (2, &"invalid_url".into()), "{error}");
    // None of them is known from now on.
    let (code, error) = failure(&site.cli, &["replicate", CLUSTER]).unwrap();
    assert_eq!((code, &error["code"]), (3, &"no_replica".into()), "{error}");
    let (code, error) = failure(&site.cli, &["replicate", CLUSTER, "--forget", &other]).unwrap();
    assert_eq!((code, &error["code"]), (4, &"not_found".into()), "{error}");
    let hint = error["hint"].as_str().unwrap();
    assert!(hint.contains("holdfast replicate NAME --status"), "{hint}");
    let slow = ["replicate", CLUSTER, "--to", "/x", "--limit-rate", "fast"];
    assert_eq!(failure(&site.cli, &slow).unwrap().0, 2);
}

#[test]
fn each_replica_tells_for_itself_and_one_that_is_gone_is_not_made_anew() {
    let server = TestServer::start(17).unwrap();
    let site = Protected::new(server).unwrap();
    site.backup().unwrap();
    site.archive().unwrap();
    let [disk, other] = ["disk", "other"].map(|name| site.destination(name));
    for to in [&disk, &other] {
        replicate(&site.cli, &["--to", to]);
    }
    // One is not mounted, and its place is an empty folder.
    fs::rename(&disk, site.destination("unplugged")).unwrap();
    fs::create_dir(&disk).unwrap();
    site.backup().unwrap();
    let finished = site.cli.run(&["--json", "replicate", CLUSTER]).unwrap();
    assert_eq!(finished.code, 3, "{finished}");
    let told = finished.json().unwrap();
    let [missing, whole] = &told["replicas"].as_array().unwrap()[..] else { panic!("{told:#}") };
    assert_eq!(
        (&missing["ok"], &missing["error"]["code"]),
        (&false.into(), &"replica_missing".into())
    );
    assert_eq!((&missing["lag"], &whole["ok"]), (&Value::Null, &true.into()), "{told:#}");
    assert!(whole["objects"].as_u64().unwrap() >= 3, "{told:#}");
    assert_eq!(fs::read_dir(&disk).unwrap().count(), 0);
    // Back again, it goes on where it was.
    fs::remove_dir(&disk).unwrap();
    fs::rename(site.destination("unplugged"), &disk).unwrap();
    let told = replicate(&site.cli, &[]);
    assert_eq!(told["ok"], true, "{told:#}");
    let again = &told["replicas"][0];
    assert!(again["objects"].as_u64() >= whole["objects"].as_u64(), "{told:#}");
    assert_eq!(again["ahead"], 0, "{told:#}");
}

#[test]
fn what_is_damaged_is_told_and_nothing_that_needs_it_is_named() {
    let server = TestServer::start(17).unwrap();
    server.add_documents(2_000).unwrap();
    let site = Protected::new(server).unwrap();
    site.backup().unwrap();
    site.archive().unwrap();
    let pack = walk(&format!("{}/packs", site.url()))
        .into_iter()
        .max_by_key(|path| fs::metadata(path).unwrap().len())
        .unwrap();
    let mut bytes = fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&pack, &bytes).unwrap();
    let to = site.destination("replica");
    let finished = site.cli.run(&["--json", "replicate", CLUSTER, "--to", &to]).unwrap();
    assert_eq!(finished.code, 5, "{finished}");
    let done = &finished.json().unwrap()["replicas"][0];
    let held: Vec<_> = done["held_back"].as_array().unwrap().iter().collect();
    assert!(held.iter().any(|h| pack.ends_with(h["object"].as_str().unwrap())), "{done:#}");
    assert!(done["lag"]["objects"].as_u64().unwrap() >= 3, "{done:#}");
    let checked = site.cli.json(&["verify", "--bundle", &to, "--level", "data"]).unwrap();
    assert_eq!(checked["ok"], true, "{checked:#}");
    assert_eq!(checked["snapshots"], Value::Array(Vec::new()), "{checked:#}");

    bytes[middle] ^= 1;
    fs::write(&pack, &bytes).unwrap();
    let done = replicate(&site.cli, &[]);
    assert_eq!(done["ok"], true, "{done:#}");
    let checked = site.cli.json(&["verify", "--bundle", &to, "--level", "pages"]).unwrap();
    assert_eq!(checked["snapshots"].as_array().unwrap().len(), 1, "{checked:#}");
}

/// Every file below a directory.
fn walk(directory: &str) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    let mut below = vec![std::path::PathBuf::from(directory)];
    while let Some(directory) = below.pop() {
        for entry in fs::read_dir(&directory).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() { below.push(path) } else { files.push(path) }
        }
    }
    files
}
