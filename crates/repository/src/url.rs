//! Where a repository is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{RepositoryError, Result};

/// The address of a repository. Holds no credentials: those come from the environment.
#[derive(Clone, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RepositoryUrl(Place);

#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub(crate) enum Place {
    Local(PathBuf),
    S3 { bucket: String, prefix: String },
    Google { bucket: String, prefix: String },
    Azure { container: String, prefix: String },
}

impl RepositoryUrl {
    /// Understands `file:///path`, `/path`, `./path`, `s3://bucket/prefix`, `gs://bucket/prefix`
    /// and `az://container/prefix`.
    ///
    /// # Errors
    /// [`RepositoryError::InvalidUrl`]; also when a user name or password stands in the address,
    /// because addresses are shown and logged.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        let bad =
            |what: &str| RepositoryError::InvalidUrl { url: redact(text), what: what.to_owned() };
        if text.is_empty() {
            return Err(bad("it is empty"));
        }
        // One letter before ':' is a Windows drive, not a scheme.
        let scheme = text.split_once("://").map(|(scheme, _)| scheme).filter(|s| s.len() > 1);
        let Some(scheme) = scheme else {
            return Ok(Self(Place::Local(PathBuf::from(text))));
        };
        let url = reqwest::Url::parse(text).map_err(|e| bad(&e.to_string()))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(bad("credentials do not belong in it"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(bad("'?' and '#' are not allowed in it"));
        }
        if scheme.eq_ignore_ascii_case("file") {
            let path = url.to_file_path().map_err(|()| bad("the path must be absolute"))?;
            return Ok(Self(Place::Local(path)));
        }
        let name = url.host_str().filter(|h| !h.is_empty()).ok_or_else(|| bad("no bucket"))?;
        if url.port().is_some() {
            return Err(bad("the endpoint is set in the environment, not in the address"));
        }
        let name = name.to_owned();
        let prefix = url.path().trim_matches('/').to_owned();
        if prefix.split('/').any(|part| part == "." || part == "..") || prefix.contains('%') {
            return Err(bad("the prefix may not contain '%', '.' or '..' parts"));
        }
        match scheme.to_ascii_lowercase().as_str() {
            "s3" => Ok(Self(Place::S3 { bucket: name, prefix })),
            "gs" => Ok(Self(Place::Google { bucket: name, prefix })),
            "az" => Ok(Self(Place::Azure { container: name, prefix })),
            other => Err(bad(&format!("the scheme {other:?} is not known"))),
        }
    }

    /// The directory, when the repository is on a file system.
    pub fn local_path(&self) -> Option<&Path> {
        match &self.0 {
            Place::Local(path) => Some(path),
            _ => None,
        }
    }

    pub(crate) fn place(&self) -> &Place {
        &self.0
    }
}

/// Removes everything before an '@' in the authority, where passwords stand by mistake.
fn redact(text: &str) -> String {
    match text.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            match authority.rsplit_once('@') {
                Some((_, host)) => format!("{scheme}://…@{host}{path}"),
                None => text.to_owned(),
            }
        }
        None => text.to_owned(),
    }
}

impl fmt::Display for RepositoryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, name, prefix) = match &self.0 {
            Place::Local(path) => return write!(f, "{}", path.display()),
            Place::S3 { bucket, prefix } => ("s3", bucket, prefix),
            Place::Google { bucket, prefix } => ("gs", bucket, prefix),
            Place::Azure { container, prefix } => ("az", container, prefix),
        };
        write!(f, "{scheme}://{name}")?;
        if prefix.is_empty() { Ok(()) } else { write!(f, "/{prefix}") }
    }
}

impl FromStr for RepositoryUrl {
    type Err = RepositoryError;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl TryFrom<String> for RepositoryUrl {
    type Error = RepositoryError;

    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl From<RepositoryUrl> for String {
    fn from(url: RepositoryUrl) -> Self {
        url.to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_round_trip() {
        for text in ["/var/backups", "./here", "s3://bucket/a/b", "gs://bucket", "az://box/p"] {
            assert_eq!(RepositoryUrl::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(
            RepositoryUrl::parse("file:///with%20space").unwrap().local_path().unwrap(),
            Path::new("/with space")
        );
    }

    #[test]
    fn secrets_and_unknown_schemes_are_refused_without_showing_them() {
        let error = RepositoryUrl::parse("s3://key:geheim@bucket/p").unwrap_err();
        assert!(!error.to_string().contains("geheim"), "{error}");
        assert!(RepositoryUrl::parse("ftp://host/p").is_err());
        assert!(RepositoryUrl::parse("s3:///p").is_err());
        assert!(RepositoryUrl::parse("s3://b/../p").is_ok_and(|u| u.to_string() == "s3://b/p"));
        assert!(RepositoryUrl::parse("").is_err());
    }
}
