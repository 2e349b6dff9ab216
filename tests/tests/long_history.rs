//! A long history, written in the repository's own format without a server: is it drawn rightly, and
//! how fast?
//!
//! The small one is a test. `cargo xtask bench --timeline` runs the same with ninety thousand snapshots
//! and a hundred million commits: `HOLDFAST_HISTORY=<commits>,<snapshots>,<folder>`.
#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss
)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{StreamExt as _, TryStreamExt as _};
use holdfast_engine::archive::{Leg, PointEvent, SegmentIndex, TransactionEnd, TransactionKind};
use holdfast_engine::cluster::Cluster;
use holdfast_engine::repository::recovery_key_from_text;
use holdfast_engine::secrets::GivenSecrets;
use holdfast_engine::snapshot::Snapshot;
use holdfast_engine::{Engine, Home};
use holdfast_postgres::{
    Lsn, PgTimestamp, RecordSpan, SegmentNo, TimelineId, WalFileName, WalSegmentSize, Xid,
};
use holdfast_repository::{EntryKind, FileEntry, FileTableRef, ObjectKind, PutKind, Repository};
use holdfast_tests::cli::Cli;
use holdfast_tests::places::{age, files_below};
use holdfast_tests::protected::{PASSPHRASE, failure};
use rustix::process::Signal;
use serde_json::{Value, json};

const NAME: &str = "ten-years";
const SYSTEM: &str = "7000000000000000001";
const CLUSTER: &str = "01900000-0000-7000-8000-000000000001";
const SEGMENT: u64 = 16 << 20;
/// As many as WAL of a kilobyte a transaction has in one segment.
const COMMITS_PER_SEGMENT: u64 = 16_384;
const YEARS: i64 = 10;

/// How long a history is written, and where.
struct Size {
    commits: u64,
    snapshots: u64,
    folder: PathBuf,
    /// Left where it is, for the browser.
    kept: bool,
    /// Its snapshots have content, each some of its own and some in common.
    stored: bool,
}

impl Size {
    fn asked() -> Option<Self> {
        let text = std::env::var("HOLDFAST_HISTORY").ok()?;
        let mut parts = text.splitn(3, ',');
        Some(Self {
            commits: parts.next()?.parse().ok()?,
            snapshots: parts.next()?.parse().ok()?,
            folder: parts.next()?.into(),
            kept: true,
            stored: false,
        })
    }

    fn segments(&self) -> u64 {
        self.commits.div_ceil(self.per_segment())
    }

    fn per_segment(&self) -> u64 {
        COMMITS_PER_SEGMENT.min(self.commits.div_ceil(40))
    }
}

fn begin() -> DateTime<Utc> {
    "2016-11-01T00:00:00Z".parse().unwrap()
}

fn span() -> TimeDelta {
    TimeDelta::days(365 * YEARS)
}

/// When the commit of a number was made: denser by day than by night, a little out of order.
fn time_of(number: u64, commits: u64) -> PgTimestamp {
    let whole = span().num_microseconds().unwrap() as f64;
    let even = number as f64 / commits as f64 * whole;
    let day = 86_400e6;
    let uneven = day / std::f64::consts::TAU * 0.8 * (even / day * std::f64::consts::TAU).sin();
    let jitter = (number.wrapping_mul(2_654_435_761) % 4000) as f64;
    let at = (even + uneven + jitter).clamp(0.0, whole) as i64;
    PgTimestamp::from_chrono(begin() + TimeDelta::microseconds(at))
}

fn lsn(number: u64, size: &Size) -> Lsn {
    let (segment, inside) = (number / size.per_segment(), number % size.per_segment());
    // The first kilobyte of a segment is its header and what went before.
    Lsn((segment + 1) * SEGMENT + 1024 + inside * ((SEGMENT - 2048) / size.per_segment()))
}

