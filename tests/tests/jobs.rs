//! Jobs as other processes see them: listed, shown, watched from any event on, asked to stop.
#![allow(clippy::unwrap_used)]

use holdfast_tests::{
    cli::{Cli, Running},
    pg::TestServer,
    protected::{CLUSTER, Protected, failure},
    proxy::FaultProxy,
};
use serde_json::Value;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_mins(1);

fn show(cli: &Cli, job: &str) -> Value {
    cli.json(&["jobs", "show", job]).unwrap()
}

/// The numbers of events must follow each other without a hole.
fn numbers(events: &[Value]) -> Vec<u64> {
    let numbers: Vec<_> = events.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    numbers
}

/// A backup through this proxy takes minutes: there is time to look at it.
fn slow_backup(site: &Protected, proxy: &FaultProxy) -> Running {
    proxy.set_bandwidth(Some(400_000));
    let mut backup =
        site.cli.start_job(&["backup", CLUSTER, "--wire-compression", "none"]).unwrap();
    assert!(backup.reaches("copying"));
    backup
}

fn behind_a_proxy() -> (Protected, FaultProxy) {
    let server = TestServer::start(17).unwrap();
    let proxy = FaultProxy::start(server.address()).unwrap();
    let dsn = server.dsn_at("127.0.0.1", proxy.port());
    (Protected::with(server, &dsn, None, Vec::new()).unwrap(), proxy)
}

#[test]
fn a_running_job_is_seen_and_stopped_from_another_process() {
    let (site, proxy) = behind_a_proxy();
    let backup = slow_backup(&site, &proxy);
    let job = backup.job();

    let listed = site.cli.json(&["jobs", "list"]).unwrap();
    let listed = listed["jobs"].as_array().unwrap();
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(listed[0]["id"], job.as_str());
    assert_eq!(listed[0]["kind"], "backup");
    assert_eq!(listed[0]["cluster"], CLUSTER);
    assert_eq!(listed[0]["state"], "running");
    assert_eq!(listed[0]["phase"], "copying");
    assert!(listed[0]["finished_at"].is_null());
    assert!(show(&site.cli, &job)["result"].is_null());

    // Many looks at once must not take each other for the process that runs the job.
    let lookers: Vec<_> =
        (0..4).map(|_| site.cli.start(&["--json", "jobs", "list"]).unwrap()).collect();
    for looker in lookers {
        assert_eq!(looker.finish(PATIENCE).unwrap().json().unwrap()["jobs"][0]["state"], "running");
    }

    let mut watcher = site.cli.start_job(&["jobs", "attach", &job]).unwrap();
    assert!(watcher.reaches("copying"));

    let began = Instant::now();
    let answer = site.cli.json(&["jobs", "cancel", &job]).unwrap();
    assert_eq!(answer["cancelling"], job.as_str());
    let ended = backup.finish(PATIENCE).unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(ended.code, 8, "{ended}");
    assert_eq!(ended.json().unwrap()["error"]["code"], "cancelled");

    let watched = watcher.finish(PATIENCE).unwrap();
    assert_eq!(watched.code, 0, "{watched}");
    assert_eq!(watched.json().unwrap()["job"]["state"], "cancelled");
    let events = watched.progress();
    assert_eq!(numbers(&events)[0], 1);
    assert_eq!(events.last().unwrap()["kind"], "cancelled");
    // What was watched is what the job itself reported.
    assert_eq!(numbers(&events), numbers(&ended.progress()));

    let shown = show(&site.cli, &job);
    assert_eq!(shown["job"]["state"], "cancelled");
    assert!(shown["job"]["finished_at"].is_string());
    let (code, error) = failure(&site.cli, &["jobs", "cancel", &job]).unwrap();
    assert_eq!((code, error["code"].as_str()), (3, Some("job_not_running")));
    assert!(site.points().unwrap()["snapshots"].as_array().unwrap().is_empty());
}

