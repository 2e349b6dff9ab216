//! Which columns of a table at the point and of the live one belong together.

use super::catalog::{Column, Table};
use crate::error::{EngineError, Result};

/// The columns of one table in two databases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pairing {
    /// In both, as the live table has them.
    pub(super) shared: Vec<Column>,
    /// Dropped since, or worked out by the live table itself: what they held is not written.
    pub(super) left_out: Vec<String>,
    /// Of another type since, as `name: then, now`; every value fits.
    pub(super) widened: Vec<String>,
    /// Added since, without a default, and never null: a row that comes back has nothing for them.
    pub(super) unfilled: Vec<String>,
}

/// Pairs the columns by name.
///
/// # Errors
/// Refused when a column is of a type now that may not hold all values it had.
pub(super) fn pair(then: &Table, now: &Table) -> Result<Pairing> {
    let mut pairing = Pairing {
        shared: Vec::new(),
        left_out: Vec::new(),
        widened: Vec::new(),
        unfilled: Vec::new(),
    };
    for column in then.stored() {
        let Some(live) = now.column(&column.name).filter(|c| !c.generated) else {
            pairing.left_out.push(column.name.clone());
            continue;
        };
        if live.type_name != column.type_name {
            if !holds_all(&column.type_name, &live.type_name) {
                return Err(EngineError::refused(
                    "column_type_changed",
                    format!(
                        "{}.{} was {} at that point and is {} now: not every value fits",
                        now.sql, column.sql, column.type_name, live.type_name
                    ),
                    "Rescue into a file (--into rows.sql), change what has to be changed and load it by hand.",
                ));
            }
            pairing
                .widened
                .push(format!("{}: {}, {}", column.name, column.type_name, live.type_name));
        }
        pairing.shared.push(live.clone());
    }
    pairing.unfilled = now
        .stored()
        .filter(|c| c.not_null && !c.default && then.stored().all(|t| t.name != c.name))
        .map(|c| c.name.clone())
        .collect();
    Ok(pairing)
}

/// Types whose every value another type holds, whatever its limits.
const WIDER: &[(&str, &[&str])] = &[
    ("smallint", &["integer", "bigint", "numeric"]),
    ("integer", &["bigint", "numeric"]),
    ("bigint", &["numeric"]),
    ("real", &["double precision"]),
    ("json", &["jsonb"]),
    ("date", &["timestamp without time zone"]),
];

/// Whether every value of one type is one of the other, read from its text.
fn holds_all(then: &str, now: &str) -> bool {
    let (old, old_limits) = split(then);
    let (new, new_limits) = split(now);
    match (old, new) {
        (_, "text") => true,
        ("character varying" | "text", "character varying") if new_limits.is_none() => true,
        // Without a limit of its own only another type without one is as wide.
        ("character varying", "character varying") | ("bit varying", "bit varying") => {
            match (old_limits, new_limits) {
                (_, None) => true,
                (Some((old, _)), Some((new, _))) => new >= old,
                (None, Some(_)) => false,
            }
        }
        ("numeric", "numeric") => match (old_limits, new_limits) {
            (_, None) => true,
            (Some((digits, scale)), Some((new_digits, new_scale))) => {
                new_scale >= scale && new_digits - new_scale >= digits - scale
            }
            (None, Some(_)) => false,
        },
        _ => {
            new_limits.is_none()
                && WIDER.iter().any(|(narrow, wide)| *narrow == old && wide.contains(&new))
        }
    }
}

/// A type's name and its limits: `numeric(10,2)`.
fn split(type_name: &str) -> (&str, Option<(i64, i64)>) {
    let Some((name, rest)) = type_name.split_once('(') else { return (type_name, None) };
    let Some((limits, "")) = rest.split_once(')') else { return (type_name, None) };
    let mut numbers = limits.split(',').map(|n| n.trim().parse::<i64>());
    match (numbers.next(), numbers.next()) {
        (Some(Ok(first)), None) => (name.trim_end(), Some((first, 0))),
        (Some(Ok(first)), Some(Ok(second))) => (name.trim_end(), Some((first, second))),
        _ => (type_name, None),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_types_that_hold_every_value_are_taken() {
        for (then, now) in [
            ("integer", "bigint"),
            ("smallint", "numeric"),
            ("character varying(10)", "character varying(20)"),
            ("character varying(10)", "text"),
            ("text", "character varying"),
            ("numeric(10,2)", "numeric(12,4)"),
            ("numeric(10,2)", "numeric"),
            ("uuid", "text"),
        ] {
            assert!(holds_all(then, now), "{then} to {now}");
        }
        for (then, now) in [
            ("bigint", "integer"),
            ("text", "integer"),
            ("character varying", "character varying(20)"),
            ("character varying(20)", "character varying(10)"),
            ("numeric(10,2)", "numeric(10,4)"),
            ("numeric", "numeric(10,4)"),
            ("timestamp without time zone", "date"),
            ("timestamp with time zone", "timestamp without time zone"),
            ("integer", "numeric(3,0)"),
            ("jsonb", "json"),
        ] {
            assert!(!holds_all(then, now), "{then} to {now}");
        }
    }
}
