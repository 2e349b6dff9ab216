//! `cargo xtask prove fuzz`: every parser under libFuzzer, one after the other.
//!
//! The fuzzed programs are built by the ordinary compiler: `fuzz/instrument.sh` adds the coverage
//! counters that libFuzzer reads to our own crates. There is no sanitizer: what is found are panics,
//! arithmetic overflows, failed comparisons, hangs and too much memory.

use crate::{
    Fault, nothing_else, process,
    report::line,
    setup::{Need, ensure},
    take_value,
    workspace::Workspace,
};
use std::{
    fs,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

/// Inputs are at most so long; a WAL page and a half, twenty tar headers.
const LONGEST: u32 = 16 << 10;
/// One input may take so long, and so much memory.
const SECONDS: u32 = 20;
const MEBIBYTES: u32 = 2048;

/// `cargo xtask prove fuzz [--minutes N] [TARGET]`.
pub(crate) fn errand(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode, Fault> {
    let mut arguments = arguments.to_vec();
    let minutes = take_value(&mut arguments, "--minutes")?.unwrap_or_else(|| "10".into());
    let minutes: f64 =
        minutes.parse().map_err(|_| format!("{minutes} is not a number of minutes"))?;
    let only = arguments.pop();
    nothing_else(&arguments)?;
    ensure(workspace, &[Need::Build])?;
    build(workspace)?;
    let mut names = targets(workspace)?;
    if let Some(only) = only {
        names.retain(|name| *name == only);
        if names.is_empty() {
            return Err(format!("{only} is nothing that is fuzzed").into());
        }
    }
    let mut well = true;
    for name in names {
        well &= fuzz(workspace, &name, Duration::from_secs_f64(minutes * 60.0))?;
    }
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn build(workspace: &Workspace) -> Result<(), Fault> {
    let mut build = workspace.cargo();
    build
        .args(["build", "--quiet", "--package", "holdfast-fuzz", "--features", "libfuzzer"])
        .args(["--bin", "holdfast-fuzz"])
        .env("RUSTC_WORKSPACE_WRAPPER", workspace.root.join("fuzz/instrument.sh"))
        .env("CARGO_INCREMENTAL", "0");
    process::run(&workspace.logs(), "fuzz build", &mut build)?.expect_success()?;
    Ok(())
}

/// The folders of the corpus: one for each target.
fn targets(workspace: &Workspace) -> Result<Vec<String>, Fault> {
    let mut names = Vec::new();
    for entry in fs::read_dir(workspace.root.join("fuzz/corpus"))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Runs one target and prints its line. What it learns stays in the target directory; a failing
/// input is named, to be looked at and added to the corpus.
fn fuzz(workspace: &Workspace, name: &str, time: Duration) -> Result<bool, Fault> {
    let place = workspace.target.join("fuzz");
    let learnt = place.join("learnt").join(name);
    let failed = place.join("failed");
    fs::create_dir_all(&learnt)?;
    fs::create_dir_all(&failed)?;
    let began = Instant::now();
    let mut run = Command::new(workspace.target.join("debug/holdfast-fuzz"));
    run.arg(&learnt)
        .arg(workspace.root.join("fuzz/corpus").join(name))
        .arg(format!("-max_total_time={}", time.as_secs().max(1)))
        .arg(format!("-max_len={LONGEST}"))
        .arg(format!("-timeout={SECONDS}"))
        .arg(format!("-rss_limit_mb={MEBIBYTES}"))
        .arg(format!("-artifact_prefix={}/{name}-", failed.display()))
        .arg("-print_final_stats=1")
        .env("HOLDFAST_FUZZ_TARGET", name);
    let ended = process::run(&workspace.logs(), &format!("fuzz {name}"), &mut run)?;
    let told = Told::of(&ended.text);
    let note = format!(
        "{} executions, {} edges of our crates reached, {} inputs kept",
        told.executions, told.edges, told.inputs
    );
    line(
        if ended.success { "ok" } else { "FAILED" },
        began.elapsed(),
        &format!("fuzz {name}"),
        &note,
    );
    if !ended.success {
        println!("{}", ended.story());
    }
    Ok(ended.success)
}

/// What libFuzzer says of a run.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    executions: u64,
    edges: u64,
    inputs: u64,
}

impl Told {
    fn of(text: &str) -> Self {
        let mut told = Self::default();
        for line in text.lines() {
            if let Some(number) = line.strip_prefix("stat::number_of_executed_units:") {
                told.executions = number.trim().parse().unwrap_or(0);
            }
            // `#1234  NEW    cov: 345 ft: 678 corp: 90/12Kb lim: 100 exec/s: 0 rss: 43Mb …`
            let mut words = line.split_whitespace();
            while let Some(word) = words.next() {
                let number = |text: Option<&str>| {
                    text.and_then(|t| t.split('/').next()).and_then(|t| t.parse().ok())
                };
                match word {
                    "cov:" => told.edges = number(words.next()).unwrap_or(told.edges),
                    "corp:" => told.inputs = number(words.next()).unwrap_or(told.inputs),
                    _ => {}
                }
            }
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libfuzzer_says_is_read() {
        let text = "#2\tINITED cov: 12 ft: 13 corp: 1/1b exec/s: 0 rss: 40Mb\n\
                    #99\tDONE   cov: 345 ft: 678 corp: 90/12Kb lim: 100 exec/s: 10 rss: 43Mb\n\
                    stat::number_of_executed_units: 12345\n";
        assert_eq!(Told::of(text), Told { executions: 12345, edges: 345, inputs: 90 });
        assert_eq!(Told::of("nothing"), Told::default());
    }
}
