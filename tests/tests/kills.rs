//! Processes that are killed at any moment, and processes that are asked to stop.
//!
//! What the server was told to be durable is in the repository; what is half done is not listed; the
//! next run goes on. `HOLDFAST_SEED` repeats a run, `HOLDFAST_PROVE_SECONDS` lengthens it.
#![allow(clippy::unwrap_used)]

use holdfast_tests::{
    cli::Running,
    pg::TestServer,
    protected::{CLUSTER, Protected, leftovers},
    prove_duration,
    random::Random,
    wait_for,
    writers::{self, Writers},
};
use rustix::process::Signal;
use serde_json::Value;
use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_mins(1);

fn wait_for_phase(running: &Running, phase: &str) {
    wait_for(phase, PATIENCE, || running.stderr().contains(&format!("\"phase\":\"{phase}\"")));
}

fn start(site: &Protected, arguments: &[&str]) -> Running {
    site.cli.start(&[&["--json", "--progress", "json"], arguments].concat()).unwrap()
}

/// Lets a running command go on for a random while: this is where the moment of the kill comes from.
fn random_pause(random: &mut Random, at_most: Duration) {
    let micros = u64::try_from(at_most.as_micros()).unwrap();
    thread::sleep(Duration::from_micros(random.below(micros)));
}

/// What the server was told: by the slot, and by the walsender's last status.
fn told_durable(server: &TestServer) -> String {
    server
        .psql(
            "SELECT max(lsn) FROM (SELECT restart_lsn AS lsn FROM pg_replication_slots
             UNION ALL SELECT flush_lsn FROM pg_stat_replication) AS told",
        )
        .unwrap()
}

fn at_least(server: &TestServer, lsn: &str, other: &str) -> bool {
    server.psql(&format!("SELECT '{lsn}'::pg_lsn >= '{other}'::pg_lsn")).unwrap() == "t"
}

fn job_of(stderr: &str) -> String {
    let line = stderr.lines().find(|line| line.starts_with('{')).unwrap();
    serde_json::from_str::<Value>(line).unwrap()["job"].as_str().unwrap().to_owned()
}

#[track_caller]
fn only_info(site: &Protected) {
    let told = site.cli.run(&["--json", "verify", CLUSTER]).unwrap();
    assert_eq!(told.code, 0, "{told}");
    let result = told.json().unwrap();
    assert!(
        result["findings"].as_array().unwrap().iter().all(|f| f["severity"] == "info"),
        "{told}"
    );
    // Of jobs that were killed, nobody has to wait for the leases.
    let leases = site.leases().unwrap();
    assert!(leases.is_empty(), "{leases:?}");
}

fn state_of(site: &Protected, job: &str) -> String {
    site.cli.json(&["jobs", "show", job]).unwrap()["job"]["state"].as_str().unwrap().to_owned()
}

#[test]
fn a_killed_archive_has_what_it_acknowledged() {
    let site = Protected::new(TestServer::start(17).unwrap()).unwrap();
    let server = &site.server;
    Writers::prepare(server).unwrap();
    site.backup().unwrap();
    // From now on a commit is acknowledged only when the archive has flushed it.
    server.psql("ALTER SYSTEM SET synchronous_standby_names = '*'").unwrap();
    server.psql("SELECT pg_reload_conf()").unwrap();

    let mut random = Random::announced("a_killed_archive_has_what_it_acknowledged");
    let until = Instant::now() + prove_duration(Duration::from_secs(20));
    let mut acknowledged = Vec::new();
    let mut round = 0;
    while round < 2 || Instant::now() < until {
        round += 1;
        let mut archive = start(&site, &["archive", CLUSTER]);
        wait_for_phase(&archive, "streaming");
        let writers = Writers::start(server, round).unwrap();
        wait_for("the first acknowledged row", PATIENCE, || !writers.acknowledged().is_empty());
        random_pause(&mut random, Duration::from_secs(5));
        let told = told_durable(server);
        archive.kill().unwrap();
        // What was acknowledged a moment after the kill was durable before it.
        acknowledged.extend(writers.acknowledged());
        drop(writers);
        let ended = archive.finish(PATIENCE).unwrap();
        assert_eq!(ended.code, 137, "{ended}");
        assert_eq!(state_of(&site, &job_of(&ended.stderr)), "interrupted");

        let points = site.points().unwrap();
        let windows = points["windows"].as_array().unwrap();
        assert_eq!(windows.len(), 1, "{points}");
        let archived = windows[0]["to_lsn"].as_str().unwrap();
        assert!(at_least(server, archived, &told), "told {told}, archived {archived}");
        let copy = site.restore("latest", "copy", &["--start"]).unwrap();
        let rows = copy.psql(writers::ROWS).unwrap();
        let lost = writers::lost(&rows, &acknowledged);
        assert!(
            lost.is_empty(),
            "round {round}: {} of {} rows are lost: {lost:?}",
            lost.len(),
            acknowledged.len()
        );
        copy.discard().unwrap();
        only_info(&site);
    }
    assert!(acknowledged.len() > 10, "{}", acknowledged.len());
    eprintln!("{round} kills, {} acknowledged rows, none lost", acknowledged.len());
    server.psql("ALTER SYSTEM RESET synchronous_standby_names").unwrap();
    server.psql("SELECT pg_reload_conf()").unwrap();
    // And on it goes, to the end.
    site.archive().unwrap();
    let copy = site.restore("latest", "copy", &["--start"]).unwrap();
    let all = "SELECT count(*) FROM ledger";
    assert_eq!(copy.psql(all).unwrap(), server.psql(all).unwrap());
}

