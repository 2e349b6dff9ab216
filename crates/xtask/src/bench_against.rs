//! `cargo xtask bench --against pgbackrest`: backups and restores beside pgBackRest's, of the same server, in turn.
//!
//! pgBackRest is taken from `PATH`, and has zstd at level 3, AES, bundled files and two processes. Both store durably.
//! Holdfast is agentless in this: it reads from the server what pgBackRest reads from the disk.

use crate::{
    Fault,
    bench::{Measured, Site, measured, median, print_heading, ratio},
};
use holdfast_tests::pg::TestServer;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// What is measured of each.
const PHASES: [&str; 4] =
    ["full", "next, nothing changed", "next, a row in 1 % of the pages", "restore, the newest"];

/// pgBackRest with a repository that is thrown away.
struct PgBackRest<'a> {
    server: &'a TestServer,
    folder: tempfile::TempDir,
}

impl<'a> PgBackRest<'a> {
    fn new(server: &'a TestServer) -> Result<Self, Fault> {
        let peer = Self { server, folder: tempfile::tempdir()? };
        fs::create_dir(peer.repository())?;
        peer.run("stanza-create", &peer.server.data().display().to_string(), &[])?;
        Ok(peer)
    }

    fn repository(&self) -> PathBuf {
        self.folder.path().join("repository")
    }

    fn run(&self, what: &str, data: &str, more: &[&str]) -> Result<Measured, Fault> {
        let own = self.folder.path().display();
        let mut command = Command::new("pgbackrest");
        command
            .args(["--stanza=bench", "--repo1-cipher-type=aes-256-cbc"])
            .args([format!("--repo1-path={}", self.repository().display())])
            .args([format!("--pg1-path={data}")])
            .args([format!("--lock-path={own}/lock"), format!("--log-path={own}/log")])
            .args(["--log-level-console=warn", "--log-level-file=off"])
            .args(more)
            .env("PGBACKREST_REPO1_CIPHER_PASS", "a bench, nothing to hide")
            .stdin(Stdio::null())
            .stdout(Stdio::inherit());
        if what != "restore" {
            let socket = self.server.socket_folder().display().to_string();
            command
                .arg(format!("--pg1-port={}", self.server.port()))
                .arg(format!("--pg1-socket-path={socket}"))
                .arg("--pg1-user=postgres");
        }
        if what == "backup" || what == "restore" {
            command.args(["--process-max=2"]);
        }
        if what == "backup" {
            command.args(["--compress-type=zst", "--compress-level=3", "--repo1-bundle"]);
            // What is compared is the copy; Holdfast streams the WAL it needs, which is part of its figures.
            command.args(["--no-archive-check", "--start-fast", "--repo1-retention-full=9"]);
        }
        measured(command.arg(what), &self.repository())
    }

    fn backup(&self, kind: &str) -> Result<Measured, Fault> {
        let data = self.server.data().display().to_string();
        self.run("backup", &data, &[&format!("--type={kind}")])
    }

    fn restore(&self) -> Result<Measured, Fault> {
        let to = self.folder.path().join("restored");
        fs::create_dir(&to)?;
        let done = self.run("restore", &to.display().to_string(), &["--archive-mode=off"])?;
        fs::remove_dir_all(&to)?;
        Ok(done)
    }
}

/// Measures both and prints the comparison.
pub(crate) fn compare(program: &Path, server: &TestServer, runs: usize) -> Result<(), Fault> {
    let version = Command::new("pgbackrest").arg("version").output();
    let version = version.map_err(|_| "pgbackrest is not on PATH: install it to measure it")?;
    let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
    prepare(server)?;
    let mut theirs = [const { Vec::new() }; PHASES.len()];
    let mut ours = [const { Vec::new() }; PHASES.len()];
    for run in 0..runs {
        let peer = PgBackRest::new(server)?;
        let site = Site::new(program, server)?;
        theirs[0].push(peer.backup("full")?);
        ours[0].push(site.backup()?);
        ours[1].push(site.backup()?);
        theirs[1].push(peer.backup("incr")?);
        change(server, run)?;
        theirs[2].push(peer.backup("incr")?);
        ours[2].push(site.backup()?);
        let to = tempfile::tempdir()?;
        let to = to.path().join("restored").display().to_string();
        let line = ["--progress", "none", "restore", "run", "bench", "--target", "latest"];
        ours[3].push(site.run(&[&line[..], &["--fetch-only", "--to", &to]].concat())?);
        theirs[3].push(peer.restore()?);
    }
    print_heading();
    for ((phase, ours), theirs) in PHASES.iter().zip(ours).zip(theirs) {
        let (ours, theirs) = (median(ours), median(theirs));
        theirs.print(&format!("{version}: {phase}"));
        ours.print(&format!("holdfast: {phase}"));
        println!(
            "                 {:.2} of the wall time, {:.2} of the CPU time, {:.2} of the bytes",
            ratio(ours.wall, theirs.wall),
            ratio(ours.cpu, theirs.cpu),
            ours.stored_mib() / theirs.stored_mib().max(0.001),
        );
    }
    Ok(())
}

/// Leaves room in every page, so that an update stays in it.
fn prepare(server: &TestServer) -> Result<(), Fault> {
    server.psql("ALTER TABLE pgbench_accounts SET (fillfactor = 90)")?;
    for statement in ["VACUUM FULL pgbench_accounts", "VACUUM FREEZE", "CHECKPOINT"] {
        server.psql(statement)?;
    }
    Ok(())
}

/// Updates one row in one page of a hundred of the largest table, spread over all of it.
fn change(server: &TestServer, run: usize) -> Result<(), Fault> {
    let rows_a_page = server.psql(
        "SELECT (count(*) / (pg_relation_size('pgbench_accounts') / 8192))::int FROM pgbench_accounts",
    )?;
    let rows_a_page: usize = rows_a_page.parse().map_err(|_| "pgbench_accounts has no pages")?;
    server.psql(&format!(
        "UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid % {} = {}",
        100 * rows_a_page,
        run * rows_a_page + 7,
    ))?;
    server.psql("CHECKPOINT")?;
    Ok(())
}
