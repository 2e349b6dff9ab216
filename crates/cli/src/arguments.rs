//! What the command line looks like.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

mod repository;

pub(crate) use repository::{Keys, NewKeys, Repo, Writers};

use crate::bundle::BundleCommand;
use crate::replication::Replicate;
use crate::retention::{HoldCommand, PolicyCommand, Retention};
use crate::verify::Verify;

/// Back up a PostgreSQL cluster, archive its WAL, and restore it to any transaction.
#[derive(Debug, Parser)]
#[command(
    name = "holdfast",
    version,
    propagate_version = true,
    after_help = "Example:\n  holdfast demo --headless\n\nExit codes: 0 done, 1 internal fault, 2 usage, 3 refused (nothing was changed), 4 no such thing,\n5 integrity, 6 not permitted, 7 unreachable (worth a retry), 8 cancelled."
)]
pub(crate) struct Arguments {
    /// The home directory: catalog, jobs. Default: the platform's data directory.
    #[arg(long, global = true, env = "HOLDFAST_HOME", value_name = "DIR")]
    pub(crate) home: Option<PathBuf>,
    /// Print exactly one JSON document on standard output.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// How to show progress on standard error.
    #[arg(long, global = true, value_enum, default_value_t = Progress::Auto, value_name = "HOW")]
    pub(crate) progress: Progress,
    /// Read the repository's passphrase from this file (or set HOLDFAST_PASSPHRASE).
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Read the repository's recovery key from this file.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) recovery_key_file: Option<PathBuf>,
    /// Read your private key from this file.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) private_key_file: Option<PathBuf>,
    /// Open the repository for adding only, with the agent's key in this file. HOLDFAST_WRITER_KEY_FILE names it too.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) writer_key_file: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Progress {
    /// A line for people when standard error is a terminal.
    Auto,
    /// One JSON object a line.
    Json,
    /// None.
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Incremental {
    /// Where it is possible, otherwise a full backup; the result says why.
    Auto,
    /// A full backup.
    Never,
    /// Refused where it is not possible.
    Require,
}

impl From<Incremental> for holdfast_engine::backup::IncrementalMode {
    fn from(mode: Incremental) -> Self {
        match mode {
            Incremental::Auto => Self::Auto,
            Incremental::Never => Self::Never,
            Incremental::Require => Self::Require,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LocalFiles {
    /// Where the server is on this machine, and both the role and this account may.
    Auto,
    /// The server sends its files.
    Never,
    /// Refused where it is not possible.
    Require,
}

impl From<LocalFiles> for holdfast_engine::backup::LocalFiles {
    fn from(mode: LocalFiles) -> Self {
        match mode {
            LocalFiles::Auto => Self::Auto,
            LocalFiles::Never => Self::Never,
            LocalFiles::Require => Self::Require,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Compression {
    /// Where less than 100 MB a second come over the network.
    Auto,
    /// The server sends its files as they are.
    None,
    /// Always, with zstd.
    Zstd,
}

impl From<Compression> for holdfast_engine::backup::WireCompression {
    fn from(compression: Compression) -> Self {
        match compression {
            Compression::Auto => Self::Auto,
            Compression::None => Self::None,
            Compression::Zstd => Self::Zstd,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// A private throwaway PostgreSQL, a backup, a disaster, and the way back; needs no server.
    #[command(after_help = "Example:\n  holdfast demo --headless --json")]
    Demo(Demo),
    /// Create, attach and look at repositories.
    #[command(subcommand)]
    Repo(Repo),
    /// Add and look at clusters.
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Take a backup.
    #[command(after_help = "Example:\n  holdfast backup orders-eu --reason 'before release 42'")]
    Backup {
        /// The cluster.
        name: String,
        /// Why; kept with the snapshot.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// Read only what changed since the previous snapshot (PostgreSQL 17 and later); what is kept is
        /// whole all the same.
        #[arg(long, value_enum, default_value_t = Incremental::Never)]
        incremental: Incremental,
        /// Have the server compress what it sends (PostgreSQL 15 and later): where the network is found to be
        /// slow, never, or always.
        #[arg(long, value_enum, default_value_t = Compression::Auto)]
        wire_compression: Compression,
        /// Read the server's files beside it, between pg_backup_start and pg_backup_stop, instead of having it
        /// send them. With --incremental or --wire-compression the server sends them.
        #[arg(long, value_enum, default_value_t = LocalFiles::Auto, env = "HOLDFAST_LOCAL_FILES")]
        local_files: LocalFiles,
    },
    /// Stream WAL into the repository until stopped.
    #[command(
        after_help = "Examples:\n  holdfast archive orders-eu --once-to 0/5000060\n  holdfast archive orders-eu --synchronous --durability spool"
    )]
    Archive(Archive),
    /// What can be restored: snapshots, WAL coverage, restore points.
    #[command(after_help = "Example:\n  holdfast points orders-eu --from 2026-06-14T00:00:00Z")]
    Points {
        /// The cluster.
        name: String,
        /// Not before this time (RFC 3339 with an offset).
        #[arg(long, value_name = "TIME")]
        from: Option<String>,
        /// Not after this time.
        #[arg(long, value_name = "TIME")]
        to: Option<String>,
        /// Also what destroyed rows: mass deletes, truncated, dropped and rewritten tables.
        #[arg(long)]
        markers: bool,
        /// Read WAL that was archived without markers, up to 256 segments.
        #[arg(long, requires = "markers")]
        rebuild_markers: bool,
    },
    /// What deleted, truncated or dropped a table: when, and in which transaction.
    #[command(
        after_help = "Examples:\n  holdfast find orders-eu --mass-deletes --from 2026-06-14T08:00:00Z\n  holdfast find orders-eu --table public.timeline_items\n  holdfast find orders-eu --xid 74211"
    )]
    Find(Find),
    /// Plan and run restores.
    #[command(subcommand)]
    Restore(Restore),
    /// Take single tables, or rows, out of a point in time: into a file, or back into a live database.
    #[command(
        after_help = "Examples:\n  holdfast tables orders-eu --target xid:74211 --exclusive --table public.timeline_items --into items.sql\n  holdfast tables orders-eu --target xid:74211 --exclusive --table weddings --where 'id = 4711' --follow --into 'host=db.example.org dbname=app user=ops' --review\n\nMerging is one transaction: missing rows come back parents first, changed rows are shown and stay as they\nare unless --overwrite is given, sequences are set past what came back. The live database's triggers run;\n--without-triggers keeps those of users from running. Foreign keys are always checked."
    )]
    Tables(Tables),
    /// What is kept of a cluster's backups, what is not, and why.
    #[command(subcommand)]
    Retention(Retention),
    /// How long what is kept.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Legal holds: what is kept whatever the policy says.
    #[command(subcommand)]
    Hold(HoldCommand),
    /// Read the repository back and authenticate every byte.
    Verify(Verify),
    /// One snapshot with its WAL in a folder or a file that needs no network, no server and no catalog.
    #[command(subcommand)]
    Bundle(BundleCommand),
    /// Keep the repository in other places too, and tell how far each is behind.
    Replicate(Replicate),
    /// For restore_command: fetch one WAL file. Exits 0 served, 1 proven absent, 200 anything else.
    #[command(
        after_help = "Example, in postgresql.conf:\n  restore_command = 'holdfast wal-get --repo s3://backups/orders %f %p'"
    )]
    WalGet(WalGet),
    /// For archive_command: archive one WAL file. Exits 0 once it is durable, else 1.
    #[command(
        after_help = "Example, in postgresql.conf:\n  archive_command = 'holdfast wal-put --repo s3://backups/orders %p'"
    )]
    WalPut(WalPut),
    /// Look at jobs, attach to one, cancel one.
    #[command(subcommand)]
    Jobs(Jobs),
    /// PostgreSQL servers of this machine.
    #[command(subcommand)]
    Server(Server),
    /// The user interface on loopback, for development and browser tests.
    #[cfg(feature = "development-host")]
    #[command(
        name = "dev-host",
        after_help = "Example:\n  holdfast dev-host --listen 127.0.0.1:0 --ui ui/dist"
    )]
    DevelopmentHost {
        /// Where to listen; loopback only.
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: std::net::SocketAddr,
        /// The built user interface.
        #[arg(long, value_name = "DIR")]
        ui: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Without a window.
    #[arg(long)]
    pub(crate) headless: bool,
    /// Where to put everything; default: a temporary directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Leave servers and files in place.
    #[arg(long)]
    pub(crate) keep: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Add a cluster.
    #[command(
        after_help = "Example:\n  PGPASSWORD=… holdfast cluster add orders-eu --dsn 'host=db.example.org user=backup dbname=postgres sslmode=verify-full'"
    )]
    Add {
        /// What it is called.
        name: String,
        /// A connection string without a password (key=value or URI).
        #[arg(long)]
        dsn: String,
        /// The repository; not needed when there is only one.
        #[arg(long, value_name = "URL")]
        repo: Option<String>,
        /// How to back up; only physical backups are possible now.
        #[arg(long, default_value = "auto", value_parser = ["auto", "physical"])]
        mode: String,
        /// Keep the password that was found (PGPASSWORD, passfile) in the OS keychain.
        #[arg(long)]
        save_password: bool,
    },
    /// Clusters this machine knows.
    List,
    /// Can it be backed up, how, what is missing, and what repairs it.
    #[command(after_help = "Example:\n  holdfast cluster check orders-eu")]
    Check {
        /// The cluster.
        name: String,
    },
    /// Forget a cluster on this machine and drop its replication slot; its backups stay.
    Remove {
        /// The cluster.
        name: String,
    },
}

