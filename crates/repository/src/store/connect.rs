//! From an address to an object store, with the settings that make it durable and patient.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Once, OnceLock, PoisonError};
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, Checksum, S3ConditionalPut};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::{BackoffConfig, Certificate, ClientOptions, ObjectStore, RetryConfig};

use super::archive_file::ArchiveFile;
use super::lock::BucketLocks;
use super::{Backend, Locks};
use crate::error::{RepositoryError, Result};
use crate::url::{Place, RepositoryUrl};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long the store may be silent. The clock runs while a body is being sent, so it has to
/// allow for one part on a slow line: 17 MiB in 10 minutes is 30 KiB/s.
const READ_TIMEOUT: Duration = Duration::from_mins(10);
/// How often and how long one request is tried again.
const RETRIES: usize = 12;
const RETRY_BUDGET: Duration = Duration::from_mins(4);
/// So many directories are remembered as durable; then they are synced once more.
const KNOWN_DIRECTORIES: usize = 4096;
/// So many seconds the store may be silent, if it is to be less; a request is given up after three
/// times as long.
const PATIENCE_VARIABLE: &str = "HOLDFAST_STORE_PATIENCE";

pub(super) fn connect(url: &RepositoryUrl) -> Result<(Backend, String)> {
    let failed = |e| RepositoryError::from_store("configure", &url.to_string(), e);
    let (store, locks, prefix): (Arc<dyn ObjectStore>, _, &String) = match url.place() {
        Place::Local(path) => {
            let root = std::path::absolute(path).map_err(|source| RepositoryError::LocalFile {
                operation: "find the current directory",
                source,
            })?;
            if root.is_file() {
                let file = Arc::new(ArchiveFile::open(&root)?);
                return Ok((Backend::Ready { store: file, locks: Locks::Nothing }, String::new()));
            }
            let (opened, durable) = (OnceLock::new(), Arc::default());
            return Ok((Backend::Local { root, opened, durable }, String::new()));
        }
        Place::S3 { bucket, prefix } => {
            install_tls_provider();
            let builder = s3_settings(bucket, std::env::vars_os());
            let endpoint = [AmazonS3ConfigKey::S3Endpoint, AmazonS3ConfigKey::Endpoint]
                .iter()
                .find_map(|key| builder.get_config_value(key));
            let plain = endpoint.as_deref().is_some_and(|e| e.starts_with("http://"));
            let own = format!("{}ALLOW_HTTP", bucket_prefix(bucket));
            let allow = allows("AWS_ALLOW_HTTP") || allows(&own);
            let options = client_options(allow, plain);
            let mut builder = builder
                .with_bucket_name(bucket)
                .with_conditional_put(S3ConditionalPut::ETagMatch)
                // Removals are asked for one at a time: a refusal names its object.
                .with_config(AmazonS3ConfigKey::DisableBulkDelete, "true")
                .with_client_options(options.clone())
                .with_retry(retry());
            // Amazon takes nothing without a checksum into a bucket that locks what is put. Others may not
            // know them, and are sent one where the environment asks for it.
            if endpoint.as_deref().is_none_or(is_amazon)
                && builder.get_config_value(&AmazonS3ConfigKey::Checksum).is_none()
            {
                builder = builder.with_checksum_algorithm(Checksum::SHA256);
            }
            let store = Arc::new(builder.clone().build().map_err(failed)?);
            let locks = BucketLocks::new(&builder, Arc::clone(&store), bucket, &options);
            (store, Locks::Bucket(Arc::new(locks.map_err(failed)?)), prefix)
        }
        Place::Google { bucket, prefix } => {
            install_tls_provider();
            let builder = GoogleCloudStorageBuilder::from_env()
                .with_bucket_name(bucket)
                .with_client_options(client_options(allows("GOOGLE_ALLOW_HTTP"), false))
                .with_retry(retry());
            (Arc::new(builder.build().map_err(failed)?), Locks::Unknown, prefix)
        }
        Place::Azure { container, prefix } => {
            install_tls_provider();
            let builder = MicrosoftAzureBuilder::from_env()
                .with_container_name(container)
                .with_client_options(client_options(allows("AZURE_ALLOW_HTTP"), false))
                .with_retry(retry());
            (Arc::new(builder.build().map_err(failed)?), Locks::Unknown, prefix)
        }
    };
    Ok((Backend::Ready { store, locks }, prefix.clone()))
}

