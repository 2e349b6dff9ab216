//! Folders and programs that the set-up provides and the tests use.

use crate::random::Random;
use std::{
    collections::hash_map::RandomState,
    env, fs,
    hash::BuildHasher as _,
    io,
    net::TcpListener,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    time::Duration,
};

/// What `cargo xtask setup` fetched: `HOLDFAST_CACHE_DIR`, else `~/.cache/holdfast`.
pub fn cache() -> PathBuf {
    if let Some(folder) = env::var_os("HOLDFAST_CACHE_DIR") {
        return folder.into();
    }
    PathBuf::from(env::var_os("HOME").unwrap_or_else(|| "/".into())).join(".cache/holdfast")
}

/// A folder that outlives one test run and that an unprivileged server account can read: template
/// data directories and copies of server programs. Only its owner, this account, writes there.
pub fn shared() -> io::Result<PathBuf> {
    let own = rustix::process::geteuid().as_raw();
    let folder = PathBuf::from(format!("/var/tmp/holdfast-tests-{own}"));
    match fs::DirBuilder::new().mode(0o755).create(&folder) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let found = fs::symlink_metadata(&folder)?;
    if !found.is_dir() || found.uid() != own {
        return Err(io::Error::other(format!("{} belongs to someone else", folder.display())));
    }
    Ok(folder)
}

/// Looks a program up on `PATH`.
pub fn on_path(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|folder| folder.join(program))
        .find(|candidate| is_program(candidate))
}

pub(crate) fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.mode() & 0o111 != 0)
}

/// Every file below a folder, by its path from there, in order.
pub fn files_below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    fn walk(root: &Path, folder: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                walk(root, &path, found)?;
            } else {
                found.push(path.strip_prefix(root).map_err(io::Error::other)?.to_owned());
            }
        }
        Ok(())
    }
    let mut found = Vec::new();
    walk(folder, folder, &mut found)?;
    found.sort();
    Ok(found)
}

/// Makes every file below a folder older: the store's clock cannot be turned.
pub fn age(folder: &Path, by: Duration) -> io::Result<()> {
    for path in files_below(folder)? {
        let file = fs::File::options().write(true).open(folder.join(path))?;
        file.set_modified(file.metadata()?.modified()? - by)?;
    }
    Ok(())
}

/// Below the range from which the system takes the ports of connections.
const PORTS: std::ops::Range<u16> = 15_000..32_000;

/// Loopback ports that were free a moment ago, each another one. Another process may take one first: whoever
/// starts a server on it tries again with the next.
pub fn free_ports<const N: usize>() -> io::Result<[u16; N]> {
    let mut random = Random::new(RandomState::new().hash_one(std::process::id()));
    let mut ports = [0; N];
    // Held until there is the last one, so that none comes twice.
    let mut held = Vec::new();
    let mut tries = 0;
    while held.len() < N {
        let offset = random.below(u64::from(PORTS.end - PORTS.start));
        let port = PORTS.start + u16::try_from(offset).unwrap_or_default();
        match TcpListener::bind(("127.0.0.1", port)) {
            Ok(listener) => {
                ports[held.len()] = port;
                held.push(listener);
            }
            Err(error) if tries > 1000 => return Err(error),
            Err(_) => tries += 1,
        }
    }
    Ok(ports)
}

/// One of them.
pub fn free_port() -> io::Result<u16> {
    free_ports::<1>().map(|[port]| port)
}

/// A new private folder with a short path: socket paths may have about 100 bytes only.
pub fn temporary(prefix: &str) -> io::Result<tempfile::TempDir> {
    let parent = match env::temp_dir() {
        usual if usual.as_os_str().len() <= 40 => usual,
        _ => PathBuf::from("/tmp"),
    };
    tempfile::Builder::new().prefix(prefix).tempdir_in(parent)
}
