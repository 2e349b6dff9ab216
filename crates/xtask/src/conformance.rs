//! `docs/conformance.md`: PostgreSQL's scenarios and the known ways to fail, each with the tests that
//! show it, the versions they ran on and their results. Written from what the test runner reports.
//!
//! A test says by its name what it shows: `recovery_003_recovery_targets_on_15` is the scenario of
//! `src/test/recovery/t/003_recovery_targets.pl` on version 15, `catalogue_04_…` entry 4 of the list
//! of failures. What has no test says so.

use crate::{Fault, report::Outcome, workspace::Workspace};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::PathBuf,
};

/// The document, from the root of the repository.
const DOCUMENT: &str = "docs/conformance.md";
/// Selects the tests of scenarios, in the language of nextest.
pub(crate) const FILTER: &str =
    r"test(/(^|::)(recovery|pg_combinebackup|pg_verifybackup|catalogue)_[0-9]/)";

/// A scenario of PostgreSQL's own tests: suite, number, name of its file, what it shows here.
type Scenario = (&'static str, u32, &'static str, &'static str);

/// The suites and their folders in PostgreSQL's source.
const SUITES: [(&str, &str); 3] = [
    ("recovery", "src/test/recovery/t"),
    ("pg_combinebackup", "src/bin/pg_combinebackup/t"),
    ("pg_verifybackup", "src/bin/pg_verifybackup/t"),
];

const SCENARIOS: [Scenario; 18] = [
    (
        "recovery",
        3,
        "recovery_targets",
        "Every kind of target, with and without itself: the stop is the predicted one. What cannot be reached is refused before a byte is written.",
    ),
    (
        "recovery",
        19,
        "replslot_limit",
        "A slot that falls behind is seen; what it loses is a gap, never silence.",
    ),
    (
        "recovery",
        23,
        "pitr_prepared_xact",
        "A transaction that is prepared at the target can be finished on the new timeline.",
    ),
    (
        "recovery",
        24,
        "archive_recovery",
        "WAL written with `wal_level = minimal` is not replayed past.",
    ),
    (
        "recovery",
        25,
        "stuck_on_old_timeline",
        "An archive fed by a standby of a standby follows a promotion upstream.",
    ),
    (
        "recovery",
        26,
        "overwrite_contrecord",
        "A record that a crash left unfinished is passed where the server overwrote it.",
    ),
    (
        "recovery",
        28,
        "pitr_timelines",
        "Point-in-time recovery of what was itself recovered: timelines current, latest and by number.",
    ),
    (
        "recovery",
        33,
        "replay_tsp_drops",
        "Tablespaces and databases that come and go during replay.",
    ),
    (
        "recovery",
        39,
        "end_of_wal",
        "The end of WAL is found where it is, whatever stands behind it.",
    ),
    (
        "recovery",
        43,
        "no_contrecord_switch",
        "A promotion while a record crosses segments leaves a history that can be followed.",
    ),
    (
        "pg_combinebackup",
        2,
        "compare_backups",
        "An incremental backup put together equals a full one.",
    ),
    ("pg_combinebackup", 3, "timeline", "A chain of incremental backups across a promotion."),
    (
        "pg_combinebackup",
        7,
        "wal_level_minimal",
        "No incremental backup across `wal_level = minimal`.",
    ),
    (
        "pg_combinebackup",
        8,
        "promote",
        "A standby's backup as the base of its own after its promotion.",
    ),
    (
        "pg_combinebackup",
        11,
        "ib_truncation",
        "A relation of several segments that was truncated in between.",
    ),
    (
        "pg_verifybackup",
        3,
        "corruption",
        "Damage of a restored base is what `pg_verifybackup` finds; damage in the repository is named, and never restored.",
    ),
    (
        "pg_verifybackup",
        5,
        "bad_manifest",
        "A manifest that PostgreSQL's own verifier refuses is refused.",
    ),
    ("pg_verifybackup", 7, "wal", "The WAL that a backup needs is there and whole."),
];

/// Known ways in which backup tools failed somebody; numbers as tests name them.
const CATALOGUE: [(u32, &str); 30] = [
    (1, "The slot, the backup and the stream began in the wrong order: a window without WAL."),
    (2, "A gap was recorded up to \"now\" instead of the real frontier."),
    (3, "A slot was dropped and made again: what lies between is a gap."),
    (4, "A history file is missing in the chain: PostgreSQL stops silently at the parent."),
    (5, "A timeline's ancestry was fetched only once."),
    (6, "The check for gaps left out the first record or a segment's boundary."),
    (7, "After a promotion, archiving went on from the wrong place of the parent."),
    (8, "The check for gaps ended where a timeline ends."),
    (9, "A demoted primary went on writing to its old timeline."),
    (10, "Another cluster streamed into the same archive."),
    (11, "Content was collected as garbage while a backup took it over."),
    (12, "A rotation of keys stopped half-way."),
    (13, "A position was reported as durable that was only in memory."),
    (14, "A replica had its manifest before its content."),
    (15, "The store ignored a conditional write."),
    (16, "A socket of a store hung for ever."),
    (17, "A change of settings dropped the retention."),
    (18, "A hold on an incremental backup did not hold what it needs."),
    (19, "A resumed job trusted objects that had gone."),
    (20, "A scheduled job ran without encryption since the key was away."),
    (21, "One stuck task starved the scheduler."),
    (22, "A path with `.tmp.` in it was taken for a temporary file."),
    (23, "A list of chunks with a hole in it was accepted."),
    (24, "A skipped check counted as passed."),
    (25, "Settings outside of the data directory were not there at a restore."),
    (26, "A tablespace was restored onto its absolute path."),
    (27, "A summarizer that was merely late was taken for one that is missing."),
    (28, "A backup was undeleted after its WAL had gone."),
    (29, "WAL of another cluster was served."),
    (30, "Everything was only ever tested at segment boundaries."),
];

/// What a test's name says that it shows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Shown {
    suite: String,
    number: u32,
    name: String,
    major: Option<u32>,
}

