//! The way from the server: how fast it is, and whether the server is to compress what it sends.
//!
//! Compressing costs the server a core while the backup runs, and gives at most some hundred MB of files a second.
//! On a fast network that slows a backup down. Where the network is the limit, a third or less has to pass it.

use std::time::{Duration, Instant};

use holdfast_wire::{Connection, WireError};
use serde::{Deserialize, Serialize};

use crate::error::{EngineError, Result};
use crate::jobs::Reporter;
use crate::size;

/// From so many bytes a second on nothing is gained by compressing.
const FAST: u64 = 100 << 20;
/// The fastest level: the server has other work.
const LEVEL: u8 = 1;

/// Rows to measure with, and how long they take where the network is slow without doubt. What passes sooner is
/// measured again, with more: 256 KiB, then twice 4 MiB.
const ROUNDS: [(u32, Duration); 3] =
    [(4, Duration::from_millis(40)), (64, Duration::from_millis(400)), (64, Duration::ZERO)];
/// Bytes of a row that is measured with.
const ROW_BYTES: u32 = 64 << 10;

/// Whether the server compresses what it sends during a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ts_rs::TS)]
#[serde(rename_all = "snake_case")]
pub enum WireCompression {
    /// Where the network is found to be slow, and the server can.
    #[default]
    Auto,
    /// Never.
    None,
    /// Always, with zstd; refused where the server cannot.
    Zstd,
}

/// Where a backup had the files from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The server sent them.
    Server,
    /// They were read beside it.
    Files,
}

/// How the files of a backup came here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
pub struct Transfer {
    /// Where from.
    pub from: Source,
    /// Whether the server compressed it.
    pub zstd: bool,
    /// Bytes a second that were measured before; null when nothing depended on it.
    #[ts(type = "number | null")]
    pub link_bytes_per_second: Option<u64>,
    /// Bytes that were received or read.
    #[ts(type = "number")]
    pub bytes: u64,
}

impl Transfer {
    /// Of files that were read beside the server.
    pub(super) fn of_files(bytes: u64) -> Self {
        Self { from: Source::Files, zstd: false, link_bytes_per_second: None, bytes }
    }

    /// Decides how a backup is to be sent; nothing has been received yet.
    ///
    /// # Errors
    /// Refused when compression is wanted of a server that knows none.
    pub(super) async fn choose(
        wanted: WireCompression,
        sql: &mut Connection,
        reporter: &Reporter,
    ) -> Result<Self> {
        let plain =
            Self { from: Source::Server, zstd: false, link_bytes_per_second: None, bytes: 0 };
        let able = sql.facts().version.traits().is_some_and(|traits| traits.server_compression);
        match wanted {
            WireCompression::None => Ok(plain),
            WireCompression::Zstd if !able => Err(unavailable()),
            WireCompression::Zstd => Ok(Self { zstd: true, ..plain }),
            WireCompression::Auto if !able => Ok(plain),
            WireCompression::Auto => {
                let speed = measure(sql).await?;
                let zstd = speed < FAST;
                if zstd {
                    reporter.log(format!(
                        "{} a second come over the network: the server compresses what it sends",
                        size::bytes(speed)
                    ));
                }
                Ok(Self { zstd, link_bytes_per_second: Some(speed), ..plain })
            }
        }
    }

    /// The level that the server is asked for.
    pub(super) fn zstd_level(self) -> Option<u8> {
        self.zstd.then_some(LEVEL)
    }

    /// What is done when the server has refused to compress.
    ///
    /// # Errors
    /// Refused when it was to compress in any case; `error` when it refused something else.
    pub(super) fn without(
        self,
        wanted: WireCompression,
        error: EngineError,
        reporter: &Reporter,
    ) -> Result<Self> {
        if !self.zstd || !is_refusal(&error) {
            return Err(error);
        }
        if wanted == WireCompression::Zstd {
            return Err(unavailable());
        }
        reporter.log("the server was built without zstd: it sends its files as they are");
        Ok(Self { zstd: false, ..self })
    }
}

/// Whether a server says that it was built without zstd: it finds the command malformed (`basebackup.c` with
/// `parse_compress_specification`), or lacks the feature (`basebackup_zstd.c`). Its words may be in any language.
fn is_refusal(error: &EngineError) -> bool {
    let EngineError::Wire(WireError::Server(server)) = error else { return false };
    ["42601", "0A000"].contains(&server.sqlstate.as_str())
}

fn unavailable() -> EngineError {
    EngineError::refused(
        "wire_compression_unavailable",
        "this server cannot compress what it sends",
        "It takes PostgreSQL 15 or later, built with zstd. Leave --wire-compression out: the server then sends its \
         files as they are.",
    )
}

/// Bytes a second that come over this connection.
async fn measure(sql: &mut Connection) -> Result<u64> {
    let turn = timed(sql, 0).await?;
    let mut best = 0;
    for (rows, enough) in ROUNDS {
        let took = timed(sql, rows).await?.saturating_sub(turn).max(Duration::from_micros(1));
        let speed = f64::from(rows * ROW_BYTES) / took.as_secs_f64();
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a positive number below 2^53"
        )]
        let speed = speed as u64;
        // What else the machines were doing makes it slower, nothing makes it faster.
        best = best.max(speed);
        if speed >= FAST || took > enough {
            break;
        }
    }
    Ok(best)
}

/// How long so many rows take.
async fn timed(sql: &mut Connection, rows: u32) -> Result<Duration> {
    let query = format!(
        "SELECT pg_catalog.repeat('x', {ROW_BYTES}) FROM pg_catalog.generate_series(1, {rows})"
    );
    let began = Instant::now();
    sql.catalog_rows(&query).await?;
    Ok(began.elapsed())
}

#[cfg(test)]
mod tests {
    use holdfast_wire::ServerError;

    use super::*;

    fn refused(sqlstate: &str) -> EngineError {
        let server = ServerError {
            sqlstate: sqlstate.to_owned(),
            message: "diese Installation kann kein zstd".to_owned(),
            ..ServerError::default()
        };
        EngineError::Wire(WireError::from(server))
    }

    #[test]
    fn only_a_server_without_zstd_is_asked_again() {
        for without in ["42601", "0A000"] {
            assert!(is_refusal(&refused(without)), "{without}");
        }
        // Too many walsenders, a checkpoint that failed.
        for other in ["53300", "XX000"] {
            assert!(!is_refusal(&refused(other)), "{other}");
        }
        assert!(!is_refusal(&EngineError::Cancelled));
    }
}