/// Whether an endpoint is one of Amazon's own.
fn is_amazon(endpoint: &str) -> bool {
    let host = endpoint.split("://").nth(1).unwrap_or(endpoint);
    let host = host.split(['/', ':']).next().unwrap_or_default();
    [".amazonaws.com", ".amazonaws.com.cn"].iter().any(|domain| host.ends_with(domain))
}

/// What the names of variables begin with that hold for one bucket alone: replicas are in other regions, with
/// other credentials.
fn bucket_prefix(bucket: &str) -> String {
    let name: String = bucket
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
        .collect();
    format!("HOLDFAST_S3_{name}_")
}

/// The settings of a bucket: `AWS_*`, and its own before them. An own key is used with nothing of another's,
/// and an own endpoint stands in for all.
fn s3_settings(
    bucket: &str,
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> AmazonS3Builder {
    let prefix = bucket_prefix(bucket);
    let (mut common, mut own) = (Vec::new(), Vec::new());
    for (name, value) in variables {
        let (Ok(name), Ok(value)) = (name.into_string(), value.into_string()) else { continue };
        let key = |setting: &str| format!("aws_{}", setting.to_ascii_lowercase()).parse().ok();
        if let Some(key) = name.strip_prefix(&prefix).and_then(key) {
            own.push((key, value));
        } else if let Some(key) = name.strip_prefix("AWS_").and_then(key) {
            common.push((key, value));
        }
    }
    for together in [
        &[
            AmazonS3ConfigKey::AccessKeyId,
            AmazonS3ConfigKey::SecretAccessKey,
            AmazonS3ConfigKey::Token,
        ][..],
        &[AmazonS3ConfigKey::Endpoint, AmazonS3ConfigKey::S3Endpoint][..],
    ] {
        if own.iter().any(|(key, _)| together.contains(key)) {
            common.retain(|(key, _)| !together.contains(key));
        }
    }
    common
        .into_iter()
        .chain(own)
        .fold(AmazonS3Builder::new(), |builder, (key, value)| builder.with_config(key, value))
}

fn allows(variable: &str) -> bool {
    std::env::var(variable)
        .is_ok_and(|v| matches!(v.to_ascii_lowercase().as_str(), "1" | "true" | "on" | "yes"))
}

/// The only place where a local store is opened, because by itself it does not sync: here every
/// write is followed by `fsync` of the file and of the directory that names it.
pub(super) fn local(root: &Path) -> object_store::Result<Arc<dyn ObjectStore>> {
    Ok(Arc::new(LocalFileSystem::new_with_prefix(root)?.with_fsync(true)))
}

/// `mkdir -p` whose new directories survive a power cut.
pub(super) fn create_directory(root: &Path) -> std::io::Result<()> {
    let mut missing: Vec<PathBuf> = Vec::new();
    let mut current = root;
    while !current.exists() {
        missing.push(current.to_path_buf());
        match current.parent() {
            Some(parent) => current = parent,
            None => break,
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    std::fs::create_dir_all(root)?;
    if cfg!(unix) {
        for directory in &missing {
            std::fs::File::open(directory)?.sync_all()?;
        }
        std::fs::File::open(current)?.sync_all()?;
    }
    Ok(())
}

/// Makes `folder`, which lies below `root`, so that it survives a power cut: whoever made it, or is making
/// it now, may not have come to the sync of the directory that names it. What is known to be durable is
/// not synced again.
pub(super) fn make_directories(
    root: &Path,
    folder: &Path,
    durable: &Mutex<HashSet<PathBuf>>,
) -> std::io::Result<()> {
    create_directory(root)?;
    std::fs::create_dir_all(folder)?;
    let known = || durable.lock().unwrap_or_else(PoisonError::into_inner);
    let mut synced = vec![root.to_path_buf()];
    for directory in folder.ancestors().take_while(|directory| *directory != root) {
        if known().contains(directory) {
            break;
        }
        if let (true, Some(parent)) = (cfg!(unix), directory.parent()) {
            std::fs::File::open(parent)?.sync_all()?;
        }
        synced.push(directory.to_path_buf());
    }
    let mut known = known();
    if known.len() > KNOWN_DIRECTORIES {
        known.clear();
    }
    known.extend(synced);
    Ok(())
}

/// Syncs an existing file and every directory that leads to it; one that is gone again needs none of it.
pub(super) fn sync_file(root: &Path, name: &str) -> std::io::Result<()> {
    let file = root.join(name);
    match std::fs::File::open(&file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        opened => opened?.sync_all()?,
    }
    if cfg!(unix) {
        for directory in file.ancestors().skip(1).take_while(|folder| folder.starts_with(root)) {
            std::fs::File::open(directory)?.sync_all()?;
        }
    }
    Ok(())
}

/// Syncs every directory below `folder`, itself, and those that lead to it from `root`.
pub(super) fn sync_folders(root: &Path, folder: &Path) -> std::io::Result<()> {
    if cfg!(not(unix)) || !folder.is_dir() {
        return Ok(());
    }
    let mut below = vec![folder.to_path_buf()];
    while let Some(directory) = below.pop() {
        for entry in std::fs::read_dir(&directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                below.push(entry.path());
            }
        }
        std::fs::File::open(&directory)?.sync_all()?;
    }
    for directory in folder.ancestors().skip(1).take_while(|above| above.starts_with(root)) {
        std::fs::File::open(directory)?.sync_all()?;
    }
    Ok(())
}

/// How long a store is waited for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Patience {
    connect: Duration,
    silence: Duration,
    budget: Duration,
}

impl Patience {
    /// As usual, or as the environment asks.
    fn from_env() -> Self {
        Self::of(std::env::var(PATIENCE_VARIABLE).ok().as_deref())
    }

    fn of(seconds: Option<&str>) -> Self {
        let usual = Self { connect: CONNECT_TIMEOUT, silence: READ_TIMEOUT, budget: RETRY_BUDGET };
        let asked = seconds.and_then(|text| text.trim().parse::<u32>().ok()).filter(|n| *n > 0);
        let Some(asked) = asked.map(|n| Duration::from_secs(n.into())) else { return usual };
        Self {
            connect: usual.connect.min(asked),
            silence: usual.silence.min(asked),
            budget: usual.budget.min(asked * 3),
        }
    }
}

fn retry() -> RetryConfig {
    let Patience { budget, .. } = Patience::from_env();
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(200),
            max_backoff: Duration::from_secs(20).min(budget / 4),
            base: 2.0,
        },
        max_retries: RETRIES,
        retry_timeout: budget,
    }
}

