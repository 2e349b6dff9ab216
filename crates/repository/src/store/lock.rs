//! Object lock of S3 buckets: the rule by which what is put is kept, and until when one object is.
//!
//! `object_store` knows nothing of it, so these few requests are made here, signed with the same credentials.
//! (Amazon S3 API: `GetObjectLockConfiguration`, `GetObjectRetention`, `PutObjectRetention`.)

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use http::{Method, StatusCode};
use object_store::ClientOptions;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, AwsAuthorizer};
use object_store::client::{
    HttpClient, HttpConnector, HttpRequest, HttpRequestBody, ReqwestConnector,
};
use object_store::path::Path;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use crate::error::{RepositoryError, Result};

const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";
/// How often a request is tried that the store did not answer well, with a pause before the next.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(300);
/// The longest rule that Amazon takes: a hundred years.
const LONGEST_DAYS: u32 = 36_500;
const OPERATION: &str = "ask for the locks of";
const RETENTION: &str = "retention";
/// What stands for itself in an address whose signature is of version 4; '/' parts a key.
const IN_URL: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');
/// Answers are small.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Who may end a lock before its time.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LockMode {
    /// Those with a right of their own.
    Governance,
    /// Nobody.
    Compliance,
}

impl LockMode {
    /// As the S3 API says it.
    fn of(text: &str) -> Option<Self> {
        match text {
            "GOVERNANCE" => Some(Self::Governance),
            "COMPLIANCE" => Some(Self::Compliance),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Governance => "GOVERNANCE",
            Self::Compliance => "COMPLIANCE",
        }
    }
}

/// Whether a store keeps what was put from being changed or removed, whoever asks for it.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum StoreLock {
    /// Who may write may also remove.
    None,
    /// Objects can be locked, but no rule of the bucket locks what is put.
    NoRule,
    /// What is put is kept for so many days.
    Rule {
        /// Who may end that.
        mode: LockMode,
        /// Days.
        days: u32,
    },
    /// The store does not say, or not to these credentials.
    Unknown,
}

/// How one object is locked.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct ObjectLock {
    /// Who may end it before.
    pub mode: LockMode,
    /// Until when, by the store's clock.
    pub until: DateTime<Utc>,
}

/// The locks of one bucket.
pub(super) struct BucketLocks {
    client: HttpClient,
    store: Arc<AmazonS3>,
    region: String,
    /// Where the bucket is, without a '/' at the end.
    bucket_url: String,
}

impl fmt::Debug for BucketLocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BucketLocks({})", self.bucket_url)
    }
}

/// One request: what is asked of an object, or of the bucket where the key is empty.
struct Question<'a> {
    method: Method,
    key: &'a str,
    /// The subresource, as the S3 API calls it.
    what: &'static str,
    body: Bytes,
}

impl<'a> Question<'a> {
    fn of(key: &'a str, what: &'static str) -> Self {
        Self { method: Method::GET, key, what, body: Bytes::new() }
    }
}

struct Answer {
    status: StatusCode,
    body: Bytes,
}

impl BucketLocks {
    /// For what `builder` makes `store` of.
    pub(super) fn new(
        builder: &AmazonS3Builder,
        store: Arc<AmazonS3>,
        bucket: &str,
        options: &ClientOptions,
    ) -> object_store::Result<Self> {
        let value = |key| builder.get_config_value(&key).filter(|value| !value.is_empty());
        let region =
            value(AmazonS3ConfigKey::Region).or_else(|| value(AmazonS3ConfigKey::DefaultRegion));
        let region = region.unwrap_or_else(|| "us-east-1".to_owned());
        let endpoint =
            value(AmazonS3ConfigKey::S3Endpoint).or_else(|| value(AmazonS3ConfigKey::Endpoint));
        let hosted = value(AmazonS3ConfigKey::VirtualHostedStyleRequest).is_some_and(|value| {
            matches!(value.to_ascii_lowercase().as_str(), "true" | "1" | "yes" | "on" | "y")
        });
        let bucket_url = match (endpoint, hosted) {
            (Some(endpoint), true) => endpoint.trim_end_matches('/').to_owned(),
            (Some(endpoint), false) => format!("{}/{bucket}", endpoint.trim_end_matches('/')),
            (None, true) => format!("https://{bucket}.s3.{region}.amazonaws.com"),
            (None, false) => format!("https://s3.{region}.amazonaws.com/{bucket}"),
        };
        let client = ReqwestConnector::default().connect(options)?;
        Ok(Self { client, store, region, bucket_url })
    }

