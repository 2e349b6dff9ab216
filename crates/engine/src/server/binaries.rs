//! Which PostgreSQL servers can be started on this machine, and from where.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::identity::RunAs;

/// One installed PostgreSQL server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
pub struct ServerBinaries {
    /// Major version: 15, 17.
    pub major: u32,
    /// The version as the server prints it: "17.11".
    pub version: String,
    /// The directory that holds `postgres`, `initdb`, `pg_verifybackup`.
    #[ts(type = "string")]
    pub bin_directory: PathBuf,
}

impl ServerBinaries {
    /// The minor version: 11 of "17.11".
    pub fn minor(&self) -> u32 {
        self.version.split('.').nth(1).and_then(|m| m.parse().ok()).unwrap_or(0)
    }

    /// The path of one of its programs.
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin_directory.join(name)
    }

    /// The program, when it is installed.
    pub fn optional_program(&self, name: &str) -> Option<PathBuf> {
        Some(self.program(name)).filter(|p| p.is_file())
    }
}

/// Finds every server that can really be started: its `postgres --version` is run as the user that
/// would run it. The newest minor version of each major wins; `HOLDFAST_PG_BIN_<major>` wins over all.
pub fn discover(run_as: &RunAs) -> Vec<ServerBinaries> {
    let mut found: BTreeMap<u32, ServerBinaries> = BTreeMap::new();
    for (directory, chosen) in candidates() {
        let Some(binaries) = inspect(&directory, run_as) else { continue };
        let better = found
            .get(&binaries.major)
            .is_none_or(|have| chosen || (binaries.minor() > have.minor()));
        if better {
            found.insert(binaries.major, binaries);
        }
    }
    found.into_values().collect()
}

/// The newest of `found` for `major`.
pub fn for_major(found: &[ServerBinaries], major: u32) -> Option<ServerBinaries> {
    found.iter().find(|b| b.major == major).cloned()
}

/// Directories that may hold a server; those the user named come last and win.
fn candidates() -> Vec<(PathBuf, bool)> {
    let mut list = Vec::new();
    let mut children = |parent: &Path, below: &str| {
        if let Ok(entries) = std::fs::read_dir(parent) {
            let mut paths: Vec<_> = entries.flatten().map(|e| e.path().join(below)).collect();
            paths.sort();
            list.extend(paths.into_iter().map(|p| (p, false)));
        }
    };
    children(Path::new("/usr/lib/postgresql"), "bin");
    children(Path::new("/usr/local/opt"), "bin");
    children(Path::new("/opt/homebrew/opt"), "bin");
    children(Path::new("/Library/PostgreSQL"), "bin");
    children(Path::new("C:\\Program Files\\PostgreSQL"), "bin");
    for cache in cache_directories() {
        children(&cache.join("postgresql"), "bin");
    }
    list.retain(|(p, _)| p.join(program_name("postgres")).is_file());
    if let Some(path) = std::env::var_os("PATH") {
        for directory in std::env::split_paths(&path) {
            // Distributions keep wrappers on PATH; a real installation has its share beside it.
            if directory.join(program_name("postgres")).is_file() {
                list.push((directory, false));
            }
        }
    }
    for major in 14..=18 {
        if let Some(directory) = std::env::var_os(format!("HOLDFAST_PG_BIN_{major}")) {
            list.push((PathBuf::from(directory), true));
        }
    }
    list
}

fn cache_directories() -> Vec<PathBuf> {
    let mut directories = Vec::new();
    if let Some(cache) = std::env::var_os("HOLDFAST_CACHE_DIR") {
        directories.push(PathBuf::from(cache));
    }
    if let Some(cache) = std::env::var_os("XDG_CACHE_HOME") {
        directories.push(PathBuf::from(cache).join("holdfast"));
    }
    if let Some(home) = std::env::var_os("HOME") {
        directories.push(PathBuf::from(home).join(".cache/holdfast"));
    }
    directories
}

fn program_name(name: &str) -> String {
    if cfg!(windows) { format!("{name}.exe") } else { name.to_owned() }
}

fn inspect(directory: &Path, run_as: &RunAs) -> Option<ServerBinaries> {
    let directory = &reachable(directory, run_as)?;
    let program = directory.join(program_name("postgres"));
    let output = run_as.command(&program, &[]).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = parse_version(&text)?;
    let major = version.split(['.', 'b', 'r', 'd']).next()?.parse().ok()?;
    Some(ServerBinaries { major, version, bin_directory: directory.clone() })
}

/// A server checks that it may access its own program, so it must lie where the user that runs it
/// can go. An installation below a private directory (root's own cache) is copied once.
fn reachable(directory: &Path, run_as: &RunAs) -> Option<PathBuf> {
    if run_as.can_reach(&directory.join(program_name("postgres"))) {
        return Some(directory.to_path_buf());
    }
    let installation = directory.parent()?;
    let name = installation.file_name()?.to_string_lossy().into_owned();
    let copies = Path::new("/var/tmp/holdfast-postgresql");
    let copy = copies.join(&name);
    let bin = copy.join("bin");
    if !same_program(directory, &bin) {
        std::fs::create_dir_all(copies).ok()?;
        owned_by_root(copies).then_some(())?;
        let fresh = tempfile::Builder::new().prefix("copy-").tempdir_in(copies).ok()?;
        let tree = fresh.path().join(&name);
        let status = std::process::Command::new("cp")
            .arg("-a")
            .arg(installation)
            .arg(&tree)
            .status()
            .ok()?;
        status.success().then_some(())?;
        let _ = std::process::Command::new("chmod").args(["-R", "go+rX"]).arg(&tree).status();
        if copy.exists() {
            std::fs::remove_dir_all(&copy).ok()?;
        }
        std::fs::rename(&tree, &copy).ok()?;
    }
    Some(bin)
}

/// Whether two directories hold the same build, by the size and time of the server program.
fn same_program(a: &Path, b: &Path) -> bool {
    let facts = |d: &Path| {
        let m = std::fs::metadata(d.join(program_name("postgres"))).ok()?;
        Some((m.len(), m.modified().ok()?))
    };
    facts(b).is_some_and(|have| facts(a) == Some(have))
}

#[cfg(unix)]
fn owned_by_root(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::symlink_metadata(path)
        .is_ok_and(|m| m.is_dir() && m.uid() == 0 && m.mode() & 0o022 == 0)
}

#[cfg(not(unix))]
fn owned_by_root(_path: &Path) -> bool {
    false
}

/// "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)" → "15.18".
fn parse_version(text: &str) -> Option<String> {
    text.split("(PostgreSQL)").nth(1)?.split_whitespace().next().map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_servers_print_them() {
        let debian = parse_version("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n");
        assert_eq!(debian.as_deref(), Some("15.18"));
        assert_eq!(parse_version("postgres (PostgreSQL) 18.6\n").as_deref(), Some("18.6"));
        assert_eq!(parse_version("nothing"), None);
    }

    #[test]
    fn minors_compare_as_numbers() {
        let minor = |version: &str| {
            let version = version.to_owned();
            ServerBinaries { major: 15, version, bin_directory: PathBuf::new() }.minor()
        };
        assert!(minor("15.18") > minor("15.9"));
    }
}
