//! Reading how many tests passed out of what test runners print.

use crate::{
    Fault,
    process::Ended,
    report::{Counts, Outcome},
};

/// The outcome of a run: its counts, and its story when it was not well.
pub(crate) fn outcome(ended: &Ended, counts: Option<Counts>) -> Result<Outcome, Fault> {
    let Some(counts) = counts else {
        // Nothing was run: it did not compile, or the runner did not start.
        let story = ended.story();
        return Err(
            if ended.success { format!("no summary of tests\n{story}") } else { story }.into()
        );
    };
    let Counts { passed, failed } = counts;
    if ended.success && failed == 0 {
        return Ok(Outcome { counts, note: format!("{passed} passed"), failure: None });
    }
    let sum = format!("{passed} passed, {failed} failed");
    let failure = Some(format!("{sum}\n{}", ended.story()));
    Ok(Outcome { counts, note: sum, failure })
}

/// The last line of nextest such as
/// `Summary [ 1.2s] 12 tests run: 10 passed (1 slow), 1 failed, 1 timed out, 3 skipped`.
pub(crate) fn nextest(text: &str) -> Option<Counts> {
    let line = text.lines().rev().find(|line| line.contains("Summary ["))?;
    let (_, parts) = line.split_once(" run: ")?;
    let mut counts = Counts::default();
    for part in parts.split(", ") {
        let mut words = part.split_whitespace();
        // Parts in parentheses, such as `(1 slow`, only say more about the part before.
        let (Some(number), Some(what)) = (words.next(), words.next()) else { continue };
        let Ok(number) = number.parse::<u64>() else { continue };
        match what {
            "passed" => counts.passed += number,
            "failed" | "timed" | "exec" => counts.failed += number,
            _ => {}
        }
    }
    Some(counts)
}

/// The line of vitest such as `Tests  1 failed | 12 passed | 2 skipped (15)`.
pub(crate) fn vitest(text: &str) -> Option<Counts> {
    let line = text.lines().rev().find(|line| line.trim_start().starts_with("Tests  "))?;
    let mut counts = Counts::default();
    for part in line.trim_start().trim_start_matches("Tests").split('|') {
        let mut words = part.split_whitespace();
        let number: u64 = words.next()?.parse().ok()?;
        match words.next() {
            Some("passed") => counts.passed += number,
            Some("failed") => counts.failed += number,
            _ => {}
        }
    }
    Some(counts)
}

/// The share of lines, in percent, in the table that vitest prints with coverage.
pub(crate) fn vitest_lines(text: &str) -> Option<&str> {
    let line = text.lines().find(|line| line.starts_with("All files"))?;
    line.split('|').nth(4).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nextest_summaries() {
        let text = "x\n     Summary [   0.005s] 14 tests run: 11 passed (1 slow, 2 leaky), \
                    1 failed, 1 timed out, 1 exec failed, 3 skipped\n   FAIL y\n";
        assert_eq!(nextest(text), Some(Counts { passed: 11, failed: 3 }));
        let text = "     Summary [   0.005s] 1 test run: 1 passed, 0 skipped";
        assert_eq!(nextest(text), Some(Counts { passed: 1, failed: 0 }));
        assert_eq!(nextest("error: could not compile"), None);
    }

    #[test]
    fn vitest_coverage() {
        let text =
            "File | % Stmts\nAll files          |   95.54 |    91.79 |   92.69 |    96.5 |      \n";
        assert_eq!(vitest_lines(text), Some("96.5"));
        assert_eq!(vitest_lines("no table"), None);
    }

    #[test]
    fn vitest_summaries() {
        let text =
            " Test Files  2 passed (2)\n      Tests  1 failed | 12 passed | 2 skipped (15)\n";
        assert_eq!(vitest(text), Some(Counts { passed: 12, failed: 1 }));
        assert_eq!(vitest("      Tests  7 passed (7)"), Some(Counts { passed: 7, failed: 0 }));
        assert_eq!(vitest(""), None);
    }
}
