//! `cargo xtask prove`: the tests that get better with time, for a long time.

use crate::{
    Fault, fuzz,
    report::line,
    setup::{Need, ensure},
    take_value,
    test::CORE,
    workspace::Workspace,
};
use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

/// The tests that go on for as long as they are told; all others are the same every time.
const LONG: &str = "binary(exactness) + binary(kills) + binary(restore_resume) + binary(store_faults) \
                    + binary(power_cut) + binary(synchronous) + binary(memory) + binary(corpus)";

/// Runs them; each reads `HOLDFAST_PROVE_SECONDS` and goes on for so long, or `HOLDFAST_PROVE_RUNS` and
/// does it so often.
pub(crate) fn errand(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode, Fault> {
    if let Some((first, rest)) = arguments.split_first()
        && first == "fuzz"
    {
        return fuzz::errand(workspace, rest);
    }
    let mut arguments = arguments.to_vec();
    let seconds = take_value(&mut arguments, "--seconds")?.unwrap_or_else(|| "600".into());
    let seconds: u64 =
        seconds.parse().map_err(|_| format!("{seconds} is not a number of seconds"))?;
    let runs = take_value(&mut arguments, "--runs")?.unwrap_or_else(|| "100".into());
    let runs: u32 = runs.parse().map_err(|_| format!("{runs} is not a number of runs"))?;
    ensure(workspace, &[Need::Build, Need::Servers, Need::Store, Need::Nextest])?;
    let began = Instant::now();

    let mut build = workspace.cargo();
    build.args(["build", "--quiet", "--bins", "--tests"]).args(CORE);
    if !build.status()?.success() {
        return Err("the tests do not build".into());
    }
    let mut tests = workspace.cargo();
    tests
        .args(["nextest", "run", "--profile", "prove", "--no-fail-fast"])
        .args(CORE)
        .args(["--filterset", LONG])
        .args(&arguments)
        .env("HOLDFAST_BIN", workspace.target.join("debug/holdfast"))
        .env("HOLDFAST_PROVE_SECONDS", seconds.to_string())
        .env("HOLDFAST_PROVE_RUNS", runs.to_string());
    // What they report of their work is part of the proof: it is shown as it comes.
    let well = tests.status()?.success();
    let state = if well { "ok" } else { "FAILED" };
    line(state, began.elapsed(), &format!("{:?} each", Duration::from_secs(seconds)), "");
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