impl Shown {
    /// Reads a test's name, with or without its modules; none for any other test.
    fn of(test: &str) -> Option<Self> {
        let name = test.rsplit("::").next()?;
        let suite = ["recovery", "pg_combinebackup", "pg_verifybackup", "catalogue"]
            .into_iter()
            .find(|suite| name.strip_prefix(suite).is_some_and(|rest| rest.starts_with('_')))?;
        let rest = name.get(suite.len() + 1..)?;
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number = rest.get(..digits)?.parse().ok()?;
        let rest = rest.get(digits..)?.strip_prefix('_')?;
        let (name, major) = match rest.rsplit_once("_on_") {
            Some((name, major)) if major.bytes().all(|b| b.is_ascii_digit()) => {
                (name, major.parse().ok())
            }
            _ => (rest, None),
        };
        Some(Self { suite: suite.to_owned(), number, name: name.to_owned(), major })
    }
}

/// Tests that show something, and whether each passed.
type Results = BTreeMap<Shown, bool>;

/// Reads a report of the test runner (JUnit).
fn results(junit: &str) -> Results {
    let mut results = Results::new();
    for case in junit.split("<testcase ").skip(1) {
        let Some(name) = case.split_once("name=\"").and_then(|(_, rest)| rest.split('"').next())
        else {
            continue;
        };
        let Some(shown) = Shown::of(name) else { continue };
        let passed = !case.contains("<failure") && !case.contains("<error");
        results.entry(shown).and_modify(|all| *all &= passed).or_insert(passed);
    }
    results
}

/// One row: the tests of one name with their versions.
fn evidence(results: &Results, suite: &str, number: u32) -> (String, String, String) {
    let mut tests: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
    let mut passed = true;
    for (shown, well) in results.iter().filter(|(s, _)| s.suite == suite && s.number == number) {
        let versions = tests.entry(&shown.name).or_default();
        versions.extend(shown.major);
        passed &= well;
    }
    if tests.is_empty() {
        return ("–".to_owned(), "–".to_owned(), "no test yet".to_owned());
    }
    let names = tests.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join("<br>");
    let versions = tests
        .values()
        .map(|versions| {
            let list: Vec<_> = versions.iter().map(u32::to_string).collect();
            if list.is_empty() { "–".to_owned() } else { list.join(", ") }
        })
        .collect::<Vec<_>>()
        .join("<br>");
    (names, versions, if passed { "passed" } else { "FAILED" }.to_owned())
}

/// The document for these results.
fn render(results: &Results) -> String {
    let mut text = String::from(
        "# Conformance\n\n\
         Written by `cargo xtask test` when all tests have passed (`cargo xtask conformance` runs only the \
         tests named here). Each test runs against real servers through the `holdfast` command.\n\n\
         A test is called after what it shows: suite, number, name, and the version after `_on_`.\n\n\
         ## PostgreSQL's own scenarios\n\n\
         Rebuilt on Holdfast. The files are those of PostgreSQL's source tree.\n\n\
         | scenario | what holds here | tests | versions | result |\n|---|---|---|---|---|\n",
    );
    for (suite, number, file, what) in SCENARIOS {
        let folder =
            SUITES.iter().find(|(name, _)| *name == suite).map_or("", |(_, folder)| folder);
        let (tests, versions, result) = evidence(results, suite, number);
        let _ = writeln!(
            text,
            "| `{folder}/{number:03}_{file}.pl` | {what} | {tests} | {versions} | {result} |"
        );
    }
    text.push_str(
        "\n## Known failures\n\n\
         Ways in which backup tools have failed somebody. The result says that Holdfast does not, or refuses \
         in time.\n\n\
         | entry | what went wrong | tests | versions | result |\n|---|---|---|---|---|\n",
    );
    for (number, what) in CATALOGUE {
        let (tests, versions, result) = evidence(results, "catalogue", number);
        let _ = writeln!(text, "| {number} | {what} | {tests} | {versions} | {result} |");
    }
    text
}