/// A point in time of a cluster, and from which snapshot it is reached.
#[derive(Debug, Args)]
pub(crate) struct Point {
    /// The cluster.
    pub(crate) name: String,
    /// latest, immediate, time:T, xid:N, lsn:X/Y or name:TEXT.
    #[arg(long = "target")]
    pub(crate) stop: String,
    /// Leave out the target itself: everything before this transaction, nothing of it.
    #[arg(long)]
    pub(crate) exclusive: bool,
    /// latest, current or a number.
    #[arg(long, default_value = "latest")]
    pub(crate) timeline: String,
    /// Begin with this snapshot.
    #[arg(long, value_name = "ID")]
    pub(crate) snapshot: Option<String>,
    /// Go on although this host differs from the source in ways that were named.
    #[arg(long)]
    pub(crate) accept_host_differences: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Target {
    #[command(flatten)]
    pub(crate) point: Point,
    /// The new data directory: absent or empty, unless --in-place or --delta is given.
    #[arg(long, value_name = "DIR")]
    pub(crate) to: PathBuf,
    /// Restore beside the data directory DIR, prove it, then let the two change places; the old one is kept.
    #[arg(long)]
    pub(crate) in_place: bool,
    /// Overwrite the data directory DIR: what stands there is kept where its content is right. No way back.
    #[arg(long, conflicts_with = "in_place")]
    pub(crate) delta: bool,
    /// A directory of its own for a tablespace; all others are placed inside the data directory.
    #[arg(long = "tablespace", value_name = "OID=DIR", value_parser = tablespace)]
    pub(crate) tablespaces: Vec<(u32, PathBuf)>,
}

fn tablespace(text: &str) -> Result<(u32, PathBuf), String> {
    let wrong = || "write it OID=DIR, such as 16385=/srv/fast".to_owned();
    let (oid, directory) = text.split_once('=').ok_or_else(wrong)?;
    if directory.is_empty() {
        return Err(wrong());
    }
    Ok((oid.parse().map_err(|_| wrong())?, PathBuf::from(directory)))
}

#[derive(Debug, Args)]
pub(crate) struct Tables {
    #[command(flatten)]
    pub(crate) point: Point,
    /// A table, as SQL names it; may be given several times.
    #[arg(long, value_name = "TABLE", required = true)]
    pub(crate) table: Vec<String>,
    /// The database they are in. Default: that of the cluster's connection string.
    #[arg(long, value_name = "NAME")]
    pub(crate) database: Option<String>,
    /// Only rows for which this SQL condition holds.
    #[arg(long = "where", value_name = "SQL")]
    pub(crate) condition: Option<String>,
    /// Also all rows that refer to them through foreign keys, and the rows that all of these refer to.
    #[arg(long)]
    pub(crate) follow: bool,
    /// A new file (SQL; pg_dump's own format when it ends in .dump), or the connection string of a live database.
    #[arg(long, value_name = "DSN|FILE")]
    pub(crate) into: String,
    /// Where the private copy goes, which is removed again. Default: a place of its own with enough space.
    #[arg(long, value_name = "DIR")]
    pub(crate) to: Option<PathBuf>,
    /// Merge nothing: tell what would be done.
    #[arg(long, conflicts_with = "overwrite")]
    pub(crate) review: bool,
    /// Also set changed rows to what they were.
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Keep the live database's user triggers from running.
    #[arg(long)]
    pub(crate) without_triggers: bool,
}

#[derive(Debug, Args)]
pub(crate) struct WalPlace {
    /// The repository; not needed when this home knows only one.
    #[arg(long, value_name = "URL")]
    pub(crate) repo: Option<String>,
    /// The cluster's data directory. Default: where PostgreSQL runs the command.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) data_directory: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct WalGet {
    /// The file's name: %f.
    pub(crate) file: String,
    /// Where it goes: %p.
    pub(crate) destination: PathBuf,
    #[command(flatten)]
    pub(crate) place: WalPlace,
    /// Fetch what follows the file into the spool, and nothing else.
    #[arg(long, hide = true)]
    pub(crate) ahead: bool,
}

#[derive(Debug, Args)]
pub(crate) struct WalPut {
    /// The file: %p.
    pub(crate) path: PathBuf,
    #[command(flatten)]
    pub(crate) place: WalPlace,
}

#[derive(Debug, Args)]
pub(crate) struct Find {
    /// The cluster.
    pub(crate) name: String,
    /// What happened to this table: name, schema.name or database.schema.name, as it was called then.
    #[arg(long, value_name = "TABLE")]
    pub(crate) table: Option<String>,
    /// What this transaction did.
    #[arg(long, value_name = "XID")]
    pub(crate) xid: Option<String>,
    /// Dropped tables and databases.
    #[arg(long)]
    pub(crate) drops: bool,
    /// Truncated tables.
    #[arg(long)]
    pub(crate) truncates: bool,
    /// Transactions that deleted many rows of a table.
    #[arg(long)]
    pub(crate) mass_deletes: bool,
    /// How many rows are many. Default: 100.
    #[arg(long, value_name = "N", requires = "mass_deletes")]
    pub(crate) rows: Option<u64>,
    /// Only what ended at this time or later (RFC 3339 with an offset).
    #[arg(long, value_name = "TIME")]
    pub(crate) from: Option<String>,
    /// Only what ended at this time or earlier.
    #[arg(long, value_name = "TIME")]
    pub(crate) to: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Archive {
    /// The cluster.
    pub(crate) name: String,
    /// Stop once WAL up to here is durable.
    #[arg(long, value_name = "LSN")]
    pub(crate) once_to: Option<String>,
    /// Store a slice of the open segment at the latest after so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    pub(crate) slice_seconds: f64,
    /// What is acknowledged to the server as flushed: what is in the store, or what a synced spool on this
    /// machine holds. With a spool, WAL that the store does not have yet is lost with this machine's disk.
    #[arg(long, value_enum, default_value_t = Durability::Store)]
    pub(crate) durability: Durability,
    /// Take part in synchronous_standby_names: answer each commit as soon as it is durable.
    #[arg(long)]
    pub(crate) synchronous: bool,
    /// The name in synchronous_standby_names. Default: holdfast_ and the cluster's name.
    #[arg(long, value_name = "NAME", requires = "synchronous")]
    pub(crate) application_name: Option<String>,
    /// Go on although commits wait for this archive alone: while it is away, they hang.
    #[arg(long, requires = "synchronous")]
    pub(crate) arm_sole_member: bool,
    /// Report WAL as applied once it is durable, for synchronous_commit = remote_apply. Nothing is applied.
    #[arg(long, requires = "synchronous")]
    pub(crate) report_apply: bool,
    /// Leave the stream when nothing has become durable for so long. Default: 10 with --synchronous.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) stall_seconds: Option<f64>,
    /// Take a backup when WAL was lost.
    #[arg(long)]
    pub(crate) backup_on_gap: bool,
    /// Give the slot up when it holds back more than this (such as 20GB): a gap and a new backup rather than
    /// a server whose disk is full.
    #[arg(long, value_name = "SIZE")]
    pub(crate) drop_slot_after: Option<String>,
}

/// What counts as flushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Durability {
    /// What the store has confirmed.
    Store,
    /// What a local, synced spool holds.
    Spool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Restore {
    /// Work out everything, write nothing.
    #[command(
        after_help = "Example:\n  holdfast restore plan orders-eu --target xid:74211 --exclusive --to /srv/rescue"
    )]
    Plan {
        #[command(flatten)]
        target: Target,
        /// Look at more of the discarded WAL for the rows that go: up to 16 GiB, for up to ten minutes.
        #[arg(long)]
        whole_loss: bool,
    },
    /// Restore.
    #[command(
        after_help = "Example:\n  holdfast restore run orders-eu --target time:2026-06-14T09:29:59.5Z --to /srv/rescue --start"
    )]
    Run {
        #[command(flatten)]
        target: Target,
        /// Leave the private server running.
        #[arg(long)]
        start: bool,
        /// What to do at the target: pause, promote or shutdown. Default: promote.
        #[arg(long, value_enum, default_value_t = AtTarget::Promote)]
        at_target: AtTarget,
        /// Run exactly the plan of this hash; refused when anything drifted.
        #[arg(long, value_name = "HASH")]
        plan_hash: Option<String>,
        /// Write the files and stop: no replay, no proof.
        #[arg(long)]
        fetch_only: bool,
    },
    /// Take a restore that is paused at its target some commits forward.
    #[command(
        after_help = "Example:\n  holdfast restore step 0198f0a0-0000-7000-8000-000000000000 3"
    )]
    Step {
        /// The restore's job.
        job: String,
        /// How many commits. There is no way back: restore again for an earlier target.
        #[arg(default_value_t = 1, allow_negative_numbers = true)]
        commits: i64,
    },
    /// Run one query on a restored copy that runs: read-only, with limits.
    #[command(
        after_help = "Example:\n  holdfast restore inspect 0198f0a0-0000-7000-8000-000000000000 --database app --sql 'SELECT count(*) FROM orders'"
    )]
    Inspect {
        /// The restore's job.
        job: String,
        /// SELECT, VALUES, TABLE or WITH.
        #[arg(long)]
        sql: String,
        /// The database.
        #[arg(long, default_value = "postgres")]
        database: String,
        /// How many rows at most; never more than 10000.
        #[arg(long, default_value_t = 1000)]
        rows: u32,
    },
    /// End recovery of a restore that is paused at its target.
    Promote {
        /// The restore's job.
        job: String,
    },
    /// Ask a running restore to pause: it fetches and replays nothing more until it is resumed.
    Pause {
        /// The restore's job.
        job: String,
    },
    /// Go on with a restore: one that is paused, was interrupted, or whose store was away for too long.
    #[command(
        after_help = "Example:\n  holdfast restore resume 0198f0a0-0000-7000-8000-000000000000"
    )]
    Resume {
        /// The restore's job.
        job: String,
    },
    /// Ask a running restore to stop; what it wrote is removed, except over a directory (--delta).
    Cancel {
        /// The restore's job.
        job: String,
    },
    /// Stop a restored server and remove the copy.
    Discard {
        /// The restore's job.
        job: String,
    },
    /// Put the directory back that a restore in place has set aside; the copy is kept.
    SwapBack {
        /// The restore's job.
        job: String,
    },
    /// Remove what a restore in place has set aside. There is no way back from this.
    Purge {
        /// The restore's job.
        job: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AtTarget {
    /// Stay paused, open for reading.
    Pause,
    /// End recovery and take writes.
    Promote,
    /// Shut down.
    Shutdown,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Jobs {
    /// The newest jobs.
    List,
    /// One job with its result.
    Show {
        /// The job.
        job: String,
    },
    /// Print a job's events until it ends.
    Attach {
        /// The job.
        job: String,
        /// From this event on.
        #[arg(long, default_value_t = 1)]
        from_seq: u64,
    },
    /// Ask a job to stop.
    Cancel {
        /// The job.
        job: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Server {
    /// Which PostgreSQL major versions can be started on this machine, and where from.
    Binaries,
}
