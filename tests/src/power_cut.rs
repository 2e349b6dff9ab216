//! A power cut: of what a program has written to a folder, only what it synced is left.
//!
//! A small library (`power_cut.c`) is loaded into the program. It notes a file's content when the file is
//! synced, and a folder's list when the folder is synced. After the program was killed the folder is
//! replaced by what was noted.

use std::{
    collections::HashMap,
    ffi::OsString,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
};

/// A folder whose writes can be cut off.
#[derive(Debug)]
pub struct PowerCut {
    root: PathBuf,
    image: PathBuf,
    library: PathBuf,
}

/// What a folder lists: the inode, whether it is a folder, and the name.
type Listed = Vec<(u64, bool, String)>;

impl PowerCut {
    /// Watches `root`. `place` is for what is noted; it must be on the same file system, and outside.
    pub fn of(root: &Path, place: &Path) -> io::Result<Self> {
        fs::create_dir_all(place)?;
        let source = place.join("power_cut.c");
        let library = place.join("power_cut.so");
        fs::write(&source, include_str!("power_cut.c"))?;
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-o"])
            .args([&library, &source])
            .arg("-ldl")
            .output()?;
        if !built.status.success() {
            let said = String::from_utf8_lossy(&built.stderr).into_owned();
            return Err(io::Error::other(format!("cc cannot build the library: {said}")));
        }
        let cut = Self { root: root.to_path_buf(), image: place.join("image"), library };
        cut.begin()?;
        Ok(cut)
    }

    /// What the watched program needs in its environment.
    pub fn environment(&self) -> [(&'static str, OsString); 3] {
        [
            ("LD_PRELOAD", self.library.clone().into_os_string()),
            ("HF_CUT_ROOT", self.root.clone().into_os_string()),
            ("HF_CUT_IMAGE", self.image.clone().into_os_string()),
        ]
    }

    /// What is there now counts as durable, whoever wrote it.
    pub fn begin(&self) -> io::Result<()> {
        let _ = fs::remove_dir_all(&self.image);
        for part in ["files", "folders", "kept"] {
            fs::create_dir_all(self.image.join(part))?;
        }
        fs::create_dir_all(&self.root)?;
        self.note(&self.root)
    }

    fn note(&self, folder: &Path) -> io::Result<()> {
        let mut list = String::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let facts = entry.metadata()?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = if facts.is_dir() { 'd' } else { 'f' };
            list.push_str(&format!("{} {kind} {name}\n", facts.ino()));
            if facts.is_dir() {
                self.note(&entry.path())?;
            } else {
                fs::copy(entry.path(), self.image.join("files").join(facts.ino().to_string()))?;
            }
        }
        fs::write(self.image.join("folders").join(fs::metadata(folder)?.ino().to_string()), list)
    }

    /// The power is cut: the folder holds what was synced, and nothing else. No watched program may run.
    /// Gives how many files were lost, and how many came back that had been removed.
    pub fn cut(&self) -> io::Result<(usize, usize)> {
        let live = self.files()?;
        let scratch = self.image.join("durable");
        fs::create_dir_all(&scratch)?;
        self.restore(fs::metadata(&self.root)?.ino(), &scratch)?;
        fs::remove_dir_all(&self.root)?;
        fs::rename(&scratch, &self.root)?;
        let durable = self.files()?;
        let lost = live.iter().filter(|(name, size)| durable.get(*name) != Some(size)).count();
        let back = durable.keys().filter(|name| !live.contains_key(*name)).count();
        self.begin()?;
        Ok((lost, back))
    }

    fn listed(&self, inode: u64) -> io::Result<Listed> {
        // A folder that was never synced lists nothing, although its parent may name it.
        let text = match fs::read_to_string(self.image.join("folders").join(inode.to_string())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            read => read?,
        };
        let line = |line: &str| {
            let mut words = line.splitn(3, ' ');
            let inode = words.next()?.parse().ok()?;
            let folder = words.next()? == "d";
            Some((inode, folder, words.next()?.to_owned()))
        };
        Ok(text.lines().filter_map(line).collect())
    }

    fn restore(&self, inode: u64, to: &Path) -> io::Result<()> {
        for (inode, folder, name) in self.listed(inode)? {
            let path = to.join(name);
            if folder {
                fs::create_dir(&path)?;
                self.restore(inode, &path)?;
                continue;
            }
            let content = self.image.join("files").join(inode.to_string());
            if content.exists() {
                fs::copy(content, path)?;
            } else {
                // Its name is durable, its content never was.
                fs::write(path, "")?;
            }
        }
        Ok(())
    }

    fn files(&self) -> io::Result<HashMap<PathBuf, u64>> {
        let mut files = HashMap::new();
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    folders.push(entry.path());
                } else {
                    files.insert(entry.path(), entry.metadata()?.len());
                }
            }
        }
        Ok(files)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Runs a shell line whose `sync FILE` and `sync FOLDER` are the library's.
    fn run(cut: &PowerCut, line: &str) {
        let done = Command::new("/bin/sh").args(["-c", line]).envs(cut.environment()).output();
        let done = done.unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    #[test]
    fn only_what_was_synced_is_left() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("old"), "old").unwrap();
        let cut = PowerCut::of(&root, &place.path().join("cut")).unwrap();
        let r = root.display();
        run(
            &cut,
            &format!(
                "echo a > {r}/a; sync {r}/a; echo b > {r}/b; sync {r}/b {r}; echo more >> {r}/b; echo c > {r}/c; rm {r}/old"
            ),
        );
        assert_eq!(cut.cut().unwrap(), (2, 1), "b has shrunk and c is gone; old is back");
        assert_eq!(fs::read_to_string(root.join("a")).unwrap(), "a\n");
        assert_eq!(fs::read_to_string(root.join("b")).unwrap(), "b\n");
        assert_eq!(fs::read_to_string(root.join("old")).unwrap(), "old");
        assert!(!root.join("c").exists());

        // A file that is renamed has its content and its old name until the folder is synced.
        run(&cut, &format!("echo n > {r}/n; sync {r}/n; mv {r}/n {r}/a"));
        cut.cut().unwrap();
        assert_eq!(fs::read_to_string(root.join("a")).unwrap(), "a\n");
        run(&cut, &format!("echo n > {r}/n; sync {r}/n; mv {r}/n {r}/a; sync {r}"));
        cut.cut().unwrap();
        assert_eq!(fs::read_to_string(root.join("a")).unwrap(), "n\n");
    }
}