#[test]
fn a_killed_backup_is_not_listed_and_the_next_one_is() {
    let site = Protected::new(TestServer::start(17).unwrap()).unwrap();
    site.server.add_documents(40_000).unwrap();
    let mut random = Random::announced("a_killed_backup_is_not_listed_and_the_next_one_is");
    let until = Instant::now() + prove_duration(Duration::from_secs(15));
    let mut whole = 0;
    let mut killed = 0;
    while killed < 3 || Instant::now() < until {
        // New pages each time, or there would be nothing left to store.
        site.server
            .psql("UPDATE docs SET body = md5(random()::text) || body WHERE id % 5 = 0")
            .unwrap();
        let mut backup = start(&site, &["backup", CLUSTER]);
        let phases = [
            "starting WAL stream",
            "waiting for the server's checkpoint",
            "copying",
            "copying",
            "storing",
            "committing",
        ];
        let phase = phases[usize::try_from(random.below(phases.len() as u64)).unwrap()];
        wait_for(phase, PATIENCE, || {
            backup.stderr().contains(&format!("\"phase\":\"{phase}\""))
                || !backup.is_running().unwrap()
        });
        random_pause(
            &mut random,
            Duration::from_millis(if phase == "copying" { 1500 } else { 120 }),
        );
        backup.kill().unwrap();
        let ended = backup.finish(PATIENCE).unwrap();
        let job = job_of(&ended.stderr);
        let listed = site.points().unwrap()["snapshots"].as_array().unwrap().clone();
        let state = state_of(&site, &job);
        if listed.len() > whole {
            // The kill came after the commit, perhaps even after the job was recorded as done.
            assert_eq!(listed.len(), whole + 1);
            assert!(["interrupted", "succeeded"].contains(&state.as_str()), "{state} in {phase}");
            whole += 1;
        } else {
            assert_eq!(ended.code, 137, "{ended}");
            assert_eq!(state, "interrupted", "killed in {phase}");
            killed += 1;
        }
        for snapshot in &listed {
            restores(&site, snapshot["id"].as_str().unwrap());
        }
        only_info(&site);
        // A temporary base backup holds nothing on the server.
        let sending = "SELECT count(*) FROM pg_stat_progress_basebackup";
        wait_for("the server to notice", PATIENCE, || site.server.psql(sending).unwrap() == "0");
    }
    site.backup().unwrap();
    let listed = site.points().unwrap()["snapshots"].as_array().unwrap().clone();
    assert_eq!(listed.len(), whole + 1);
    restores(&site, listed.last().unwrap()["id"].as_str().unwrap());
    only_info(&site);
    eprintln!("{killed} backups killed before their commit, {whole} after it");
}

