//! One line per step, and the sum at the end.

use crate::Fault;
use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
    time::{Duration, Instant},
};

/// How many tests of a suite passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Counts {
    /// A check that is one test by itself.
    pub(crate) const ONE: Self = Self { passed: 1, failed: 0 };
}

/// What a step has to say when it is over.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) counts: Counts,
    /// Shown behind the step's name.
    pub(crate) note: String,
    /// What went wrong, if anything did although the step came to its end.
    pub(crate) failure: Option<String>,
}

impl Outcome {
    /// A check that passed.
    pub(crate) fn passed(note: impl Into<String>) -> Self {
        Self { counts: Counts::ONE, note: note.into(), failure: None }
    }
}

/// The steps so far.
#[derive(Debug)]
pub(crate) struct Report {
    counts: Counts,
    failures: Vec<(String, String)>,
    began: Instant,
}

impl Default for Report {
    fn default() -> Self {
        Self { counts: Counts::default(), failures: Vec::new(), began: Instant::now() }
    }
}

impl Report {
    /// Runs one step and prints its line. A fault counts as one failure and does not end the run.
    /// Returns whether everything in the step was well.
    pub(crate) fn step(
        &mut self,
        name: &str,
        work: impl FnOnce() -> Result<Outcome, Fault>,
    ) -> bool {
        let began = Instant::now();
        announce(name);
        let outcome = work().unwrap_or_else(|fault| Outcome {
            counts: Counts { passed: 0, failed: 1 },
            note: String::new(),
            failure: Some(fault.to_string()),
        });
        let Outcome { mut counts, note, failure } = outcome;
        if failure.is_some() && counts.failed == 0 {
            counts.failed = 1;
        }
        let well = failure.is_none() && counts.failed == 0;
        line(if well { "ok" } else { "FAILED" }, began.elapsed(), name, &note);
        self.counts.passed += counts.passed;
        self.counts.failed += counts.failed;
        if !well {
            let story = failure.unwrap_or_else(|| "see its log".into());
            println!("{}", indented(&story));
            self.failures.push((name.to_owned(), first_line(&story)));
        }
        well
    }

    /// Says that a step cannot run because of an earlier one; that counts as a failure.
    pub(crate) fn blocked(&mut self, name: &str, by: &str) {
        line("not run", Duration::ZERO, name, &format!("needs: {by}"));
        self.counts.failed += 1;
        self.failures.push((name.to_owned(), format!("not run: needs {by}")));
    }

    /// Lists the failures and prints the sum, alone on the last line.
    pub(crate) fn finish(self) -> ExitCode {
        println!("\n{} in all", seconds(self.began.elapsed()));
        for (name, story) in &self.failures {
            println!("failed: {name}: {story}");
        }
        println!("{} passed, {} failed", self.counts.passed, self.counts.failed);
        if self.counts.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// Runs a step of a set-up: prints its line only when there was something to do.
pub(crate) fn provide(
    name: &str,
    is_there: bool,
    work: impl FnOnce() -> Result<(), Fault>,
) -> Result<(), Fault> {
    if is_there {
        return Ok(());
    }
    let began = Instant::now();
    announce(name);
    let result = work();
    line(if result.is_ok() { "ok" } else { "FAILED" }, began.elapsed(), name, "");
    result
}

/// A step that is over.
pub(crate) fn line(state: &str, took: Duration, name: &str, note: &str) {
    let gap = if note.is_empty() { "" } else { "  " };
    println!("{state:>7} {:>9}  {name}{gap}{note}", seconds(took));
}

/// On a terminal, what is being done; the finished line replaces it.
fn announce(name: &str) {
    let mut out = io::stdout();
    if out.is_terminal() {
        let _ = write!(out, "    ...            {name}\r");
    }
    let _ = out.flush();
}

/// `12.3 s`, or `4 m 05 s` from two minutes on.
fn seconds(took: Duration) -> String {
    let whole = took.as_secs();
    if whole < 120 {
        format!("{:.1} s", took.as_secs_f64())
    } else {
        format!("{} m {:02} s", whole / 60, whole % 60)
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    | {line}")).collect::<Vec<_>>().join("\n")
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        assert_eq!(seconds(Duration::from_millis(1_234)), "1.2 s");
        assert_eq!(seconds(Duration::from_secs(245)), "4 m 05 s");
    }

    #[test]
    fn faults_and_failed_tests_are_summed() {
        let mut report = Report::default();
        assert!(report.step("one", || Ok(Outcome::passed(""))));
        assert!(!report.step("two", || Err("broken\nin detail".into())));
        let counts = Counts { passed: 5, failed: 2 };
        assert!(!report.step("three", || Ok(Outcome { counts, ..Outcome::default() })));
        report.blocked("four", "two");
        assert_eq!(report.counts, Counts { passed: 6, failed: 4 });
        assert_eq!(report.failures[0], ("two".into(), "broken".into()));
    }
}