fn client_options(allow: bool, plain: bool) -> ClientOptions {
    let patience = Patience::from_env();
    let mut options = ClientOptions::new()
        .with_timeout_disabled()
        .with_connect_timeout(patience.connect)
        .with_read_timeout(patience.silence)
        .with_allow_http(allow);
    // A bundle of certificates adds to the system's. It says nothing about plain http, where it
    // is not even read.
    if !plain && let Ok(path) = std::env::var("AWS_CA_BUNDLE") {
        match std::fs::read(&path).map(|pem| Certificate::from_pem_bundle(&pem)) {
            Ok(Ok(certificates)) => {
                for certificate in certificates {
                    options = options.with_root_certificate(certificate);
                }
            }
            Ok(Err(error)) => tracing::warn!(%path, %error, "AWS_CA_BUNDLE holds no certificates"),
            Err(error) => tracing::warn!(%path, %error, "AWS_CA_BUNDLE cannot be read"),
        }
    }
    options
}

/// The HTTP client takes the process's default TLS provider, and none is built in.
fn install_tls_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error means that the program has chosen one already, which is as good.
        let _already = rustls::crypto::ring::default_provider().install_default();
    });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_bucket_has_settings_of_its_own() {
        let variables = [
            ("AWS_REGION", "eu-central-1"),
            ("AWS_ACCESS_KEY_ID", "common"),
            ("AWS_SECRET_ACCESS_KEY", "common's"),
            ("AWS_SESSION_TOKEN", "common's too"),
            ("AWS_ENDPOINT_URL_S3", "https://eu.example.org"),
            ("HOLDFAST_S3_ORDERS_US_2_ACCESS_KEY_ID", "own"),
            ("HOLDFAST_S3_ORDERS_US_2_SECRET_ACCESS_KEY", "own's"),
            ("HOLDFAST_S3_ORDERS_US_2_ENDPOINT", "https://us.example.org"),
            ("HOLDFAST_S3_ORDERS_US_2_NONSENSE", "x"),
        ];
        let settings = |bucket: &str| {
            let all = variables.iter().map(|(name, value)| (OsString::from(name), value.into()));
            let builder = s3_settings(bucket, all);
            [
                AmazonS3ConfigKey::Region,
                AmazonS3ConfigKey::AccessKeyId,
                AmazonS3ConfigKey::Token,
                AmazonS3ConfigKey::S3Endpoint,
                AmazonS3ConfigKey::Endpoint,
            ]
            .map(|key| builder.get_config_value(&key).unwrap_or_default())
        };
        let own = ["eu-central-1", "own", "", "", "https://us.example.org"];
        assert_eq!(settings("orders-us.2"), own);
        let common = ["eu-central-1", "common", "common's too", "https://eu.example.org", ""];
        assert_eq!(settings("orders"), common);
    }

    #[test]
    fn amazon_is_known_by_its_hosts() {
        assert!(is_amazon("https://s3.eu-central-1.amazonaws.com"));
        assert!(is_amazon("https://vpce-1.s3.us-east-1.vpce.amazonaws.com:443/"));
        assert!(is_amazon("https://s3.cn-north-1.amazonaws.com.cn"));
        assert!(!is_amazon("https://s3.example.org/amazonaws.com"));
        assert!(!is_amazon("http://127.0.0.1:9000"));
    }

    #[test]
    fn patience_can_be_shortened_only() {
        let usual = Patience::of(None);
        for nonsense in ["", "soon", "0", "-1", "100000"] {
            assert_eq!(Patience::of(Some(nonsense)), usual, "{nonsense}");
        }
        let short = Patience::of(Some("2"));
        assert_eq!((short.silence.as_secs(), short.budget.as_secs()), (2, 6));
    }

    #[test]
    fn directories_are_made_to_any_depth() {
        let place = tempfile::tempdir().unwrap();
        let deep = place.path().join("a/b/c");
        create_directory(&deep).unwrap();
        assert!(deep.is_dir());
        create_directory(&deep).unwrap();
        std::fs::write(deep.join("file"), b"x").unwrap();
        sync_file(place.path(), "a/b/c/file").unwrap();
        sync_file(place.path(), "a/b/none").unwrap();
        sync_folders(place.path(), &place.path().join("a")).unwrap();
        sync_folders(place.path(), &place.path().join("none")).unwrap();

        let known = Mutex::default();
        make_directories(&deep, &deep.join("d/e"), &known).unwrap();
        assert!(deep.join("d/e").is_dir());
        let mut names: Vec<_> = known.lock().unwrap().iter().cloned().collect();
        names.sort();
        assert_eq!(names, [deep.clone(), deep.join("d"), deep.join("d/e")]);
    }
}
