//! `TimestampTz`, PostgreSQL's clock value (`datatype/timestamp.h`).

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, SecondsFormat, Utc};

use crate::text::serde_as_text;

/// Microseconds from 1970-01-01 to 2000-01-01, both UTC.
const EPOCH_DIFFERENCE: i64 = 946_684_800_000_000;
/// Microseconds per second.
const MICROSECONDS: i64 = 1_000_000;

/// Microseconds since 2000-01-01 00:00 UTC, PostgreSQL's `TimestampTz`.
///
/// Text and JSON form: RFC 3339 in UTC with six digits, `2026-01-02T03:04:05.000006Z`. Text is exact
/// within chrono's years ±262 000; a value beyond (PostgreSQL's `infinity` among them) prints as the
/// nearest representable instant.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug, Default)]
pub struct PgTimestamp(pub i64);

impl PgTimestamp {
    /// The instant, held at chrono's first or last one.
    pub fn to_chrono(self) -> DateTime<Utc> {
        let seconds = self.0.div_euclid(MICROSECONDS) + EPOCH_DIFFERENCE / MICROSECONDS;
        let nanoseconds = u32::try_from(self.0.rem_euclid(MICROSECONDS) * 1000).unwrap_or_default();
        DateTime::from_timestamp(seconds, nanoseconds).unwrap_or(if self.0 < 0 {
            DateTime::<Utc>::MIN_UTC
        } else {
            DateTime::<Utc>::MAX_UTC
        })
    }

    /// The instant rounded down to a microsecond.
    pub fn from_chrono(instant: DateTime<Utc>) -> Self {
        PgTimestamp(instant.timestamp_micros().saturating_sub(EPOCH_DIFFERENCE))
    }
}

impl fmt::Display for PgTimestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.to_chrono().to_rfc3339_opts(SecondsFormat::Micros, true))
    }
}

/// The text is not an RFC 3339 instant.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{text:?} is not an RFC 3339 time")]
pub struct TimestampParseError {
    /// The text as given, cut to 64 characters.
    pub text: String,
    /// What chrono found wrong.
    #[source]
    pub source: chrono::ParseError,
}

impl FromStr for PgTimestamp {
    type Err = TimestampParseError;

    /// Any offset is accepted and converted to UTC; digits past the sixth are cut.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Not `parse_from_rfc3339`, which knows years of four digits only.
        text.parse::<DateTime<Utc>>()
            .map(PgTimestamp::from_chrono)
            .map_err(|source| TimestampParseError { text: text.chars().take(64).collect(), source })
    }
}

serde_as_text!(PgTimestamp);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_epoch_is_the_year_2000() {
        assert_eq!(PgTimestamp(0).to_string(), "2000-01-01T00:00:00.000000Z");
        assert_eq!(PgTimestamp(-1).to_string(), "1999-12-31T23:59:59.999999Z");
        assert_eq!("2000-01-01T01:00:00.0000015+01:00".parse(), Ok(PgTimestamp(1)));
    }

    #[test]
    fn infinities_are_held_at_the_ends() {
        assert_eq!(PgTimestamp(i64::MAX).to_chrono(), DateTime::<Utc>::MAX_UTC);
        assert_eq!(PgTimestamp(i64::MIN).to_chrono(), DateTime::<Utc>::MIN_UTC);
        let json = serde_json::to_string(&PgTimestamp(i64::MAX)).unwrap();
        assert!(serde_json::from_str::<PgTimestamp>(&json).is_ok(), "{json}");
    }

    #[test]
    fn refuses_other_text() {
        for text in ["", "yesterday", "2000-13-01T00:00:00Z", "2000-01-01T00:00:00"] {
            assert!(text.parse::<PgTimestamp>().is_err(), "{text}");
        }
    }

    proptest! {
        // PostgreSQL's own range is 4713 BC to 294276 AD; chrono ends at 262 000.
        #[test]
        fn text_json_and_chrono_round_trip(value in -200_000_000_000_000_000i64..8_000_000_000_000_000_000) {
            let time = PgTimestamp(value);
            prop_assert_eq!(PgTimestamp::from_chrono(time.to_chrono()), time);
            prop_assert_eq!(time.to_string().parse::<PgTimestamp>().unwrap(), time);
            let json = serde_json::to_string(&time).unwrap();
            prop_assert_eq!(serde_json::from_str::<PgTimestamp>(&json).unwrap(), time);
        }

        #[test]
        fn every_value_prints(value: i64) {
            prop_assert!(PgTimestamp(value).to_string().ends_with('Z'));
        }
    }
}
