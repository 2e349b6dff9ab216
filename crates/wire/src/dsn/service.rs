//! Connection service files (libpq, "The Connection Service File").

use std::path::{Path, PathBuf};

use crate::dsn::{Environment, files};
use crate::error::WireError;

/// The settings of one section, and where they stand.
pub(super) struct Service {
    pub(super) file: PathBuf,
    pub(super) settings: Vec<(String, String)>,
}

/// Finds a service: in `servicefile`/`PGSERVICEFILE` or `~/.pg_service.conf`, then in
/// `PGSYSCONFDIR/pg_service.conf`.
pub(super) fn find(
    name: &str,
    explicit: Option<&Path>,
    env: &Environment<'_>,
) -> Result<Service, WireError> {
    let mut places = Vec::new();
    if let Some(path) = explicit {
        places.push((path.to_owned(), true));
    } else if let Some(path) = env.get("PGSERVICEFILE") {
        places.push((PathBuf::from(path), true));
    } else if let Some(home) = env.home() {
        places.push((home.join(".pg_service.conf"), false));
    }
    if let Some(directory) = env.get("PGSYSCONFDIR") {
        places.push((Path::new(&directory).join("pg_service.conf"), false));
    }
    for (path, named) in &places {
        let Some(text) = files::read_text("service file", path, *named)? else { continue };
        if let Some(settings) = section(&text, name, path)? {
            return Ok(Service { file: path.clone(), settings });
        }
    }
    let looked = places.iter().map(|(path, _)| path.display().to_string()).collect::<Vec<_>>();
    Err(WireError::bad_dsn(if looked.is_empty() {
        format!("there is no service file to look for the service \"{name}\" in")
    } else {
        format!("the service \"{name}\" stands in none of: {}", looked.join(", "))
    }))
}

/// The lines of section `[name]`; `None` when there is no such section.
fn section(
    text: &str,
    name: &str,
    path: &Path,
) -> Result<Option<Vec<(String, String)>>, WireError> {
    let mut found: Option<Vec<(String, String)>> = None;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(header) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            if found.is_some() {
                break;
            }
            if header == name {
                found = Some(Vec::new());
            }
            continue;
        }
        let Some(settings) = &mut found else { continue };
        let broken = |what: &str| {
            WireError::bad_dsn(format!("line {} of {} {what}", number + 1, path.display()))
        };
        let (keyword, value) =
            line.split_once('=').ok_or_else(|| broken("is not of the form keyword=value"))?;
        if matches!(keyword, "service" | "servicefile") {
            return Err(broken("names a service within a service"));
        }
        if value.contains('\0') {
            return Err(broken("holds a zero byte"));
        }
        settings.push((keyword.trim().to_owned(), value.trim().to_owned()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_section_ends_where_the_next_begins() {
        let text = "# c\n[a]\nhost=one\n\n[b]\nhost=two\nport=1\n[c]\nhost=three\n";
        let of = |name: &str| section(text, name, Path::new("f")).unwrap();
        assert_eq!(
            of("b").unwrap(),
            vec![("host".to_owned(), "two".to_owned()), ("port".to_owned(), "1".to_owned())]
        );
        assert!(of("d").is_none());
        assert!(section("[a]\nservice=b\n", "a", Path::new("f")).is_err());
        assert!(section("[a]\nnonsense\n", "a", Path::new("f")).is_err());
    }
}
