//! Log sequence numbers: byte positions in the WAL (`xlogdefs.h`, `pg_lsn.c`).

use std::fmt;
use std::str::FromStr;

use crate::text::{hex32, serde_as_text};

/// A byte position in the write-ahead log of one cluster.
///
/// Written as two hexadecimal halves, `16/B374D848`, in text and in JSON. Zero is
/// `InvalidXLogRecPtr`: no record ever starts there.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Default)]
pub struct Lsn(pub u64);

impl Lsn {
    /// `InvalidXLogRecPtr`, printed `0/0`.
    pub const INVALID: Lsn = Lsn(0);

    /// The position `bytes` later, or `None` past the end of the 64-bit space.
    #[must_use]
    pub fn checked_add(self, bytes: u64) -> Option<Lsn> {
        self.0.checked_add(bytes).map(Lsn)
    }

    /// The position `bytes` later, held at the largest position.
    #[must_use]
    pub fn saturating_add(self, bytes: u64) -> Lsn {
        Lsn(self.0.saturating_add(bytes))
    }

    /// Bytes of WAL from `earlier` up to here; zero when `earlier` is not earlier.
    #[must_use]
    pub fn distance_from(self, earlier: Lsn) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Whether this is anything else than [`Lsn::INVALID`].
    #[must_use]
    pub fn is_valid(self) -> bool {
        self != Lsn::INVALID
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `pad` so that callers may align columns of positions.
        f.pad(&format!("{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF))
    }
}

impl fmt::Debug for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not `X/Y` with one to eight hexadecimal digits on either side.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{text:?} is not a WAL position of the form X/Y in hexadecimal")]
pub struct LsnParseError {
    /// The text as given, cut to 64 characters.
    pub text: String,
}

impl FromStr for Lsn {
    type Err = LsnParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split_once('/')
            .and_then(|(high, low)| {
                Some(Lsn(u64::from(hex32(high)?) << 32 | u64::from(hex32(low)?)))
            })
            .ok_or_else(|| LsnParseError { text: text.chars().take(64).collect() })
    }
}

serde_as_text!(Lsn);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn prints_and_reads_both_halves() {
        let lsn = Lsn(0x16_B374_D848);
        assert_eq!(lsn.to_string(), "16/B374D848");
        assert_eq!(format!("{lsn:?}"), "16/B374D848");
        assert_eq!(format!("{:>6}", Lsn(1)), "   0/1");
        assert_eq!("16/b374d848".parse(), Ok(lsn));
        assert_eq!("00000016/B374D848".parse(), Ok(lsn));
        assert_eq!(Lsn::default(), Lsn::INVALID);
        assert!(!Lsn::INVALID.is_valid());
    }

    #[test]
    fn refuses_other_text() {
        for text in
            ["", "/", "0", "0/", "/0", "1/2/3", "+1/0", "0x1/0", "1/123456789", " 1/0", "é/0"]
        {
            let error = text.parse::<Lsn>().unwrap_err();
            assert_eq!(error.text, text);
        }
        assert_eq!("x".repeat(500).parse::<Lsn>().unwrap_err().text.len(), 64);
    }

    #[test]
    fn arithmetic_never_wraps() {
        assert_eq!(Lsn(5).checked_add(3), Some(Lsn(8)));
        assert_eq!(Lsn(u64::MAX).checked_add(1), None);
        assert_eq!(Lsn(u64::MAX).saturating_add(1), Lsn(u64::MAX));
        assert_eq!(Lsn(8).distance_from(Lsn(5)), 3);
        assert_eq!(Lsn(5).distance_from(Lsn(8)), 0);
    }

    proptest! {
        #[test]
        fn text_and_json_round_trip(value: u64) {
            let lsn = Lsn(value);
            prop_assert_eq!(lsn.to_string().parse::<Lsn>().unwrap(), lsn);
            let json = serde_json::to_string(&lsn).unwrap();
            prop_assert_eq!(&json, &format!("\"{lsn}\""));
            prop_assert_eq!(serde_json::from_str::<Lsn>(&json).unwrap(), lsn);
        }
    }
}