/// Fetches a snapshot; PostgreSQL's own verifier compares it with the server's manifest.
fn restores(site: &Protected, snapshot: &str) {
    let copy = site.destination("fetched");
    site.cli
        .json(&[
            "restore",
            "run",
            CLUSTER,
            "--target",
            "immediate",
            "--snapshot",
            snapshot,
            "--to",
            &copy,
            "--fetch-only",
        ])
        .unwrap();
    site.server.verify_backup(Path::new(&copy), &["-n"]).unwrap();
    std::fs::remove_dir_all(&copy).unwrap();
}

/// Socket directories of the servers that a command has started below `root`.
fn socket_folders(root: &Path) -> Vec<String> {
    let mut folders = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(line) = std::fs::read(entry.path().join("cmdline")) else { continue };
        let line = String::from_utf8_lossy(&line).into_owned();
        if line.contains(&root.display().to_string()) {
            let found =
                line.split('\0').find_map(|word| word.strip_prefix("unix_socket_directories="));
            folders.extend(found.map(str::to_owned));
        }
    }
    folders
}

/// Processes whose command line names something below `root`.
fn processes(root: &Path) -> Vec<String> {
    let own = std::process::id();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(line) = std::fs::read(entry.path().join("cmdline")) else { continue };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if pid != own && line.contains(&root.display().to_string()) {
            found.push(line);
        }
    }
    found
}

/// Asks a command to stop; it must say so and be gone in seconds.
#[track_caller]
fn stop(mut running: Running, signal: Signal) -> Option<i32> {
    if !running.is_running().unwrap() {
        return None;
    }
    let began = Instant::now();
    running.signal(signal).unwrap();
    let ended = running.finish(PATIENCE).unwrap();
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}: {ended}", began.elapsed());
    let document = ended.json().unwrap();
    match ended.code {
        0 => assert!(document["error"].is_null(), "{ended}"),
        code => assert_eq!(
            (code, document["error"]["code"].as_str()),
            (8, Some("cancelled")),
            "{ended}"
        ),
    }
    Some(ended.code)
}

#[test]
fn a_backup_that_is_asked_to_stop_leaves_nothing() {
    let site = Protected::new(TestServer::start(17).unwrap()).unwrap();
    site.server.add_documents(40_000).unwrap();
    let temporary = site.root().join("tmp");
    std::fs::create_dir(&temporary).unwrap();
    let mut random = Random::announced("a_backup_that_is_asked_to_stop_leaves_nothing");
    let mut listed = 0;
    for round in 0..4 {
        let cli = site.cli.clone().env("TMPDIR", &temporary);
        let backup = cli.start(&["--json", "--progress", "json", "backup", CLUSTER]).unwrap();
        if round > 0 {
            wait_for_phase(&backup, "connecting");
            random_pause(&mut random, Duration::from_millis(1500));
        } else {
            wait_for_phase(&backup, "copying");
        }
        let job = job_of(&backup.stderr());
        let signal = if round % 2 == 0 { Signal::INT } else { Signal::TERM };
        match stop(backup, signal) {
            Some(8) => assert_eq!(state_of(&site, &job), "cancelled"),
            _ => listed += 1,
        }
        let snapshots = site.points().unwrap()["snapshots"].as_array().unwrap().len();
        assert_eq!(snapshots, listed);
        assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0);
        let left = processes(site.root());
        assert!(left.is_empty(), "{left:?}");
    }
    only_info(&site);
}