    /// The rule of the bucket.
    pub(super) async fn rule(&self) -> Result<StoreLock> {
        let answer = self.ask(Question::of("", "object-lock")).await?;
        let text = String::from_utf8_lossy(&answer.body);
        match answer.status {
            StatusCode::OK => Ok(rule_of(&text)),
            StatusCode::NOT_FOUND if text.contains("ObjectLockConfigurationNotFoundError") => {
                Ok(StoreLock::None)
            }
            status => {
                tracing::info!(%status, "the store does not say whether it locks objects");
                Ok(StoreLock::Unknown)
            }
        }
    }

    /// How an object is locked now.
    pub(super) async fn of_object(&self, path: &Path) -> Result<Option<ObjectLock>> {
        // Not the headers of an object: they are left out for who may not see locks, as if there were none.
        let answer = self.ask(Question::of(path.as_ref(), RETENTION)).await?;
        let text = String::from_utf8_lossy(&answer.body);
        match answer.status {
            StatusCode::OK => {
                let mode = text_of(&text, "Mode").as_deref().and_then(LockMode::of);
                let until = text_of(&text, "RetainUntilDate")
                    .and_then(|text| DateTime::parse_from_rfc3339(&text).ok());
                Ok(mode.zip(until).map(|(mode, until)| ObjectLock { mode, until: until.to_utc() }))
            }
            StatusCode::NOT_FOUND if text.contains("NoSuchKey") => {
                Err(RepositoryError::NotFound { path: path.to_string() })
            }
            // It has none, or nothing in this bucket has.
            StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST => Ok(None),
            _ => Err(unexpected("read the lock of", path, &answer)),
        }
    }

    /// Keeps an object for longer; a lock that ends later is not shortened by this.
    pub(super) async fn keep(&self, path: &Path, lock: ObjectLock) -> Result<()> {
        let until = lock.until.to_rfc3339_opts(SecondsFormat::Secs, true);
        let body = format!(
            "<Retention xmlns=\"{NAMESPACE}\"><Mode>{}</Mode><RetainUntilDate>{until}</RetainUntilDate></Retention>",
            lock.mode.name()
        );
        let question = Question::of(path.as_ref(), RETENTION);
        let answer =
            self.ask(Question { method: Method::PUT, body: Bytes::from(body), ..question }).await?;
        if answer.status.is_success() {
            return Ok(());
        }
        Err(unexpected("keep for longer", path, &answer))
    }

    async fn ask(&self, question: Question<'_>) -> Result<Answer> {
        let mut last = None;
        for attempt in 1..=ATTEMPTS {
            match self.try_ask(&question).await {
                Ok(answer) if !passes(answer.status) => return Ok(answer),
                Ok(answer) => last = Some(unexpected(OPERATION, question.key, &answer)),
                Err(error) => {
                    last = Some(RepositoryError::from_store(OPERATION, question.key, error));
                }
            }
            if attempt < ATTEMPTS {
                tokio::time::sleep(PAUSE * attempt).await;
            }
        }
        Err(last.unwrap_or_else(|| RepositoryError::worker("nothing was asked")))
    }

    async fn try_ask(&self, question: &Question<'_>) -> object_store::Result<Answer> {
        let credential = self.store.credentials().get_credential().await?;
        let Question { ref method, key, what, ref body } = *question;
        let slash = if key.is_empty() { "" } else { "/" };
        let uri = format!("{}{slash}{}?{what}=", self.bucket_url, utf8_percent_encode(key, IN_URL));
        let digest = ring::digest::digest(&ring::digest::SHA256, body);
        let mut request = http::Request::builder().method(method).uri(uri);
        if !body.is_empty() {
            // A change of a lock without a checksum is refused.
            request = request
                .header("content-type", "application/xml")
                .header("x-amz-sdk-checksum-algorithm", "SHA256")
                .header("x-amz-checksum-sha256", data_encoding::BASE64.encode(digest.as_ref()));
        }
        let mut request: HttpRequest =
            request.body(HttpRequestBody::from(body.clone())).map_err(failed)?;
        AwsAuthorizer::new(&credential, "s3", &self.region)
            .try_authorize(&mut request, Some(digest.as_ref()))?;
        let response = self.client.execute(request).await.map_err(failed)?;
        let (head, body) = response.into_parts();
        let mut body = body.bytes().await.map_err(failed)?;
        body.truncate(MAX_ANSWER_BYTES);
        Ok(Answer { status: head.status, body })
    }
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> object_store::Error {
    object_store::Error::Generic { store: "S3", source: Box::new(error) }
}

/// Whether another try may be answered better. What a store does not know is an answer (501).
fn passes(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::INTERNAL_SERVER_ERROR
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
            | StatusCode::TOO_MANY_REQUESTS
    )
}

