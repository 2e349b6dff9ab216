//! Where things are.

use crate::Fault;
use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// The folders that the errands work in.
#[derive(Clone, Debug)]
pub(crate) struct Workspace {
    /// The repository's root.
    pub(crate) root: PathBuf,
    /// Cargo's target directory for ordinary builds.
    pub(crate) target: PathBuf,
    /// What was fetched for all checkouts on this machine.
    pub(crate) cache: PathBuf,
}

impl Workspace {
    /// Finds the workspace that cargo runs this program for.
    pub(crate) fn locate() -> Result<Self, Fault> {
        // Asked at run time: with a shared target directory the same program serves several
        // checkouts.
        let own = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let root = match own.as_deref().and_then(Path::parent).and_then(Path::parent) {
            Some(root) => root.to_path_buf(),
            None => env::current_dir()?,
        };
        if !root.join("crates/xtask").is_dir() {
            return Err("run it as `cargo xtask` inside the repository".into());
        }
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(given) => env::current_dir()?.join(given),
            None => root.join("target"),
        };
        Ok(Self { root, target, cache: holdfast_tests::places::cache() })
    }

    /// The user interface's folder.
    pub(crate) fn ui(&self) -> PathBuf {
        self.root.join("ui")
    }

    /// The built user interface.
    pub(crate) fn ui_dist(&self) -> PathBuf {
        self.root.join("ui/dist")
    }

    /// Where tools of our own live: `bin` holds the programs.
    pub(crate) fn tools(&self) -> PathBuf {
        self.cache.join("tools")
    }

    /// The target directory of the full test run. Its builds are instrumented for coverage in a
    /// way that cargo cannot tell from ordinary ones: the two must not share a directory.
    pub(crate) fn checks_target(&self) -> PathBuf {
        self.target.join("checks")
    }

    /// Where the output of each step is kept.
    pub(crate) fn logs(&self) -> PathBuf {
        self.target.join("xtask-logs")
    }

    /// Cargo, run in the repository, with our tools on `PATH`.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", &self.target)
            .env("PATH", self.path_with_tools());
        clean(&mut command);
        command
    }

    /// npm, run in the user interface's folder.
    pub(crate) fn npm(&self) -> Command {
        let mut command = Command::new("npm");
        command.current_dir(self.ui()).env("NO_COLOR", "1");
        command
    }

    /// `PATH` with the folders of our own tools in front.
    pub(crate) fn path_with_tools(&self) -> std::ffi::OsString {
        let own = [self.tools().join("bin"), self.tools().join("python/bin")];
        let old = env::var_os("PATH").unwrap_or_default();
        let all = own.into_iter().chain(env::split_paths(&old));
        // Entries of PATH never contain the separator; should one, the old PATH will do.
        env::join_paths(all).unwrap_or(old)
    }

    /// A tool by name: our own, or one on `PATH`.
    pub(crate) fn tool(&self, name: &str) -> Option<PathBuf> {
        env::split_paths(&self.path_with_tools())
            .map(|folder| folder.join(name))
            .find(|candidate| candidate.is_file())
    }
}

/// Removes what cargo tells this program about itself and what must not reach tests.
fn clean(command: &mut Command) {
    for name in ["CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "AWS_CA_BUNDLE"] {
        command.env_remove(name);
    }
    for (name, _) in env::vars_os() {
        // Package facts of xtask would make build scripts of others run again.
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_")) {
            command.env_remove(name);
        }
    }
}
