//! Timelines and their history files (`timeline.c`).

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::lsn::Lsn;
use crate::system::IdentifierParseError;
use crate::text::decimal;

/// The number of a timeline; never zero. A cluster begins on timeline 1.
#[derive(
    Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct TimelineId(NonZeroU32);

impl TimelineId {
    /// The timeline `initdb` starts a cluster on.
    pub const FIRST: TimelineId = TimelineId(NonZeroU32::MIN);

    /// The timeline of that number, `None` for zero.
    pub fn new(number: u32) -> Option<TimelineId> {
        NonZeroU32::new(number).map(TimelineId)
    }

    /// The number.
    pub fn get(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for TimelineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for TimelineId {
    type Err = IdentifierParseError;

    /// Decimal digits only.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        decimal(text)
            .and_then(|number| u32::try_from(number).ok())
            .and_then(TimelineId::new)
            .ok_or_else(|| IdentifierParseError::new("timeline", text))
    }
}

/// One line of a history file: the point at which a timeline was left for the next one.
#[derive(Clone, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
pub struct TimelineSwitch {
    /// The timeline that was left.
    pub parent: TimelineId,
    /// The first position its successor wrote; the parent's own WAL counts up to here, exclusively.
    pub switch_lsn: Lsn,
    /// PostgreSQL's free text, such as `no recovery target specified`; one line.
    pub reason: String,
}

/// The ancestry of a timeline, as its history file tells it.
///
/// Ancestors stand oldest first, their numbers strictly increase and stay below the own number, and
/// their switch points never decrease. The own timeline is not listed. An empty list is a timeline
/// without ancestors, which on a server has no file at all.
#[derive(Clone, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
pub struct TimelineHistory {
    /// The timeline whose ancestry this is.
    pub timeline: TimelineId,
    /// The switches that led to it, oldest first.
    pub switches: Vec<TimelineSwitch>,
}

/// A history file that PostgreSQL itself would refuse, or that contradicts itself.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TimelineHistoryError {
    /// A line that is neither blank, nor a comment, nor `id <blank> X/Y [<blank> reason]`.
    #[error("line {line} of the history of timeline {timeline} is not `id, position, reason`")]
    Syntax {
        /// Whose history.
        timeline: TimelineId,
        /// Line number, from 1.
        line: usize,
    },
    /// Ids do not strictly increase, or reach the timeline's own.
    #[error(
        "line {line} of the history of timeline {timeline} names timeline {found} out of order"
    )]
    Order {
        /// Whose history.
        timeline: TimelineId,
        /// Line number, from 1.
        line: usize,
        /// The id at fault.
        found: TimelineId,
    },
    /// A switch point before the one that led to the same timeline.
    #[error(
        "line {line} of the history of timeline {timeline} leaves at {found}, before it began at {begun}"
    )]
    Backwards {
        /// Whose history.
        timeline: TimelineId,
        /// Line number, from 1.
        line: usize,
        /// The switch point read.
        found: Lsn,
        /// The switch point of the line before.
        begun: Lsn,
    },
}

impl TimelineHistory {
    /// A timeline without ancestors.
    #[must_use]
    pub fn root(timeline: TimelineId) -> Self {
        TimelineHistory { timeline, switches: Vec::new() }
    }

    /// Reads the content of a history file of `timeline`.
    ///
    /// Blank lines and lines starting with `#` are skipped as the server does; bytes of a reason that
    /// are no UTF-8 are replaced.
    ///
    /// # Errors
    /// See [`TimelineHistoryError`].
    pub fn parse(timeline: TimelineId, content: &[u8]) -> Result<Self, TimelineHistoryError> {
        let mut switches: Vec<TimelineSwitch> = Vec::new();
        for (index, bytes) in content.split(|byte| *byte == b'\n').enumerate() {
            let line = index + 1;
            let text = String::from_utf8_lossy(bytes);
            let text = text.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let (parent, rest) = first_word(text);
            let (switch_lsn, reason) = first_word(rest);
            let (Ok(parent), Ok(switch_lsn)) =
                (parent.parse::<TimelineId>(), switch_lsn.parse::<Lsn>())
            else {
                return Err(TimelineHistoryError::Syntax { timeline, line });
            };
            let previous = switches.last();
            if parent >= timeline || previous.is_some_and(|before| before.parent >= parent) {
                return Err(TimelineHistoryError::Order { timeline, line, found: parent });
            }
            if let Some(before) = previous.filter(|before| before.switch_lsn > switch_lsn) {
                return Err(TimelineHistoryError::Backwards {
                    timeline,
                    line,
                    found: switch_lsn,
                    begun: before.switch_lsn,
                });
            }
            switches.push(TimelineSwitch { parent, switch_lsn, reason: reason.to_owned() });
        }
        Ok(TimelineHistory { timeline, switches })
    }

