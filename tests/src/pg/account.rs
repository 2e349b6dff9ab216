//! Whose processes the servers are.

use std::{
    fs, io,
    os::unix::{fs::lchown, process::CommandExt},
    path::Path,
    process::Command,
};

/// The account that servers run under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Account {
    /// The account of this process.
    Own,
    /// This process is root, which PostgreSQL refuses: an unprivileged account instead.
    Other {
        /// Numeric user id.
        uid: u32,
        /// Numeric group id.
        gid: u32,
    },
}

impl Account {
    /// The account for servers started from this process.
    pub fn for_servers() -> io::Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self::Own);
        }
        let users = fs::read_to_string("/etc/passwd")?;
        ["postgres", "nobody"].into_iter().find_map(|name| find(&users, name)).ok_or_else(|| {
            io::Error::other("PostgreSQL does not run as root, and there is no other account")
        })
    }

    /// Makes `command` run under this account.
    pub fn apply(&self, command: &mut Command) {
        if let Self::Other { uid, gid } = *self {
            command.uid(uid).gid(gid);
        }
    }

    /// Hands a file, or a folder with all it holds, to this account. Links are not followed.
    pub fn take_over(&self, path: &Path) -> io::Result<()> {
        let Self::Other { uid, gid } = *self else { return Ok(()) };
        lchown(path, Some(uid), Some(gid))?;
        if fs::symlink_metadata(path)?.is_dir() {
            for entry in fs::read_dir(path)? {
                self.take_over(&entry?.path())?;
            }
        }
        Ok(())
    }

    /// Part of the names of what is cached for one account.
    pub(super) fn label(&self) -> String {
        match self {
            Self::Own => "own".into(),
            Self::Other { uid, .. } => uid.to_string(),
        }
    }
}

/// Finds one account in the text of a passwd(5) file.
fn find(users: &str, name: &str) -> Option<Account> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != name {
            return None;
        }
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Account::Other { uid, gid })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_passwd_lines() {
        let users = "root:x:0:0:root:/root:/bin/sh\npostgres:x:101:104:PostgreSQL,,,:/v:/bin/sh\n";
        assert_eq!(find(users, "postgres"), Some(Account::Other { uid: 101, gid: 104 }));
        assert_eq!(find(users, "post"), None);
    }
}
