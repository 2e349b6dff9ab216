//! `cargo xtask bench --timeline`: a history of ten years in the repository's own format, and how fast
//! the engine answers and the window draws.

use crate::{
    Fault, process,
    report::line,
    setup::{Need, ensure},
    test::development_host,
    workspace::Workspace,
};
use holdfast_tests::protected::PASSPHRASE;
use std::{
    fs,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

/// Hourly snapshots of ten years, and a hundred million transactions.
const SNAPSHOTS: u64 = 90_000;
const COMMITS: u64 = 100_000_000;
/// What the tests call the cluster of the long history.
const CLUSTER: &str = "ten-years";

/// Writes the history, asks the engine about it, and measures the window in a browser's trace. With
/// `debug` what is built for the tests is measured.
pub(crate) fn run(
    workspace: &Workspace,
    commits: Option<u64>,
    debug: bool,
) -> Result<ExitCode, Fault> {
    ensure(workspace, &[Need::Build, Need::Ui, Need::Browser])?;
    let commits = commits.unwrap_or(COMMITS);
    let profile = if debug { "debug" } else { "release" };
    let mode: &[&str] = if debug { &[] } else { &["--release"] };
    let began = Instant::now();
    let mut page = workspace.npm();
    page.args(["run", "build"]);
    let logs = workspace.logs();
    process::run(&logs, "user interface build", &mut page)?.expect_success()?;
    let mut build = workspace.cargo();
    build.args(["build", "--package", "holdfast-cli"]).args(mode);
    build.args(["--features", "holdfast-cli/development-host"]);
    process::run(&logs, "build", &mut build)?.expect_success()?;
    line("ok", began.elapsed(), &format!("{profile} build"), "");

    let program = workspace.target.join(profile).join("holdfast");
    let folder = tempfile::tempdir_in("/var/tmp")?;
    let mut tests = workspace.cargo();
    tests
        .args(["test", "--package", "holdfast-tests", "--test", "long_history"])
        .args(mode)
        .args(["--", "--nocapture"])
        .env("HOLDFAST_BIN", &program)
        .env("HOLDFAST_HISTORY", format!("{commits},{SNAPSHOTS},{}", folder.path().display()));
    told("history", &logs, &mut tests)?;
    let home = folder.path().join("home");
    fs::create_dir_all(&home)?;
    let environment = [("HOLDFAST_PASSPHRASE".to_owned(), PASSPHRASE.to_owned())];
    let (host, url) = development_host(&program, &workspace.ui_dist(), &home, &environment)?;
    let mut browser = workspace.npm();
    browser
        .args(["run", "e2e", "--", "e2e/speed.e2e.ts"])
        .env("HOLDFAST_SPEED_URL", url)
        .env("HOLDFAST_SPEED_CLUSTER", CLUSTER);
    let measured = told("speed", &logs, &mut browser);
    let _ = host.terminate(Duration::from_secs(30));
    measured?;
    Ok(ExitCode::SUCCESS)
}

/// Runs something and prints the lines in which it tells what it measured, also when it fails.
fn told(what: &str, logs: &std::path::Path, command: &mut Command) -> Result<(), Fault> {
    let began = Instant::now();
    let ended = process::run(logs, what, command)?;
    let mark = format!("{what}: ");
    for measured in ended.text.lines().filter_map(|line| line.trim_start().strip_prefix(&mark)) {
        println!("                 {measured}");
    }
    line(if ended.success { "ok" } else { "FAILED" }, began.elapsed(), what, "");
    ended.expect_success().map(drop)
}