    /// The file's content, one line per switch, that [`TimelineHistory::parse`] and the server read.
    #[must_use]
    pub fn render(&self) -> Vec<u8> {
        let lines = self.switches.iter().map(|switch| {
            // A reason never breaks its line: the next line would be read as a switch.
            let reason = switch.reason.replace(['\n', '\r'], " ");
            format!("{}\t{}\t{reason}\n", switch.parent, switch.switch_lsn)
        });
        lines.collect::<String>().into_bytes()
    }

    /// The name of a timeline's history file: `00000002.history`.
    #[must_use]
    pub fn file_name(timeline: TimelineId) -> String {
        format!("{:08X}.history", timeline.get())
    }

    /// The timeline a history file's name speaks of; eight upper-case digits, as the server writes.
    #[must_use]
    pub fn parse_file_name(name: &str) -> Option<TimelineId> {
        let digits = name.strip_suffix(".history")?;
        if digits.len() != 8 || digits.bytes().any(|byte| byte.is_ascii_lowercase()) {
            return None;
        }
        TimelineId::new(crate::text::hex32(digits)?)
    }

    /// Which timeline of the ancestry wrote the byte at `lsn`.
    #[must_use]
    pub fn timeline_at(&self, lsn: Lsn) -> TimelineId {
        self.switches
            .iter()
            .find(|switch| lsn < switch.switch_lsn)
            .map_or(self.timeline, |switch| switch.parent)
    }

    /// Whether `timeline` is the own timeline or one it descends from.
    #[must_use]
    pub fn is_ancestor(&self, timeline: TimelineId) -> bool {
        timeline == self.timeline || self.end_of(timeline).is_some()
    }

    /// Where `timeline` was left, exclusive; `None` for the own timeline and for strangers.
    #[must_use]
    pub fn end_of(&self, timeline: TimelineId) -> Option<Lsn> {
        self.switches
            .iter()
            .find(|switch| switch.parent == timeline)
            .map(|switch| switch.switch_lsn)
    }

    /// Where `timeline` begins; `None` for the first of the ancestry and for strangers.
    #[must_use]
    pub fn begin_of(&self, timeline: TimelineId) -> Option<Lsn> {
        let position = if timeline == self.timeline {
            self.switches.len()
        } else {
            self.switches.iter().position(|switch| switch.parent == timeline)?
        };
        self.switches.get(position.checked_sub(1)?).map(|switch| switch.switch_lsn)
    }
}

