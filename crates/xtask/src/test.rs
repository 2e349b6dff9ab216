//! `cargo xtask test`: every check and every test, the quick ones first.
//!
//! Independent steps go on when one fails; the end lists what failed and the sum.

use crate::{
    Fault, boundaries, conformance,
    coverage::{self, Instrumented},
    desktop::Session,
    nothing_else, process,
    report::{Outcome, Report},
    setup::{Need, ensure},
    suites, take_flag,
    workspace::Workspace,
};
use holdfast_tests::cli::Cli;
use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Duration,
};

/// Everything that compiles without WebKit, always with the same features, so that nothing is
/// compiled twice.
pub(crate) const CORE: [&str; 5] =
    ["--workspace", "--exclude", "holdfast-desktop", "--features", "holdfast-cli/development-host"];

/// The shell with the user interface inside, as a release has it.
const SHELL: [&str; 4] = ["--package", "holdfast-desktop", "--features", "tauri/custom-protocol"];

/// The tests of the real window may take so long together.
const WINDOW_LIMIT: Duration = Duration::from_mins(15);

/// `cargo xtask test [--fast | --window] [FILTER]`.
pub(crate) fn errand(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode, Fault> {
    let mut arguments = arguments.to_vec();
    let fast = take_flag(&mut arguments, "--fast");
    let window = take_flag(&mut arguments, "--window");
    let filter = arguments.pop();
    nothing_else(&arguments)?;
    let mut run = Run { workspace, report: Report::default(), instrumented: None };
    match (filter, fast) {
        (Some(filter), _) if filter.starts_with('-') => nothing_else(&[filter])?,
        (Some(filter), _) => run.filtered(&filter),
        (None, _) if window => run.only_window(),
        (None, true) => run.fast(),
        (None, false) => run.everything(),
    }
    Ok(run.report.finish())
}

/// `cargo xtask coverage`.
pub(crate) fn coverage_errand(
    workspace: &Workspace,
    arguments: &[String],
) -> Result<ExitCode, Fault> {
    nothing_else(arguments)?;
    let mut run = Run { workspace, report: Report::default(), instrumented: None };
    if run.provide(&[Need::Build, Need::Servers, Need::Store, Need::Nextest, Need::Coverage]) {
        run.instrument();
        if run.rust_build() {
            run.rust_tests(&[]);
            run.coverage();
        }
    }
    Ok(run.report.finish())
}

/// `cargo xtask conformance [--last]`.
pub(crate) fn conformance_errand(
    workspace: &Workspace,
    arguments: &[String],
) -> Result<ExitCode, Fault> {
    let mut arguments = arguments.to_vec();
    let last = take_flag(&mut arguments, "--last");
    nothing_else(&arguments)?;
    let mut run = Run { workspace, report: Report::default(), instrumented: None };
    if last {
        run.conformance(true);
    } else if run.provide(&[Need::Build, Need::Servers, Need::Store, Need::Nextest])
        && run.rust_build()
    {
        let all_passed = run.rust_tests(&["--filterset", conformance::FILTER]);
        run.conformance(all_passed);
    }
    Ok(run.report.finish())
}

/// `cargo xtask boundaries`.
pub(crate) fn boundaries_errand(
    workspace: &Workspace,
    arguments: &[String],
) -> Result<ExitCode, Fault> {
    nothing_else(arguments)?;
    let mut run = Run { workspace, report: Report::default(), instrumented: None };
    run.boundaries();
    Ok(run.report.finish())
}

/// `cargo xtask bindings`.
pub(crate) fn bindings_errand(
    workspace: &Workspace,
    arguments: &[String],
) -> Result<ExitCode, Fault> {
    nothing_else(arguments)?;
    ensure(workspace, &[Need::Build])?;
    let mut command = workspace.cargo();
    command
        .args(["test", "--quiet", "--package", "holdfast-api", "bindings"])
        .env("HOLDFAST_WRITE_BINDINGS", "1");
    process::run(&workspace.logs(), "bindings", &mut command)?.expect_success()?;
    println!("written: ui/src/api/bindings.ts");
    Ok(ExitCode::SUCCESS)
}

struct Run<'a> {
    workspace: &'a Workspace,
    report: Report,
    /// With coverage: where everything is built then.
    instrumented: Option<Instrumented>,
}