/// Tests whose number stands in no table: a mistake in a name.
fn unknown(results: &Results) -> Vec<String> {
    results
        .keys()
        .filter(|shown| {
            let listed = SCENARIOS.iter().any(|(s, n, ..)| *s == shown.suite && *n == shown.number)
                || shown.suite == "catalogue" && CATALOGUE.iter().any(|(n, _)| *n == shown.number);
            !listed
        })
        .map(|shown| format!("{}_{:03}_{}", shown.suite, shown.number, shown.name))
        .collect()
}

/// Where the test runner leaves its report, whatever the target directory.
pub(crate) fn report_path(workspace: &Workspace) -> PathBuf {
    workspace.root.join("target/nextest/default/junit.xml")
}

/// Compares the document with the report of a run that is over. When everything in the run passed the
/// document is written anew; otherwise its tests must at least be those that exist.
pub(crate) fn check(workspace: &Workspace, all_passed: bool) -> Result<Outcome, Fault> {
    let path = report_path(workspace);
    let junit = fs::read_to_string(&path)
        .map_err(|error| format!("no report of the tests at {}: {error}", path.display()))?;
    let results = results(&junit);
    let unknown = unknown(&results);
    if !unknown.is_empty() {
        return Err(format!("no table of conformance.rs has: {}", unknown.join(", ")).into());
    }
    let document = workspace.root.join(DOCUMENT);
    let before = fs::read_to_string(&document).unwrap_or_default();
    let count = results.len();
    if all_passed {
        let text = render(&results);
        if text == before {
            return Ok(Outcome::passed(format!("{count} tests, {DOCUMENT} is as it was")));
        }
        fs::write(&document, text)?;
        return Ok(Outcome::passed(format!(
            "{count} tests, {DOCUMENT} is written anew: commit it"
        )));
    }
    // As if all had passed: only the names count.
    let names: Results = results.into_keys().map(|shown| (shown, true)).collect();
    if render(&names) == before {
        Ok(Outcome::passed(format!("{count} tests, those of {DOCUMENT}")))
    } else {
        Err(format!(
            "{DOCUMENT} names other tests than there are; a run in which all tests pass writes it"
        )
        .into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(suite: &str, number: u32, name: &str, major: Option<u32>) -> Shown {
        Shown { suite: suite.into(), number, name: name.into(), major }
    }

    #[test]
    fn names_are_read() {
        assert_eq!(
            Shown::of("recovery_003_recovery_targets_on_15"),
            Some(shown("recovery", 3, "recovery_targets", Some(15)))
        );
        assert_eq!(
            Shown::of("a::pg_verifybackup_005_bad_manifest"),
            Some(shown("pg_verifybackup", 5, "bad_manifest", None))
        );
        assert_eq!(
            Shown::of("catalogue_04_a_history_on_the_way_is_missing"),
            Some(shown("catalogue", 4, "a_history_on_the_way_is_missing", None))
        );
        for other in ["recovery_targets", "recovery", "a_recovery_003_x", "catalogue_x"] {
            assert_eq!(Shown::of(other), None, "{other}");
        }
    }

    #[test]
    fn a_report_is_read() {
        let junit = "<testsuite name=\"x\"><testcase name=\"recovery_003_a_on_15\" classname=\"x\" time=\"1\">\n\
                     </testcase><testcase name=\"recovery_003_a_on_17\" classname=\"x\"><failure type=\"x\"/>\
                     </testcase><testcase name=\"other\" classname=\"x\"/></testsuite>";
        let results = results(junit);
        assert_eq!(results.len(), 2);
        assert_eq!(results.get(&shown("recovery", 3, "a", Some(15))), Some(&true));
        assert_eq!(results.get(&shown("recovery", 3, "a", Some(17))), Some(&false));
        let (tests, versions, result) = evidence(&results, "recovery", 3);
        assert_eq!((&*tests, &*versions, &*result), ("`a`", "15, 17", "FAILED"));
        assert_eq!(evidence(&results, "recovery", 19).2, "no test yet");
        let text = render(&results);
        assert!(text.contains("| `src/test/recovery/t/003_recovery_targets.pl` |"), "{text}");
        assert!(unknown(&results).is_empty());
        let stray = Results::from([(shown("recovery", 999, "a", None), true)]);
        assert_eq!(unknown(&stray), ["recovery_999_a"]);
    }
}
