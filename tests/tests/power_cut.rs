//! Power cuts of the machine that archives: of what was written to its repository's folder, and to its
//! spool, only what was synced is left. What the server was told to be durable is there all the same.
//!
//! `HOLDFAST_SEED` repeats a run; `HOLDFAST_PROVE_RUNS` makes more cuts of each kind.
#![allow(clippy::unwrap_used)]

use holdfast_tests::{
    cli::Cli,
    pg::TestServer,
    power_cut::PowerCut,
    protected::{CLUSTER, Protected},
    prove_runs,
    random::Random,
    wait_for,
    writers::{self, Writers},
};
use serde_json::Value;
use std::{
    ffi::OsString,
    fs,
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_mins(1);
const MEMBER: &str = "holdfast_shop";
/// Cuts of each kind in an ordinary run.
const SHORT: u32 = 2;

fn windows_end(points: &Value) -> String {
    let windows = points["windows"].as_array().unwrap();
    assert_eq!(windows.len(), 1, "one stretch without a hole: {points}");
    windows[0]["to_lsn"].as_str().unwrap().to_owned()
}

fn is_true(server: &TestServer, sql: &str) -> bool {
    server.psql(&format!("SELECT {sql}")).is_ok_and(|answer| answer == "t")
}

fn power_cuts(major: u32, durability: &str) {
    let name = format!("power_cuts({major}, {durability})");
    let server =
        TestServer::builder(major).wal_segment_size(1).config("autovacuum = off").start().unwrap();
    Writers::prepare(&server).unwrap();
    let place = holdfast_tests::places::temporary("hf-cut-").unwrap();
    let root = place.path().join("disk");
    fs::create_dir(&root).unwrap();
    let dsn = server.dsn();
    let url = root.join("repository").display().to_string();
    let site = Protected::with(server, &dsn, Some(&url), Vec::new()).unwrap();
    site.backup().unwrap();
    // The spool lies on the disk that loses its power; the catalog is a cache.
    fs::create_dir(root.join("spool")).unwrap();
    std::os::unix::fs::symlink(root.join("spool"), site.root().join("home/spool")).unwrap();
    let cut = PowerCut::of(&root, &place.path().join("cut")).unwrap();
    let watched: Cli = site
        .cli
        .clone()
        .envs(cut.environment().into_iter().map(|(name, value)| (OsString::from(name), value)));

    let cuts = prove_runs(SHORT);
    let mut random = Random::announced(&name);
    let began = Instant::now();
    let (mut acknowledged, mut lost_files, mut back) = (Vec::new(), 0, 0);
    let demand = |names: &str| {
        let line = format!("synchronous_standby_names = '{names}'");
        site.server.configure(&line).unwrap();
    };
    let streaming =
        format!("count(*) > 0 FROM pg_stat_replication WHERE application_name = '{MEMBER}'");
    for round in 1..=cuts {
        // What restores and verifications have left is of no interest here.
        cut.begin().unwrap();
        let mut writers = None;
        // Killed once or twice before the power goes: the second may count on what the first had not synced.
        for _ in 0..=random.below(2) {
            let mut archive = watched
                .start(&[
                    "--json",
                    "archive",
                    CLUSTER,
                    "--synchronous",
                    "--arm-sole-member",
                    "--durability",
                    durability,
                    "--slice-seconds",
                    "0.3",
                ])
                .unwrap();
            wait_for("the archive", PATIENCE, || {
                assert!(archive.is_running().unwrap(), "{}", archive.stderr());
                is_true(&site.server, &streaming)
            });
            demand(MEMBER);
            let writers = writers
                .get_or_insert_with(|| Writers::start(&site.server, u64::from(round)).unwrap());
            let more = 10 + usize::try_from(random.below(90)).unwrap();
            let enough = writers.acknowledged().len() + more;
            wait_for("acknowledged rows", PATIENCE, || writers.acknowledged().len() > enough);
            archive.kill().unwrap();
            wait_for("the server to notice", PATIENCE, || {
                is_true(&site.server, "NOT bool_or(active) FROM pg_replication_slots")
            });
        }
        let writers = writers.unwrap();
        acknowledged.extend(writers.acknowledged());
        drop(writers);
        demand("");
        let told = site.server.psql("SELECT restart_lsn FROM pg_replication_slots").unwrap();
        let (lost, returned) = cut.cut().unwrap();
        lost_files += lost;
        back += returned;

        // Up to 0/1 is nothing: the spool is brought to the store, and not a byte is streamed again. The
        // next cut must not take what the spool does not hold any more.
        watched.json(&["archive", CLUSTER, "--once-to", "0/1"]).unwrap();
        lost_files += cut.cut().unwrap().0;
        let archived = windows_end(&site.points().unwrap());
        assert!(
            is_true(&site.server, &format!("'{archived}'::pg_lsn >= '{told}'::pg_lsn")),
            "{name}, cut {round}: the server was told {told}, archived is {archived}"
        );
        if round % 10 == 0 || round == cuts {
            let copy = site.restore("latest", "copy", &["--start"]).unwrap();
            let lost = writers::lost(&copy.psql(writers::ROWS).unwrap(), &acknowledged);
            assert!(lost.is_empty(), "{name}, cut {round}: of {} {lost:?}", acknowledged.len());
            copy.discard().unwrap();
            let verified = site.cli.run(&["--json", "verify", CLUSTER]).unwrap();
            assert_eq!(verified.code, 0, "{name}, cut {round}: {verified}");
        }
    }
    assert!(acknowledged.len() > 10, "{}", acknowledged.len());
    eprintln!(
        "{name}: {cuts} cuts while streaming and as many after a replay, {lost_files} files lost or cut short, {back} \
         came back, {} acknowledged rows, none lost, {:?}",
        acknowledged.len(),
        began.elapsed()
    );
}

#[test]
fn a_power_cut_loses_no_acknowledged_commit_on_15() {
    power_cuts(15, "store");
}

#[test]
fn a_power_cut_loses_no_acknowledged_commit_on_17() {
    power_cuts(17, "store");
}

#[test]
fn a_power_cut_loses_no_acknowledged_commit_of_a_spool_on_15() {
    power_cuts(15, "spool");
}

#[test]
fn a_power_cut_loses_no_acknowledged_commit_of_a_spool_on_17() {
    power_cuts(17, "spool");
}
