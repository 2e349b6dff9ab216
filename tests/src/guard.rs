//! Cleaning up behind a process that cannot do it itself.

use std::{
    ffi::OsStr,
    io::{self, Write},
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
};

/// A small shell that waits on a pipe. When the pipe closes without the word `done` (this process
/// crashed or was killed), it runs its script. In its own process group, so that a signal to the
/// test's group does not take it along.
#[derive(Debug)]
pub(crate) struct Guard {
    shell: Child,
}

impl Guard {
    /// `script` is POSIX shell; `arguments` are its `$1`, `$2`, …
    pub(crate) fn new(script: &str, arguments: &[&OsStr]) -> io::Result<Self> {
        let whole = format!(
            "trap '' HUP INT TERM; IFS= read -r word; [ \"$word\" = done ] && exit 0; {script}"
        );
        let shell = Command::new("sh")
            .arg("-c")
            .arg(whole)
            .arg("holdfast-tests-guard")
            .args(arguments)
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { shell })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(mut pipe) = self.shell.stdin.take() {
            // A guard that is already gone has nothing left to be told.
            let _ = pipe.write_all(b"done\n");
        }
        let _ = self.shell.wait();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::Duration;

    #[test]
    fn acts_only_when_its_owner_vanishes() {
        let folder = tempfile::tempdir().unwrap();
        let quiet = folder.path().join("quiet");
        drop(Guard::new(": > \"$1\"", &[quiet.as_os_str()]).unwrap());
        assert!(!quiet.exists());

        let acted = folder.path().join("acted");
        let mut guard = Guard::new(": > \"$1\"", &[acted.as_os_str()]).unwrap();
        drop(guard.shell.stdin.take());
        crate::wait_for("the guard's script", Duration::from_secs(10), || acted.exists());
    }
}
