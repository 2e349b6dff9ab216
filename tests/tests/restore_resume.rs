//! Restores whose process is killed at any moment: nobody is left behind, nothing half can be started,
//! and the job goes on. `HOLDFAST_SEED` repeats a run, `HOLDFAST_PROVE_RUNS` lengthens it.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use holdfast_tests::pg::{StopMode, TestServer};
use holdfast_tests::protected::{CLUSTER, Protected, failure, leftovers, no_server_of};
use holdfast_tests::proxy::FaultProxy;
use holdfast_tests::random::Random;
use holdfast_tests::store::SeaweedFs;
use holdfast_tests::{prove_runs, wait_for};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_mins(1);
/// The phases of a restore, in order.
const PHASES: [&str; 5] = ["fetching", "syncing", "checking files", "replaying", "proving"];
const SUM: &str = "SELECT count(*), md5(string_agg(title, '' ORDER BY id)) FROM docs";

fn site() -> Protected {
    let server = TestServer::start(17).unwrap();
    server.add_documents(20_000).unwrap();
    let site = Protected::new(server).unwrap();
    site.backup().unwrap();
    site.server.psql("UPDATE docs SET title = title || '!'").unwrap();
    site.archive().unwrap();
    site
}

/// Kills a restore in a phase, at a random moment of it; gives its job, or none when it had ended well
/// before.
fn killed(
    site: &Protected,
    arguments: &[&str],
    phase: &str,
    random: &mut Random,
) -> Option<String> {
    let mut restore = site.cli.start_job(arguments).unwrap();
    restore.reaches(phase);
    // Where in the phase the kill comes is chance.
    std::thread::sleep(Duration::from_micros(random.below(300_000)));
    let job = restore.job();
    restore.kill().unwrap();
    let ended = restore.finish(PATIENCE).unwrap();
    (ended.code == 137 && self::job(site, &job)["state"] != "succeeded").then_some(job)
}

fn has_server(data: &Path) -> bool {
    leftovers(data, None).iter().any(|left| left.contains("postgres"))
}

/// [`SUM`] of a restored copy, as psql prints it.
fn sum_of(site: &Protected, job: &str) -> String {
    let seen = site.cli.json(&["restore", "inspect", job, "--sql", SUM]).unwrap();
    let row = &seen["rows"][0];
    format!("{}|{}", row[0].as_str().unwrap(), row[1].as_str().unwrap())
}

fn job(site: &Protected, job: &str) -> Value {
    site.cli.json(&["jobs", "show", job]).unwrap()["job"].clone()
}

/// Whether PostgreSQL itself would start on a directory.
fn can_be_started(data: &Path) -> bool {
    data.join("global/pg_control").exists()
}

