//! Feeds WAL to a replaying server.
//!
//! Segments are fetched ahead of replay into a spool; PostgreSQL's `restore_command` is a small
//! script that only copies a ready file. Its exit codes: 0 served; 1 for what is proven not to be
//! part of the plan; 200 for everything else, so that PostgreSQL stops rather than promote early.

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holdfast_postgres::{SegmentNo, TimelineHistory, WalFileName, WalPatch, WalSegmentSize};
use holdfast_repository::{ObjectKind, Repository};

use super::plan::Prepared;
use super::tablespace;
use crate::archive::{ArchiveView, StoredSegment, history_prefix};
use crate::error::{EngineError, Result};
use crate::jobs::{JobContext, Patience};
use crate::server::identity::RunAs;
use crate::server::private::blocking;

/// Segments kept ready ahead of replay.
const AHEAD: usize = 8;
/// Served segments kept for a server that asks again.
const BEHIND: usize = 4;

/// The spool of one restore.
#[derive(Debug, Clone)]
pub(super) struct Spool {
    directory: PathBuf,
    run_as: RunAs,
}

impl Spool {
    /// Makes the spool: the names that are part of the plan, the script that serves them.
    pub(super) fn create(
        directory: &Path,
        names: &[String],
        histories: &[(String, Bytes)],
        run_as: &RunAs,
    ) -> Result<Self> {
        let spool = Self { directory: directory.to_path_buf(), run_as: run_as.clone() };
        // What an earlier replay of the same restore left.
        match std::fs::remove_dir_all(directory) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(EngineError::file("empty", directory)(e));
            }
            _ => {}
        }
        for part in ["ready", "taken"] {
            let path = directory.join(part);
            std::fs::create_dir_all(&path).map_err(EngineError::file("create", &path))?;
        }
        let mut list: Vec<&str> = names.iter().map(String::as_str).collect();
        list.extend(histories.iter().map(|(n, _)| n.as_str()));
        let path = directory.join("names");
        std::fs::write(&path, format!("{}\n", list.join("\n")))
            .map_err(EngineError::file("write", &path))?;
        let path = directory.join("serve");
        std::fs::write(&path, script(directory)).map_err(EngineError::file("write", &path))?;
        for (name, content) in histories {
            spool.place(name, content)?;
        }
        run_as.own_tree(directory)?;
        Ok(spool)
    }

    /// The `restore_command` that PostgreSQL is given.
    pub(super) fn restore_command(&self) -> String {
        let script =
            shell_quote(&self.directory.join("serve").to_string_lossy()).replace('%', "%%");
        format!("/bin/sh {script} '%f' '%p'")
    }

    fn place(&self, name: &str, content: &[u8]) -> Result<()> {
        let part = self.directory.join(format!("{name}.part"));
        std::fs::write(&part, content).map_err(EngineError::file("write", &part))?;
        self.run_as.own(&part)?;
        let ready = self.directory.join("ready").join(name);
        std::fs::rename(&part, &ready).map_err(EngineError::file("place", &ready))
    }

    /// What PostgreSQL asked for last.
    fn asked(&self) -> Option<String> {
        let name = std::fs::read_to_string(self.directory.join("asked")).ok()?;
        Some(name.trim_end().to_owned())
    }

    fn forget(&self, name: &str) {
        let _ = std::fs::remove_file(self.directory.join("ready").join(name));
    }

    /// Tells the script whether its waiting counts: a restore that is paused may wait for ever.
    fn pause(&self, paused: bool) {
        let mark = self.directory.join("paused");
        let _ = match (paused, mark.exists()) {
            (true, false) => std::fs::write(mark, b""),
            (false, true) => std::fs::remove_file(mark),
            _ => Ok(()),
        };
    }

    /// Tells the script that nothing more comes: it then ends with 200.
    pub(super) fn fail(&self) {
        let _ = std::fs::write(self.directory.join("failed"), b"");
    }

    /// How many segments PostgreSQL has taken.
    pub(super) fn taken(&self) -> u64 {
        std::fs::read_dir(self.directory.join("taken")).map_or(0, |d| d.flatten().count() as u64)
    }
}

fn shell_quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// The script: $1 is the file asked for, $2 where it goes.
fn script(directory: &Path) -> String {
    let spool = shell_quote(&directory.to_string_lossy());
    format!(
        r#"#!/bin/sh
# Serves WAL of one restore's plan to PostgreSQL.
# 0: served. 1: not part of the plan, which is proof that it does not exist for this restore. 200: failure.
spool={spool}
grep -qxF -- "$1" "$spool/names"
case $? in
  0) ;;
  1) exit 1 ;;
  *) exit 200 ;;
esac
printf '%s\n' "$1" > "$spool/asked.part" && mv -f "$spool/asked.part" "$spool/asked" || exit 200
waited=0
while [ ! -f "$spool/ready/$1" ]; do
  [ -f "$spool/failed" ] && exit 200
  [ -f "$spool/paused" ] || waited=$((waited + 1))
  [ "$waited" -gt 90000 ] && exit 200
  sleep 0.02 || exit 200
done
cp -- "$spool/ready/$1" "$2" || exit 200
: > "$spool/taken/$1" || exit 200
exit 0
"#
    )
}

/// Fetches the plan's WAL, from what PostgreSQL asked for last on and a few segments ahead of it, until
/// it is stopped. PostgreSQL does not ask in order only: it reads the checkpoint's record before it goes
/// back to where replay begins, and a server that is started again begins at a later segment.
///
/// # Errors
/// What a read fails with, after the script was told.
pub(super) async fn feed(
    repository: Repository,
    segments: Vec<(WalFileName, StoredSegment)>,
    view: Arc<ArchiveView>,
    spool: Spool,
    first: SegmentNo,
    job: JobContext,
    patches: Vec<WalPatch>,
) -> EngineError {
    let error = match feed_all(&repository, &segments, &view, &spool, first, &job, &patches).await {
        Ok(never) => match never {},
        Err(error) => error,
    };
    spool.fail();
    error
}

