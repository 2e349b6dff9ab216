//! In which order tables are written so that no foreign key is broken on the way.

use std::collections::BTreeSet;

use super::catalog::{ForeignKey, Table};
use crate::error::{EngineError, Result};

/// The order of writing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Order {
    /// Places of the tables, parents first.
    pub(super) tables: Vec<usize>,
    /// For each table the columns that are left empty at first and filled in at the end, because they
    /// close a circle.
    pub(super) later: Vec<BTreeSet<String>>,
}

/// Orders `tables` by the foreign keys between them. Keys that are checked at the end of the transaction
/// do not matter; a table that refers to itself does not either, since a statement is checked as a whole.
///
/// # Errors
/// Refused when tables refer to each other in a circle and no column in it may be null.
pub(super) fn order(tables: &[Table], keys: &[ForeignKey]) -> Result<Order> {
    let place = |oid: u32| tables.iter().position(|t| t.oid == oid);
    let mut edges: Vec<(usize, usize, &ForeignKey)> = keys
        .iter()
        .filter(|key| !key.deferrable && key.child != key.parent)
        .filter_map(|key| Some((place(key.child)?, place(key.parent)?, key)))
        .collect();
    let mut order = Order {
        tables: Vec::with_capacity(tables.len()),
        later: vec![BTreeSet::new(); tables.len()],
    };
    let mut left: BTreeSet<usize> = (0..tables.len()).collect();
    while !left.is_empty() {
        let free: Vec<_> = left
            .iter()
            .copied()
            .filter(|t| !edges.iter().any(|(child, parent, _)| child == t && left.contains(parent)))
            .collect();
        if !free.is_empty() {
            left.retain(|t| !free.contains(t));
            order.tables.extend(free);
            continue;
        }
        // Only what lies on a circle is worth breaking, not what merely hangs below one.
        let circle = on_a_circle(&left, &edges);
        let broken = edges.iter().position(|(child, parent, key)| {
            circle.contains(child)
                && circle.contains(parent)
                && !empty_columns(&tables[*child], key).is_empty()
        });
        let Some(broken) = broken else {
            let names: Vec<_> = circle.iter().map(|t| tables[*t].sql.as_str()).collect();
            return Err(EngineError::refused(
                "foreign_key_circle",
                format!(
                    "the tables {} refer to each other in a circle that no order of writing satisfies",
                    names.join(", ")
                ),
                "Make one of the foreign keys DEFERRABLE (ALTER TABLE … ALTER CONSTRAINT … DEFERRABLE), or rescue into a \
                 file and load it by hand.",
            ));
        };
        let (child, _, key) = edges.remove(broken);
        order.later[child].extend(empty_columns(&tables[child], key));
    }
    Ok(order)
}

/// The columns of a foreign key that may be null and are not the row's own key: one null is enough for
/// the key to be satisfied.
fn empty_columns(table: &Table, key: &ForeignKey) -> Vec<String> {
    key.child_columns
        .iter()
        .filter(|name| {
            !table.key.contains(name)
                && table.column(name).is_some_and(|c| !c.not_null && !c.generated)
        })
        .cloned()
        .collect()
}

/// Those of `left` from which one comes back to themselves.
fn on_a_circle(left: &BTreeSet<usize>, edges: &[(usize, usize, &ForeignKey)]) -> BTreeSet<usize> {
    let reached = |from: usize| {
        let mut seen = BTreeSet::new();
        let mut next = vec![from];
        while let Some(at) = next.pop() {
            for (child, parent, _) in edges {
                if *child == at && left.contains(parent) && seen.insert(*parent) {
                    next.push(*parent);
                }
            }
        }
        seen
    };
    left.iter().copied().filter(|t| reached(*t).contains(t)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::catalog::Column;
    use super::*;
    use proptest::prelude::*;

    fn table(oid: u32, nullable: bool) -> Table {
        let column = |name: &str, not_null| Column {
            name: name.to_owned(),
            sql: name.to_owned(),
            type_name: "integer".to_owned(),
            not_null,
            default: false,
            identity_always: false,
            generated: false,
        };
        Table {
            oid,
            sql: format!("public.t{oid}"),
            kind: "r".to_owned(),
            root: None,
            columns: vec![column("id", true), column("other", !nullable)],
            key: vec!["id".to_owned()],
            key_operators: vec!["OPERATOR(pg_catalog.=)".to_owned()],
            triggers: Vec::new(),
            unlogged: false,
        }
    }

    fn key(child: u32, parent: u32, deferrable: bool) -> ForeignKey {
        ForeignKey {
            name: format!("{child}_{parent}"),
            child,
            parent,
            child_columns: vec!["other".to_owned()],
            parent_columns: vec!["id".to_owned()],
            operators: vec!["=".to_owned()],
            deferrable,
        }
    }

    #[test]
    fn parents_come_first() {
        let tables = [table(1, false), table(2, false), table(3, false)];
        let keys = [key(1, 2, false), key(2, 3, false), key(3, 3, false)];
        assert_eq!(order(&tables, &keys).unwrap().tables, [2, 1, 0]);
    }

    #[test]
    fn a_circle_is_broken_where_a_column_may_be_empty() {
        let tables = [table(1, false), table(2, true), table(3, true)];
        // 3 hangs below the circle of 1 and 2.
        let keys = [key(3, 1, false), key(1, 2, false), key(2, 1, false)];
        let order = order(&tables, &keys).unwrap();
        assert_eq!(order.tables, [1, 0, 2]);
        assert_eq!(order.later[1], BTreeSet::from(["other".to_owned()]));
        assert!(order.later[0].is_empty() && order.later[2].is_empty());
    }

    #[test]
    fn a_circle_that_cannot_be_broken_is_refused() {
        let tables = [table(1, false), table(2, false)];
        let error = order(&tables, &[key(1, 2, false), key(2, 1, false)]).unwrap_err();
        assert_eq!(error.to_object().code, "foreign_key_circle");
        let deferred = [key(1, 2, false), key(2, 1, true)];
        assert_eq!(order(&tables, &deferred).unwrap().tables, [1, 0]);
    }

    proptest! {
        #[test]
        fn every_order_holds_every_key_that_is_not_left_for_later(
            pairs in proptest::collection::vec((0u32..7, 0u32..7, any::<bool>()), 0..20)
        ) {
            let tables: Vec<_> = (0..7).map(|oid| table(oid, true)).collect();
            let keys: Vec<_> = pairs.into_iter().map(|(c, p, d)| key(c, p, d)).collect();
            let order = order(&tables, &keys).unwrap();
            let at = |oid: u32| order.tables.iter().position(|t| tables[*t].oid == oid).unwrap();
            prop_assert_eq!(order.tables.len(), tables.len());
            for key in keys.iter().filter(|k| !k.deferrable && k.child != k.parent) {
                let later = !order.later[usize::try_from(key.child).unwrap()].is_empty();
                prop_assert!(later || at(key.parent) < at(key.child));
            }
        }
    }
}