fn index_of(segment: u64, size: &Size) -> SegmentIndex {
    let first = segment * size.per_segment();
    let last = (first + size.per_segment()).min(size.commits);
    let transactions: Vec<TransactionEnd> = (first..last)
        .map(|number| TransactionEnd {
            // One in fifty is rolled back.
            kind: if number % 50 == 49 { TransactionKind::Abort } else { TransactionKind::Commit },
            span: RecordSpan {
                start: lsn(number, size),
                end: lsn(number, size).saturating_add(46),
            },
            xid: Xid(1000 + number as u32),
            time: time_of(number, size.commits),
        })
        .collect();
    let at = Lsn((segment + 1) * SEGMENT);
    serde_json::from_value::<SegmentIndex>(json!({
        "timeline": 1, "segment": segment + 1, "segment_size": SEGMENT,
        "from": at, "to": at.saturating_add(SEGMENT),
        "first_record": transactions.first().map(|t| t.span.start),
        "last_record": transactions.last().map(|t| t.span),
        "transactions": [], "points": [], "limits": [],
    }))
    .map(|head| SegmentIndex { transactions, ..head })
    .unwrap()
}

async fn write_wal(repository: &Repository, size: &Size) {
    let empty = Bytes::from(vec![0_u8; SEGMENT as usize]);
    let segment_size = WalSegmentSize::new(SEGMENT).unwrap();
    futures_util::stream::iter(0..size.segments())
        .map(|segment| {
            let file = WalFileName { timeline: TimelineId::FIRST, segment: SegmentNo(segment + 1) };
            let path = format!("wal/{SYSTEM}/00000001/{}", file.render(segment_size));
            let (repository, empty) = (repository.clone(), empty.clone());
            let wanted = Size { folder: PathBuf::new(), ..*size };
            async move {
                tokio::spawn(async move {
                    let index = index_of(segment, &wanted);
                    let kind = ObjectKind::WalSegment;
                    let content = std::slice::from_ref(&empty);
                    repository.put_sealed(&path, kind, content, &index, PutKind::CreateOnly).await
                })
                .await
                .unwrap()
            }
        })
        .buffer_unordered(4)
        .try_for_each(|_| async { Ok(()) })
        .await
        .unwrap();
}

fn snapshot_of(number: u64, size: &Size) -> Value {
    let every = span() / i32::try_from(size.snapshots).unwrap();
    let finished = begin() + every * i32::try_from(number).unwrap() + TimeDelta::minutes(20);
    let share = size.commits * number / size.snapshots;
    let start = lsn(share, size);
    let id = format!("01900000-{:04x}-7000-8000-{number:012x}", number >> 16);
    let value = json!({
        "id": id,
        "cluster": CLUSTER, "kind": "full", "reason": null,
        "started_at": finished - TimeDelta::minutes(15), "finished_at": finished,
        "start_lsn": start, "stop_lsn": start.saturating_add(256), "timeline": 1,
        "system_identifier": SYSTEM, "server_version": 170_011, "segment_size": SEGMENT,
        "block_size": 8192, "bytes_logical": 52_613_349_376_u64, "bytes_added": 386_547_056,
        "files": 4211,
        "file_table": {
            "path": format!("snapshots/{CLUSTER}/{id}.files"), "blake3": "", "bytes": 0, "entries": 4211
        },
        "limits": {
            "max_connections": 100, "max_worker_processes": 8, "max_wal_senders": 10,
            "max_prepared_xacts": 0, "max_locks_per_xact": 64, "wal_level": 1,
            "track_commit_timestamp": false
        },
        "source": {
            "superuser": "postgres", "shared_preload_libraries": [], "databases": [],
            "data_checksums": true, "version_text": "PostgreSQL 17.11", "settings": {}
        },
        "page_findings": [], "page_findings_total": u64::from(number % 977 == 3)
    });
    // The format that is written is the one that is read.
    serde_json::from_value::<Snapshot>(value.clone()).unwrap();
    value
}

