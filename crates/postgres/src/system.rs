//! Identifiers of clusters and transactions (`pg_control.h`, `transam.h`).

use std::fmt;
use std::str::FromStr;

use crate::text::{decimal, serde_as_text};

/// The number `initdb` gives a cluster; a primary, its standbys and its backups share it.
///
/// Text and JSON form: decimal digits in a string, since it exceeds what JavaScript counts exactly.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub struct SystemIdentifier(pub u64);

/// A 32-bit transaction id; wraps around, so greater is not later. JSON form: a decimal string.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug, Default)]
pub struct Xid(pub u32);

impl Xid {
    /// `InvalidTransactionId`: the record belongs to no transaction.
    pub const INVALID: Xid = Xid(0);

    /// Whether this is anything else than [`Xid::INVALID`].
    #[must_use]
    pub fn is_valid(self) -> bool {
        self != Xid::INVALID
    }

    /// Whether it was assigned before `other`, of two that are less than 2^31 apart
    /// (`TransactionIdPrecedes`).
    #[must_use]
    pub fn precedes(self, other: Self) -> bool {
        self.0.wrapping_sub(other.0) > u32::MAX / 2
    }
}

/// The text is not the decimal number it should be.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{text:?} is not a {what} number")]
pub struct IdentifierParseError {
    /// What was expected: `timeline`, `system identifier`, …
    pub what: &'static str,
    /// The text as given, cut to 64 characters.
    pub text: String,
}

impl IdentifierParseError {
    pub(crate) fn new(what: &'static str, text: &str) -> Self {
        IdentifierParseError { what, text: text.chars().take(64).collect() }
    }
}

impl fmt::Display for SystemIdentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Display for Xid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for SystemIdentifier {
    type Err = IdentifierParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        decimal(text)
            .map(SystemIdentifier)
            .ok_or_else(|| IdentifierParseError::new("system identifier", text))
    }
}

impl FromStr for Xid {
    type Err = IdentifierParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        decimal(text)
            .and_then(|number| u32::try_from(number).ok())
            .map(Xid)
            .ok_or_else(|| IdentifierParseError::new("transaction", text))
    }
}

serde_as_text!(SystemIdentifier);
serde_as_text!(Xid);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn refuses_what_is_no_number() {
        for text in ["", "x", "-1", "+1", " 1", "18446744073709551616"] {
            assert!(text.parse::<SystemIdentifier>().is_err(), "{text}");
            assert!(text.parse::<Xid>().is_err(), "{text}");
        }
        let error = "4294967296".parse::<Xid>().unwrap_err();
        assert_eq!(error.to_string(), "\"4294967296\" is not a transaction number");
        assert!(!Xid::default().is_valid());
    }

    proptest! {
        #[test]
        fn text_and_json_round_trip(system: u64, xid: u32) {
            let system = SystemIdentifier(system);
            prop_assert_eq!(system.to_string().parse::<SystemIdentifier>().unwrap(), system);
            let json = serde_json::to_string(&system).unwrap();
            prop_assert!(json.starts_with('"'));
            prop_assert_eq!(serde_json::from_str::<SystemIdentifier>(&json).unwrap(), system);
            let json = serde_json::to_string(&Xid(xid)).unwrap();
            prop_assert_eq!(serde_json::from_str::<Xid>(&json).unwrap(), Xid(xid));
        }
    }
}
