//! Why something lives or dies.

use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

use super::policy::Every;

/// Why a snapshot or a stretch of WAL is kept, or is not.
///
/// In JSON: `code`, `of` (the override, hold, snapshot or cluster that it is about, or null) and `text`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// It is the newest way back there is, or what leads from it to now.
    Newest,
    /// A legal hold; its id and its reason.
    Hold(String, String),
    /// Every point of a window needs it; the override that has the window, if it is one's.
    Window(Option<String>),
    /// A rule keeps one snapshot of each hour, day and so on; the override that has the rule, if it is one's.
    Rule(Every, Option<String>),
    /// The snapshot of this id is not consistent without this WAL.
    Snapshot(String),
    /// A snapshot of another cluster with the same system identifier may need it.
    OtherCluster(String),
    /// The ancestry of its timeline is not archived: what needs it is not known.
    AncestryMissing,
    /// It is young, and what is being written now may need it.
    Young,
    /// There is no snapshot that can be restored: nothing is taken away.
    NoWayBack,
    /// No rule, window or hold covers it any more.
    Expired,
    /// No snapshot leads to it.
    Unreachable,
    /// WAL that it needs itself is missing: it cannot be restored.
    Broken,
    /// Only rules kept it, and the size cap is exceeded.
    SizeCap,
}

impl Reason {
    /// Stable word for it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Newest => "newest",
            Self::Hold(..) => "hold",
            Self::Window(_) => "window",
            Self::Rule(every, _) => match every {
                Every::Hour => "hourly",
                Every::Day => "daily",
                Every::Week => "weekly",
                Every::Month => "monthly",
                Every::Year => "yearly",
            },
            Self::Snapshot(_) => "snapshot",
            Self::OtherCluster(_) => "other_cluster",
            Self::AncestryMissing => "ancestry_missing",
            Self::Young => "young",
            Self::NoWayBack => "no_way_back",
            Self::Expired => "expired",
            Self::Unreachable => "unreachable",
            Self::Broken => "broken",
            Self::SizeCap => "size_cap",
        }
    }

    /// The override, hold, snapshot or cluster that it is about.
    pub fn of(&self) -> Option<&str> {
        match self {
            Self::Hold(of, _) | Self::Snapshot(of) | Self::OtherCluster(of) => Some(of),
            Self::Window(of) | Self::Rule(_, of) => of.as_deref(),
            _ => None,
        }
    }

    /// Code and what it is about in one word, as lists of points have it: `daily`, `hourly:June`.
    pub fn tag(&self) -> String {
        match self.of() {
            Some(of) => format!("{}:{of}", self.code()),
            None => self.code().to_owned(),
        }
    }

    /// The reason as a sentence.
    pub fn text(&self) -> String {
        let of = |name: &Option<String>| match name {
            Some(name) => format!(" ({name})"),
            None => String::new(),
        };
        match self {
            Self::Newest => "the newest way back, up to now".to_owned(),
            Self::Hold(_, why) => format!("held: {why}"),
            Self::Window(name) => format!("any point of the window{}", of(name)),
            Self::Rule(every, name) => {
                let every = match every {
                    Every::Hour => "hour",
                    Every::Day => "day",
                    Every::Week => "week",
                    Every::Month => "month",
                    Every::Year => "year",
                };
                format!("the newest of its {every}{}", of(name))
            }
            Self::Snapshot(id) => format!("snapshot {id} is not consistent without it"),
            Self::OtherCluster(name) => {
                format!("{name} has the same system identifier and may need it")
            }
            Self::AncestryMissing => "the ancestry of its timeline is not archived".to_owned(),
            Self::Young => "too young to say that nothing needs it".to_owned(),
            Self::NoWayBack => "no snapshot can be restored: nothing is taken away".to_owned(),
            Self::Expired => "no rule, window or hold covers it any more".to_owned(),
            Self::Unreachable => "no snapshot leads to it".to_owned(),
            Self::Broken => "WAL that it needs itself is missing: it cannot be restored".to_owned(),
            Self::SizeCap => "only rules kept it, and the size cap is exceeded".to_owned(),
        }
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Reason", 3)?;
        fields.serialize_field("code", self.code())?;
        fields.serialize_field("of", &self.of())?;
        fields.serialize_field("text", &self.text())?;
        fields.end()
    }
}
