//! A disk so small that it fills up.

use crate::{guard::Guard, places};
use std::{
    ffi::OsStr,
    io::{self, BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};
use tempfile::TempDir;

/// A tmpfs of a fixed size; gone on drop.
///
/// Root mounts it in the ordinary way. Without root it lives in a user and mount namespace of its
/// own, seen from here below `/proc/<pid>/root`: reading and writing through that path works, but
/// resolving it (`canonicalize`) leads out of the namespace.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
    _kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Mounted { _mount: Mount },
    Namespace { _holder: Holder },
}

#[derive(Debug)]
struct Mount {
    point: PathBuf,
    _guard: Guard,
    // Last: a mount point can only be removed when nothing is mounted on it.
    _folder: TempDir,
}

#[derive(Debug)]
struct Holder(Child);

impl SmallDisk {
    /// A disk of so many MiB. `None` where neither root's mount nor namespaces are allowed; a
    /// test then says that it is skipped ([`Self::skipped`]).
    pub fn new(mebibytes: u32) -> Option<Self> {
        if rustix::process::geteuid().is_root()
            && let Ok(disk) = Self::mounted(mebibytes)
        {
            return Some(disk);
        }
        Self::in_namespace(mebibytes).ok()
    }

    /// Says that a test did not run, and why.
    pub fn skipped(test: &str) {
        eprintln!("skipped: {test}: neither mounting nor user namespaces are allowed here");
    }

    fn mounted(mebibytes: u32) -> io::Result<Self> {
        let folder = places::temporary("hf-disk-")?;
        let point = folder.path().join("disk");
        std::fs::create_dir(&point)?;
        // A server of another account must get through.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
        let guard = Guard::new(
            "umount -l -- \"$1\"; rm -rf --one-file-system -- \"$2\"",
            &[point.as_os_str(), folder.path().as_os_str()],
        )?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m,mode=0755")])
            .arg("holdfast-tests")
            .arg(&point)
            .stderr(Stdio::null())
            .status()?;
        if !mounted.success() {
            return Err(io::Error::other("mounting is not allowed"));
        }
        let mount = Mount { point: point.clone(), _guard: guard, _folder: folder };
        Ok(Self { path: point, _kind: Kind::Mounted { _mount: mount } })
    }

    fn in_namespace(mebibytes: u32) -> io::Result<Self> {
        // /tmp exists everywhere and is hidden from nobody but the holder.
        let script = "mount -t tmpfs -o \"size=$1m,mode=0755\" holdfast-tests /tmp && \
                      mkdir /tmp/disk && echo ready && IFS= read -r word";
        let mut child = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "holder"])
            .arg(OsStr::new(&mebibytes.to_string()))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let output = child.stdout.take();
        let holder = Holder(child);
        let mut word = String::new();
        if let Some(output) = output {
            BufReader::new(output).read_line(&mut word)?;
        }
        if word.trim() != "ready" {
            return Err(io::Error::other("namespaces are not allowed"));
        }
        let path = PathBuf::from(format!("/proc/{}/root/tmp/disk", holder.0.id()));
        Ok(Self { path, _kind: Kind::Namespace { _holder: holder } })
    }

    /// The folder on the small disk.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that an ordinary process could still write.
    pub fn available(&self) -> io::Result<u64> {
        let facts = rustix::fs::statvfs(&self.path)?;
        Ok(facts.f_bavail * facts.f_frsize)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: a process of the test may still have a file open.
        let _ = Command::new("umount").arg("-l").arg(&self.point).status();
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn fills_up(disk: &SmallDisk) {
        assert!(disk.available().unwrap() <= 2 << 20);
        std::fs::write(disk.path().join("small"), [1; 1000]).unwrap();
        let error = std::fs::write(disk.path().join("large"), vec![1; 3 << 20]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(std::fs::read(disk.path().join("small")).unwrap().len(), 1000);
    }

    #[test]
    fn disk_fills_up_and_vanishes() {
        let Some(disk) = SmallDisk::new(2) else {
            return SmallDisk::skipped("disk_fills_up_and_vanishes");
        };
        fills_up(&disk);
        let path = disk.path().to_path_buf();
        drop(disk);
        assert!(!path.exists());
    }

    #[test]
    fn namespace_disk_fills_up() {
        let Ok(disk) = SmallDisk::in_namespace(2) else {
            return SmallDisk::skipped("namespace_disk_fills_up");
        };
        fills_up(&disk);
    }
}