/// What a snapshot holds: something that all hold, something that its neighbours hold, something of its own.
async fn content_of(number: u64, repository: &Repository, path: &str) -> FileTableRef {
    let ingest = repository.begin_ingest().await.unwrap();
    let mut table = ingest.begin_file_table().await.unwrap();
    let mut extents = Vec::new();
    for text in ["all".to_owned(), format!("few {}", number / 5), format!("own {number}")] {
        extents.push(ingest.add_extent(text.repeat(1000).into()).await.unwrap());
    }
    ingest.flush().await.unwrap();
    let entry = FileEntry {
        path: "base/1/2".to_owned(),
        size: 0,
        mode: 0o600,
        mtime: 0,
        crc32c: None,
        kind: EntryKind::File,
        extents,
        extent_crc32c: Vec::new(),
    };
    table.add(&entry).await.unwrap();
    table.finish(path).await.unwrap()
}

async fn write_snapshots(repository: &Repository, size: &Size) {
    futures_util::stream::iter(0..size.snapshots)
        .map(|number| {
            let mut manifest = snapshot_of(number, size);
            let path = format!("snapshots/{CLUSTER}/{}", manifest["id"].as_str().unwrap());
            let repository = repository.clone();
            async move {
                if size.stored {
                    let table = content_of(number, &repository, &format!("{path}.files")).await;
                    manifest["file_table"] = serde_json::to_value(table).unwrap();
                }
                repository.put_document(&path, ObjectKind::Snapshot, &manifest).await
            }
        })
        .buffer_unordered(16)
        .try_for_each(|()| async { Ok(()) })
        .await
        .unwrap();
}

async fn open(home: &Path) -> Engine {
    let secrets = GivenSecrets {
        passphrase: Some(recovery_key_from_text(PASSPHRASE)),
        ..GivenSecrets::default()
    };
    Engine::open(Home::open(home).unwrap(), secrets, None).await.unwrap()
}

async fn call(engine: &Engine, command: &str, request: Value) -> (Value, Duration) {
    let began = Instant::now();
    let answer = holdfast_api::call(engine, command, request).await;
    let answer = answer.unwrap_or_else(|error| panic!("{command}: {error:?}"));
    // What a window waits for: the answer as text.
    let text = serde_json::to_string(&answer).unwrap();
    assert!(text.len() < 2_000_000, "{command} answers {} bytes", text.len());
    (answer, began.elapsed())
}

fn picture(shown: Option<(DateTime<Utc>, DateTime<Utc>)>) -> Value {
    let shown = shown.map(|(from, to)| json!({ "from": from, "to": to }));
    json!({ "cluster": NAME, "shown": shown, "groups": 60, "buckets": 240, "timeline": null })
}

fn sum(counts: &Value) -> u64 {
    counts.as_array().unwrap().iter().map(|c| c.as_u64().unwrap()).sum()
}

/// Writes the history into a new repository, and knows it in a new home.
async fn write(size: &Size) -> Engine {
    let began = Instant::now();
    let home = size.folder.join("home");
    let url = size.folder.join("repository").display().to_string();
    let cli = Cli::new(home.clone()).unwrap().env("HOLDFAST_PASSPHRASE", PASSPHRASE);
    cli.json(&["repo", "create", &url]).unwrap();
    let engine = open(&home).await;
    let summary = engine.find_repository(None).await.unwrap();
    let repository = engine.open_repository(&summary).await.unwrap();
    let cluster = json!({
        "id": CLUSTER, "name": NAME, "dsn": "host=db.example.org user=holdfast",
        "system_identifier": SYSTEM, "server_version": 170_011, "mode": "physical",
        "segment_size": SEGMENT, "slot": "holdfast_ten_years", "created_at": begin(), "demo": false
    });
    serde_json::from_value::<Cluster>(cluster.clone()).unwrap();
    let path = format!("policies/clusters/{CLUSTER}/00000001");
    repository.put_document(&path, ObjectKind::Cluster, &cluster).await.unwrap();
    write_wal(&repository, size).await;
    println!("history: {} commits written in {:.1?}", size.commits, began.elapsed());
    write_snapshots(&repository, size).await;
    println!("history: with {} snapshots after {:.1?}", size.snapshots, began.elapsed());
    // As a new machine learns of it.
    let secrets = GivenSecrets {
        passphrase: Some(recovery_key_from_text(PASSPHRASE)),
        ..GivenSecrets::default()
    };
    engine.attach_repository(&url, &secrets, false).await.unwrap();
    engine
}

