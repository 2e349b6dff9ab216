//! WAL is written in its order, so that a copy has no hole in it at any moment.
//!
//! Objects are read, authenticated and read back side by side, but a segment is written only when those before
//! it have been: a copy that ends in between has WAL up to some point, never a segment without the one before.
//! Only one that is not read back as it was written, and taken back, leaves a hole until the next copy.

use tokio::sync::watch;

use super::stage::WAL;
use crate::object::ObjectEntry;
use crate::verify::in_folder;

/// The order in which objects are written, by their numbers.
#[derive(Debug)]
pub(super) struct Order(watch::Sender<usize>);

impl Order {
    /// Puts WAL behind everything else and sorts it; what comes before it may be written at any time.
    pub(super) fn of(entries: &mut [ObjectEntry]) -> Self {
        entries.sort_by(|a, b| position(&a.path).cmp(&position(&b.path)));
        let free = entries.partition_point(|entry| position(&entry.path).is_none());
        Self(watch::Sender::new(free))
    }

    /// The turn of an object, by its number. They have to be begun in this order, and each has to pass in the
    /// end.
    pub(super) fn turn(&self, number: usize) -> Turn<'_> {
        Turn { order: self, number }
    }
}

/// When an object may be written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn<'a> {
    order: &'a Order,
    number: usize,
}

impl Turn<'_> {
    /// Waits until everything before it has passed.
    pub(super) async fn come(&self) {
        // The sender is borrowed here: it is not gone.
        let _ = self.order.0.subscribe().wait_for(|next| *next >= self.number).await;
    }

    /// Lets the next one write; once more is nothing.
    pub(super) async fn pass(&self) {
        self.come().await;
        self.order.0.send_if_modified(|next| {
            let mine = *next == self.number;
            *next += usize::from(mine);
            mine
        });
    }
}

/// Where WAL is below `wal` or `slices`, so that the parts of a segment come after the segments before it; none
/// for anything else.
fn position(path: &str) -> Option<&str> {
    WAL.iter().find(|folder| in_folder(path, folder)).map(|folder| &path[folder.len()..])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Mutex;

    use futures_util::StreamExt;

    use super::*;

    #[tokio::test]
    async fn wal_is_written_in_its_order_and_the_rest_as_it_comes() {
        let paths = [
            "slices/7/00000001/000000010000000000000003/0-1",
            "wal/7/00000001/000000010000000000000002",
            "packs/aa/aa",
            "wal/7/00000001/000000010000000000000001",
            "history/7/00000002.history",
        ];
        let entry = |path: &str| ObjectEntry {
            path: path.to_owned(),
            size: 1,
            modified: chrono::DateTime::UNIX_EPOCH,
        };
        let mut entries = paths.map(entry);
        let order = Order::of(&mut entries);
        let sorted: Vec<_> = entries.iter().map(|entry| entry.path.as_str()).collect();
        assert_eq!(sorted, [paths[2], paths[4], paths[3], paths[1], paths[0]]);

        let written = Mutex::new(Vec::new());
        let write = |number: usize| written.lock().unwrap().push(number);
        let numbers = futures_util::stream::iter(0..entries.len());
        numbers
            .map(async |number| {
                let turn = order.turn(number);
                // The later, the sooner it is ready.
                for _ in number..entries.len() {
                    tokio::task::yield_now().await;
                }
                if number == 3 {
                    // Not written after all.
                    return turn.pass().await;
                }
                turn.come().await;
                write(number);
                turn.pass().await;
                turn.pass().await;
            })
            .buffer_unordered(4)
            .collect::<()>()
            .await;
        let (wal, rest): (Vec<_>, Vec<_>) =
            written.into_inner().unwrap().into_iter().partition(|number| *number >= 2);
        assert_eq!((wal, rest.len()), (vec![2, 4], 2));
    }
}
