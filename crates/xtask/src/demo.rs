//! `cargo xtask demo`: from a fresh checkout to the demo in one command.

use crate::{
    Fault, fetch, process,
    report::line,
    setup::{Need, ensure},
    workspace::Workspace,
};
use std::{
    env, fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Instant,
};

/// Runs the demo; arguments, with or without `--` before them, go to it. With `--headless` it is
/// `holdfast demo` in the terminal; otherwise the window opens with it.
pub(crate) fn errand(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode, Fault> {
    let arguments = match arguments {
        [first, rest @ ..] if first == "--" => rest,
        all => all,
    };
    let headless = arguments.iter().any(|argument| argument == "--headless");
    let mut demo = if headless { in_terminal(workspace)? } else { in_window(workspace)? };
    demo.args(arguments).env_remove("AWS_CA_BUNDLE");
    // Signals and the exit code are the demo's own from here on.
    Err(demo.exec().into())
}

fn in_terminal(workspace: &Workspace) -> Result<Command, Fault> {
    ensure(workspace, &[Need::Build, Need::AnyServer])?;
    let program = build(workspace, "holdfast", &["--package", "holdfast-cli"])?;
    let mut demo = Command::new(program);
    demo.arg("demo");
    point_to_servers(&mut demo);
    Ok(demo)
}

fn in_window(workspace: &Workspace) -> Result<Command, Fault> {
    if cfg!(target_os = "linux")
        && env::var_os("DISPLAY").is_none()
        && env::var_os("WAYLAND_DISPLAY").is_none()
    {
        return Err("there is no display here; in the terminal: cargo xtask demo -- --headless \
                    (or in a private display: cargo xtask session cargo xtask demo)"
            .into());
    }
    ensure(workspace, &[Need::Build, Need::AnyServer, Need::Ui, Need::Desktop])?;
    build_ui(workspace)?;
    let shell = ["--package", "holdfast-desktop", "--features", "tauri/custom-protocol"];
    let program = build(workspace, "holdfast-desktop", &shell)?;
    // Beside the window stands the command, which PostgreSQL calls for WAL.
    build(workspace, "holdfast", &["--package", "holdfast-cli"])?;
    let mut demo = Command::new(program);
    demo.arg("--demo");
    point_to_servers(&mut demo);
    Ok(demo)
}

/// Tells the product where the fetched servers are, if it has not been told otherwise.
fn point_to_servers(command: &mut Command) {
    for major in fetch::MAJORS {
        let name = format!("HOLDFAST_PG_BIN_{major}");
        if let (None, Some(found)) =
            (env::var_os(&name), holdfast_tests::pg::Binaries::search(major))
        {
            command.env(name, found.folder());
        }
    }
}

/// Builds a program. The first time in the development profile, in which dependencies are
/// optimised too: an optimised build with link-time optimisation takes about twice as long and
/// the demo is not faster to the eye. Who has built a release gets the release.
fn build(workspace: &Workspace, program: &str, selection: &[&str]) -> Result<PathBuf, Fault> {
    let release = workspace.target.join("release").join(program).exists();
    let began = Instant::now();
    let mut command = workspace.cargo();
    command.arg("build").args(selection);
    if release {
        command.arg("--release");
    }
    // Not into a log: cargo shows its progress.
    if !command.status()?.success() {
        return Err(format!("{program} does not build").into());
    }
    line("ok", began.elapsed(), &format!("build {program}"), "");
    Ok(workspace.target.join(if release { "release" } else { "debug" }).join(program))
}

/// Builds the user interface when something in it is newer than the last build.
fn build_ui(workspace: &Workspace) -> Result<(), Fault> {
    let built = workspace.ui_dist().join("index.html");
    let sources = ["src", "public", "index.html", "package-lock.json", "vite.config.ts"];
    let newest = sources.iter().filter_map(|name| newest(&workspace.ui().join(name))).max();
    let there = fs::metadata(&built).and_then(|found| found.modified()).ok() > newest;
    crate::report::provide("build the user interface", there, || {
        let mut command = workspace.npm();
        command.args(["run", "build"]);
        process::run(&workspace.logs(), "user interface build", &mut command)?
            .expect_success()
            .map(|_| ())
    })
}

/// When something at or below a path was last changed.
fn newest(path: &Path) -> Option<std::time::SystemTime> {
    let own = fs::metadata(path).ok()?;
    let below = fs::read_dir(path).ok().into_iter().flatten().filter_map(Result::ok);
    below.filter_map(|entry| newest(&entry.path())).chain(own.modified().ok()).max()
}
