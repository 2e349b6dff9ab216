//! The server's configuration files where they lie outside its data directory, as Debian has them: a base
//! backup does not hold these.

use data_encoding::BASE64;
use holdfast_wire::{Connection, WireError};

use crate::error::{EngineError, Result};
use crate::snapshot::{Captured, ConfigurationFile};

/// A larger file is no configuration. Bytes.
const FILE_MAX: usize = 1 << 20;
/// More files are not looked for: includes of includes.
const FILES_MAX: usize = 100;

/// Reads every configuration file outside the data directory, in an ordinary session. What the role may not
/// read is named with the server's reason; none is told where the role may not even see the paths.
///
/// # Errors
/// When the session breaks.
pub(super) async fn read_outside(
    connection: &mut Connection,
) -> Result<Option<Vec<ConfigurationFile>>> {
    let sql = "SELECT name, setting FROM pg_catalog.pg_settings \
               WHERE name IN ('data_directory', 'config_file', 'hba_file', 'ident_file')";
    let (mut data_directory, mut paths) = (None, Vec::new());
    for row in rows(connection, sql).await?.unwrap_or_default() {
        match (row.first().cloned().flatten(), row.get(1).cloned().flatten()) {
            (Some(name), Some(path)) if name == "data_directory" => data_directory = Some(path),
            (Some(_), Some(path)) => paths.push(path),
            _ => {}
        }
    }
    let Some(data_directory) = data_directory else { return Ok(None) };
    let mut included = vec!["SELECT DISTINCT sourcefile FROM pg_catalog.pg_file_settings"];
    if connection.facts().version.major() >= 16 {
        // Before, access rules could include lists of names only.
        included.push("SELECT DISTINCT file_name FROM pg_catalog.pg_hba_file_rules");
        included.push("SELECT DISTINCT file_name FROM pg_catalog.pg_ident_file_mappings");
    }
    for sql in included {
        // Without the right to these views the main files are still read.
        let found = rows(connection, sql).await?.unwrap_or_default();
        paths.extend(found.into_iter().filter_map(|row| row.into_iter().next().flatten()));
    }
    paths.retain(|path| is_outside(path, &data_directory));
    paths.sort();
    paths.dedup();
    paths.truncate(FILES_MAX);
    let mut files = Vec::with_capacity(paths.len());
    for path in paths {
        let content = read(connection, &path).await?;
        files.push(ConfigurationFile { path, content });
    }
    Ok(Some(files))
}

/// Whether a path of the server is not in its data directory. Both are as the server prints them: absolute.
fn is_outside(path: &str, data_directory: &str) -> bool {
    path.strip_prefix(data_directory.trim_end_matches('/'))
        .is_none_or(|rest| !rest.starts_with('/'))
}

async fn read(connection: &mut Connection, path: &str) -> Result<Captured> {
    let sql = format!(
        "SELECT pg_catalog.encode(pg_catalog.pg_read_binary_file({}, 0, {}), 'hex')",
        format_args!("E'{}'", path.replace('\\', "\\\\").replace('\'', "''")),
        FILE_MAX + 1
    );
    let told = match connection.catalog_value(&sql).await {
        Ok(told) => told.unwrap_or_default(),
        Err(WireError::Server(error)) => return Ok(Captured::NotRead(error.message)),
        Err(error) => return Err(error.into()),
    };
    let bytes = data_encoding::HEXLOWER
        .decode(told.as_bytes())
        .map_err(|e| EngineError::Fault(format!("the server sent {path} as no hex text: {e}")))?;
    if bytes.len() > FILE_MAX {
        return Ok(Captured::NotRead(format!("it is larger than {} MiB", FILE_MAX >> 20)));
    }
    Ok(Captured::Base64(BASE64.encode(&bytes)))
}

/// The rows of one query; none where the server refuses it.
async fn rows(connection: &mut Connection, sql: &str) -> Result<Option<Vec<Vec<Option<String>>>>> {
    match connection.catalog_rows(sql).await {
        Ok(rows) => Ok(Some(rows)),
        Err(WireError::Server(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_base_backup_lacks_is_outside() {
        let data = "/var/lib/postgresql/17/main";
        for outside in [
            "/etc/postgresql/17/main/postgresql.conf",
            "/var/lib/postgresql/17/main2/pg_hba.conf",
            "/var/lib/postgresql/17/main",
        ] {
            assert!(is_outside(outside, data), "{outside}");
        }
        for inside in
            ["/var/lib/postgresql/17/main/postgresql.conf", "/var/lib/postgresql/17/main/conf.d/a"]
        {
            assert!(!is_outside(inside, data), "{inside}");
            assert!(!is_outside(inside, &format!("{data}/")), "{inside}");
        }
    }
}
