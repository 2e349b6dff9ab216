//! Lengths of time as a policy writes them: `48h`, `30d`, `8w`, `12mo`, `5y`.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Days, Months, TimeDelta, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::EngineError;

/// The longest span of each unit is about 1000 years.
const LONGEST: [(Unit, u32); 5] = [
    (Unit::Hours, 8_766_000),
    (Unit::Days, 365_250),
    (Unit::Weeks, 52_000),
    (Unit::Months, 12_000),
    (Unit::Years, 1000),
];

/// A length of time in the units of a calendar. Text and JSON: a number and `h`, `d`, `w`, `mo` or `y`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    count: u32,
    unit: Unit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Hours,
    Days,
    Weeks,
    Months,
    Years,
}

impl Unit {
    fn as_str(self) -> &'static str {
        match self {
            Self::Hours => "h",
            Self::Days => "d",
            Self::Weeks => "w",
            Self::Months => "mo",
            Self::Years => "y",
        }
    }
}

impl Span {
    /// Hours.
    pub(crate) const fn hours(count: u32) -> Self {
        Self { count, unit: Unit::Hours }
    }

    /// Days of 24 hours.
    pub(crate) const fn days(count: u32) -> Self {
        Self { count, unit: Unit::Days }
    }

    /// Months of the calendar.
    pub(crate) const fn months(count: u32) -> Self {
        Self { count, unit: Unit::Months }
    }

    /// The time that lies so long before `now`, in UTC; the earliest there is where none does.
    pub fn before(self, now: DateTime<Utc>) -> DateTime<Utc> {
        let count = self.count;
        match self.unit {
            Unit::Hours => now.checked_sub_signed(TimeDelta::hours(i64::from(count))),
            Unit::Days => now.checked_sub_days(Days::new(u64::from(count))),
            Unit::Weeks => now.checked_sub_days(Days::new(u64::from(count) * 7)),
            Unit::Months => now.checked_sub_months(Months::new(count)),
            Unit::Years => now.checked_sub_months(Months::new(count.saturating_mul(12))),
        }
        .unwrap_or(DateTime::<Utc>::MIN_UTC)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.count, self.unit.as_str())
    }
}

impl FromStr for Span {
    type Err = EngineError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = text.get(digits.len()..).unwrap_or_default();
        let count: Option<u32> =
            digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten();
        LONGEST
            .into_iter()
            .find(|(known, _)| known.as_str() == unit)
            .and_then(|(unit, longest)| {
                let count = count.filter(|count| (1..=longest).contains(count))?;
                Some(Self { count, unit })
            })
            .ok_or_else(|| {
                let shown: String = text.chars().take(64).collect();
                EngineError::usage(
                    format!("{shown:?} is no length of time"),
                    "Write a whole number from 1 on and h, d, w, mo or y, such as 48h, 30d, 12mo.",
                )
            })
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|error: EngineError| {
            let hint = error.hint().unwrap_or_default();
            serde::de::Error::custom(format!("{error}. {hint}"))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn spans_round_trip_and_follow_the_calendar() {
        let now: DateTime<Utc> = "2026-03-31T12:00:00Z".parse().unwrap();
        for (text, before) in [
            ("48h", "2026-03-29T12:00:00Z"),
            ("30d", "2026-03-01T12:00:00Z"),
            ("2w", "2026-03-17T12:00:00Z"),
            ("1mo", "2026-02-28T12:00:00Z"),
            ("1y", "2025-03-31T12:00:00Z"),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.to_string(), text);
            assert_eq!(span.before(now), before.parse::<DateTime<Utc>>().unwrap(), "{text}");
        }
        for (unit, longest) in LONGEST {
            let span = Span { count: longest, unit };
            assert_eq!(span.to_string().parse::<Span>().unwrap(), span);
            assert!(span.before(now) < now);
        }
    }

    #[test]
    fn other_text_is_no_span() {
        for text in
            ["", "d", "30", "0d", "-1d", "+1d", "1 d", "1m", "1D", "1.5h", "4294967296h", "1001y"]
        {
            assert!(text.parse::<Span>().is_err(), "{text:?}");
        }
    }
}