/// Every event as the whole index has it: what pictures and pages are compared with.
async fn everything(engine: &Engine) -> Vec<PointEvent> {
    let cluster = engine.cluster(NAME).await.unwrap();
    let view = engine.archive_view(&cluster).await.unwrap();
    let leg = [Leg { timeline: TimelineId::FIRST, from: Lsn::INVALID, to: None }];
    view.events(&leg, Lsn::INVALID, Lsn(u64::MAX))
}

fn is_commit(event: &PointEvent) -> Option<PgTimestamp> {
    match event {
        PointEvent::Transaction(_, t) if t.kind == TransactionKind::Commit => Some(t.time),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_history_is_drawn_rightly() {
    let root = tempfile::tempdir().unwrap();
    let size = Size::asked().unwrap_or(Size {
        commits: 40_000,
        snapshots: 300,
        folder: root.path().to_owned(),
        kept: false,
        stored: false,
    });
    // One that was kept is measured again.
    let home = size.folder.join("home");
    let engine = if size.kept && home.exists() { open(&home).await } else { write(&size).await };

    let (_, first) = call(&engine, "timeline", picture(None)).await;
    let (whole, warm) = call(&engine, "timeline", picture(None)).await;
    println!("history: first reading {first:.1?}, drawn again {warm:.1?}");
    let commits = size.commits - size.commits / 50;
    assert_eq!(sum(&whole["density"]["counts"]), commits, "no commit is lost or counted twice");
    assert_eq!(whole["snapshots_total"], size.snapshots);
    let groups = whole["snapshots"].as_array().unwrap();
    assert!(groups.len() <= 62, "{} groups", groups.len());
    assert_eq!(groups.iter().map(|g| g["count"].as_u64().unwrap()).sum::<u64>(), size.snapshots);
    assert_eq!(whole["windows"].as_array().unwrap().len(), 1);

    // Another process begins with what the first one has learnt.
    drop(engine);
    let engine = open(&home).await;
    let (again, restarted) = call(&engine, "timeline", picture(None)).await;
    assert_eq!(again["density"], whole["density"]);
    assert_eq!(again["snapshots_total"], whole["snapshots_total"]);
    println!("history: first answer of a new process {restarted:.1?}");

    let mut zooms = Vec::new();
    for parts in [10, 1000, 50_000] {
        for place in [0.13, 0.5, 0.87] {
            let length = span() / parts;
            let from = begin()
                + TimeDelta::microseconds(
                    (span().num_microseconds().unwrap() as f64 * place) as i64,
                );
            let (_, took) = call(&engine, "timeline", picture(Some((from, from + length)))).await;
            zooms.push(took);
        }
    }
    let mut pages = Vec::new();
    let around = |more: Value| {
        let mut request = json!({
            "cluster": NAME, "around": null, "around_lsn": null, "around_xid": null, "limit": 200,
            "timeline": null
        });
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        request
    };
    for share in [1, 3, 6, 9] {
        let number = size.commits * share / 10 + 7;
        let xid = (1000 + number).to_string();
        for request in [json!({ "around_lsn": lsn(number, &size) }), json!({ "around_xid": xid })] {
            let (page, took) = call(&engine, "commits", around(request)).await;
            pages.push(took);
            let found = page["commits"].as_array().unwrap();
            assert_eq!(found.len(), 200);
            assert_eq!(found[100]["xid"], xid, "the asked one stands in the middle");
            assert_eq!((&page["earlier"], &page["later"]), (&json!(true), &json!(true)));
        }
    }
    println!(
        "history: slowest of {} zoomed pictures {:.1?}, of {} pages of commits {:.1?}",
        zooms.len(),
        zooms.iter().max().unwrap(),
        pages.len(),
        pages.iter().max().unwrap()
    );

    if size.kept {
        println!("history: kept in {}", size.folder.display());
        return;
    }
    let events = everything(&engine).await;
    assert_eq!(events.len() as u64, size.commits);
    // Close enough to tell single commits apart, every bucket is exact.
    let from = begin() + TimeDelta::days(2000);
    let to = from + TimeDelta::hours(30);
    let (close, _) = call(&engine, "timeline", picture(Some((from, to)))).await;
    let mut exact = vec![0_u64; 240];
    let width = (to - from).num_microseconds().unwrap();
    for time in events.iter().filter_map(is_commit) {
        let at = (time.to_chrono() - from).num_microseconds().unwrap();
        if (0..width).contains(&at) {
            exact[(i128::from(at) * 240 / i128::from(width)) as usize] += 1;
        }
    }
    let drawn: Vec<u64> = serde_json::from_value(close["density"]["counts"].clone()).unwrap();
    assert_eq!(drawn, exact);
    // A page around a time begins where the whole index says.
    let time = from + TimeDelta::hours(7);
    let (page, _) = call(&engine, "commits", around(json!({ "around": time }))).await;
    let wanted = events
        .iter()
        .position(|e| matches!(e, PointEvent::Transaction(_, t) if t.time.to_chrono() >= time))
        .unwrap();
    let PointEvent::Transaction(_, first) = &events[wanted] else { unreachable!() };
    assert_eq!(page["commits"][100]["xid"], first.xid.to_string());
    // The ends of the history are ends.
    let (newest, _) = call(&engine, "commits", around(json!({}))).await;
    assert_eq!((&newest["earlier"], &newest["later"]), (&json!(true), &json!(false)));
    let (oldest, _) = call(&engine, "commits", around(json!({ "around": begin() }))).await;
    assert_eq!((&oldest["earlier"], &oldest["later"]), (&json!(false), &json!(true)));
    assert_eq!(oldest["commits"][0]["xid"], "1000");
}

/// A history whose snapshots have content, the command in a home that knows it, and its repository.
async fn stored_history(root: &Path) -> (Size, Cli, PathBuf) {
    let size =
        Size { commits: 4000, snapshots: 60, folder: root.to_owned(), kept: false, stored: true };
    drop(write(&size).await);
    let (home, repository) = (size.folder.join("home"), size.folder.join("repository"));
    let cli = Cli::new(home).unwrap().env("HOLDFAST_PASSPHRASE", PASSPHRASE);
    (size, cli, repository)
}

/// Objects of a repository below a folder of it.
fn below(repository: &Path, folder: &str) -> u64 {
    let files = files_below(repository).unwrap();
    files.iter().filter(|path| path.starts_with(folder)).count() as u64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_that_was_killed_goes_on_and_cannot_be_taken_back() {
    let root = tempfile::tempdir().unwrap();
    let (_, cli, repository) = stored_history(root.path()).await;
    cli.json(&["retention", "apply", NAME]).unwrap();
    age(&repository.join("tombstones"), Duration::from_hours(8 * 24)).unwrap();
    let mut killed = cli.start_job(&["retention", "apply", NAME]).unwrap();
    assert!(killed.reaches("removing"), "{}", killed.stderr());
    // While it lives, and be it asleep, nobody else removes anything.
    killed.signal(Signal::STOP).unwrap();
    let (code, error) = failure(&cli, &["retention", "apply", NAME]).unwrap();
    assert_eq!((code, &error["code"]), (3, &json!("lease_held")), "{error:#}");
    killed.kill().unwrap();
    let ended = files_below(&repository.join("tombstones"))
        .unwrap()
        .iter()
        .any(|path| path.extension().is_some_and(|e| e == "removed"));
    if !ended {
        let (code, error) = failure(&cli, &["retention", "undelete", NAME]).unwrap();
        assert_eq!((code, &error["code"]), (3, &json!("removal_begun")), "{error:#}");
    }
    let done = cli.json(&["retention", "apply", NAME]).unwrap();
    assert_eq!((&done["queue"], &done["kept_by_store"]), (&json!([]), &json!([])), "{done:#}");
    let plan = cli.json(&["retention", "plan", NAME]).unwrap();
    let snapshots = plan["snapshots"].as_array().unwrap();
    assert!(snapshots.iter().chain(plan["wal"].as_array().unwrap()).all(|f| f["kept"] == true));
    assert_eq!(below(&repository, "snapshots"), 2 * snapshots.len() as u64);
    let verified = cli.json(&["verify", NAME, "--level", "structure"]).unwrap();
    assert_eq!(verified["ok"], true, "{verified:#}");
}

/// Ten years are let go of as the policy says, and nothing else; what is left is whole for whoever comes anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_policy_does_not_keep_is_removed_and_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let (size, cli, repository) = stored_history(root.path()).await;
    let plan = cli.json(&["retention", "plan", NAME]).unwrap();
    let fates = |list: &Value, kept: bool| -> Vec<Value> {
        list.as_array().unwrap().iter().filter(|f| f["kept"] == kept).cloned().collect()
    };
    let segments =
        |fates: &[Value]| fates.iter().map(|f| f["segments"].as_u64().unwrap()).sum::<u64>();
    let (dying, kept) = (fates(&plan["snapshots"], false), fates(&plan["snapshots"], true));
    let (wal_dying, wal_kept) = (fates(&plan["wal"], false), fates(&plan["wal"], true));
    assert!(dying.len() > 40 && kept.len() > 2, "{} {}", dying.len(), kept.len());
    assert!(segments(&wal_dying) > 20 && segments(&wal_kept) > 0, "{wal_kept:#?}");

    let marked = cli.json(&["retention", "apply", NAME]).unwrap();
    assert_eq!(marked["removed"]["objects"], 0);
    assert_eq!(marked["marked"]["snapshots"].as_array().unwrap().len(), dying.len());
    assert_eq!(marked["marked"]["wal_segments"], segments(&wal_dying));
    let packs = marked["marked"]["packs"].as_u64().unwrap();
    assert!(packs > 40, "those that only they need: {packs}");
    let before = files_below(&repository).unwrap();
    assert_eq!(cli.json(&["retention", "apply", NAME]).unwrap()["marked"], Value::Null);
    age(&repository.join("tombstones"), Duration::from_hours(8 * 24)).unwrap();
    let done = cli.json(&["retention", "apply", NAME]).unwrap();
    assert_eq!(done["removed"]["snapshots"].as_array().unwrap().len(), dying.len(), "{done:#}");
    assert_eq!(done["removed"]["wal_segments"], segments(&wal_dying));
    assert_eq!(done["removed"]["packs"], packs);
    assert_eq!(
        (&done["spared"], &done["waiting"], &done["queue"]),
        (&json!([]), &json!([]), &json!([]))
    );

    let after = files_below(&repository).unwrap();
    assert_eq!(below(&repository, "snapshots"), 2 * kept.len() as u64);
    assert_eq!(below(&repository, "wal"), segments(&wal_kept));
    assert_eq!(below(&repository, "leases"), 1, "of whoever collects");
    assert!(after.len() + 100 < before.len(), "{} of {}", after.len(), before.len());
    let again = cli.json(&["retention", "plan", NAME]).unwrap();
    assert!(fates(&again["snapshots"], false).is_empty() && fates(&again["wal"], false).is_empty());

    // Neither this home nor a new one takes what was removed for lost.
    let new = Cli::new(size.folder.join("new")).unwrap().env("HOLDFAST_PASSPHRASE", PASSPHRASE);
    new.json(&["repo", "attach", repository.to_str().unwrap()]).unwrap();
    for cli in [&cli, &new] {
        let verified = cli.json(&["verify", NAME, "--level", "structure"]).unwrap();
        let findings = verified["findings"].as_array().unwrap();
        assert!(findings.iter().all(|f| f["severity"] != "error"), "{findings:#?}");
        let points = cli.json(&["points", NAME]).unwrap();
        assert_eq!(points["snapshots"].as_array().unwrap().len(), kept.len());
    }
}