#[test]
fn an_archive_stops_when_it_is_asked_to() {
    let site = Protected::new(TestServer::start(15).unwrap()).unwrap();
    let mut archive = site.cli.start_job(&["archive", CLUSTER]).unwrap();
    assert!(archive.reaches("streaming"));
    let job = archive.job();
    assert_eq!(show(&site.cli, &job)["job"]["state"], "running");
    let began = Instant::now();
    site.cli.json(&["jobs", "cancel", &job]).unwrap();
    let ended = archive.finish(PATIENCE).unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    // Streaming until somebody stops it is what it was asked for.
    assert_eq!(ended.code, 0, "{ended}");
    assert!(ended.json().unwrap()["durable_lsn"].is_string());
    assert_eq!(show(&site.cli, &job)["job"]["state"], "succeeded");

    // Up to a position that never came is another matter.
    let mut archive = site.cli.start_job(&["archive", CLUSTER, "--once-to", "F/0"]).unwrap();
    assert!(archive.reaches("streaming"));
    let job = archive.job();
    site.cli.json(&["jobs", "cancel", &job]).unwrap();
    let ended = archive.finish(PATIENCE).unwrap();
    assert_eq!(ended.code, 8, "{ended}");
    assert_eq!(ended.json().unwrap()["error"]["code"], "cancelled");
    assert_eq!(show(&site.cli, &job)["job"]["state"], "cancelled");
}

#[test]
fn the_journal_can_be_read_again_from_any_event() {
    let site = Protected::new(TestServer::start(17).unwrap()).unwrap();
    site.server.add_documents(20_000).unwrap();
    let ended = site.cli.run(&["--json", "--progress", "json", "backup", CLUSTER]).unwrap();
    assert_eq!(ended.code, 0, "{ended}");
    let result = ended.json().unwrap();
    let job = result["job"].as_str().unwrap();
    let reported = ended.progress();
    assert_eq!(numbers(&reported)[0], 1);
    assert_eq!(reported.last().unwrap()["kind"], "finished");
    for event in &reported {
        for field in [
            "job",
            "seq",
            "phase",
            "done",
            "total",
            "unit",
            "rate",
            "replayed_to",
            "target",
            "message",
        ] {
            assert!(event.get(field).is_some(), "no {field} in {event}");
        }
        assert_eq!(event["job"], job);
        // What is not known is null; a total that is 0 would be an invention.
        assert_ne!(event["total"], 0);
    }

    let attach = |from: u64| {
        let from = from.to_string();
        let told = site
            .cli
            .run(&["--json", "--progress", "json", "jobs", "attach", job, "--from-seq", &from])
            .unwrap();
        assert_eq!(told.code, 0, "{told}");
        assert_eq!(told.json().unwrap()["job"]["state"], "succeeded");
        told.progress()
    };
    assert_eq!(attach(1), reported);
    let last = reported.len() as u64;
    assert_eq!(attach(3), reported[2..]);
    assert_eq!(attach(last), reported[reported.len() - 1..]);
    assert!(attach(last + 1).is_empty());

    let shown = show(&site.cli, job);
    assert_eq!(shown["result"]["snapshot"]["id"], result["snapshot"]["id"]);
    assert_eq!(shown["job"]["kind"], "backup");
}

#[test]
fn there_are_no_jobs_but_those_there_are() {
    let home = tempfile::tempdir().unwrap();
    let cli = Cli::new(home.path()).unwrap();
    assert_eq!(cli.json(&["jobs", "list"]).unwrap()["jobs"].as_array().unwrap().len(), 0);
    for command in ["show", "attach", "cancel"] {
        for id in ["0198f0a0-0000-7000-8000-000000000000", "nonsense"] {
            let (code, error) = failure(&cli, &["jobs", command, id]).unwrap();
            assert_eq!((code, error["code"].as_str()), (4, Some("not_found")), "{command} {id}");
        }
    }
}
