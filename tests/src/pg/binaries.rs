//! Where the programs of a PostgreSQL major version are.

use super::Account;
use crate::places;
use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::Command,
};

/// One installation of PostgreSQL.
#[derive(Clone, Debug)]
pub struct Binaries {
    bin: PathBuf,
    major: u32,
    version: String,
}

/// What an installation must have to be used.
const NEEDED: [&str; 8] = [
    "postgres",
    "initdb",
    "psql",
    "pg_basebackup",
    "pg_controldata",
    "pg_resetwal",
    "pg_verifybackup",
    "pg_waldump",
];

impl Binaries {
    /// Finds a major version: `HOLDFAST_PG_BIN_<major>`, then what the machine has, then what
    /// `cargo xtask setup` fetched. `None` when there is none.
    pub fn search(major: u32) -> Option<Self> {
        candidates(major).into_iter().find_map(|bin| Self::at(&bin, major))
    }

    /// Like [`Self::search`], with an error that says how to get one.
    pub fn find(major: u32) -> io::Result<Self> {
        Self::search(major).ok_or_else(|| {
            io::Error::other(format!(
                "no PostgreSQL {major} on this machine: run `cargo xtask setup`, \
                 or set HOLDFAST_PG_BIN_{major} to its folder of programs"
            ))
        })
    }

    /// The installation with its programs in `bin`, if it is whole and of this major version.
    fn at(bin: &Path, major: u32) -> Option<Self> {
        if !NEEDED.iter().all(|program| places::is_program(&bin.join(program))) {
            return None;
        }
        let told = Command::new(bin.join("postgres")).arg("--version").output().ok()?;
        let version = version_of(&String::from_utf8(told.stdout).ok()?)?;
        let found: u32 = version.split('.').next()?.parse().ok()?;
        (found == major).then(|| Self { bin: bin.to_path_buf(), major, version })
    }

    /// The folder of the programs.
    pub fn folder(&self) -> &Path {
        &self.bin
    }

    /// The major version, such as 17.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// The whole version, such as `17.11`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The path of one program.
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// The libraries that a relocatable installation brings along. Its programs find them by
    /// themselves; the modules that the server loads (libpqwalreceiver) do not, and would take
    /// the machine's libpq of another version.
    pub(super) fn own_libraries(&self) -> Option<PathBuf> {
        let folder = self.bin.parent()?.join("lib");
        fs::exists(folder.join("libpq.so.5")).is_ok_and(|exists| exists).then_some(folder)
    }

    /// The same installation, copied once to where `account` can run it, if it is not reachable
    /// for it where it stands (a home directory usually is not).
    pub fn reachable_for(self, account: &Account) -> io::Result<Self> {
        if *account == Account::Own || self.runs_as(account) {
            return Ok(self);
        }
        let tree = self.bin.parent().unwrap_or(&self.bin);
        let copy = places::shared()?.join(format!("postgresql-{}", self.version));
        if !copy.exists() {
            // Renamed into place whole: tests in other processes may be doing the same.
            let building =
                tempfile::Builder::new().prefix("copy-").tempdir_in(places::shared()?)?.keep();
            copy_tree(tree, &building)?;
            if fs::rename(&building, &copy).is_err() {
                fs::remove_dir_all(&building)?;
            }
        }
        let moved = Self { bin: copy.join("bin"), ..self };
        if moved.runs_as(account) {
            return Ok(moved);
        }
        Err(io::Error::other(format!(
            "the server account cannot run {}",
            moved.program("postgres").display()
        )))
    }

    fn runs_as(&self, account: &Account) -> bool {
        let mut command = Command::new(self.program("postgres"));
        account.apply(command.arg("--version").current_dir("/"));
        command.output().is_ok_and(|told| told.status.success())
    }
}

fn candidates(major: u32) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    folders.extend(env::var_os(format!("HOLDFAST_PG_BIN_{major}")).map(PathBuf::from));
    if let Some(told) = places::on_path("pg_config")
        .and_then(|program| Command::new(program).arg("--bindir").output().ok())
    {
        folders.push(PathBuf::from(String::from_utf8_lossy(&told.stdout).trim()));
    }
    folders.extend(
        [
            format!("/usr/lib/postgresql/{major}/bin"),
            format!("/usr/pgsql-{major}/bin"),
            format!("/opt/homebrew/opt/postgresql@{major}/bin"),
            format!("/usr/local/opt/postgresql@{major}/bin"),
        ]
        .map(PathBuf::from),
    );
    folders.push(places::cache().join(format!("postgresql/{major}/bin")));
    folders
}

/// `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)` gives `15.18`.
fn version_of(text: &str) -> Option<String> {
    let version = text.split_once("(PostgreSQL)")?.1.split_whitespace().next()?;
    Some(version.to_owned())
}

/// Copies a folder with its links; everything becomes readable for all.
fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::create_dir_all(to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path())?, &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_versions() {
        assert_eq!(
            version_of("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n").as_deref(),
            Some("15.18")
        );
        assert_eq!(version_of("postgres (PostgreSQL) 18.0").as_deref(), Some("18.0"));
        assert_eq!(version_of("psql 17"), None);
    }
}
