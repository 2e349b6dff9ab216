//! Where recovery shall stop, as people write it.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, SecondsFormat, Utc};
use holdfast_postgres::{Lsn, Xid};

use crate::error::EngineError;

/// A recovery target: `latest`, `immediate`, `time:T`, `xid:N`, `lsn:X/Y`, `name:TEXT`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Target {
    /// The last whole record that is archived.
    Latest,
    /// As soon as the snapshot is consistent.
    Immediate,
    /// Before the first transaction that ended later than this.
    Time(DateTime<Utc>),
    /// At the end of this transaction.
    Xid(Xid),
    /// At the first record that starts here or later.
    Lsn(Lsn),
    /// At the restore point of this name.
    Name(String),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Immediate => f.write_str("immediate"),
            Self::Time(t) => write!(f, "time:{}", t.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
            Self::Xid(x) => write!(f, "xid:{x}"),
            Self::Lsn(l) => write!(f, "lsn:{l}"),
            Self::Name(n) => write!(f, "name:{n}"),
        }
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        target.to_string()
    }
}

impl TryFrom<String> for Target {
    type Error = EngineError;

    fn try_from(text: String) -> Result<Self, EngineError> {
        text.parse()
    }
}

fn usage(message: String) -> EngineError {
    EngineError::usage(
        message,
        "A target is latest, immediate, time:2026-06-14T09:30:00.000Z, xid:12345, lsn:0/3000060 or name:before-deploy.",
    )
}

impl FromStr for Target {
    type Err = EngineError;

    fn from_str(text: &str) -> Result<Self, EngineError> {
        match text {
            "latest" => return Ok(Self::Latest),
            "immediate" => return Ok(Self::Immediate),
            _ => {}
        }
        let (kind, value) =
            text.split_once(':').ok_or_else(|| usage(format!("{text:?} is no recovery target")))?;
        match kind {
            "time" => parse_time(value).map(Self::Time),
            "xid" => match value.parse::<u32>() {
                Ok(xid) if xid >= 3 => Ok(Self::Xid(Xid(xid))),
                _ => Err(usage(format!(
                    "{value:?} is no transaction id: a number from 3 to 4294967295"
                ))),
            },
            "lsn" => {
                value.parse().map(Self::Lsn).map_err(|_| usage(format!("{value:?} is no LSN")))
            }
            // PostgreSQL keeps 63 bytes of a restore point's name.
            "name" if (1..=63).contains(&value.len()) => Ok(Self::Name(value.to_owned())),
            "name" => Err(usage("a restore point's name has 1 to 63 bytes".to_owned())),
            _ => Err(usage(format!("{kind:?} is no kind of recovery target"))),
        }
    }
}

/// Reads a time that says its offset. One without is refused: tools disagree about what it means.
///
/// # Errors
/// Usage.
pub fn parse_time(text: &str) -> Result<DateTime<Utc>, EngineError> {
    let text = text.trim();
    let spelled = text.strip_suffix(" UTC").map(|t| format!("{}Z", t.trim_end()));
    let text = spelled.as_deref().unwrap_or(text);
    let formats =
        ["%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f %#z"];
    let parsed = DateTime::parse_from_rfc3339(text).ok().or_else(|| {
        let plain = text.strip_suffix(['Z', 'z']).map(|t| format!("{t}+00:00"));
        let text = plain.as_deref().unwrap_or(text);
        formats.iter().find_map(|f| DateTime::parse_from_str(text, f).ok())
    });
    if let Some(time) = parsed {
        return Ok(time.to_utc());
    }
    let zoneless = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"]
        .iter()
        .any(|f| chrono::NaiveDateTime::parse_from_str(text, f).is_ok());
    Err(if zoneless {
        EngineError::usage(
            format!("the time {text:?} does not say its offset from UTC"),
            format!("Write {}Z for UTC, or an offset such as +02:00.", text.replace(' ', "T")),
        )
    } else {
        EngineError::usage(
            format!("{text:?} is no time"),
            "Write it as 2026-06-14T09:30:00.000Z or with an offset such as +02:00.",
        )
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn targets_print_as_they_are_written() {
        for text in [
            "latest",
            "immediate",
            "time:2026-06-14T09:30:00.123456Z",
            "xid:742",
            "lsn:1/A0",
            "name:before deploy",
        ] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_time_without_an_offset_is_refused_with_the_way_to_write_it() {
        let error = "time:2026-06-14 09:30:00".parse::<Target>().unwrap_err();
        assert!(error.to_string().contains("offset"));
        assert!(error.hint().unwrap().contains("2026-06-14T09:30:00Z"));
    }

    #[test]
    fn offsets_are_understood_in_every_common_form() {
        let want = parse_time("2026-06-14T07:30:00Z").unwrap();
        for text in [
            "2026-06-14T09:30:00+02:00",
            "2026-06-14 09:30:00+02",
            "2026-06-14 09:30:00 +0200",
            "2026-06-14 07:30:00 UTC",
            "2026-06-14 07:30:00Z",
        ] {
            assert_eq!(parse_time(text).unwrap(), want, "{text}");
        }
    }

    #[test]
    fn nonsense_is_a_usage_error() {
        for text in ["13am", "time:13am", "xid:0", "xid:-1", "lsn:zz", "name:", "tomorrow:1"] {
            assert_eq!(text.parse::<Target>().unwrap_err().outcome().exit_code(), 2, "{text}");
        }
    }
}
