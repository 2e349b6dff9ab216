//! WAL is written first, and in its order, so that a copy has no hole in it at any moment.
//!
//! First, because it is what the newest points need, and because slices do not stay at the source. In its order:
//! objects are read, authenticated and read back side by side, but a segment is written only when those before it
//! have been. A copy that ends in between has WAL up to some point, not a segment without the one before. What is
//! held back because it is damaged, and what is taken back because it was not read back as it was written, leaves a
//! hole, which is told.

use tokio::sync::watch;

use super::stage::WAL;
use crate::object::ObjectEntry;
use crate::verify::in_folder;

/// The order in which objects are written, by their numbers.
#[derive(Debug)]
pub(super) struct Order {
    /// The number of what may be written next.
    next: watch::Sender<usize>,
    /// So many objects are WAL and have to wait for each other.
    wal: usize,
}

impl Order {
    /// Puts WAL before everything else and sorts it; what comes after it may be written at any time.
    pub(super) fn of(entries: &mut [ObjectEntry]) -> Self {
        let key = |path: &str| (position(path).is_none(), position(path).map(str::to_owned));
        entries.sort_by_cached_key(|entry| key(&entry.path));
        let wal = entries.partition_point(|entry| position(&entry.path).is_some());
        Self { next: watch::Sender::new(0), wal }
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
        if self.number < self.order.wal {
            // The sender is borrowed here: it is not gone.
            let _ = self.order.next.subscribe().wait_for(|next| *next >= self.number).await;
        }
    }

    /// Lets the next one write; once more is nothing.
    pub(super) async fn pass(&self) {
        self.come().await;
        self.order.next.send_if_modified(|next| {
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
        assert_eq!(sorted, [paths[3], paths[1], paths[0], paths[2], paths[4]]);

        let written = Mutex::new(Vec::new());
        let write = |number: usize| written.lock().unwrap().push(number);
        let numbers = futures_util::stream::iter(0..entries.len());
        let all = numbers
            .map(async |number| {
                let turn = order.turn(number);
                // The later, the sooner it is ready.
                for _ in number..entries.len() {
                    tokio::task::yield_now().await;
                }
                if number == 1 {
                    // Not written after all.
                    return turn.pass().await;
                }
                turn.come().await;
                write(number);
                turn.pass().await;
                turn.pass().await;
            })
            .buffer_unordered(4)
            .collect::<()>();
        tokio::time::timeout(std::time::Duration::from_secs(30), all).await.unwrap();
        let (wal, rest): (Vec<_>, Vec<_>) =
            written.into_inner().unwrap().into_iter().partition(|number| *number < 3);
        assert_eq!((wal, rest.len()), (vec![0, 2], 2));
    }
}