#[test]
fn catalogue_19_a_resume_trusts_nothing() {
    let site = site();
    let expected = site.server.psql(SUM).unwrap();
    let mut random = Random::announced("catalogue_19_a_resume_trusts_nothing");
    let to = site.destination("copy");
    let data = Path::new(&to);
    let run = ["restore", "run", CLUSTER, "--target", "latest", "--to", &to, "--start"];
    let id = killed(&site, &run, "syncing", &mut random).expect("a restore that takes a while");
    no_server_of(data);
    let shown = job(&site, &id);
    assert_eq!((&shown["state"], &shown["resumable"]), (&"interrupted".into(), &true.into()));

    // What the killed run had fetched is not what it was: one file has rotted, one is gone.
    let mut files: Vec<_> = fs::read_dir(data.join("base/1")).unwrap().flatten().collect();
    files.sort_by_key(|e| e.metadata().unwrap().len());
    let rotten = files.pop().unwrap().path();
    let mut bytes = fs::read(&rotten).unwrap();
    bytes[8000] ^= 1;
    fs::write(&rotten, bytes).unwrap();
    fs::remove_file(files.pop().unwrap().path()).unwrap();

    let result = site.cli.json(&["restore", "resume", &id]).unwrap();
    assert_eq!(result["verified"], true, "{result:#}");
    assert_eq!(result["job"], id.as_str());
    assert!(result["bytes_reused"].as_u64().unwrap() > 0, "{result:#}");
    assert!(result["bytes_written"].as_u64().unwrap() > 0, "{result:#}");
    let dsn = result["dsn"].as_str().unwrap();
    assert_eq!(sum_of(&site, &id), expected);
    let shown = job(&site, &id);
    assert_eq!((&shown["state"], &shown["resumable"]), (&"succeeded".into(), &false.into()));
    let (code, error) = failure(&site.cli, &["restore", "resume", &id]).unwrap();
    assert_eq!((code, error["code"].as_str().unwrap()), (3, "nothing_to_resume"));
    site.cli.json(&["restore", "discard", &id]).unwrap();
    let left = leftovers(data, Some(dsn));
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_restore_killed_at_any_moment_goes_on() {
    let site = site();
    let expected = site.server.psql(SUM).unwrap();
    let mut random = Random::announced("a_restore_killed_at_any_moment_goes_on");
    let runs = prove_runs(3);
    let (mut kills, mut backups, mut exact) = (0, 0, 0);
    for round in 0..runs {
        // A backup that is killed leaves nothing that a restore could take.
        let mut backup = site.cli.start_job(&["backup", CLUSTER]).unwrap();
        backup.job();
        std::thread::sleep(Duration::from_micros(random.below(2_000_000)));
        backup.kill().unwrap();
        backups += u32::from(backup.finish(PATIENCE).unwrap().code == 137);
        if round % 10 == 0 {
            site.backup().unwrap();
        }
        // A path that looks like something temporary is a path like any other (failure catalogue 22).
        let to = site.destination(&format!("copy.tmp.{round}"));
        let data = Path::new(&to);
        let phase = PHASES[usize::try_from(random.below(PHASES.len() as u64)).unwrap()];
        let run = ["restore", "run", CLUSTER, "--target", "latest", "--to", &to, "--start"];
        let mut next = killed(&site, &run, phase, &mut random);
        let mut id = next.clone();
        // Each resumption may be killed again.
        while let Some(killed_job) = next.take() {
            kills += 1;
            no_server_of(data);
            let interrupted = job(&site, &killed_job);
            assert!(
                interrupted["state"] == "interrupted" || interrupted["state"] == "running",
                "{interrupted}"
            );
            id = Some(killed_job.clone());
            if random.below(3) == 0 {
                let phase = PHASES[usize::try_from(random.below(PHASES.len() as u64)).unwrap()];
                next = killed(&site, &["restore", "resume", &killed_job], phase, &mut random);
            } else {
                let result = site.cli.json(&["restore", "resume", &killed_job]).unwrap();
                assert_eq!(result["verified"], true, "killed in {phase}: {result:#}");
            }
        }
        let id = id.unwrap_or_else(|| {
            site.cli.json(&["jobs", "list"]).unwrap()["jobs"][0]["id"].as_str().unwrap().to_owned()
        });
        assert_eq!(job(&site, &id)["state"], "succeeded");
        // Killed in the moment after it was recorded, it ends with its server.
        if has_server(data) {
            assert_eq!(sum_of(&site, &id), expected);
            exact += 1;
        }
        site.cli.json(&["restore", "discard", &id]).unwrap();
        let left = leftovers(data, None);
        assert!(left.is_empty(), "{left:?}");
        // Nor does anybody have to wait for those that were killed.
        let leases = site.leases().unwrap();
        assert!(leases.is_empty(), "{leases:?}");
    }
    eprintln!(
        "{runs} restores: {kills} kills of them, {backups} of backups; {exact} exact results, no orphan process, no \
         stale lease"
    );
}

#[test]
fn what_was_interrupted_cannot_be_started_and_can_be_taken_back() {
    let mut site = site();
    let to = site.destination("copy");
    let data = Path::new(&to);
    let run = ["restore", "run", CLUSTER, "--target", "latest", "--to", &to, "--start"];
    let mut restore = site.cli.start_job(&run).unwrap();
    assert!(restore.reaches("fetching"));
    let id = restore.job();
    restore.kill().unwrap();
    assert_eq!(restore.finish(PATIENCE).unwrap().code, 137);
    no_server_of(data);
    assert!(!can_be_started(data));
    // Another directory in its place is not what the restore has left.
    let own = site.root().join("what-the-restore-wrote");
    fs::rename(data, &own).unwrap();
    fs::create_dir(data).unwrap();
    fs::write(data.join("notes"), "somebody else's").unwrap();
    for command in ["resume", "discard"] {
        let (code, error) = failure(&site.cli, &["restore", command, &id]).unwrap();
        assert_eq!((code, error["code"].as_str().unwrap()), (3, "directory_replaced"), "{error}");
    }
    assert_eq!(fs::read_to_string(data.join("notes")).unwrap(), "somebody else's");
    fs::remove_dir_all(data).unwrap();
    fs::rename(&own, data).unwrap();
    site.cli.json(&["restore", "discard", &id]).unwrap();
    let left = leftovers(data, None);
    assert!(left.is_empty(), "{left:?}");

    // Over a directory there is no undo: it cannot be started until the restore has gone on.
    site.server.stop(StopMode::Fast).unwrap();
    let over = site.server.data().display().to_string();
    let run = [
        "restore",
        "run",
        CLUSTER,
        "--target",
        "latest",
        "--to",
        &over,
        "--delta",
        "--at-target",
        "promote",
    ];
    let mut restore = site.cli.start_job(&run).unwrap();
    assert!(restore.reaches("fetching"));
    let id = restore.job();
    restore.kill().unwrap();
    assert_eq!(restore.finish(PATIENCE).unwrap().code, 137);
    assert!(!can_be_started(site.server.data()));
    let (code, _) = failure(&site.cli, &run).unwrap();
    assert_eq!(code, 3, "what is left is nobody's data directory");
    let result = site.cli.json(&["restore", "resume", &id]).unwrap();
    assert_eq!(result["verified"], true, "{result:#}");
    site.server.start_again().unwrap();
    assert_eq!(
        site.server.psql("SELECT count(*) FROM docs WHERE title LIKE '%!'").unwrap(),
        "20000"
    );
}

#[test]
fn a_restore_pauses_and_goes_on() {
    let site = site();
    let to = site.destination("copy");
    let run = ["restore", "run", CLUSTER, "--target", "latest", "--to", &to];
    let mut restore = site.cli.start_job(&run).unwrap();
    let id = restore.job();
    site.cli.json(&["restore", "pause", &id]).unwrap();
    wait_for("the pause", PATIENCE, || restore.stderr().contains("\"message\":\"paused\""));
    assert!(restore.is_running().unwrap());
    let shown = job(&site, &id);
    assert_eq!((&shown["state"], &shown["paused"]), (&"running".into(), &true.into()));
    site.cli.json(&["restore", "resume", &id]).unwrap();
    let ended = restore.finish(PATIENCE).unwrap();
    assert_eq!(ended.code, 0, "{ended}");
    assert_eq!(ended.json().unwrap()["verified"], true);
    let (code, error) = failure(&site.cli, &["restore", "pause", &id]).unwrap();
    assert_eq!((code, error["code"].as_str().unwrap()), (3, "job_not_running"));
    site.cli.json(&["restore", "discard", &id]).unwrap();
}

#[test]
fn a_step_that_is_killed_is_ended_by_resume() {
    let server = TestServer::start(17).unwrap();
    server.psql("CREATE TABLE t (n int)").unwrap();
    let site = Protected::new(server).unwrap();
    site.backup().unwrap();
    for n in 1..=3 {
        site.server.psql(&format!("INSERT INTO t VALUES ({n})")).unwrap();
    }
    site.archive().unwrap();
    let to = site.destination("copy");
    let result = site
        .cli
        .json(&[
            "restore",
            "run",
            CLUSTER,
            "--target",
            "immediate",
            "--to",
            &to,
            "--start",
            "--at-target",
            "pause",
        ])
        .unwrap();
    let id = result["job"].as_str().unwrap();
    let mut step = site.cli.start_job(&["restore", "step", id, "3"]).unwrap();
    assert!(step.reaches("replaying"));
    step.kill().unwrap();
    step.finish(PATIENCE).unwrap();
    no_server_of(Path::new(&to));
    let resumed = site.cli.json(&["restore", "resume", id]).unwrap();
    assert_eq!(resumed["verified"], true, "{resumed:#}");
    let seen =
        site.cli.json(&["restore", "inspect", id, "--sql", "SELECT count(*) FROM t"]).unwrap();
    assert_eq!(seen["rows"][0][0], "3", "{resumed:#}");
    site.cli.json(&["restore", "discard", id]).unwrap();
    assert!(leftovers(Path::new(&to), None).is_empty());
}

/// A data directory, and a repository, whose names look like something temporary are like any other.
#[test]
fn catalogue_22_a_path_with_tmp_is_a_path_like_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let url = folder.path().join("backups.tmp.7/shop.tmp").display().to_string();
    let server = TestServer::start(15).unwrap();
    server.psql("CREATE TABLE t AS SELECT 1 AS n").unwrap();
    let dsn = server.dsn();
    let site = Protected::with(server, &dsn, Some(&url), Vec::new()).unwrap();
    site.backup().unwrap();
    site.server.psql("INSERT INTO t VALUES (2)").unwrap();
    site.archive().unwrap();
    let copy = site.restore("latest", "orders.tmp.1", &["--start"]).unwrap();
    assert_eq!(copy.psql("SELECT count(*) FROM t").unwrap(), "2");
    copy.discard().unwrap();
}

