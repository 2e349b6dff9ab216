//! What the file systems of this machine say.

use std::path::Path;

/// Free bytes of the file system that holds `path`, or will hold it; none where it does not tell.
pub(crate) fn free_space(path: &Path) -> Option<u64> {
    let existing = path.ancestors().find(|p| p.exists())?;
    let facts = rustix::fs::statvfs(existing).ok()?;
    Some(facts.f_bavail.saturating_mul(facts.f_frsize))
}