async fn feed_all(
    repository: &Repository,
    segments: &[(WalFileName, StoredSegment)],
    view: &ArchiveView,
    spool: &Spool,
    first: SegmentNo,
    job: &JobContext,
    patches: &[WalPatch],
) -> Result<Infallible> {
    let size = view.segment_size;
    let names: Vec<_> = segments.iter().map(|(f, _)| f.render(size)).collect();
    let numbers: HashMap<&str, usize> =
        names.iter().enumerate().map(|(n, name)| (name.as_str(), n)).collect();
    let mut at = segments.iter().position(|(f, _)| f.segment >= first).unwrap_or_default();
    let mut ready = BTreeSet::new();
    let mut patience = Patience::new();
    loop {
        spool.pause(job.is_paused());
        if job.is_paused() {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        }
        if let Some(n) = spool.asked().and_then(|name| numbers.get(name.as_str()).copied()) {
            at = n;
        }
        let kept = at.saturating_sub(BEHIND)..at.saturating_add(AHEAD);
        ready.retain(|n| {
            let keep = kept.contains(n);
            if !keep {
                spool.forget(&names[*n]);
            }
            keep
        });
        let Some(n) = (at..kept.end.min(names.len())).find(|n| !ready.contains(n)) else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let (file, stored) = &segments[n];
        let content = match view.read_segment(repository, stored).await {
            Ok(content) => content,
            Err(error) => {
                patience.after(job, error).await?;
                continue;
            }
        };
        let mut content = whole(file.segment, &content, size)?;
        tablespace::apply(patches, size.start_of(file.segment), &mut content);
        let name = names[n].clone();
        let spool = spool.clone();
        blocking(move || spool.place(&name, &content)).await?;
        ready.insert(n);
    }
}

/// An unfinished segment is padded with zeros to full size: PostgreSQL takes no other.
fn whole(segment: SegmentNo, content: &[u8], size: WalSegmentSize) -> Result<Vec<u8>> {
    let full = usize::try_from(size.bytes()).unwrap_or(usize::MAX);
    if content.is_empty() || content.len() > full {
        return Err(EngineError::integrity(
            "wal_length_differs",
            format!(
                "the archived WAL segment at {} has {} bytes",
                size.start_of(segment),
                content.len()
            ),
            "Points after it cannot be restored from this copy of the repository.",
        ));
    }
    let mut bytes = content.to_vec();
    bytes.resize(full, 0);
    Ok(bytes)
}

/// The stored segments of a plan.
pub(super) fn stored_segments(prepared: &Prepared) -> Result<Vec<(WalFileName, StoredSegment)>> {
    prepared
        .wal
        .iter()
        .map(|file| {
            prepared
                .view
                .segment(file.timeline, file.segment)
                .map(|s| (*file, s.clone()))
                .ok_or_else(|| {
                    EngineError::Fault("a planned segment is not in the view".to_owned())
                })
        })
        .collect()
}

/// Every archived history file with its content. A server that is promoted takes the first number
/// that has none: those of other branches must be seen, or its timeline would be taken for theirs.
pub(super) async fn history_files(
    repository: &Repository,
    view: &ArchiveView,
) -> Result<Vec<(String, bytes::Bytes)>> {
    let mut files = Vec::new();
    for timeline in view.histories.keys() {
        let name = TimelineHistory::file_name(*timeline);
        let path = format!("{}{name}", history_prefix(view.system));
        let (content, _): (bytes::Bytes, serde_json::Value) =
            repository.get_sealed(&path, ObjectKind::TimelineHistory).await?;
        files.push((name, content));
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::process::Command;

    use super::*;

    #[cfg(unix)]
    #[test]
    fn the_script_tells_absent_from_failed() {
        let dir = tempfile::tempdir().unwrap();
        let directory = dir.path().join("it's a spool");
        std::fs::create_dir(&directory).unwrap();
        let history = ("00000002.history".to_owned(), Bytes::from_static(b"1\t0/3000000\tx\n"));
        let spool = Spool::create(
            &directory,
            &["000000010000000000000003".to_owned()],
            &[history],
            &RunAs::Myself,
        )
        .unwrap();
        let ask = |name: &str| {
            let status = Command::new("/bin/sh")
                .arg(directory.join("serve"))
                .arg(name)
                .arg(dir.path().join("out"))
                .status()
                .unwrap();
            status.code().unwrap()
        };
        assert_eq!(ask("00000002.history"), 0);
        assert_eq!(ask("00000003.history"), 1);
        assert_eq!(ask("000000010000000000000004"), 1);
        spool.fail();
        assert_eq!(ask("000000010000000000000003"), 200);
        spool.place("000000010000000000000003", b"wal").unwrap();
        assert_eq!(ask("000000010000000000000003"), 0);
        assert_eq!(std::fs::read(dir.path().join("out")).unwrap(), b"wal");
        std::fs::remove_file(directory.join("names")).unwrap();
        assert_eq!(ask("anything"), 200);
    }

    #[test]
    fn an_unfinished_segment_is_padded_and_an_empty_one_refused() {
        let size = WalSegmentSize::new(1 << 20).unwrap();
        assert_eq!(whole(SegmentNo(1), b"abc", size).unwrap().len(), 1 << 20);
        assert!(whole(SegmentNo(1), b"", size).is_err());
    }
}
