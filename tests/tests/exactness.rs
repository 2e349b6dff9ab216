//! A restored copy holds every transaction up to the target and none after it.
//!
//! Four sessions write while a backup is taken; what they committed is known to the test, and the
//! order in which it became durable is read with PostgreSQL's own `pg_waldump`. Each of many random
//! targets is then restored, and the rows of the copy are compared with exactly what must be there.
//!
//! `HOLDFAST_SEED` repeats a run; `HOLDFAST_PROVE_SECONDS` lengthens it.
#![allow(clippy::unwrap_used)]

use chrono::{DateTime, NaiveDateTime, Utc};
use holdfast_tests::{
    pg::TestServer,
    protected::{CLUSTER, Protected, failure},
    prove_duration,
    random::Random,
    wait_for,
};
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Stdio},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

const WRITERS: usize = 4;
const TARGETS: usize = 20;
/// Transactions of each writer before and after the backup.
const AROUND: u64 = 40;

fn below(random: &mut Random, limit: usize) -> usize {
    usize::try_from(random.below(limit as u64)).unwrap()
}

fn chance(random: &mut Random, percent: u64) -> bool {
    random.below(100) < percent
}

/// A psql that stays connected; one statement group at a time.
struct Session {
    psql: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Session {
    fn open(server: &TestServer) -> Self {
        let mut psql = server
            .command("psql")
            .args(["-XqAt", "-v", "ON_ERROR_STOP=1"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = psql.stdin.take().unwrap();
        let output = BufReader::new(psql.stdout.take().unwrap());
        Self { psql, input, output }
    }

    /// What the statements print.
    fn run(&mut self, sql: &str) -> Vec<String> {
        writeln!(self.input, "{sql}\n\\echo END").unwrap();
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "psql ended at: {sql}");
            match line.trim_end() {
                "END" => return lines,
                text => lines.push(text.to_owned()),
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = writeln!(self.input, "\\q");
        let _ = self.psql.wait();
    }
}

type Key = (usize, u32);

/// What one transaction did, once it is known under which number.
#[derive(Debug)]
struct Done {
    xid: u32,
    committed: bool,
    /// `None`: the row is gone.
    changes: Vec<(Key, Option<String>)>,
}

/// One session's work: it changes only rows of its own.
struct Writer {
    number: usize,
    random: Random,
    session: Session,
    next: u32,
    rows: Vec<u32>,
    done: Vec<Done>,
}

impl Writer {
    fn open(server: &TestServer, number: usize, seed: u64) -> Self {
        Self {
            number,
            random: Random::new(seed),
            session: Session::open(server),
            next: 0,
            rows: Vec::new(),
            done: Vec::new(),
        }
    }

    fn payload(&mut self) -> String {
        let word = self.random.next_u64();
        let times = if chance(&mut self.random, 4) { 200 } else { 1 + below(&mut self.random, 3) };
        format!("{word:016x}").repeat(times)
    }

    fn insert(&mut self, changes: &mut Vec<(Key, Option<String>)>) -> String {
        let (n, payload) = (self.next, self.payload());
        self.next += 1;
        changes.push(((self.number, n), Some(payload.clone())));
        format!("INSERT INTO ledger VALUES ({}, {n}, '{payload}');", self.number)
    }

    fn update_or_delete(&mut self, changes: &mut Vec<(Key, Option<String>)>) -> String {
        let touched: Vec<u32> = changes.iter().map(|((_, n), _)| *n).collect();
        let rows: Vec<u32> = self.rows.iter().copied().filter(|n| !touched.contains(n)).collect();
        if rows.is_empty() {
            return self.insert(changes);
        }
        let n = rows[below(&mut self.random, rows.len())];
        if chance(&mut self.random, 40) {
            changes.push(((self.number, n), None));
            return format!("DELETE FROM ledger WHERE writer = {} AND n = {n};", self.number);
        }
        let payload = self.payload();
        changes.push(((self.number, n), Some(payload.clone())));
        format!(
            "UPDATE ledger SET payload = '{payload}' WHERE writer = {} AND n = {n};",
            self.number
        )
    }

    /// Makes the statements of a transaction, without its beginning and end.
    fn statements(&mut self, inserts_only: bool) -> (String, Vec<(Key, Option<String>)>) {
        let mut changes = Vec::new();
        let mut sql = String::new();
        for _ in 0..=below(&mut self.random, 3) {
            if inserts_only || chance(&mut self.random, 70) {
                sql.push_str(&self.insert(&mut changes));
            } else {
                sql.push_str(&self.update_or_delete(&mut changes));
            }
        }
        if chance(&mut self.random, 25) {
            // Part of it is taken back, part of it stays.
            sql.push_str("SAVEPOINT a;");
            let mut undone = Vec::new();
            sql.push_str(&self.insert(&mut undone));
            sql.push_str("ROLLBACK TO a;");
            sql.push_str(&self.insert(&mut changes));
            sql.push_str("SAVEPOINT b;");
            sql.push_str(&self.insert(&mut changes));
            sql.push_str("RELEASE b;");
        }
        if chance(&mut self.random, 10) {
            for _ in 0..20 {
                sql.push_str(&self.insert(&mut changes));
            }
        }
        if chance(&mut self.random, 30) {
            // Transactions of the sessions are to overlap.
            sql.push_str(&format!("SELECT pg_sleep({}e-3);", 1 + below(&mut self.random, 8)));
        }
        (sql, changes)
    }

    fn number_of(lines: &[String]) -> u32 {
        lines.iter().rev().find_map(|l| l.parse().ok()).unwrap()
    }

    fn finish(&mut self, xid: u32, committed: bool, changes: Vec<(Key, Option<String>)>) {
        if committed {
            for ((_, n), value) in &changes {
                match value {
                    Some(_) if !self.rows.contains(n) => self.rows.push(*n),
                    Some(_) => {}
                    None => self.rows.retain(|row| row != n),
                }
            }
        }
        self.done.push(Done { xid, committed, changes });
    }

    fn plain(&mut self) {
        let committed = !chance(&mut self.random, 12);
        let (sql, changes) = self.statements(false);
        let end = if committed { "COMMIT" } else { "ROLLBACK" };
        let lines = self.session.run(&format!("BEGIN;{sql}SELECT pg_current_xact_id();{end};"));
        self.finish(Self::number_of(&lines), committed, changes);
    }

    fn two_phase(&mut self) {
        let committed = !chance(&mut self.random, 30);
        let (sql, changes) = self.statements(true);
        let name = format!("w{}-{}", self.number, self.next);
        let lines = self
            .session
            .run(&format!("BEGIN;{sql}SELECT pg_current_xact_id();PREPARE TRANSACTION '{name}';"));
        let xid = Self::number_of(&lines);
        for _ in 0..below(&mut self.random, 3) {
            self.plain();
        }
        let end = if committed { "COMMIT" } else { "ROLLBACK" };
        self.session.run(&format!("{end} PREPARED '{name}';"));
        self.finish(xid, committed, changes);
    }

    fn step(&mut self) {
        if chance(&mut self.random, 8) { self.two_phase() } else { self.plain() }
    }
}

fn lsn(text: &str) -> u64 {
    let (high, low) = text.split_once('/').unwrap();
    (u64::from_str_radix(high, 16).unwrap() << 32) | u64::from_str_radix(low, 16).unwrap()
}

fn lsn_text(at: u64) -> String {
    format!("{:X}/{:X}", at >> 32, at & 0xffff_ffff)
}

/// One record as pg_waldump shows it.
#[derive(Debug)]
struct Record {
    start: u64,
    length: u64,
    end: Option<TransactionEnd>,
}

#[derive(Clone, Copy, Debug)]
struct TransactionEnd {
    xid: u32,
    time: DateTime<Utc>,
    committed: bool,
}

/// Every record from `from` to the end of the server's WAL.
fn records(server: &TestServer, from: &str) -> Vec<Record> {
    let told = std::process::Command::new(server.pg_waldump())
        .arg("-p")
        .arg(server.data().join("pg_wal"))
        .args(["-s", from])
        .env("TZ", "UTC")
        .output()
        .unwrap();
    // It ends with an error where the WAL ends.
    let text = String::from_utf8_lossy(&told.stdout);
    let records: Vec<_> = text.lines().filter_map(record).collect();
    assert!(!records.is_empty(), "{}", String::from_utf8_lossy(&told.stderr));
    records
}

fn record(line: &str) -> Option<Record> {
    let field = |name: &str| {
        let rest = &line[line.find(name)? + name.len()..];
        Some(rest.split(',').next()?.trim())
    };
    let start = lsn(field(" lsn: ")?);
    let length = field("(rec/tot):")?.split('/').nth(1)?.trim().parse().ok()?;
    let described = &line[line.find("desc: ")? + "desc: ".len()..];
    let mut end = None;
    if line.starts_with("rmgr: Transaction") {
        let (kind, rest) = described.split_once(' ').unwrap_or((described, ""));
        let prepared = kind.ends_with("_PREPARED");
        let xid = if prepared { rest.split(':').next()? } else { field(" tx: ")? };
        let time = if prepared { rest.split_once(": ")?.1 } else { rest };
        if kind.starts_with("COMMIT") || kind.starts_with("ABORT") {
            let time = time.split(" UTC").next()?;
            end = Some(TransactionEnd {
                xid: xid.trim().parse().ok()?,
                time: NaiveDateTime::parse_from_str(time, "%Y-%m-%d %H:%M:%S%.f").ok()?.and_utc(),
                committed: kind.starts_with("COMMIT"),
            });
        }
    }
    Some(Record { start, length, end })
}

/// What the test knows of the server's past.
struct Past {
    records: Vec<Record>,
    done: BTreeMap<u32, Done>,
    /// Replay of the backup begins here, and is consistent there.
    start: u64,
    consistent: u64,
    archived: u64,
}

#[derive(Clone, Debug)]
enum Target {
    Time(DateTime<Utc>),
    Xid(u32),
    Lsn(u64),
    Immediate,
    Latest,
}

impl Target {
    fn text(&self) -> String {
        match self {
            Self::Time(time) => {
                format!("time:{}", time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
            }
            Self::Xid(xid) => format!("xid:{xid}"),
            Self::Lsn(at) => format!("lsn:{}", lsn_text(*at)),
            Self::Immediate => "immediate".to_owned(),
            Self::Latest => "latest".to_owned(),
        }
    }
}

/// Where recovery must stop.
#[derive(Debug, PartialEq)]
enum Stop {
    /// Everything that starts below this is in the copy, nothing else.
    Below(u64),
    /// The backup is not consistent there yet.
    TooEarly,
    NotReached,
}

impl Past {
    fn ends(&self) -> impl Iterator<Item = (&Record, TransactionEnd)> {
        self.records.iter().filter_map(|r| r.end.map(|e| (r, e)))
    }

    /// PostgreSQL's rules (`recoveryStopsBefore` and `recoveryStopsAfter` in `xlogrecovery.c`) on
    /// what pg_waldump shows.
    fn stop(&self, target: &Target, exclusive: bool) -> Stop {
        let replayed =
            || self.records.iter().filter(|r| r.start >= self.start && r.start < self.archived);
        let hit = match target {
            Target::Immediate => return Stop::Below(self.consistent),
            Target::Latest => return Stop::Below(self.archived),
            Target::Time(time) => replayed()
                .find(|r| r.end.is_some_and(|e| e.time > *time || exclusive && e.time == *time)),
            Target::Xid(xid) => replayed().find(|r| r.end.is_some_and(|e| e.xid == *xid)),
            Target::Lsn(at) => replayed().find(|r| r.start >= *at),
        };
        let Some(hit) = hit else { return Stop::NotReached };
        let below =
            if exclusive || matches!(target, Target::Time(_)) { hit.start } else { hit.start + 1 };
        let too_early = if below == hit.start {
            hit.start < self.consistent
        } else {
            // The record itself is replayed: its end counts.
            self.records
                .iter()
                .find(|r| r.start > hit.start)
                .is_none_or(|next| next.start < self.consistent)
        };
        if too_early { Stop::TooEarly } else { Stop::Below(below) }
    }

    /// The rows of a copy that holds what starts below `below`.
    fn rows(&self, below: u64) -> BTreeMap<Key, &str> {
        let mut rows = BTreeMap::new();
        for (_, end) in self.ends().filter(|(r, e)| r.start < below && e.committed) {
            let Some(done) = self.done.get(&end.xid) else { continue };
            assert!(done.committed, "{done:?}");
            for (key, value) in &done.changes {
                match value {
                    Some(text) => rows.insert(*key, text.as_str()),
                    None => rows.remove(key),
                };
            }
        }
        rows
    }

    /// A target at or after the backup's consistency, most of the time.
    fn choose(&self, random: &mut Random) -> (Target, bool) {
        let ends: Vec<_> = self.ends().filter(|(r, _)| r.start < self.archived).collect();
        let later = ends.iter().position(|(r, _)| r.start >= self.consistent).unwrap();
        // Now and then one that the backup cannot reach.
        let first = if chance(random, 5) { later.saturating_sub(20) } else { later };
        let at = first + below(random, ends.len() - first - 1);
        let (record, end) = ends[at];
        let exclusive = chance(random, 50);
        let target = match below(random, 10) {
            0..2 => Target::Time(end.time),
            2 => Target::Time(end.time + chrono::TimeDelta::microseconds(1)),
            3 => {
                let apart = (ends[at + 1].1.time - end.time).num_microseconds().unwrap().max(2);
                Target::Time(end.time + chrono::TimeDelta::microseconds(apart / 2))
            }
            4..7 => Target::Xid(end.xid),
            7 => Target::Lsn(record.start),
            // Where the commit's record ends, or nearly: pages have headers.
            8 => Target::Lsn(record.start + record.length.next_multiple_of(8)),
            _ => {
                let all: Vec<_> = self
                    .records
                    .iter()
                    .filter(|r| (self.consistent..self.archived).contains(&r.start))
                    .collect();
                let any = all[below(random, all.len() - 1)];
                let inside =
                    if chance(random, 50) { 1 + random.next_u64() % any.length.max(2) } else { 0 };
                Target::Lsn(any.start + inside)
            }
        };
        (target, exclusive)
    }
}

/// Sets a server up, lets four sessions write around a backup, and gives what then is to be known.
fn write_and_back_up(major: u32, segment: u32, random: &mut Random) -> (Protected, Past) {
    let server = TestServer::builder(major)
        .wal_segment_size(segment)
        .config("track_commit_timestamp = on")
        .config("max_prepared_transactions = 10")
        .config("wal_keep_size = 2GB")
        .config("autovacuum_naptime = 1s")
        .start()
        .unwrap();
    server
        .psql("CREATE TABLE ledger (writer int, n int, payload text NOT NULL, PRIMARY KEY (writer, n))")
        .unwrap();
    let begun = server.wal_position().unwrap();
    let site = Protected::new(server).unwrap();
    site.archive().unwrap();

    let stop = AtomicBool::new(false);
    let seeds: Vec<u64> = (0..WRITERS).map(|_| random.next_u64()).collect();
    let counts: Vec<_> = (0..WRITERS).map(|_| AtomicU64::new(0)).collect();
    let (backup, writers) = thread::scope(|scope| {
        let running: Vec<_> = (0..WRITERS)
            .map(|number| {
                let (stop, count, seed) = (&stop, &counts[number], seeds[number]);
                let server = &site.server;
                scope.spawn(move || {
                    let mut writer = Writer::open(server, number, seed);
                    while !stop.load(Ordering::Relaxed) {
                        writer.step();
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    writer.done
                })
            })
            .collect();
        let more = |than: u64| counts.iter().all(|c| c.load(Ordering::Relaxed) >= than);
        wait_for("writes before the backup", Duration::from_mins(1), || more(AROUND));
        let backup = site.backup();
        let now = counts.iter().map(|c| c.load(Ordering::Relaxed)).max().unwrap();
        if backup.is_ok() {
            site.archive().unwrap();
            wait_for("writes after the backup", Duration::from_mins(1), || more(now + AROUND));
        }
        stop.store(true, Ordering::Relaxed);
        let writers: Vec<_> = running.into_iter().map(|w| w.join().unwrap()).collect();
        (backup.unwrap(), writers)
    });
    // It archives what comes along, too: a little more than was asked for.
    let flushed = site.server.psql("SELECT pg_current_wal_flush_lsn()").unwrap();
    let archived = site.archive_to(&flushed).unwrap();
    let snapshot = &backup["snapshot"];
    let records = records(&site.server, &begun);
    let durable = lsn(archived["durable_lsn"].as_str().unwrap());
    // What is cut off at the end is no record.
    let cut = records.iter().find(|r| r.start + r.length > durable);
    let past = Past {
        done: writers.into_iter().flatten().map(|d| (d.xid, d)).collect(),
        start: lsn(snapshot["start_lsn"].as_str().unwrap()),
        consistent: lsn(snapshot["stop_lsn"].as_str().unwrap()),
        archived: cut.map_or(durable, |r| r.start),
        records,
    };
    (site, past)
}

const ROWS: &str = "SELECT writer || ' ' || n || ' ' || payload FROM ledger ORDER BY writer, n";

fn parsed(text: &str) -> BTreeMap<Key, &str> {
    text.lines()
        .map(|line| {
            let mut parts = line.splitn(3, ' ');
            let mut part = || parts.next().unwrap();
            ((part().parse().unwrap(), part().parse().unwrap()), part())
        })
        .collect()
}

/// What the test believes must be what the server says: rows, and commit times.
fn check_the_oracle(server: &TestServer, past: &Past) {
    let all = server.psql(ROWS).unwrap();
    let wrong = differences(&parsed(&all), &past.rows(u64::MAX));
    assert!(wrong.is_empty(), "the test does not know what it wrote: {wrong:#?}");
    let mut times = BTreeMap::new();
    for (_, end) in past.ends().filter(|(_, e)| e.committed) {
        for (key, _) in past.done.get(&end.xid).map(|d| d.changes.as_slice()).unwrap_or_default() {
            times.insert(*key, end.time.timestamp_micros());
        }
    }
    let said = server
        .psql("SELECT writer, n, (extract(epoch FROM pg_xact_commit_timestamp(xmin)) * 1000000)::bigint FROM ledger")
        .unwrap();
    for line in said.lines() {
        let cells: Vec<i64> = line.split('|').map(|c| c.parse().unwrap()).collect();
        let key = (usize::try_from(cells[0]).unwrap(), u32::try_from(cells[1]).unwrap());
        assert_eq!(times[&key], cells[2], "{key:?}");
    }
    let aborted = past.done.values().filter(|d| !d.committed).count();
    assert!(
        aborted > 0 && past.done.len() > aborted,
        "{} transactions, {aborted} aborted",
        past.done.len()
    );
}

fn differences(have: &BTreeMap<Key, &str>, want: &BTreeMap<Key, &str>) -> Vec<String> {
    let keys: std::collections::BTreeSet<_> = have.keys().chain(want.keys()).collect();
    keys.into_iter()
        .filter(|k| have.get(k) != want.get(k))
        .take(20)
        .map(|k| {
            let short = |rows: &BTreeMap<Key, &str>| {
                rows.get(k).map(|t| t.chars().take(20).collect::<String>())
            };
            format!("{k:?}: copy {:?}, must be {:?}", short(have), short(want))
        })
        .collect()
}

/// Restores to one target and compares everything.
fn restore_one(
    site: &Protected,
    past: &Past,
    target: &Target,
    exclusive: bool,
    promote: bool,
    name: &str,
) {
    let text = target.text();
    let mut more = vec!["--start", "--at-target", if promote { "promote" } else { "pause" }];
    if exclusive {
        more.push("--exclusive");
    }
    let expected = past.stop(target, exclusive);
    let Stop::Below(below) = expected else {
        let destination = site.destination(name);
        let (code, error) = site.refusal(&text, &destination, &more[1..]).unwrap();
        assert_eq!(code, 3, "{text}: {error}");
        let want = match (&expected, target) {
            (Stop::TooEarly, _) => "target_too_early",
            (_, Target::Xid(_)) => "target_not_found",
            _ => "target_not_reached",
        };
        assert_eq!(error["code"], want, "{text} exclusive {exclusive}: {error}");
        assert!(!std::path::Path::new(&destination).exists());
        return;
    };
    let copy = site.restore(&text, name, &more).unwrap();
    let result = &copy.result;
    assert_eq!(result["verified"], true, "{text}: {result}");
    let have = copy.psql(ROWS).unwrap();
    let (have, want) = (parsed(&have), past.rows(below));
    let wrong = differences(&have, &want);
    assert!(wrong.is_empty(), "{text} exclusive {exclusive}: {wrong:#?}\n{result}");

    let ends: Vec<_> = past.ends().collect();
    let split = ends.partition_point(|(r, _)| r.start < below);
    let last = ends[..split].last().filter(|(r, _)| r.start >= past.start);
    let reached = &result["reached"];
    match last {
        Some((_, end)) => {
            assert_eq!(
                reached["xid"],
                end.xid.to_string(),
                "{text} exclusive {exclusive}: {result}"
            );
            let said: DateTime<Utc> = reached["commit_time"].as_str().unwrap().parse().unwrap();
            assert_eq!(said, end.time, "{text}: {result}");
        }
        None => assert!(reached["xid"].is_null(), "{text}: {result}"),
    }
    let at = lsn(reached["lsn"].as_str().unwrap());
    let next = past.records.iter().find(|r| r.start >= below).map_or(u64::MAX, |r| r.start);
    let before = past.records.iter().rfind(|r| r.start < below).unwrap().start;
    assert!(before < at && at <= next, "{text}: reached {} of {before:X}..{next:X}", lsn_text(at));
    match ends[split..].first().filter(|(r, _)| r.start < past.archived) {
        Some((record, end)) => {
            let left = &result["stopped_before"];
            assert_eq!(left["xid"], end.xid.to_string(), "{text}: {result}");
            assert_eq!(lsn(left["lsn"].as_str().unwrap()), record.start, "{text}: {result}");
        }
        None => assert!(result["stopped_before"].is_null(), "{text}: {result}"),
    }
    let recovering = copy.psql("SELECT pg_is_in_recovery()").unwrap();
    assert_eq!(recovering, if promote { "f" } else { "t" }, "{text}");
    copy.discard().unwrap();
}

fn every_target_is_exact(major: u32, segment: u32) {
    let mut random = Random::announced(&format!("exactness on PostgreSQL {major}"));
    let (site, past) = write_and_back_up(major, segment, &mut random);
    check_the_oracle(&site.server, &past);
    let began = Instant::now();
    let limit = prove_duration(Duration::ZERO);
    restore_one(&site, &past, &Target::Immediate, false, false, "immediate");
    restore_one(&site, &past, &Target::Latest, false, true, "latest");
    let mut number = 0;
    while number < TARGETS || began.elapsed() < limit {
        let (target, exclusive) = past.choose(&mut random);
        let promote = chance(&mut random, 15);
        println!("{} exclusive {exclusive} promote {promote}", target.text());
        restore_one(&site, &past, &target, exclusive, promote, &format!("copy-{number}"));
        number += 1;
    }
    println!("PostgreSQL {major}: {number} targets in {:?}", began.elapsed());
    let (code, error) = failure(
        &site.cli,
        &[
            "restore",
            "plan",
            CLUSTER,
            "--target",
            "time:2200-01-01T00:00:00Z",
            "--to",
            &site.destination("never"),
        ],
    )
    .unwrap();
    assert_eq!((code, error["code"].as_str()), (3, Some("target_not_reached")));
}

#[test]
fn every_target_is_exact_on_15() {
    every_target_is_exact(15, 16);
}

/// With the smallest segments many records cross from one into the next.
#[test]
fn every_target_is_exact_on_17() {
    every_target_is_exact(17, 1);
}