impl Run<'_> {
    fn everything(&mut self) {
        use Need::{Blobs, Browser, Build, Coverage, Desktop, Nextest, Servers, Store, Ui, Window};
        let core = self.provide(&[Build, Servers, Store, Blobs, Nextest, Coverage, Ui, Browser]);
        self.formatting();
        self.boundaries();
        if !core {
            return self.report.blocked("everything else", "set-up");
        }
        let ui = self.user_interface(true);
        self.instrument();
        self.lints("lints", &CORE);
        let built = self.rust_build();
        if built {
            self.bindings_drift();
            let all_passed = self.rust_tests(&[]);
            self.conformance(all_passed);
        }
        if ui && built {
            self.browser();
        } else {
            self.report.blocked("browser", "user interface and Rust build");
        }
        if !self.provide(&[Desktop, Window]) {
            self.report.blocked("window", "set-up");
        } else if ui {
            self.lints("shell: lints", &SHELL);
            self.shell_tests();
            self.window();
        } else {
            self.report.blocked("window", "user interface");
        }
        self.coverage();
    }

    fn fast(&mut self) {
        use Need::{Build, Nextest, Servers, Store, Ui};
        let core = self.provide(&[Build, Servers, Store, Nextest, Ui]);
        self.formatting();
        self.boundaries();
        if !core {
            return self.report.blocked("everything else", "set-up");
        }
        self.user_interface(false);
        self.lints("lints", &CORE);
        if self.rust_build() {
            let all_passed = self.rust_tests(&[]);
            self.conformance(all_passed);
        }
    }

    /// The real window alone, built where the whole run builds it.
    fn only_window(&mut self) {
        use Need::{Build, Coverage, Desktop, Nextest, Servers, Store, Ui, Window};
        if !self.provide(&[Build, Servers, Store, Nextest, Coverage, Ui, Desktop, Window]) {
            return self.report.blocked("window", "set-up");
        }
        let mut build = self.workspace.npm();
        build.args(["run", "build"]);
        let ui = self.check("user interface: build", build);
        self.instrument();
        if ui && self.rust_build() {
            self.window();
        }
    }

    fn filtered(&mut self, filter: &str) {
        let needs = [Need::Build, Need::Servers, Need::Store, Need::Nextest];
        if self.provide(&needs) && self.rust_build() {
            self.rust_tests(&[filter]);
        }
    }

    fn provide(&mut self, needs: &[Need]) -> bool {
        // Only its failure is of interest: what was provided has lines of its own.
        match ensure(self.workspace, needs) {
            Ok(()) => true,
            Err(fault) => self.report.step("set-up", || Err(fault)),
        }
    }

    /// Cargo in the target directory and environment of this run.
    fn cargo(&self) -> Command {
        let mut command = self.workspace.cargo();
        if let Some(instrumented) = &self.instrumented {
            command.env("CARGO_TARGET_DIR", self.workspace.checks_target());
            instrumented.apply(&mut command);
        }
        command
    }

    /// A program that this run has built.
    fn built(&self, program: &str) -> PathBuf {
        let target = match self.instrumented {
            Some(_) => self.workspace.checks_target(),
            None => self.workspace.target.clone(),
        };
        target.join("debug").join(program)
    }

    /// Runs a command that is one check by itself.
    fn check(&mut self, name: &str, mut command: Command) -> bool {
        let logs = self.workspace.logs();
        self.report.step(name, || {
            process::run(&logs, name, &mut command)?.expect_success()?;
            Ok(Outcome::passed(""))
        })
    }

    fn formatting(&mut self) {
        let mut command = self.workspace.cargo();
        command.args(["fmt", "--all", "--check"]);
        self.check("formatting", command);
    }

    fn boundaries(&mut self) {
        let workspace = self.workspace;
        self.report.step("boundaries", || boundaries::check(workspace).map(Outcome::passed));
    }

    /// From here on everything is built with coverage, where that can be had.
    fn instrument(&mut self) {
        let workspace = self.workspace;
        let mut found = None;
        self.report.step("coverage tools", || {
            let environment = Instrumented::of(workspace)?;
            coverage::clean(workspace, &environment)?;
            found = Some(environment);
            Ok(Outcome { note: String::new(), ..Outcome::default() })
        });
        self.instrumented = found;
    }

    fn lints(&mut self, name: &str, selection: &[&str]) {
        let mut command = self.workspace.cargo();
        if self.instrumented.is_some() {
            // The same directory: build scripts and macros are shared. Without the environment:
            // lints need no instrumentation.
            command.env("CARGO_TARGET_DIR", self.workspace.checks_target());
        }
        command.args(["clippy", "--quiet", "--all-targets"]).args(selection);
        command.args(["--", "-D", "warnings"]);
        self.check(name, command);
    }

    /// Lints and tests the user interface, and builds it when it will be used.
    fn user_interface(&mut self, whole: bool) -> bool {
        let npm = |script: &str| {
            let mut command = self.workspace.npm();
            command.args(["run", script]);
            command
        };
        let (lint, build) = (npm("lint"), npm("build"));
        let mut tests = npm(if whole { "test:coverage" } else { "test" });
        self.check("user interface: lints", lint);
        let logs = self.workspace.logs();
        self.report.step("user interface: tests", || {
            let ended = process::run(&logs, "user interface tests", &mut tests)?;
            let counts = suites::vitest(&ended.text);
            let mut outcome = suites::outcome(&ended, counts)?;
            if let Some(share) = suites::vitest_lines(&ended.text) {
                outcome.note.push_str(&format!(", line coverage {share} %"));
            }
            Ok(outcome)
        });
        !whole || self.check("user interface: build", build)
    }

    /// The TypeScript types are those of the Rust code: the test of that name in holdfast-api
    /// compares them. Run before the others since its failure explains many.
    fn bindings_drift(&mut self) {
        let mut command = self.cargo();
        command
            .args(["nextest", "run"])
            .args(CORE)
            .args(["--filterset", "package(holdfast-api) and test(bindings)"]);
        self.check("TypeScript bindings", command);
    }

    /// Compiles everything that the tests run: the programs too, for tests start them.
    fn rust_build(&mut self) -> bool {
        let mut build = self.cargo();
        build.args(["build", "--quiet", "--bins", "--tests"]).args(CORE);
        let built = self.check("Rust build", build);
        if !built {
            self.report.blocked("Rust tests", "Rust build");
        }
        built
    }

    /// All Rust tests but those that need a desktop session.
    fn rust_tests(&mut self, filter: &[&str]) -> bool {
        let mut tests = self.cargo();
        tests.args(["nextest", "run", "--no-fail-fast"]).args(CORE).args(filter);
        // Tests of servers wait more than they work: one more than cores keeps the cores busy.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        tests.args(["--test-threads", &(cores + 1).to_string()]);
        tests.env("HOLDFAST_BIN", self.built("holdfast"));
        // A report of an earlier run must not be taken for this one's.
        let _ = std::fs::remove_file(conformance::report_path(self.workspace));
        self.nextest("Rust tests", tests)
    }

    /// What the Rust tests that have just been run say of PostgreSQL's scenarios.
    fn conformance(&mut self, all_passed: bool) {
        let workspace = self.workspace;
        self.report.step("conformance", || conformance::check(workspace, all_passed));
    }

    /// The shell's own tests, which need no window.
    fn shell_tests(&mut self) {
        let mut tests = self.cargo();
        tests.args(["nextest", "run", "--no-fail-fast", "--no-tests", "pass"]).args(SHELL);
        self.nextest("shell: tests", tests);
    }

    fn nextest(&mut self, name: &str, mut tests: Command) -> bool {
        let logs = self.workspace.logs();
        self.report.step(name, || {
            let ended = process::run(&logs, name, &mut tests)?;
            let counts = suites::nextest(&ended.text);
            suites::outcome(&ended, counts)
        })
    }

    /// The real engine behind the real user interface, in a browser.
    fn browser(&mut self) {
        let program = self.built("holdfast");
        let dist = self.workspace.ui_dist();
        let mut tests = self.workspace.npm();
        tests.args(["run", "e2e"]);
        let profile = self.instrumented.clone();
        let logs = self.workspace.logs();
        self.report.step("browser", || {
            let home = tempfile::tempdir()?;
            let environment = profile.as_ref().map_or(&[][..], Instrumented::variables);
            let (host, url) = development_host(&program, &dist, home.path(), environment)?;
            tests.env("HOLDFAST_DEV_URL", url).env("HOLDFAST_BIN", &program);
            let ended = process::run(&logs, "browser", &mut tests)?;
            let counts = suites::vitest(&ended.text);
            let mut outcome = suites::outcome(&ended, counts)?;
            let ended = host.terminate(Duration::from_secs(30));
            if let (Some(failure), Ok(ended)) = (&mut outcome.failure, ended) {
                failure.push_str("\n--- the development host said\n");
                failure.push_str(&ended.stderr);
            }
            Ok(outcome)
        });
    }

    /// The real window with the real keychain. The tests are `tests/tests/window.rs`, marked as
    /// ignored since they need a desktop session.
    fn window(&mut self) {
        let mut build = self.cargo();
        build.args(["build", "--quiet"]).args(SHELL);
        if !self.check("window: build", build) {
            return self.report.blocked("window", "window: build");
        }
        let shell = self.built("holdfast-desktop");
        let command = self.built("holdfast");
        let environment = self.cargo();
        let workspace = self.workspace;
        self.report.step("window", || {
            let session = Session::new()?;
            let cargo = environment.get_program().to_owned();
            let mut tests = session.command(workspace, WINDOW_LIMIT, cargo);
            for (name, value) in environment.get_envs() {
                match value {
                    Some(value) => tests.env(name, value),
                    None => tests.env_remove(name),
                };
            }
            tests
                .current_dir(&workspace.root)
                .args(["nextest", "run", "--no-fail-fast"])
                .args(CORE)
                .args(["--run-ignored", "only", "--filterset", "binary(window)"])
                .env("HOLDFAST_BIN", &command)
                .env("HOLDFAST_DESKTOP_BIN", &shell);
            let ended = process::run(&workspace.logs(), "window", &mut tests)?;
            let counts = suites::nextest(&ended.text);
            suites::outcome(&ended, counts)
        });
    }

    fn coverage(&mut self) {
        let Some(instrumented) = self.instrumented.clone() else {
            return self.report.blocked("line coverage", "coverage tools");
        };
        let workspace = self.workspace;
        self.report.step("line coverage", || {
            coverage::report(workspace, &instrumented).map(Outcome::passed)
        });
    }
}

/// Starts the engine with the user interface on loopback; returns its address too.
pub(crate) fn development_host(
    program: &Path,
    dist: &Path,
    home: &Path,
    environment: &[(String, String)],
) -> Result<(holdfast_tests::cli::Running, String), Fault> {
    let cli = Cli::of(program).env("HOLDFAST_HOME", home).envs(environment.iter().cloned());
    let dist = dist.to_str().ok_or("the repository's path is not UTF-8")?;
    let mut host = cli.start(&["dev-host", "--listen", "127.0.0.1:0", "--ui", dist])?;
    let line = host.next_line(Duration::from_mins(1))?;
    let told: serde_json::Value = serde_json::from_str(&line)
        .map_err(|error| format!("the development host began with {line:?}: {error}"))?;
    let url = told["listening"].as_str().ok_or("the development host names no address")?;
    Ok((host, url.to_owned()))
}