#[test]
fn a_restore_that_is_asked_to_stop_leaves_nothing() {
    let site = Protected::new(TestServer::start(17).unwrap()).unwrap();
    site.server.add_documents(30_000).unwrap();
    site.backup().unwrap();
    site.server.psql("UPDATE docs SET title = title || '!'").unwrap();
    site.archive().unwrap();
    let temporary = site.root().join("tmp");
    std::fs::create_dir(&temporary).unwrap();
    let mut random = Random::announced("a_restore_that_is_asked_to_stop_leaves_nothing");
    let mut cancelled = 0;
    for (round, phase) in
        ["", "fetching", "checking files", "replaying", "replaying", "proving"].iter().enumerate()
    {
        let destination = site.destination("copy");
        let cli = site.cli.clone().env("TMPDIR", &temporary);
        let mut restore = cli
            .start(&[
                "--json",
                "--progress",
                "json",
                "restore",
                "run",
                CLUSTER,
                "--target",
                "latest",
                "--to",
                &destination,
                "--start",
            ])
            .unwrap();
        let mut sockets = Vec::new();
        wait_for(phase, PATIENCE, || {
            sockets.extend(socket_folders(Path::new(&destination)));
            // The command must be there to be asked: before that a signal just ends the process.
            phase.is_empty() && !restore.stderr().is_empty()
                || !phase.is_empty() && restore.stderr().contains(&format!("\"phase\":\"{phase}\""))
                || !restore.is_running().unwrap()
        });
        random_pause(&mut random, Duration::from_millis(400));
        sockets.extend(socket_folders(Path::new(&destination)));
        let signal = if round % 2 == 0 { Signal::TERM } else { Signal::INT };
        let code = stop(restore, signal);
        if code == Some(8) {
            cancelled += 1;
            let left = leftovers(Path::new(&destination), None);
            assert!(left.is_empty(), "stopped in {phase:?}: {left:?}");
            let left: Vec<_> = sockets.iter().filter(|folder| Path::new(folder).exists()).collect();
            assert!(left.is_empty(), "stopped in {phase:?}: {left:?}");
        } else {
            let jobs = site.cli.json(&["jobs", "list"]).unwrap();
            let job = jobs["jobs"][0]["id"].as_str().unwrap().to_owned();
            site.cli.json(&["restore", "discard", &job]).unwrap();
        }
        assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0);
    }
    assert!(cancelled > 2, "{cancelled}");
    // Not even a socket's directory of a server that was just about to start.
    only_info(&site);
}

#[test]
fn a_demo_that_is_asked_to_stop_leaves_nothing() {
    let mut random = Random::announced("a_demo_that_is_asked_to_stop_leaves_nothing");
    for (round, phase) in
        ["starting a private server", "creating a repository", "replaying"].iter().enumerate()
    {
        let home = tempfile::tempdir().unwrap();
        let temporary = tempfile::tempdir().unwrap();
        // The demo's servers run under another account.
        std::fs::set_permissions(
            temporary.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .unwrap();
        let cli =
            holdfast_tests::cli::Cli::new(home.path()).unwrap().env("TMPDIR", temporary.path());
        let mut demo = cli.start(&["--json", "--progress", "json", "demo", "--headless"]).unwrap();
        let mut sockets = Vec::new();
        wait_for(phase, PATIENCE, || {
            sockets.extend(socket_folders(temporary.path()));
            demo.stderr().contains(&format!("\"phase\":\"{phase}\"")) || !demo.is_running().unwrap()
        });
        random_pause(&mut random, Duration::from_millis(500));
        sockets.extend(socket_folders(temporary.path()));
        stop(demo, if round % 2 == 0 { Signal::INT } else { Signal::TERM });
        let left = processes(temporary.path());
        assert!(left.is_empty(), "stopped in {phase}: {left:?}");
        let left: Vec<_> =
            std::fs::read_dir(temporary.path()).unwrap().flatten().map(|e| e.path()).collect();
        assert!(left.is_empty(), "stopped in {phase}: {left:?}");
        let left: Vec<_> = sockets.iter().filter(|folder| Path::new(folder).exists()).collect();
        assert!(left.is_empty(), "stopped in {phase}: {left:?}");
    }
}

#[test]
fn an_archive_that_is_asked_to_stop_keeps_what_it_received() {
    let site = Protected::new(TestServer::start(15).unwrap()).unwrap();
    site.backup().unwrap();
    for signal in [Signal::INT, Signal::TERM] {
        let archive = start(&site, &["archive", CLUSTER]);
        wait_for_phase(&archive, "streaming");
        site.server.psql("CREATE TABLE IF NOT EXISTS t (n int); INSERT INTO t VALUES (1)").unwrap();
        let written = site.server.psql("SELECT pg_current_wal_flush_lsn()").unwrap();
        let sent = format!(
            "SELECT coalesce(max(sent_lsn) >= '{written}', false) FROM pg_stat_replication"
        );
        wait_for("the WAL to be sent", PATIENCE, || site.server.psql(&sent).unwrap() == "t");
        assert_eq!(stop(archive, signal), Some(0));
        let points = site.points().unwrap();
        let archived = points["windows"][0]["to_lsn"].as_str().unwrap();
        assert!(
            at_least(&site.server, archived, &written),
            "written {written}, archived {archived}"
        );
    }
}
