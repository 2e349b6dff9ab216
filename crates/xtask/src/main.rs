//! `cargo xtask <errand>`: what a developer does with this repository, as commands that can be
//! repeated. Every errand sets up what it needs by itself; the second time that takes no time.

mod bench;
mod bench_against;
mod bench_timeline;
mod boundaries;
mod conformance;
mod coverage;
mod demo;
mod desktop;
mod fetch;
mod fuzz;
mod licenses;
mod packages;
mod process;
mod prove;
mod report;
mod setup;
mod suites;
mod test;
mod workspace;

use std::process::ExitCode;
use workspace::Workspace;

/// What an errand fails with: a sentence for the person who called it.
type Fault = Box<dyn std::error::Error>;

const HELP: &str = "\
cargo xtask <errand>

  setup [--desktop]            what building and testing needs; --desktop: the window too
  demo [-- ARGUMENTS]          the product's demo in its window; with -- --headless in the terminal
  test [--fast|--window] [FILTER]
                               all checks and tests; --fast: formatting, boundaries, lints, UI and
                               Rust tests without coverage, browser and window;
                               --window: the real window alone;
                               FILTER: the Rust tests whose name contains it, nothing else
  coverage                     the Rust tests with line coverage
  conformance [--last]         the tests of PostgreSQL's scenarios; writes docs/conformance.md;
                               --last: from the report of the last run
  boundaries                   layers, forbidden dependencies, licences
  bindings                     writes ui/src/api/bindings.ts
  bench [--gigabytes LIST] [--runs N] [--major N]
                               `holdfast backup` beside `pg_basebackup | zstd`; 0.2,2 and 3 and 17
                               unless said otherwise
  bench --against pgbackrest [--gigabytes LIST] [--runs N]
                               backups and restores beside an installed pgBackRest, on PostgreSQL 15
  bench --timeline [--commits N] [--debug]
                               ten years of history, 90,000 snapshots and N commits (100,000,000):
                               how fast the engine answers and the window draws;
                               --debug: as built for the tests
  prove [--seconds N] [--runs N] [FILTER]
                               the tests that can be lengthened: N seconds each (600), or N runs (100)
  prove fuzz [--minutes N] [TARGET]
                               every parser under libFuzzer, for N minutes each (10)
  session COMMAND…             runs a command in a private desktop session: display, bus, keychain
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(code) => code,
        Err(fault) => {
            eprintln!("xtask: {fault}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<ExitCode, Fault> {
    let Some((errand, rest)) = arguments.split_first() else {
        print!("{HELP}");
        return Ok(ExitCode::from(2));
    };
    let workspace = Workspace::locate()?;
    match errand.as_str() {
        "setup" => setup::errand(&workspace, rest),
        "demo" => demo::errand(&workspace, rest),
        "test" => test::errand(&workspace, rest),
        "coverage" => test::coverage_errand(&workspace, rest),
        "conformance" => test::conformance_errand(&workspace, rest),
        "boundaries" => test::boundaries_errand(&workspace, rest),
        "bindings" => test::bindings_errand(&workspace, rest),
        "bench" => bench::errand(&workspace, rest),
        "prove" => prove::errand(&workspace, rest),
        "session" => desktop::errand(&workspace, rest),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        other => Err(format!("no errand {other}; `cargo xtask help` lists them").into()),
    }
}

/// The value behind an option such as `--runs 3`, taken out of `arguments`.
fn take_value(arguments: &mut Vec<String>, option: &str) -> Result<Option<String>, Fault> {
    let Some(place) = arguments.iter().position(|argument| argument == option) else {
        return Ok(None);
    };
    arguments.remove(place);
    if place == arguments.len() {
        return Err(format!("{option} wants a value").into());
    }
    Ok(Some(arguments.remove(place)))
}

/// Whether a flag is there, taken out of `arguments`.
fn take_flag(arguments: &mut Vec<String>, flag: &str) -> bool {
    let before = arguments.len();
    arguments.retain(|argument| argument != flag);
    arguments.len() != before
}

/// Refuses what nobody has taken.
fn nothing_else(arguments: &[String]) -> Result<(), Fault> {
    match arguments.first() {
        None => Ok(()),
        Some(argument) => {
            Err(format!("cannot do anything with {argument}; see `cargo xtask help`").into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_taken_out() -> Result<(), Fault> {
        let mut arguments: Vec<String> =
            ["--runs", "3", "--fast", "name"].map(String::from).to_vec();
        assert_eq!(take_value(&mut arguments, "--runs")?, Some("3".into()));
        assert_eq!(take_value(&mut arguments, "--major")?, None);
        assert!(take_flag(&mut arguments, "--fast"));
        assert!(!take_flag(&mut arguments, "--fast"));
        assert_eq!(arguments, ["name"]);
        assert!(nothing_else(&arguments).is_err());
        assert!(take_value(&mut arguments, "name").is_err());
        Ok(())
    }
}