fn unexpected(
    operation: &'static str,
    path: impl fmt::Display,
    answer: &Answer,
) -> RepositoryError {
    let path = path.to_string();
    let said = text_of(&String::from_utf8_lossy(&answer.body), "Message").unwrap_or_default();
    let source = format!("the store answered {}: {said}", answer.status).into();
    let error = match answer.status {
        StatusCode::FORBIDDEN => {
            object_store::Error::PermissionDenied { path: path.clone(), source }
        }
        StatusCode::UNAUTHORIZED => {
            object_store::Error::Unauthenticated { path: path.clone(), source }
        }
        StatusCode::NOT_FOUND => object_store::Error::NotFound { path: path.clone(), source },
        _ => object_store::Error::Generic { store: "S3", source },
    };
    RepositoryError::from_store(operation, &path, error)
}

/// The rule in an answer to `GetObjectLockConfiguration`.
fn rule_of(xml: &str) -> StoreLock {
    if text_of(xml, "ObjectLockEnabled").as_deref() != Some("Enabled") {
        return StoreLock::None;
    }
    let number = |element: &str| text_of(xml, element).and_then(|text| text.parse::<u32>().ok());
    let days = number("Days").or_else(|| number("Years").map(|years| years.saturating_mul(365)));
    match (text_of(xml, "Mode").as_deref().and_then(LockMode::of), days) {
        (Some(mode), Some(days)) if days > 0 => {
            StoreLock::Rule { mode, days: days.min(LONGEST_DAYS) }
        }
        _ => StoreLock::NoRule,
    }
}

/// The text of the first element of this name.
fn text_of(xml: &str, element: &str) -> Option<String> {
    use quick_xml::events::Event;
    let mut reader = quick_xml::Reader::from_str(xml);
    let mut within = false;
    loop {
        match reader.read_event().ok()? {
            Event::Start(start) => within = start.local_name().as_ref() == element.as_bytes(),
            Event::Text(text) if within => return Some(text.decode().ok()?.trim().to_owned()),
            Event::End(_) => within = false,
            Event::Eof => return None,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(rule: &str) -> String {
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ObjectLockConfiguration xmlns=\"{NAMESPACE}\">\
             <ObjectLockEnabled>Enabled</ObjectLockEnabled>{rule}</ObjectLockConfiguration>"
        )
    }

    #[test]
    fn a_rule_is_read() {
        let rule = |retention: &str| {
            rule_of(&configuration(&format!(
                "<Rule><DefaultRetention>{retention}</DefaultRetention></Rule>"
            )))
        };
        let compliance = |days| StoreLock::Rule { mode: LockMode::Compliance, days };
        assert_eq!(rule("<Mode>COMPLIANCE</Mode><Days>30</Days>"), compliance(30));
        assert_eq!(rule("\n <Days>30</Days>\n <Mode> COMPLIANCE </Mode>\n"), compliance(30));
        assert_eq!(rule("<Mode>COMPLIANCE</Mode><Years>2</Years>"), compliance(730));
        let governance = StoreLock::Rule { mode: LockMode::Governance, days: 1 };
        assert_eq!(rule("<Mode>GOVERNANCE</Mode><Days>1</Days>"), governance);
        assert_eq!(rule("<Mode>COMPLIANCE</Mode><Years>9999999</Years>"), compliance(36_500));
        assert_eq!(rule(""), StoreLock::NoRule);
        assert_eq!(rule("<Mode>OTHER</Mode><Days>1</Days>"), StoreLock::NoRule);
        assert_eq!(rule_of(&configuration("")), StoreLock::NoRule);
        assert_eq!(rule_of("<ObjectLockConfiguration/>"), StoreLock::None);
        assert_eq!(rule_of("no XML <"), StoreLock::None);
    }

    #[test]
    fn a_key_is_encoded_as_it_is_signed() {
        let in_url = |key| utf8_percent_encode(key, IN_URL).to_string();
        assert_eq!(in_url("a prefix/packs/0~1-2_3.4"), "a%20prefix/packs/0~1-2_3.4");
        assert_eq!(in_url("größe+1%"), "gr%C3%B6%C3%9Fe%2B1%25");
    }
}