/// The store goes away in the middle of a restore and stays away: the restore asks again for a while,
/// keeps what it has, and goes on when it is told to.
#[test]
fn a_restore_whose_store_is_away_for_too_long_goes_on_later() {
    let store = SeaweedFs::start().unwrap();
    store.create_bucket("backups").unwrap();
    let proxy = FaultProxy::start(store.address()).unwrap();
    let mut environment = store.env_at(&format!("http://127.0.0.1:{}", proxy.port()));
    environment.push(("HOLDFAST_STORE_PATIENCE", "1".to_owned()));
    let server = TestServer::start(17).unwrap();
    server.add_documents(20_000).unwrap();
    let dsn = server.dsn();
    let site = Protected::with(server, &dsn, Some("s3://backups/shop"), environment).unwrap();
    site.backup().unwrap();
    let expected = site.server.psql(SUM).unwrap();
    site.archive().unwrap();
    let to = site.destination("copy");
    let run = ["restore", "run", CLUSTER, "--target", "latest", "--to", &to, "--start"];
    proxy.set_bandwidth(Some(2_000_000));
    let mut restore = site.cli.start_job(&run).unwrap();
    assert!(restore.reaches("fetching"));
    wait_for("some of it", PATIENCE, || restore.stderr().contains("\"kind\":\"progress\""));
    proxy.set_refusing(true);
    proxy.reset_all();
    let ended = restore.finish(PATIENCE).unwrap();
    assert_eq!(ended.code, 7, "{ended}");
    let error = &ended.json().unwrap()["error"];
    assert_eq!(error["retryable"], true, "{error}");
    assert!(error["hint"].as_str().unwrap().contains("restore resume"), "{error}");
    assert!(ended.stderr.contains("trying again"), "{ended}");
    let id = ended.progress()[0]["job"].as_str().unwrap().to_owned();
    let shown = job(&site, &id);
    assert_eq!((&shown["state"], &shown["resumable"]), (&"failed".into(), &true.into()));
    assert!(!can_be_started(Path::new(&to)));

    proxy.heal();
    proxy.set_refusing(false);
    proxy.set_bandwidth(None);
    let result = site.cli.json(&["restore", "resume", &id]).unwrap();
    assert_eq!(result["verified"], true, "{result:#}");
    assert_eq!(sum_of(&site, &id), expected);
    site.cli.json(&["restore", "discard", &id]).unwrap();
    assert!(leftovers(Path::new(&to), None).is_empty());
}
