//! The password file (libpq, "The Password File").

use std::path::Path;

use secrecy::SecretString;

use crate::dsn::{HostPort, files};
use crate::error::WireError;

/// The name that lines for replication connections carry in the place of a database.
const REPLICATION: &str = "replication";

/// Directories that count as "localhost", as libpq's own default directory does.
const DEFAULT_SOCKET_DIRECTORIES: &[&str] = &["/tmp", "/var/run/postgresql", "/run/postgresql"];

/// The first line that fits one of the hosts; `None` when the file is absent or has none.
///
/// # Errors
/// [`WireError::PassfileUnsafe`] when group or others have any permission on it.
pub(super) fn find(
    path: &Path,
    hosts: &[HostPort],
    database: &str,
    user: &str,
) -> Result<Option<SecretString>, WireError> {
    match std::fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => return Ok(None),
        Ok(metadata) => check_mode(path, &metadata)?,
        Err(error) if files::is_absent(&error) => return Ok(None),
        Err(source) => {
            return Err(WireError::FileUnreadable {
                what: "password file",
                path: path.to_owned(),
                source,
            });
        }
    }
    let Some(text) = files::read_text("password file", path, false)? else { return Ok(None) };
    Ok(hosts.iter().find_map(|host| lookup(&text, host, database, user)).map(SecretString::from))
}

#[cfg(unix)]
fn check_mode(path: &Path, metadata: &std::fs::Metadata) -> Result<(), WireError> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(WireError::PassfileUnsafe { path: path.to_owned(), mode });
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_mode(_: &Path, _: &std::fs::Metadata) -> Result<(), WireError> {
    // Elsewhere the user's own profile directory is what protects it, as libpq assumes.
    Ok(())
}

fn lookup(text: &str, host: &HostPort, database: &str, user: &str) -> Option<String> {
    let port = host.port.to_string();
    let local =
        host.is_unix() && DEFAULT_SOCKET_DIRECTORIES.contains(&host.host.trim_end_matches('/'));
    text.lines().find_map(|line| {
        if line.starts_with('#') {
            return None;
        }
        let (host_field, rest) = field(line)?;
        let (port_field, rest) = field(rest)?;
        let (database_field, rest) = field(rest)?;
        let (user_field, rest) = field(rest)?;
        let fits = (host_field.fits(&host.host) || (local && host_field.fits("localhost")))
            && port_field.fits(&port)
            && (database_field.fits(database) || database_field.fits(REPLICATION))
            && user_field.fits(user);
        fits.then(|| unescaped(rest.trim_end_matches('\r')))
    })
}

struct Field<'a>(&'a str);

impl Field<'_> {
    fn fits(&self, value: &str) -> bool {
        self.0 == "*" || unescaped(self.0) == value
    }
}

/// Splits at the first colon that no backslash protects.
fn field(line: &str) -> Option<(Field<'_>, &str)> {
    let mut escaped = false;
    for (at, c) in line.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ':' => return Some((Field(line.get(..at)?), line.get(at + 1..)?)),
            _ => {}
        }
    }
    None
}

fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '\\' {
            out.extend(chars.next());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn host(name: &str, port: u16) -> HostPort {
        HostPort { host: name.to_owned(), hostaddr: None, port }
    }

    #[test]
    fn the_first_line_that_fits_wins() {
        let text = "# comment\n\
                    db1:5432:app:me:one\n\
                    db1:*:*:me:two\n\
                    *:*:replication:backup:three\n\
                    localhost:*:*:me:four\n\
                    ::1:5432:app:me:never\n\
                    \\:\\:1:5432:app:me:f\\:ive\\\\\n";
        let at = |h: &str, p: u16, d: &str, u: &str| lookup(text, &host(h, p), d, u);
        assert_eq!(at("db1", 5432, "app", "me").as_deref(), Some("one"));
        assert_eq!(at("db1", 5433, "app", "me").as_deref(), Some("two"));
        assert_eq!(at("db9", 1, "postgres", "backup").as_deref(), Some("three"));
        assert_eq!(at("/tmp", 5432, "x", "me").as_deref(), Some("four"));
        assert_eq!(at("/elsewhere", 5432, "x", "me"), None);
        assert_eq!(at("::1", 5432, "app", "me").as_deref(), Some("f:ive\\"));
        assert_eq!(at("db2", 5432, "app", "nobody"), None);
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pgpass");
        let hosts = [host("h", 1)];
        assert!(find(&path, &hosts, "d", "u").unwrap().is_none());
        std::fs::write(&path, "*:*:*:*:secret\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(find(&path, &hosts, "d", "u").unwrap_err().code(), "passfile_unsafe");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(find(&path, &hosts, "d", "u").unwrap().is_some());
    }

    proptest! {
        #[test]
        fn escaped_values_are_found_again(user in "[^\\r\\n\\x00]{1,12}", password in "[^\\r\\n\\x00]{1,12}") {
            prop_assume!(user != "*");
            let escape = |text: &str| text.replace('\\', "\\\\").replace(':', "\\:");
            let line = format!("h:1:d:{}:{}\n", escape(&user), escape(&password));
            prop_assert_eq!(lookup(&line, &host("h", 1), "d", &user), Some(password));
        }

        #[test]
        fn any_text_is_searched_without_a_panic(text in ".*") {
            let _ = lookup(&text, &host("h", 1), "d", "u");
        }
    }
}
