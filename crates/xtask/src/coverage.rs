//! Line coverage: one instrumented build for everything that is run.
//!
//! cargo-llvm-cov wraps rustc so that only our own crates are instrumented; everything else in
//! the target directory is as in an ordinary build and shared by lints, tests and the shell.

use crate::{Fault, packages, process, workspace::Workspace};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

/// Below this share of lines, in percent, the check fails.
const LEAST: f64 = 80.0;

/// An environment in which cargo builds with instrumentation, and programs record what they run.
#[derive(Clone, Debug)]
pub(crate) struct Instrumented {
    variables: Vec<(String, String)>,
}

impl Instrumented {
    /// Asks cargo-llvm-cov for the environment.
    pub(crate) fn of(workspace: &Workspace) -> Result<Self, Fault> {
        let told = tool(workspace)?.args(["llvm-cov", "show-env"]).output()?;
        if !told.status.success() {
            return Err(String::from_utf8_lossy(&told.stderr).into_owned().into());
        }
        let mut variables = variables(&String::from_utf8_lossy(&told.stdout));
        for (_, value) in variables.iter_mut().filter(|(name, _)| name == "LLVM_PROFILE_FILE") {
            // Not a file for each process: a restore alone starts hundreds, and merging tens of thousands
            // takes minutes. Processes of one program share some files, and add to them as they end.
            *value = value.replace("-%p", "");
        }
        Ok(Self { variables })
    }

    /// The variables of the environment.
    pub(crate) fn variables(&self) -> &[(String, String)] {
        &self.variables
    }

    /// Puts a command into the environment.
    pub(crate) fn apply(&self, command: &mut Command) {
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
    }
}

/// The lines `NAME=value` or `NAME='value'`.
fn variables(text: &str) -> Vec<(String, String)> {
    text.lines()
        .filter_map(|line| line.trim_start_matches("export ").split_once('='))
        .map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned()))
        .collect()
}

/// cargo with the coverage tools of the machine: never a component that is downloaded.
fn tool(workspace: &Workspace) -> Result<Command, Fault> {
    let mut command = workspace.cargo();
    command.env("CARGO_TARGET_DIR", workspace.checks_target()).env("CARGO_LLVM_COV_SETUP", "no");
    for (name, program) in [("LLVM_COV", "llvm-cov"), ("LLVM_PROFDATA", "llvm-profdata")] {
        if std::env::var_os(name).is_none() {
            command.env(name, llvm_program(program)?);
        }
    }
    Ok(command)
}

/// A tool of the LLVM version that the compiler has.
fn llvm_program(name: &str) -> Result<PathBuf, Fault> {
    let package = packages::llvm().ok_or("rustc does not tell its LLVM version")?;
    let version = package.trim_start_matches("llvm-");
    let places = [
        PathBuf::from(format!("/usr/bin/{name}-{version}")),
        PathBuf::from(format!("/usr/lib/llvm-{version}/bin/{name}")),
        PathBuf::from(format!("/opt/homebrew/opt/llvm@{version}/bin/{name}")),
        PathBuf::from(format!("/opt/homebrew/opt/llvm/bin/{name}")),
    ];
    places.into_iter().find(|place| place.exists()).ok_or_else(|| {
        format!("no {name} of LLVM {version}: install {package}, or set LLVM_COV and LLVM_PROFDATA")
            .into()
    })
}

/// Removes what earlier runs recorded and built of our own crates: both would be counted. A program
/// of an older state of the sources that stays behind counts its lines again, as never run.
pub(crate) fn clean(workspace: &Workspace, environment: &Instrumented) -> Result<(), Fault> {
    let mut command = tool(workspace)?;
    command.args(["llvm-cov", "clean", "--workspace"]);
    // Without it another folder than the one of the instrumented builds is cleaned.
    environment.apply(&mut command);
    process::run(&workspace.logs(), "coverage clean", &mut command)?.expect_success().map(|_| ())
}

