//! `cargo xtask bench`: the whole `holdfast backup` beside `pg_basebackup | zstd -3 -T2`, from the
//! same server, process by process.

use crate::{
    Fault, bench_against, bench_timeline, nothing_else,
    report::line,
    setup::{Need, ensure},
    take_flag, take_value,
    workspace::Workspace,
};
use holdfast_tests::pg::TestServer;
use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

/// Only ever protects a repository that is thrown away.
const PASSPHRASE: &str = "a bench, nothing to hide";

/// `cargo xtask bench [--gigabytes 0.2,2] [--runs 3] [--major 17] [--against pgbackrest]`, or
/// `--timeline [--commits N] [--debug]`.
pub(crate) fn errand(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode, Fault> {
    let mut arguments = arguments.to_vec();
    if take_flag(&mut arguments, "--timeline") {
        let debug = take_flag(&mut arguments, "--debug");
        let commits = take_value(&mut arguments, "--commits")?
            .map(|text| text.parse().map_err(|_| format!("{text} is not a number of commits")))
            .transpose()?;
        nothing_else(&arguments)?;
        return bench_timeline::run(workspace, commits, debug);
    }
    let sizes = take_value(&mut arguments, "--gigabytes")?.unwrap_or_else(|| "0.2,2".into());
    let runs = take_value(&mut arguments, "--runs")?.unwrap_or_else(|| "3".into());
    let against = take_value(&mut arguments, "--against")?;
    let usual = if against.is_some() { "15" } else { "17" };
    let major = take_value(&mut arguments, "--major")?.unwrap_or_else(|| usual.into());
    nothing_else(&arguments)?;
    if let Some(peer) = against.as_ref().filter(|peer| *peer != "pgbackrest") {
        return Err(format!("{peer} is no peer that can be measured; pgbackrest is").into());
    }
    let runs: usize = runs.parse().map_err(|_| format!("{runs} is not a number of runs"))?;
    let major: u32 = major.parse().map_err(|_| format!("{major} is not a major version"))?;
    let sizes = sizes
        .split(',')
        .map(|size| size.trim().parse().map_err(|_| format!("{size} is not a size in GB")))
        .collect::<Result<Vec<f64>, _>>()?;
    if runs == 0 || sizes.iter().any(|size| !(0.02..=1000.0).contains(size)) {
        return Err("at least one run, and sizes from 0.02 to 1000 GB".into());
    }

    ensure(workspace, &[Need::Build, Need::Servers])?;
    let began = Instant::now();
    let mut build = workspace.cargo();
    build.args(["build", "--release", "--package", "holdfast-cli"]);
    if !build.status()?.success() {
        return Err("the release does not build".into());
    }
    line("ok", began.elapsed(), "release build", "");
    let program = workspace.target.join("release/holdfast");
    for gigabytes in sizes {
        let server = loaded(major, gigabytes)?;
        match against {
            None => compare(&program, &server, runs)?,
            Some(_) => bench_against::compare(&program, &server, runs)?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A server with so much in it.
fn loaded(major: u32, gigabytes: f64) -> Result<TestServer, Fault> {
    let began = Instant::now();
    let server = TestServer::builder(major)
        .config("max_wal_size = 4GB")
        .config("synchronous_commit = off")
        .config("autovacuum = off")
        .start()?;
    // As in the project's figures: four fifths are pgbench's tables (15 MB a unit of scale), one
    // fifth documents, which compress as real data does.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "range was checked")]
    let (scale, documents) = ((gigabytes * 50.0) as u32, (gigabytes * 130_000.0) as u32);
    server.pgbench_init(scale.max(1))?;
    server.add_documents(documents)?;
    server.psql("CHECKPOINT")?;
    let bytes = server.psql("SELECT sum(pg_database_size(oid)) FROM pg_database")?;
    let bytes: u64 = bytes.parse().unwrap_or(0);
    let name = format!("{} MiB on PostgreSQL {}", bytes >> 20, server.binaries().version());
    line("ok", began.elapsed(), &name, "loaded");
    Ok(server)
}

/// Measures both and prints the comparison.
fn compare(program: &Path, server: &TestServer, runs: usize) -> Result<(), Fault> {
    let mut theirs = Vec::new();
    let mut ours = Vec::new();
    let mut again = Vec::new();
    for _ in 0..runs {
        // Alternating: what else the machine does meets both alike.
        theirs.push(pg_basebackup(server)?);
        let (first, second) = holdfast(program, server)?;
        ours.push(first);
        again.push(second);
    }
    let (theirs, ours, again) = (median(theirs), median(ours), median(again));
    print_heading();
    theirs.print("pg_basebackup | zstd -3 -T2");
    ours.print("holdfast backup");
    again.print("holdfast backup, unchanged data");
    println!(
        "                 holdfast / pg_basebackup: {:.2} of the wall time, {:.2} of the CPU time, \
         {:.2} of the bytes (client processes)",
        ratio(ours.wall, theirs.wall),
        ratio(ours.cpu, theirs.cpu),
        ours.stored_mib() / theirs.stored_mib().max(0.001),
    );
    Ok(())
}

/// One run of one contestant. CPU time and memory are those of the client processes and their children, read
/// from /proc every few milliseconds while they run; elsewhere than on Linux they are 0.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Measured {
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
    pub(crate) stored: u64,
    /// Of the largest process.
    peak_kib: u64,
}

pub(crate) fn print_heading() {
    println!(
        "                 {:<34} {:>8} {:>8} {:>10} {:>10}",
        "median", "wall", "CPU", "stored", "peak RSS"
    );
}

impl Measured {
    #[allow(clippy::cast_precision_loss, reason = "for people")]
    pub(crate) fn stored_mib(self) -> f64 {
        self.stored as f64 / f64::from(1 << 20)
    }

    pub(crate) fn print(self, name: &str) {
        println!(
            "                 {name:<34} {:>6.2} s {:>6.2} s {:>6.1} MiB {:>6} MiB",
            self.wall.as_secs_f64(),
            self.cpu.as_secs_f64(),
            self.stored_mib(),
            self.peak_kib / 1024
        );
    }
}

pub(crate) fn ratio(ours: Duration, theirs: Duration) -> f64 {
    ours.as_secs_f64() / theirs.as_secs_f64().max(0.001)
}

/// The run with the median wall time.
pub(crate) fn median(mut runs: Vec<Measured>) -> Measured {
    runs.sort_by_key(|run| run.wall);
    runs.get(runs.len() / 2).copied().unwrap_or_default()
}

fn pg_basebackup(server: &TestServer) -> Result<Measured, Fault> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("base.tar.zst");
    let began = Instant::now();
    let mut backup = server.command("pg_basebackup");
    backup.args(["--pgdata=-", "--format=tar", "--wal-method=none", "--checkpoint=fast"]);
    let mut backup = backup
        .env("PGHOST", "127.0.0.1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let stream = backup.stdout.take().ok_or("pg_basebackup has no output")?;
    let mut zstd = Command::new("zstd");
    let zstd = zstd.args(["-3", "-T2", "-q", "-c"]).stdin(stream).stdout(fs::File::create(&file)?);
    let watched = watch(&mut [&mut backup, &mut zstd.spawn()?])?;
    // Holdfast's backup is durable when it ends; so is this one.
    fs::File::open(&file)?.sync_all()?;
    Ok(Measured { wall: began.elapsed(), stored: fs::metadata(&file)?.len(), ..watched })
}

/// A first backup into an empty repository, and a second one with nothing changed.
fn holdfast(program: &Path, server: &TestServer) -> Result<(Measured, Measured), Fault> {
    let site = Site::new(program, server)?;
    Ok((site.backup()?, site.backup()?))
}

/// A home and a repository that are thrown away.
pub(crate) struct Site<'a> {
    program: &'a Path,
    folder: tempfile::TempDir,
}

impl<'a> Site<'a> {
    /// With the server as the cluster `bench`.
    pub(crate) fn new(program: &'a Path, server: &TestServer) -> Result<Self, Fault> {
        let site = Self { program, folder: tempfile::tempdir()? };
        let url = format!("file://{}", site.repository().display());
        let kit = site.folder.path().join("recovery-key");
        let kit = kit.to_str().ok_or("a path that is not UTF-8")?;
        for arguments in [
            &["repo", "create", &url, "--recovery-key-out", kit][..],
            &["cluster", "add", "bench", "--dsn", &server.dsn(), "--repo", &url],
        ] {
            let told = site.command(arguments).stderr(Stdio::piped()).output()?;
            if !told.status.success() {
                let said = String::from_utf8_lossy(&told.stderr).into_owned();
                return Err(format!("holdfast {}: {said}", arguments.join(" ")).into());
            }
        }
        Ok(site)
    }

    fn repository(&self) -> PathBuf {
        self.folder.path().join("repository")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.program);
        command
            .args(arguments)
            .env("HOLDFAST_HOME", self.folder.path().join("home"))
            .env("HOLDFAST_PASSPHRASE", PASSPHRASE)
            .env_remove("AWS_CA_BUNDLE")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    /// Takes a backup.
    pub(crate) fn backup(&self) -> Result<Measured, Fault> {
        self.run(&["--progress", "none", "backup", "bench"])
    }

    /// Runs the command; what it has added to the repository.
    pub(crate) fn run(&self, arguments: &[&str]) -> Result<Measured, Fault> {
        measured(&mut self.command(arguments), &self.repository())
    }
}

/// Runs a command to its end; `stored` is what is in the folder then that was not there before.
pub(crate) fn measured(command: &mut Command, folder: &Path) -> Result<Measured, Fault> {
    let before = stored(folder)?;
    let began = Instant::now();
    let watched = watch(&mut [&mut command.stderr(Stdio::inherit()).spawn()?])?;
    let wall = began.elapsed();
    Ok(Measured { wall, stored: stored(folder)?.saturating_sub(before), ..watched })
}

/// Waits for the end of all, with CPU time summed and the largest memory of one.
fn watch(children: &mut [&mut Child]) -> Result<Measured, Fault> {
    let mut cpu: HashMap<u32, Duration> = HashMap::new();
    let mut peak_kib = 0;
    loop {
        let mut running = false;
        for child in children.iter_mut() {
            for id in [vec![child.id()], children_of(child.id())].concat() {
                let process = PathBuf::from(format!("/proc/{id}"));
                let stat = fs::read_to_string(process.join("stat"));
                if let Some(time) = stat.ok().and_then(cpu_time) {
                    let known = cpu.entry(id).or_default();
                    *known = (*known).max(time);
                }
                if let Ok(status) = fs::read_to_string(process.join("status")) {
                    peak_kib = peak_kib.max(high_water(&status));
                }
            }
            match child.try_wait()? {
                None => running = true,
                Some(status) if status.success() => {}
                Some(status) => return Err(format!("a measured process ended: {status}").into()),
            }
        }
        if !running {
            return Ok(Measured { cpu: cpu.values().sum(), peak_kib, ..Measured::default() });
        }
        std::thread::sleep(Duration::from_millis(4));
    }
}

/// The processes that this one has started, where the kernel tells.
fn children_of(id: u32) -> Vec<u32> {
    let told = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    told.split_whitespace().filter_map(|id| id.parse().ok()).collect()
}

/// User and system time out of /proc/<pid>/stat (proc(5)), in hundredths of a second.
fn cpu_time(stat: impl AsRef<str>) -> Option<Duration> {
    // The name stands in parentheses and may hold anything.
    let (_, after) = stat.as_ref().rsplit_once(')')?;
    let mut fields = after.split_whitespace().skip(11);
    let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 10))
}

/// The line `VmHWM` of /proc/<pid>/status, in KiB.
fn high_water(status: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// Bytes of all files below a folder.
fn stored(folder: &Path) -> Result<u64, Fault> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let facts = entry.metadata()?;
        sum += if facts.is_dir() { stored(&entry.path())? } else { facts.len() };
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_facts_are_read() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 1 0";
        assert_eq!(cpu_time(stat), Some(Duration::from_secs(2)));
        assert_eq!(high_water("Name:\tx\nVmHWM:\t  2048 kB\n"), 2048);
        assert_eq!(high_water(""), 0);
    }

    #[test]
    fn the_median_is_a_run() {
        let run = |seconds| Measured { wall: Duration::from_secs(seconds), ..Measured::default() };
        assert_eq!(median(vec![run(9), run(1), run(4)]).wall, Duration::from_secs(4));
    }
}