/// Splits at the first run of blanks.
fn first_word(text: &str) -> (&str, &str) {
    text.split_once(char::is_whitespace)
        .map_or((text, ""), |(word, rest)| (word, rest.trim_start()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn id(number: u32) -> TimelineId {
        TimelineId::new(number).unwrap()
    }

    const FILE: &[u8] = b"# by hand\n1\t0/3000148\tno recovery target specified\n\n2\t0/5000028\tbefore 2024-01-01 00:00:00+00\n";

    #[test]
    fn reads_a_servers_file() {
        let history = TimelineHistory::parse(id(3), FILE).unwrap();
        assert_eq!(history.switches.len(), 2);
        assert_eq!(history.switches[0].reason, "no recovery target specified");
        assert_eq!(history.timeline_at(Lsn(0x300_0147)), id(1));
        assert_eq!(history.timeline_at(Lsn(0x300_0148)), id(2));
        assert_eq!(history.timeline_at(Lsn(0x500_0028)), id(3));
        assert_eq!(history.end_of(id(1)), Some(Lsn(0x300_0148)));
        assert_eq!(history.end_of(id(3)), None);
        assert_eq!(history.begin_of(id(1)), None);
        assert_eq!(history.begin_of(id(2)), Some(Lsn(0x300_0148)));
        assert_eq!(history.begin_of(id(3)), Some(Lsn(0x500_0028)));
        assert_eq!(history.begin_of(id(9)), None);
        assert!(history.is_ancestor(id(3)) && history.is_ancestor(id(1)));
        assert!(!history.is_ancestor(id(4)));
        let root = TimelineHistory::root(id(1));
        assert_eq!(root.timeline_at(Lsn(7)), id(1));
        assert_eq!(root.begin_of(id(1)), None);
    }

    #[test]
    fn refuses_what_the_server_refuses() {
        let error = |text: &[u8]| TimelineHistory::parse(id(3), text).unwrap_err();
        assert_eq!(error(b"1\n"), TimelineHistoryError::Syntax { timeline: id(3), line: 1 });
        assert_eq!(error(b"\nx 0/1\n"), TimelineHistoryError::Syntax { timeline: id(3), line: 2 });
        assert_eq!(error(b"0 0/1\n"), TimelineHistoryError::Syntax { timeline: id(3), line: 1 });
        let order =
            |line, found| TimelineHistoryError::Order { timeline: id(3), line, found: id(found) };
        assert_eq!(error(b"2 0/1\n1 0/2\n"), order(2, 1));
        assert_eq!(error(b"1 0/1\n1 0/2\n"), order(2, 1));
        assert_eq!(error(b"3 0/1\n"), order(1, 3));
        assert!(matches!(
            error(b"1 0/9\n2 0/2\n"),
            TimelineHistoryError::Backwards { line: 2, .. }
        ));
    }

    #[test]
    fn names_files() {
        assert_eq!(TimelineHistory::file_name(id(0x1F)), "0000001F.history");
        assert_eq!(TimelineHistory::parse_file_name("0000001F.history"), Some(id(0x1F)));
        for name in [
            "0000001f.history",
            "00000000.history",
            "1F.history",
            "0000001F",
            "0000001F.history.x",
            "+000001F.history",
        ] {
            assert_eq!(TimelineHistory::parse_file_name(name), None, "{name}");
        }
    }

    #[test]
    fn ids_are_decimal_and_never_zero() {
        assert_eq!("7".parse(), Ok(id(7)));
        assert_eq!(TimelineId::FIRST, id(1));
        for text in ["0", "", "-1", "+1", "0x1", "4294967296", "1 "] {
            assert!(text.parse::<TimelineId>().is_err(), "{text}");
        }
        assert_eq!(serde_json::to_string(&id(7)).unwrap(), "7");
        assert!(serde_json::from_str::<TimelineId>("0").is_err());
    }

    fn histories() -> impl Strategy<Value = TimelineHistory> {
        proptest::collection::vec((1u32..1000, 0u64..1 << 40, "[ -~]{0,40}"), 0..12).prop_map(
            |steps| {
                let (mut number, mut lsn, mut switches) = (0, 0, Vec::new());
                for (step, distance, reason) in steps {
                    number += step;
                    lsn += distance;
                    switches.push(TimelineSwitch {
                        parent: id(number),
                        switch_lsn: Lsn(lsn),
                        reason: reason.trim().to_owned(),
                    });
                }
                TimelineHistory { timeline: id(number + 1), switches }
            },
        )
    }

    proptest! {
        #[test]
        fn rendered_histories_read_back(history in histories()) {
            let rendered = history.render();
            prop_assert_eq!(TimelineHistory::parse(history.timeline, &rendered).unwrap(), history.clone());
            let json = serde_json::to_string(&history).unwrap();
            prop_assert_eq!(serde_json::from_str::<TimelineHistory>(&json).unwrap(), history);
        }

        #[test]
        fn random_bytes_never_panic(bytes: Vec<u8>, number in 1u32..) {
            let _ = TimelineHistory::parse(id(number), &bytes);
        }

        #[test]
        fn file_names_round_trip(number in 1u32..) {
            let name = TimelineHistory::file_name(id(number));
            prop_assert_eq!(TimelineHistory::parse_file_name(&name), Some(id(number)));
        }
    }
}