/// Lines of one crate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Lines {
    all: u64,
    covered: u64,
}

impl Lines {
    fn percent(self) -> f64 {
        // Far below 2^52 lines: exact.
        #[allow(clippy::cast_precision_loss, reason = "numbers of lines are small")]
        let (covered, all) = (self.covered as f64, self.all.max(1) as f64);
        100.0 * covered / all
    }
}

/// Prints the coverage of each crate and returns the note for the whole; an error below the
/// least.
pub(crate) fn report(workspace: &Workspace, environment: &Instrumented) -> Result<String, Fault> {
    let path = workspace.logs().join("coverage.json");
    let mut command = tool(workspace)?;
    command
        .args(["llvm-cov", "report", "--json", "--summary-only", "--output-path"])
        .arg(&path)
        // A process that is killed while it adds to a file spoils that file alone.
        .args(["--failure-mode", "all"])
        .args(["--ignore-filename-regex", "/(tests|xtask|benches)/"]);
    environment.apply(&mut command);
    process::run(&workspace.logs(), "coverage report", &mut command)?.expect_success()?;
    let crates = by_crate(&serde_json::from_slice(&std::fs::read(&path)?)?, &workspace.root);
    let mut sum = Lines::default();
    for (name, lines) in &crates {
        println!("    | {:<12} {:>6.1} % of {:>6} lines", name, lines.percent(), lines.all);
        // The shell is a thin adapter; what runs of it is shown and not asked for.
        if name != "src-tauri" {
            sum.all += lines.all;
            sum.covered += lines.covered;
        }
    }
    let note = format!("{:.1} % of {} lines", sum.percent(), sum.all);
    if sum.percent() < LEAST {
        return Err(format!("line coverage is {note}, below {LEAST} %").into());
    }
    Ok(note)
}

/// Sums the files of llvm-cov's export by the crate they are in.
fn by_crate(export: &Value, root: &Path) -> BTreeMap<String, Lines> {
    let mut crates: BTreeMap<String, Lines> = BTreeMap::new();
    for file in export["data"][0]["files"].as_array().into_iter().flatten() {
        let Some(path) = file["filename"].as_str() else { continue };
        let Ok(path) = Path::new(path).strip_prefix(root) else { continue };
        let mut parts = path.iter().filter_map(|part| part.to_str());
        let name = match parts.next() {
            Some("crates") => parts.next(),
            other => other,
        };
        let lines = &file["summary"]["lines"];
        let entry = crates.entry(name.unwrap_or("?").to_owned()).or_default();
        entry.all += lines["count"].as_u64().unwrap_or(0);
        entry.covered += lines["covered"].as_u64().unwrap_or(0);
    }
    crates
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn environments_are_read() {
        let text = "info: x\nLLVM_PROFILE_FILE='/t/main-%p.profraw'\nRUSTC_WRAPPER=/b/c\n";
        assert_eq!(
            variables(text),
            [
                ("LLVM_PROFILE_FILE".to_owned(), "/t/main-%p.profraw".to_owned()),
                ("RUSTC_WRAPPER".to_owned(), "/b/c".to_owned())
            ]
        );
    }

    #[test]
    fn files_are_summed_by_crate() {
        let file = |name: &str, count: u64, covered: u64| json!({"filename": name, "summary": {"lines": {"count": count, "covered": covered}}});
        let export = json!({"data": [{"files": [
            file("/r/crates/wire/src/a.rs", 10, 5),
            file("/r/crates/wire/src/b/c.rs", 10, 10),
            file("/r/src-tauri/src/main.rs", 4, 0),
            file("/elsewhere/x.rs", 7, 7),
        ]}]});
        let crates = by_crate(&export, Path::new("/r"));
        assert_eq!(crates.len(), 2);
        assert_eq!(crates["wire"], Lines { all: 20, covered: 15 });
        assert!((crates["wire"].percent() - 75.0).abs() < 1e-9);
    }
}
