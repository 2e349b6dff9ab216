// Generated from crates/api by `cargo xtask bindings`; a test compares it. Do not edit.

/** An LSN as PostgreSQL prints it, `X/Y`. */
export type Lsn = string;
/** RFC 3339, UTC. */
export type Time = string;
export type ErrorObject = { 
/**
 * Stable, lower-case words joined by underscores; never translated.
 */
code: string, 
/**
 * What happened.
 */
message: string, 
/**
 * What it means and what to do.
 */
hint: string | null, 
/**
 * Whether the same request may succeed later with nothing changed.
 */
retryable: boolean, 
/**
 * Facts for a program: nearest targets, paths, sizes.
 */
details: unknown, };
export type SecretStoreKind = "keychain" | "unavailable";
export type SecretStoreStatus = { 
/**
 * What secrets are kept in.
 */
kind: SecretStoreKind, 
/**
 * A sentence for the status bar.
 */
message: string, };
export type ServerBinaries = { 
/**
 * Major version: 15, 17.
 */
major: number, 
/**
 * The version as the server prints it: "17.11".
 */
version: string, 
/**
 * The directory that holds `postgres`, `initdb`, `pg_verifybackup`.
 */
bin_directory: string, };
export type UnlockSource = "keychain" | "passphrase" | "demo";
export type RepositorySummary = { 
/**
 * The repository's own identity.
 */
id: string, 
/**
 * Where it is.
 */
url: string, 
/**
 * When this machine came to know it.
 */
attached_at: string, 
/**
 * How it is unlocked here.
 */
unlock: UnlockSource, };
export type AccessMode = "physical" | "physical_via_database";
export type ClusterSummary = { 
/**
 * The name people use.
 */
name: string, 
/**
 * How it is reached, without secrets.
 */
dsn: string, 
/**
 * The URL of the repository that holds its backups.
 */
repository: string, 
/**
 * PostgreSQL's own identity of it.
 */
system_identifier: string, 
/**
 * The server's version when it was last seen.
 */
server_version: string, 
/**
 * How the replication protocol is reached.
 */
mode: AccessMode, 
/**
 * When it was added.
 */
created_at: string, 
/**
 * Whether it belongs to the demo workspace.
 */
demo: boolean, };
export type Severity = "ok" | "info" | "warning" | "error";
export type Finding = { 
/**
 * How much it matters.
 */
severity: Severity, 
/**
 * Stable code.
 */
code: string, 
/**
 * What was found.
 */
message: string, 
/**
 * The exact SQL, setting or command that repairs it.
 */
repair: string | null, };
export type ClusterCheck = { 
/**
 * Whether a session could be opened.
 */
reachable: boolean, 
/**
 * How it can be backed up; none when it cannot.
 */
mode: AccessMode | null, 
/**
 * The server's version.
 */
server_version: string | null, 
/**
 * PostgreSQL's own identity of the cluster.
 */
system_identifier: string | null, 
/**
 * Its timeline.
 */
timeline: number | null, 
/**
 * Bytes of all its databases.
 */
data_bytes: number | null, 
/**
 * What a replication slot that nobody reads costs the server; null when it could not be asked.
 */
slot_cost: SlotCost | null, 
/**
 * Everything that was looked at.
 */
findings: Array<Finding>, };
export type PointState = "proven" | "verified" | "stored" | "degraded" | "broken" | "unknown";
export type Proof = { 
/**
 * When.
 */
at: string, 
/**
 * The target as it was asked for.
 */
target: string, 
/**
 * Where replay stopped.
 */
reached_lsn: string, 
/**
 * The commit time of the last transaction replayed.
 */
reached_time: string | null, 
/**
 * From the start to the last check.
 */
seconds: number, 
/**
 * The job that did it.
 */
job: string, };
export type SnapshotKind = "full" | "incremental";
export type ManifestBy = "server" | "holdfast";
export type SnapshotSummary = { 
/**
 * Its id.
 */
id: string, 
/**
 * How it was taken.
 */
kind: SnapshotKind, 
/**
 * When the server was asked to begin.
 */
started_at: string, 
/**
 * When everything was copied.
 */
finished_at: string, 
/**
 * Where replay begins.
 */
start_lsn: string, 
/**
 * Where it is consistent.
 */
stop_lsn: string, 
/**
 * Its timeline.
 */
timeline: number, 
/**
 * Whose list of files and checksums its manifest is.
 */
manifest_by: ManifestBy, 
/**
 * Bytes of all its files.
 */
bytes_logical: number, 
/**
 * Bytes it added to the repository.
 */
bytes_added: number, 
/**
 * How well it is known to work.
 */
state: PointState, 
/**
 * Its newest proof.
 */
proof: Proof | null, 
/**
 * Its newest verification.
 */
check: SnapshotCheck | null, 
/**
 * Why it is kept: words such as `daily` or `hold:ID`; empty when it is not, or where that was not asked.
 */
retained_by: Array<string>, 
/**
 * Why it was taken.
 */
reason: string | null, 
/**
 * Pages in it whose checksum was wrong.
 */
page_findings: number, };
export type GapCause = "slot_lost" | "slot_recreated" | "slot_dropped" | "wal_removed" | "upgrade" | "re_init" | "foreign_stream" | "other";
export type Gap = { 
/**
 * The end of what was archived before.
 */
from_lsn: string, 
/**
 * The start of what is archived after; on a timeline that ended in the gap, its end.
 */
to_lsn: string, 
/**
 * On which timeline.
 */
timeline: number, 
/**
 * Why.
 */
cause: GapCause, 
/**
 * The same as a sentence.
 */
explanation: string, 
/**
 * When it was noticed.
 */
detected_at: string, };
export type SystemChange = { 
/**
 * Where the archive ended; null when nothing was archived.
 */
at_lsn: string | null, 
/**
 * On which timeline.
 */
timeline: number | null, 
/**
 * `upgrade`, `re_init` or `foreign_stream`.
 */
cause: GapCause, 
/**
 * The system identifier that answers there now.
 */
found: string, 
/**
 * Its server version.
 */
found_version: string, 
/**
 * When it was noticed first.
 */
detected_at: string, };
export type NeedsSnapshotReason = "no_snapshot" | "no_whole_snapshot" | "gap" | "missing_wal" | "timeline";
export type NeedsSnapshot = { 
/**
 * What is wrong.
 */
reason: NeedsSnapshotReason, 
/**
 * The same as a sentence.
 */
message: string, 
/**
 * The gap behind which nothing can be restored yet.
 */
gap: Gap | null, };
export type SlotState = { 
/**
 * Its name.
 */
name: string, 
/**
 * `reserved`, `extended`, `unreserved` or `lost`; null when the slot has reserved nothing.
 */
wal_status: string | null, 
/**
 * WAL that it holds back.
 */
held_bytes: number | null, 
/**
 * WAL that may still be written before it is lost; null without a limit.
 */
safe_bytes: number | null, 
/**
 * Why it was invalidated (17 and later).
 */
invalidation_reason: string | null, 
/**
 * When that was.
 */
seen_at: string, };
export type SlotCost = { 
/**
 * The most WAL that slots keep (`max_slot_wal_keep_size`); null when there is no limit.
 */
keep_limit_bytes: number | null, 
/**
 * What lies in `pg_wal` now; null when our role may not look.
 */
wal_bytes: number | null, 
/**
 * Free space of the server's disk; null unless the server runs on this machine.
 */
free_bytes: number | null, 
/**
 * WAL that the server writes in a second, by its own statistics or a short measurement.
 */
wal_bytes_per_second: number | null, 
/**
 * Over how many seconds that was measured.
 */
measured_seconds: number | null, 
/**
 * After how long without a reader the disk is full; null where that is unknown or cannot happen.
 */
hours_until_full: number | null, 
/**
 * After how long without a reader the server gives the slot up; null without a limit.
 */
hours_until_lost: number | null, };
export type Durability = "store" | "spool";
export type CoverageWindow = { 
/**
 * The timeline.
 */
timeline: number, 
/**
 * Commit time of the first transaction in it.
 */
from: string | null, 
/**
 * Commit time of the last transaction in it.
 */
to: string | null, 
/**
 * Its first byte.
 */
from_lsn: string, 
/**
 * The first byte after it.
 */
to_lsn: string, 
/**
 * Gaps that touch it.
 */
gaps: Array<Gap>, };
export type RestorePoint = { 
/**
 * Its name.
 */
name: string, 
/**
 * When it was made.
 */
time: string, 
/**
 * Where its record starts.
 */
lsn: string, 
/**
 * Its timeline.
 */
timeline: number, };
export type Points = { 
/**
 * The cluster.
 */
cluster: string, 
/**
 * WAL without holes, by timeline.
 */
windows: Array<CoverageWindow>, 
/**
 * Base backups, oldest first.
 */
snapshots: Array<SnapshotSummary>, 
/**
 * Named restore points, in WAL order.
 */
restore_points: Array<RestorePoint>, 
/**
 * Every gap on record that was not filled since, bounded by what is archived.
 */
gaps: Array<Gap>, 
/**
 * Times at which another system answered at the cluster's address.
 */
system_changes: Array<SystemChange>, 
/**
 * Why a new backup is needed now; null when it is not.
 */
needs_snapshot: NeedsSnapshot | null, 
/**
 * Our replication slot as this machine saw it last; null when it never did.
 */
slot: SlotState | null, };
export type CommitKind = "commit" | "abort" | "restore_point";
export type Commit = { 
/**
 * Where its record starts.
 */
lsn: string, 
/**
 * Where its record ends.
 */
end_lsn: string, 
/**
 * The transaction; "0" for a restore point.
 */
xid: string, 
/**
 * The time in the record.
 */
time: string, 
/**
 * What it is.
 */
kind: CommitKind, 
/**
 * A restore point's name.
 */
name: string | null, 
/**
 * Its timeline.
 */
timeline: number, };
export type CommitPage = { 
/**
 * In WAL order.
 */
commits: Array<Commit>, 
/**
 * There are earlier ones.
 */
earlier: boolean, 
/**
 * There are later ones.
 */
later: boolean, };
export type Density = { 
/**
 * Start of the first bucket.
 */
from: string, 
/**
 * End of the last.
 */
to: string, 
/**
 * Width of one.
 */
bucket_seconds: number, 
/**
 * Commits in each.
 */
counts: Array<number>, };
export type MarkerKind = "delete" | "rewrite" | "truncate" | "drop" | "drop_database";
export type Marker = { 
/**
 * What.
 */
kind: MarkerKind, 
/**
 * How many relations this is: more than one only where their names are not known.
 */
relations: number, 
/**
 * Deleted rows.
 */
rows: number | null, 
/**
 * Rows of a relation that was emptied or dropped, as PostgreSQL had last counted them.
 */
rows_estimate: number | null, 
/**
 * Whether the transaction may have begun before the WAL that was read: the rows are a lower bound,
 * and what is told as dropped may have been emptied.
 */
begun_before: boolean, 
/**
 * The transaction.
 */
xid: string, 
/**
 * The first record of it that touched the table.
 */
lsn: string, 
/**
 * The record that ended the transaction.
 */
commit_lsn: string, 
/**
 * When it ended.
 */
commit_time: string, 
/**
 * On which timeline.
 */
timeline: number, 
/**
 * The target that leaves this transaction out, with `--exclusive`.
 */
target: string, 
/**
 * The database's name, where it is known.
 */
database: string | null, 
/**
 * The database's oid.
 */
database_oid: number, 
/**
 * `schema.name` as it was called then; none where no catalog of the time is stored.
 */
relation: string | null, 
/**
 * The table's oid, where it is known.
 */
oid: number | null, 
/**
 * The number of the table's files then; the first of them where several are told together.
 */
relfilenode: number | null, };
export type MarkerCounts = { 
/**
 * Deleted many rows.
 */
deletes: number, 
/**
 * Rewrote a relation.
 */
rewrites: number, 
/**
 * Emptied a relation.
 */
truncates: number, 
/**
 * Dropped a relation.
 */
drops: number, 
/**
 * Dropped a database.
 */
databases: number, };
export type UnknownStretch = { 
/**
 * The timeline.
 */
timeline: number, 
/**
 * Its first byte.
 */
from_lsn: string, 
/**
 * The first byte after it.
 */
to_lsn: string, 
/**
 * When the first transaction in it ended.
 */
from: string | null, 
/**
 * When the last transaction in it ended.
 */
to: string | null, };
export type Markers = { 
/**
 * The cluster.
 */
cluster: string, 
/**
 * In WAL order of their commits. Indexes and system catalogs are left out.
 */
markers: Array<Marker>, 
/**
 * How many transactions are not named because there are more than the limit.
 */
omitted: number, 
/**
 * Start of the first bucket.
 */
from: string | null, 
/**
 * End of the last.
 */
to: string | null, 
/**
 * Width of one; 0 without buckets.
 */
bucket_seconds: number, 
/**
 * All transactions of the range, named or not.
 */
buckets: Array<MarkerCounts>, 
/**
 * Where nothing is known, which is not the same as nothing.
 */
unknown: Array<UnknownStretch>, };
export type TimeSpan = { 
/**
 * From.
 */
from: string, 
/**
 * To.
 */
to: string, };
export type Branch = { 
/**
 * The timeline.
 */
timeline: number, 
/**
 * The timeline it left; none for the first, or where its ancestry is not archived.
 */
parent: number | null, 
/**
 * Where it left.
 */
switch_lsn: string | null, 
/**
 * The last time that is known of its parent before that place; none where nothing is.
 */
switch_time: string | null, 
/**
 * Its ancestry is missing although it needs one: recovery along it is refused.
 */
ancestry_missing: boolean, };
export type SnapshotGroup = { 
/**
 * The first's and the last's time of consistency.
 */
span: TimeSpan, 
/**
 * How many.
 */
count: number, 
/**
 * How many in each state, the worst first.
 */
states: Array<[PointState, number]>, 
/**
 * The one snapshot of a group of one.
 */
snapshot: SnapshotSummary | null, };
export type RestorePointGroup = { 
/**
 * The first's and the last's time.
 */
span: TimeSpan, 
/**
 * How many.
 */
count: number, 
/**
 * The one point of a group of one.
 */
point: RestorePoint | null, };
export type Timeline = { 
/**
 * The cluster.
 */
cluster: string, 
/**
 * When the repository was last listed; none when only what this machine remembered was read.
 */
read_at: string | null, 
/**
 * It is being read again: ask once more.
 */
reading: boolean, 
/**
 * Why it could not be read again.
 */
problem: ErrorObject | null, 
/**
 * The first and last time that is known of anything stored; none when nothing is.
 */
extent: TimeSpan | null, 
/**
 * What is shown.
 */
shown: TimeSpan, 
/**
 * Every timeline that has WAL or an ancestry, in order of their numbers.
 */
branches: Array<Branch>, 
/**
 * WAL without holes, by timeline; all of it.
 */
windows: Array<CoverageWindow>, 
/**
 * Snapshots that are shown, those that lie too close together as groups; oldest first.
 */
snapshots: Array<SnapshotGroup>, 
/**
 * How many snapshots there are in all.
 */
snapshots_total: number, 
/**
 * Restore points that are shown, likewise.
 */
restore_points: Array<RestorePointGroup>, 
/**
 * How many restore points there are in all.
 */
restore_points_total: number, 
/**
 * Commits of what is shown.
 */
density: Density, };
export type ClusterOverview = { 
/**
 * The cluster.
 */
cluster: ClusterSummary, 
/**
 * The state of its newest reachable point.
 */
state: PointState, 
/**
 * Time of the last commit that is durable and reachable from a snapshot.
 */
recoverable_to: string | null, 
/**
 * The end of the WAL that is reachable from a snapshot.
 */
recoverable_to_lsn: string | null, 
/**
 * How old that commit is now.
 */
recoverable_age_seconds: number | null, 
/**
 * When the oldest snapshot that can be restored was consistent.
 */
oldest_recoverable: string | null, 
/**
 * The newest snapshot.
 */
last_snapshot: SnapshotSummary | null, 
/**
 * The newest proof of any snapshot.
 */
last_proof: Proof | null, 
/**
 * Gaps on record.
 */
gaps: number, 
/**
 * Whether a job of this machine streams its WAL now.
 */
archiving: boolean, 
/**
 * Bytes that the server has written and the repository does not have, when that is known.
 */
archive_lag_bytes: number | null, 
/**
 * Why a new backup is needed now; null when it is not.
 */
needs_snapshot: NeedsSnapshot | null, 
/**
 * Our replication slot as this machine saw it last; null when it never did.
 */
slot: SlotState | null, 
/**
 * How many snapshots there are.
 */
snapshots: number, 
/**
 * Bytes that its snapshots added.
 */
bytes_stored: number, 
/**
 * Why the state could not be determined.
 */
problem: ErrorObject | null, 
/**
 * The state as a sentence.
 */
sentence: string, };
export type ReachedPoint = { 
/**
 * The end of the last replayed record.
 */
lsn: string, 
/**
 * The last replayed transaction; none when there is none after the snapshot's start.
 */
xid: string | null, 
/**
 * Its commit time.
 */
commit_time: string | null, 
/**
 * The timeline it is on.
 */
timeline: number, };
export type FoundKind = "insert" | "update" | "delete" | "truncate" | "rewrite" | "drop" | "drop_database";
export type FoundOutcome = "committed" | "aborted";
export type TableIdentity = { 
/**
 * The database's name, where it is known.
 */
database: string | null, 
/**
 * The database's oid.
 */
database_oid: number, 
/**
 * `schema.name` as it was called then; none where no catalog of the time is stored.
 */
relation: string | null, 
/**
 * The table's oid, where it is known.
 */
oid: number | null, 
/**
 * The number of the table's files then; the first of them where several are told together.
 */
relfilenode: number | null, };
export type EndedTransaction = { 
/**
 * The transaction.
 */
xid: string, 
/**
 * The first record of it that touched the table.
 */
lsn: string, 
/**
 * The record that ended the transaction.
 */
commit_lsn: string, 
/**
 * When it ended.
 */
commit_time: string, 
/**
 * On which timeline.
 */
timeline: number, 
/**
 * The target that leaves this transaction out, with `--exclusive`.
 */
target: string, };
export type RowCounts = { 
/**
 * New rows.
 */
inserted: number, 
/**
 * New versions of rows.
 */
updated: number, 
/**
 * Rows that went.
 */
deleted: number, };
export type FoundEvent = { 
/**
 * What.
 */
kind: FoundKind, 
/**
 * How it ended.
 */
outcome: FoundOutcome, 
/**
 * How many rows were touched.
 */
rows: RowCounts, 
/**
 * How many rows a dropped or truncated table had when PostgreSQL last counted.
 */
rows_estimate: number | null, 
/**
 * The transaction.
 */
xid: string, 
/**
 * The first record of it that touched the table.
 */
lsn: string, 
/**
 * The record that ended the transaction.
 */
commit_lsn: string, 
/**
 * When it ended.
 */
commit_time: string, 
/**
 * On which timeline.
 */
timeline: number, 
/**
 * The target that leaves this transaction out, with `--exclusive`.
 */
target: string, 
/**
 * The database's name, where it is known.
 */
database: string | null, 
/**
 * The database's oid.
 */
database_oid: number, 
/**
 * `schema.name` as it was called then; none where no catalog of the time is stored.
 */
relation: string | null, 
/**
 * The table's oid, where it is known.
 */
oid: number | null, 
/**
 * The number of the table's files then; the first of them where several are told together.
 */
relfilenode: number | null, };
export type Found = { 
/**
 * The cluster.
 */
cluster: string, 
/**
 * The first byte of WAL that was read.
 */
from_lsn: string, 
/**
 * The first byte that was not.
 */
to_lsn: string, 
/**
 * In WAL order of their ends.
 */
events: Array<FoundEvent>, 
/**
 * There are more than are listed.
 */
truncated: boolean, 
/**
 * WAL that is missing in between: what happened there is not known.
 */
gaps: Array<Gap>, 
/**
 * Whether the names of the time are known.
 */
names_known: boolean, };
export type RelationLoss = { 
/**
 * The rows.
 */
rows: RowCounts, 
/**
 * Committed transactions that touched it.
 */
transactions: number, 
/**
 * The database's name, where it is known.
 */
database: string | null, 
/**
 * The database's oid.
 */
database_oid: number, 
/**
 * `schema.name` as it was called then; none where no catalog of the time is stored.
 */
relation: string | null, 
/**
 * The table's oid, where it is known.
 */
oid: number | null, 
/**
 * The number of the table's files then; the first of them where several are told together.
 */
relfilenode: number | null, };
export type LossChanges = { 
/**
 * Where the discarded WAL begins.
 */
from_lsn: string, 
/**
 * How far it was looked at.
 */
to_lsn: string, 
/**
 * Whether that is all of it. Otherwise every number is of what was looked at only.
 */
complete: boolean, 
/**
 * Discarded WAL that was not looked at.
 */
wal_bytes_left: number, 
/**
 * Transactions that began before the discarded WAL may have done more than is counted.
 */
lower_bound: boolean, 
/**
 * All rows of all tables.
 */
total: RowCounts, 
/**
 * The tables with the most rows, at most 20.
 */
relations: Array<RelationLoss>, 
/**
 * How many tables there are besides.
 */
relations_more: number, 
/**
 * What was emptied, dropped or rewritten, in WAL order; at most 100. None where it is not known.
 */
events: Array<FoundEvent> | null, 
/**
 * How many there are besides.
 */
events_more: number, 
/**
 * Committed transactions that changed the schema. None where it is not known.
 */
schema_changes: number | null, 
/**
 * WAL that is missing in between: what happened there is not known.
 */
gaps: Array<Gap>, };
export type Loss = { 
/**
 * Committed transactions after the point.
 */
transactions: number, 
/**
 * Rolled-back transactions after the point.
 */
aborted: number, 
/**
 * WAL after the point.
 */
wal_bytes: number, 
/**
 * Commit time of the first of them.
 */
from: string | null, 
/**
 * Commit time of the last of them.
 */
to: string | null, 
/**
 * The first of them.
 */
first: Commit | null, 
/**
 * The last of them.
 */
last: Commit | null, 
/**
 * For a stop by time: those whose commit time is not after the target and that are lost all
 * the same, because they stand later in the WAL. At most 20.
 */
earlier_but_lost: Array<Commit>, 
/**
 * Table by table, as far as it was looked at; none when it was not.
 */
changes?: LossChanges | null, };
export type PlanStep = { 
/**
 * The phase under which progress is reported.
 */
phase: string, 
/**
 * A short title.
 */
title: string, 
/**
 * What it does, with its numbers.
 */
detail: string, };
export type Estimate = { 
/**
 * At best.
 */
low: number, 
/**
 * At worst.
 */
high: number, };
export type RestorePlan = { 
/**
 * BLAKE3 over everything that decides the result; execution refuses a plan whose inputs drifted.
 */
hash: string, 
/**
 * The cluster.
 */
cluster: string, 
/**
 * When it was made.
 */
created_at: string, 
/**
 * The target as it was asked for.
 */
target: string, 
/**
 * Whether the target itself is left out.
 */
exclusive: boolean, 
/**
 * The timeline recovered along.
 */
timeline: number, 
/**
 * The snapshot it begins with.
 */
snapshot: SnapshotSummary, 
/**
 * Where PostgreSQL will stop.
 */
predicted: ReachedPoint, 
/**
 * The first transaction that is left out.
 */
stops_before: Commit | null, 
/**
 * What is lost.
 */
loss: Loss, 
/**
 * The new data directory.
 */
destination: string, 
/**
 * Bytes of the snapshot's files.
 */
bytes_fetch: number, 
/**
 * Bytes of WAL to replay.
 */
bytes_wal: number, 
/**
 * Segments of WAL to replay.
 */
wal_segments: number, 
/**
 * Disk space that is needed.
 */
bytes_needed: number, 
/**
 * Disk space that is free there, when that is known.
 */
bytes_free: number | null, 
/**
 * The server that will replay.
 */
server: ServerBinaries | null, 
/**
 * What was looked at on this host.
 */
host_findings: Array<Finding>, 
/**
 * What will be done.
 */
steps: Array<PlanStep>, 
/**
 * The same restore as a command.
 */
command: string, 
/**
 * How long it took on this machine before, scaled; none without history.
 */
estimate_seconds: Estimate | null, };
export type AtTarget = "pause" | "promote" | "shutdown";
export type PhaseTime = { 
/**
 * The phase, as its events name it.
 */
name: string, 
/**
 * Wall-clock seconds.
 */
seconds: number, 
/**
 * Bytes it moved, where that is its unit.
 */
bytes: number | null, };
export type SourceConfiguration = { 
/**
 * The directory beside the copy that holds the files, below their paths on the source.
 */
directory: string, 
/**
 * The files' paths on the source.
 */
files: Array<string>, 
/**
 * Files that no backup holds, since the role could not read them.
 */
missing: Array<string>, };
export type RestoreResult = { 
/**
 * The job.
 */
job: string, 
/**
 * The plan that was run.
 */
plan_hash: string, 
/**
 * The snapshot it began with.
 */
snapshot: string, 
/**
 * Where recovery really stopped.
 */
reached: ReachedPoint, 
/**
 * The first transaction that is not in the copy.
 */
stopped_before: Commit | null, 
/**
 * How long each phase took.
 */
phases: Array<PhaseTime>, 
/**
 * The new data directory.
 */
data_directory: string, 
/**
 * The private server's port on loopback, while it runs.
 */
port: number | null, 
/**
 * How to connect to it as superuser, while it runs.
 */
dsn: string | null, 
/**
 * Whether every check passed. Never true for what was not checked.
 */
verified: boolean, 
/**
 * The checks.
 */
checks: Array<Finding>, 
/**
 * What was done at the target.
 */
at_target: AtTarget, 
/**
 * Whether the private server runs.
 */
running: boolean, 
/**
 * Bytes of the files that stood at the destination already, by their content.
 */
bytes_reused: number, 
/**
 * Bytes of the files that were written.
 */
bytes_written: number, 
/**
 * The source's configuration, where it lay outside its data directory.
 */
configuration: SourceConfiguration | null, };
export type Placement = "new" | "in_place" | "delta";
export type Inspection = { 
/**
 * The database that was asked.
 */
database: string, 
/**
 * Up to where the copy has been replayed; none once it takes writes.
 */
replayed_to: string | null, 
/**
 * The names of the columns.
 */
columns: Array<string>, 
/**
 * The rows, in PostgreSQL's text form.
 */
rows: Array<Array<string | null>>, 
/**
 * Whether there are more rows than are given.
 */
truncated: boolean, 
/**
 * How long it took.
 */
seconds: number, };
export type Swapped = { 
/**
 * The data directory, which now holds what was there before the restore.
 */
data_directory: string, 
/**
 * Where the restored copy is kept until it is purged.
 */
set_aside: string, };
export type SetAside = { 
/**
 * Where it is now.
 */
path: string, 
/**
 * Whether it is the restored copy, because the old directory was swapped back.
 */
is_copy: boolean, };
export type Purged = { 
/**
 * The directory that is gone.
 */
removed: string, };
export type MergeMode = "review" | "missing" | "overwrite";
export type Conflict = { 
/**
 * Its key.
 */
key: { [key in string]: string | null }, 
/**
 * What differs, as it was; the first 200 characters of each value.
 */
then: { [key in string]: string | null }, 
/**
 * The same columns as they are now.
 */
now: { [key in string]: string | null }, };
export type MergedTable = { 
/**
 * Rows of the point that the live table does not have; of rows that are only referred to those
 * that are needed.
 */
missing: number, 
/**
 * Rows that are there with other content.
 */
changed: number, 
/**
 * Rows that are there just as they were.
 */
same: number, 
/**
 * Missing rows that were put back.
 */
inserted: number, 
/**
 * Changed rows that were set to what they were.
 */
overwritten: number, 
/**
 * Written rows that are not as they were at the point, because a trigger or a rule of the live
 * table made something else of them.
 */
altered: number, 
/**
 * Changed rows, at most 20.
 */
conflicts: Array<Conflict>, 
/**
 * Columns of the point that the live table does not have or works out itself.
 */
columns_left_out: Array<string>, 
/**
 * Columns whose type has changed since, as `name: then, now`.
 */
columns_widened: Array<string>, 
/**
 * Triggers of users on the live table; they ran, unless they were to be left out.
 */
triggers: Array<string>, 
/**
 * Sequences that were set forward, as `name: value`.
 */
sequences: Array<string>, };
export type RescuedTable = { 
/**
 * `schema.name`.
 */
table: string, 
/**
 * Rows at the point that were wanted.
 */
rows: number, 
/**
 * Rows at the point that wanted rows refer to.
 */
referred_to: number, 
/**
 * What the merge into a live database did.
 */
merged: MergedTable | null, };
export type RescueResult = { 
/**
 * The job.
 */
job: string, 
/**
 * Where the private copy really stopped.
 */
reached: ReachedPoint, 
/**
 * Whether every check of the copy passed.
 */
verified: boolean, 
/**
 * The database.
 */
database: string, 
/**
 * The file, where one was written.
 */
file: string | null, 
/**
 * Its size.
 */
bytes: number | null, 
/**
 * What became of rows that differ, where they were merged.
 */
mode: MergeMode | null, 
/**
 * Table by table.
 */
tables: Array<RescuedTable>, 
/**
 * How long each phase took.
 */
phases: Array<PhaseTime>, };
export type IncrementalMode = "auto" | "never" | "require";
export type Source = "server" | "files";
export type Transfer = { 
/**
 * Where from.
 */
from: Source, 
/**
 * Whether the server compressed it.
 */
zstd: boolean, 
/**
 * Bytes a second that were measured before; null when nothing depended on it.
 */
link_bytes_per_second: number | null, 
/**
 * Bytes that were received or read.
 */
bytes: number, };
export type BackupResult = { 
/**
 * The job.
 */
job: string, 
/**
 * The new snapshot.
 */
snapshot: SnapshotSummary, 
/**
 * How long each phase took.
 */
phases: Array<PhaseTime>, 
/**
 * The snapshot that an incremental backup was folded into.
 */
basis: string | null, 
/**
 * Why everything was read although less would have been accepted.
 */
full_because: string | null, 
/**
 * Files in it.
 */
files: number, 
/**
 * How its files came here.
 */
transfer: Transfer, 
/**
 * What the server warned about.
 */
warnings: Array<string>, 
/**
 * Pages whose checksum was wrong.
 */
page_findings: Array<Finding>, };
export type ArchiveResult = { 
/**
 * The job.
 */
job: string, 
/**
 * Everything below is durable, as `durability` says.
 */
durable_lsn: string, 
/**
 * Everything below is in the store.
 */
stored_lsn: string, 
/**
 * What counted as durable.
 */
durability: Durability, 
/**
 * The timeline it is on.
 */
timeline: number, 
/**
 * Whole segments stored by this run.
 */
segments: number, 
/**
 * Gaps that this run has noted.
 */
gaps: Array<Gap>, 
/**
 * Why a new backup is needed now; null when it is not.
 */
needs_snapshot: NeedsSnapshot | null, 
/**
 * The backup that was taken because of a gap.
 */
backup: string | null, };
export type BundleResult = { 
/**
 * The job.
 */
job: string, 
/**
 * Where it is.
 */
path: string, 
/**
 * The snapshot in it.
 */
snapshot: string, 
/**
 * The timeline that its WAL leads to.
 */
timeline: number, 
/**
 * Where its WAL begins.
 */
from_lsn: string, 
/**
 * Where its WAL ends.
 */
to_lsn: string, 
/**
 * The last commit in it; null when there is none.
 */
last_commit: string | null, 
/**
 * Objects in it.
 */
objects: number, 
/**
 * Their bytes.
 */
bytes: number, };
export type RekeyResult = { 
/**
 * The job.
 */
job: string, 
/**
 * The repository that was read.
 */
from: string, 
/**
 * The one with the new key.
 */
to: string, 
/**
 * Its id.
 */
repository: string, 
/**
 * Everything was carried, now or before.
 */
ok: boolean, 
/**
 * Snapshots carried now.
 */
snapshots: number, 
/**
 * Other objects carried now: WAL, policies, holds, clusters.
 */
objects: number, 
/**
 * What a run before had carried.
 */
there: number, 
/**
 * Bytes read of snapshots' files and of other objects.
 */
bytes_read: number, 
/**
 * Bytes stored of snapshots.
 */
bytes_stored: number, 
/**
 * What could not be carried: it is damaged, or needs what is.
 */
held_back: Array<HeldBack>, 
/**
 * What does not count in the old repository and was left there: of writers whom it does not trust, or no object
 * of a repository at all.
 */
left: Array<HeldBack>, 
/**
 * This machine's clusters go on in the new repository.
 */
switched: boolean, 
/**
 * Agents of the old repository. None of them may write to the new one: admit them anew.
 */
agents: Array<string>, 
/**
 * Replicas of the old repository. They keep its key: make new ones, and delete these.
 */
replicas: Array<string>, 
/**
 * How long it took.
 */
seconds: number, 
/**
 * What it means, and what is left to do.
 */
means: string, };
export type Lag = { 
/**
 * Objects that it lacks.
 */
objects: number, 
/**
 * Their bytes.
 */
bytes: number, 
/**
 * The age of the oldest of them, in seconds: what was stored before is in the replica. 0 when it lacks
 * nothing.
 */
seconds: number, };
export type HeldBack = { 
/**
 * Which object.
 */
object: string, 
/**
 * Why.
 */
message: string, };
export type ReplicaResult = { 
/**
 * Where it is.
 */
url: string, 
/**
 * It has all that was in the repository when this began, and no damage was found.
 */
ok: boolean, 
/**
 * Objects that were copied and read back.
 */
objects: number, 
/**
 * Their bytes.
 */
bytes: number, 
/**
 * Objects that were removed from it: key slots that were closed, parts of WAL segments that it has whole,
 * what retention has removed from the repository.
 */
removed: number, 
/**
 * Objects that retention has removed from the repository and that the replica's store locks for a while yet.
 */
locked: number, 
/**
 * What was done about the locks of what is needed; null where the replica's store has no rule that locks what
 * is put, or could not be asked.
 */
locks: LocksRenewed | null, 
/**
 * What was not copied.
 */
held_back: Array<HeldBack>, 
/**
 * What it lacks now; null when that is not known.
 */
lag: Lag | null, 
/**
 * Objects that it has and the repository lacks: somebody writes to it, or the repository has lost them.
 * Key slots are neither added nor removed then.
 */
ahead: number, 
/**
 * How long it took.
 */
seconds: number, 
/**
 * Why it could not be brought up to date.
 */
error: ErrorObject | null, };
export type ReplicationResult = { 
/**
 * The job.
 */
job: string, 
/**
 * The repository.
 */
repository: string, 
/**
 * Every replica is up to date.
 */
ok: boolean, 
/**
 * Each of them.
 */
replicas: Array<ReplicaResult>, };
export type ReplicaState = { 
/**
 * Where it is.
 */
url: string, 
/**
 * Since when it is known.
 */
added_at: string, 
/**
 * How far it is behind; null when that cannot be told.
 */
lag: Lag | null, 
/**
 * Why it cannot be told.
 */
error: ErrorObject | null, };
export type Score = { 
/**
 * The repository, and each replica that answers and is behind by an hour at most.
 */
copies: number, 
/**
 * Buckets and file systems that these are on.
 */
media: number, 
/**
 * How many of them are in an object store.
 */
off_site: number, 
/**
 * How many of them are in a bucket whose rule lets nobody change what was put for a while; null when that is
 * not known of any.
 */
immutable: number | null, 
/**
 * Snapshots that the newest verification of each found damaged.
 */
errors: number, };
export type Replicas = { 
/**
 * Each replica, and how far it is behind.
 */
replicas: Array<ReplicaState>, 
/**
 * What would have to be lost for everything to be lost.
 */
score: Score, };
export type Keep = { 
/**
 * For so long the newest snapshot of each hour.
 */
hourly: string | null, 
/**
 * For so long the newest snapshot of each day (UTC).
 */
daily: string | null, 
/**
 * For so long the newest snapshot of each week (ISO 8601, from Monday, UTC).
 */
weekly: string | null, 
/**
 * For so long the newest snapshot of each month.
 */
monthly: string | null, 
/**
 * For so long the newest snapshot of each year.
 */
yearly: string | null, 
/**
 * For so long every transaction can be gone back to.
 */
any_point: string | null, };
export type Override = { 
/**
 * What it is called in plans.
 */
name: string, 
/**
 * What was written at this time or later.
 */
from: string, 
/**
 * What was written before this time.
 */
to: string, 
/**
 * How long what of it is kept, counted from when it was written.
 */
keep: Keep, };
export type Policy = { 
/**
 * The form of this document: 1.
 */
format: number, 
/**
 * What is kept at any time of the year.
 */
keep: Keep, 
/**
 * Bytes that the kept snapshots and WAL should not exceed. Snapshots that only a rule keeps give way,
 * the oldest first; what a window, a hold or the way back to now needs never does.
 */
size_cap: number | null, 
/**
 * What is kept beside that of certain days.
 */
overrides: Array<Override>, };
export type PolicyVersion = { 
/**
 * Counted from 1; 0 for the policy of a cluster for which none was set.
 */
version: number, 
/**
 * When it was set, by the clock of the machine that set it; none for version 0.
 */
set_at: string | null, 
/**
 * What it says.
 */
policy: Policy, };
export type RetentionSize = { 
/**
 * Bytes that the kept snapshots added, and of kept WAL.
 */
kept: number, 
/**
 * Bytes that the others added, and of other WAL.
 */
dying: number, 
/**
 * The policy's cap; null when it has none.
 */
cap: number | null, 
/**
 * Bytes by which what has to be kept exceeds the cap.
 */
over_cap: number, };
export type SnapshotFate = { 
/**
 * Its id.
 */
id: string, 
/**
 * PostgreSQL's identity of the cluster it is of.
 */
system_identifier: string, 
/**
 * Its timeline.
 */
timeline: number, 
/**
 * When the server began to send it.
 */
started_at: string, 
/**
 * Where replay begins.
 */
start_lsn: string, 
/**
 * Where it is consistent.
 */
stop_lsn: string, 
/**
 * Bytes it added to the repository.
 */
bytes_added: number, 
/**
 * Whether it is kept.
 */
kept: boolean, 
/**
 * Why, or why not.
 */
reasons: Array<{ code: string; of: string | null; text: string }>, };
export type WalFate = { 
/**
 * PostgreSQL's identity of the cluster it is of.
 */
system_identifier: string, 
/**
 * Its timeline.
 */
timeline: number, 
/**
 * Its first byte.
 */
from_lsn: string, 
/**
 * The first byte after it.
 */
to_lsn: string, 
/**
 * The earliest end of a transaction in it; null when none ended.
 */
from: string | null, 
/**
 * The latest.
 */
to: string | null, 
/**
 * How many segments it has, whole or not.
 */
segments: number, 
/**
 * Bytes they take in the store.
 */
bytes: number, 
/**
 * Whether it is kept.
 */
kept: boolean, 
/**
 * Why, or why not.
 */
reasons: Array<{ code: string; of: string | null; text: string }>, };
export type RetentionPlan = { 
/**
 * The cluster.
 */
cluster: string, 
/**
 * The time for which it is planned.
 */
at: string, 
/**
 * By which policy.
 */
policy: PolicyVersion, 
/**
 * Every snapshot, by system identifier, start and LSN.
 */
snapshots: Array<SnapshotFate>, 
/**
 * All WAL, by system identifier, timeline and LSN; segments that follow each other and have one fate
 * are one entry.
 */
wal: Array<WalFate>, 
/**
 * Timeline histories; all of them are kept, since they are small and whole timelines depend on them.
 */
history_files: number, 
/**
 * How much it is.
 */
size: RetentionSize, 
/**
 * What somebody should know.
 */
warnings: Array<string>, };
export type FateTotals = { 
/**
 * Snapshots.
 */
snapshots: number, 
/**
 * WAL segments.
 */
wal_segments: number, 
/**
 * When the oldest of the snapshots was begun; null without one.
 */
oldest: string | null, };
export type RetentionOutline = { 
/**
 * The plan, with at most as many snapshots and stretches of WAL as were asked for: those that are not kept
 * first, and of each the newest first.
 */
plan: RetentionPlan, 
/**
 * Everything that is kept.
 */
kept: FateTotals, 
/**
 * Everything that is not.
 */
dying: FateTotals, 
/**
 * What another policy or a later time would let go of that is kept now; null for the plan of now.
 */
lost: FateTotals | null, };
export type Hold = { 
/**
 * UUID version 7.
 */
id: string, 
/**
 * What is held.
 */
on: { snapshot: string } | { between: { from: Time; to: Time } }, 
/**
 * Why, in somebody's words.
 */
reason: string, 
/**
 * When it was placed, by the clock of the machine that placed it.
 */
placed_at: Time, };
export type Queued = { 
/**
 * The mark's id.
 */
id: string, 
/**
 * When it was marked.
 */
marked_at: string, 
/**
 * It is removed when retention is applied after this time, by the store's clock. Until then it can be taken
 * back.
 */
due_at: string, 
/**
 * Its removal has begun: it cannot be taken back.
 */
removing: boolean, 
/**
 * Snapshots.
 */
snapshots: Array<string>, 
/**
 * WAL segments.
 */
wal_segments: number, 
/**
 * Packs that nothing needs without these snapshots.
 */
packs: number, 
/**
 * About how many bytes they have.
 */
bytes: number, };
export type Undeleted = { 
/**
 * Marks that were taken back.
 */
undeleted: Array<Queued>, 
/**
 * Marks that could not be, since their removal has begun.
 */
removing: Array<Queued>, };
export type RemovedTotals = { 
/**
 * Snapshots.
 */
snapshots: Array<string>, 
/**
 * WAL segments.
 */
wal_segments: number, 
/**
 * Packs.
 */
packs: number, 
/**
 * Objects of every kind.
 */
objects: number, 
/**
 * Their bytes.
 */
bytes: number, };
export type Waiting = { 
/**
 * The mark's id.
 */
id: string, 
/**
 * Whose lease it waits for.
 */
holder: string, 
/**
 * When that ends unless it is renewed, by the store's clock.
 */
until: string, };
export type Locked = { 
/**
 * The mark's id.
 */
id: string, 
/**
 * When the last lock of what it names ends.
 */
until: string, };
export type KeptByStore = { 
/**
 * Which.
 */
object: string, 
/**
 * What the store said.
 */
message: string, };
export type LocksRenewed = { 
/**
 * For how many days the bucket's rule keeps what is put.
 */
days: number, 
/**
 * Objects that are needed and are kept for so many days from now again.
 */
renewed: number, 
/**
 * Objects that are needed and whose lock could not be renewed.
 */
refused: number, 
/**
 * The first of these, with what the store said.
 */
examples: Array<KeptByStore>, };
export type RetentionApplied = { 
/**
 * The job.
 */
job: string, 
/**
 * The cluster.
 */
cluster: string, 
/**
 * By which version of its policy; 0 is the default.
 */
policy_version: number, 
/**
 * What was removed: it had been marked, its time had come, and nothing kept it again.
 */
removed: RemovedTotals, 
/**
 * Snapshots that were marked and are kept after all, by the plan of now.
 */
spared: Array<string>, 
/**
 * What was due and waits for somebody who may need it.
 */
waiting: Array<Waiting>, 
/**
 * What was due and is locked by the store: until that ends the mark can be taken back.
 */
locked: Array<Locked>, 
/**
 * What the store did not remove; it is tried again the next time.
 */
kept_by_store: Array<KeptByStore>, 
/**
 * What was marked now; null when there was nothing to mark.
 */
marked: Queued | null, 
/**
 * What was done about the locks of what stays; null where the store has no rule that locks what is put,
 * or could not be asked.
 */
locks: LocksRenewed | null, 
/**
 * Everything that is marked, with what was marked now.
 */
queue: Array<Queued>, };
export type FindingSeverity = "info" | "warning" | "error";
export type VerifyFinding = { 
/**
 * How much it matters.
 */
severity: FindingSeverity, 
/**
 * What kind of thing is concerned.
 */
kind: string, 
/**
 * Which object.
 */
object: string, 
/**
 * What is wrong and what follows from it.
 */
message: string, };
export type Depth = "structure" | "data" | "cluster" | "pages";
export type Checked = { 
/**
 * Objects.
 */
objects: number, 
/**
 * Bytes read.
 */
bytes: number, 
/**
 * Files of snapshots that were put together and compared; 0 at the levels that do not.
 */
files: number, 
/**
 * Pages whose checksum was computed; 0 at the levels that do not look at pages.
 */
pages: number, 
/**
 * WAL segments among the objects.
 */
wal_segments: number, 
/**
 * WAL records that were read; 0 at the levels that do not look into WAL.
 */
wal_records: number, };
export type Skipped = { 
/**
 * Objects of which only the name and size were looked at.
 */
objects: number, 
/**
 * Their bytes.
 */
bytes: number, 
/**
 * Files of the snapshots that were to be put together.
 */
files: number, };
export type SnapshotCheck = { 
/**
 * When it was.
 */
at: string, 
/**
 * How deep it looked.
 */
level: Depth, 
/**
 * Everything that the snapshot needs to be consistent was read back and is what it must be.
 */
ok: boolean, 
/**
 * What is not.
 */
problem: string | null, };
export type VerifiedSnapshot = { 
/**
 * Which.
 */
id: string, 
/**
 * Its cluster's name.
 */
cluster: string, 
/**
 * When the server had sent it all.
 */
finished_at: string, 
/**
 * Nothing was found that keeps it from being restored to where it is consistent.
 */
ok: boolean, 
/**
 * What keeps it from that.
 */
problem: string | null, };
export type VerifyResult = { 
/**
 * Nothing of severity error was found.
 */
ok: boolean, 
/**
 * How deep it looked.
 */
level: Depth, 
/**
 * Which part was looked at, such as `1/7`; null when it was all.
 */
sample: string | null, 
/**
 * How much it looked at.
 */
checked: Checked, 
/**
 * How much it left out.
 */
skipped: Skipped, 
/**
 * The snapshots it judges, oldest first.
 */
snapshots: Array<VerifiedSnapshot>, 
/**
 * What it found.
 */
findings: Array<VerifyFinding>, 
/**
 * What a verification of this depth does not show.
 */
not_shown: Array<string>, };
export type DemoTable = { 
/**
 * The table.
 */
table: string, 
/**
 * Just before the disaster.
 */
at_target: number, 
/**
 * After the disaster and the good writes that followed it.
 */
after_disaster: number, 
/**
 * In the restored copy; none before a restore.
 */
restored: number | null, };
export type DemoStatus = { 
/**
 * Its cluster.
 */
cluster: string, 
/**
 * The transaction that destroyed.
 */
disaster: Commit, 
/**
 * Rows before and after.
 */
tables: Array<DemoTable>, 
/**
 * The target just before the disaster, to be used exclusively.
 */
suggested_target: string, };
export type DemoResult = { 
/**
 * The job.
 */
job: string, 
/**
 * The restore was proven and every row count is exact.
 */
verified: boolean, 
/**
 * The restore; none when the demo only prepares the workspace.
 */
restore: RestoreResult | null, 
/**
 * Rows of every table.
 */
tables: Array<DemoTable>, 
/**
 * Seconds by phase.
 */
seconds: { [key in string]: number }, };
export type JobId = string;
export type JobKind = "backup" | "archive" | "restore" | "rescue" | "verify" | "bundle" | "replication" | "rekey" | "retention" | "demo";
export type JobState = "running" | "succeeded" | "failed" | "cancelled" | "interrupted";
export type JobSummary = { 
/**
 * Its identity.
 */
id: JobId, 
/**
 * What it does.
 */
kind: JobKind, 
/**
 * For which cluster.
 */
cluster: string | null, 
/**
 * One line for a list.
 */
title: string, 
/**
 * Where it stands.
 */
state: JobState, 
/**
 * The phase it is in, while it runs.
 */
phase: string | null, 
/**
 * When it began.
 */
created_at: string, 
/**
 * When it ended.
 */
finished_at: string | null, 
/**
 * Why it failed.
 */
error: ErrorObject | null, 
/**
 * It runs, and does nothing until it is resumed.
 */
paused: boolean, 
/**
 * It did not end well, and `restore_resume` goes on with what it left.
 */
resumable: boolean, };
export type JobEventKind = "phase_started" | "progress" | "log" | "warning" | "alert" | "finished" | "failed" | "cancelled";
export type JobEvent = { 
/**
 * Whose.
 */
job: JobId, 
/**
 * Its number, from 1, without holes.
 */
seq: number, 
/**
 * When.
 */
at: string, 
/**
 * The phase it belongs to.
 */
phase: string, 
/**
 * What it tells.
 */
kind: JobEventKind, 
/**
 * How much of the phase is done, in `unit`.
 */
done: number | null, 
/**
 * How much there is, when that is known.
 */
total: number | null, 
/**
 * "bytes", "files", "segments".
 */
unit: string | null, 
/**
 * Units a second over the last seconds.
 */
rate: number | null, 
/**
 * Commit time of the last replayed transaction.
 */
replayed_to: string | null, 
/**
 * The end of the last replayed record; none until the server answers, which it first does when it
 * is consistent.
 */
replayed_lsn: string | null, 
/**
 * What the replay is heading for.
 */
target: string | null, 
/**
 * Where that ends in the WAL.
 */
target_lsn: string | null, 
/**
 * A sentence.
 */
message: string | null, 
/**
 * Of an alert: what it is, in stable words.
 */
code?: string, };
export type KeySlot = { 
/**
 * The slot's id.
 */
id: string, 
/**
 * What opens it.
 */
kind: "passphrase" | "recovery-key" | "keychain" | "public-key", 
/**
 * What it is called.
 */
label: string, 
/**
 * By the clock of the device that added it.
 */
created_at: string, 
/**
 * Whose it is, of a slot for a public key: 64 hex digits.
 */
public_key: string | null, 
/**
 * Whether this one has opened the repository now.
 */
opened: boolean, };
export type ObjectCount = { 
/**
 * Their number.
 */
objects: number, 
/**
 * Their bytes.
 */
bytes: number, };
export type RepositoryStatus = { 
/**
 * Its key slots.
 */
slots: Array<KeySlot>, 
/**
 * What its store honours.
 */
store: { put_if_absent: boolean; list_after_write: boolean; range_get: boolean; lock: { kind: "none" | "no_rule" | "unknown" } | { kind: "rule"; mode: "governance" | "compliance"; days: number } }, 
/**
 * Objects and bytes by the first part of their names.
 */
objects: { [key in string]: ObjectCount }, 
/**
 * All bytes stored.
 */
bytes: number, 
/**
 * The repository's own identity.
 */
id: string, 
/**
 * Where it is.
 */
url: string, 
/**
 * When this machine came to know it.
 */
attached_at: string, 
/**
 * How it is unlocked here.
 */
unlock: UnlockSource, };
export type RemovedKey = { 
/**
 * The slot's id.
 */
removed: string, 
/**
 * What this does and does not mean.
 */
means: string, 
/**
 * The ways in that are left.
 */
left: Array<KeySlot>, };
export type RotatedKey = { 
/**
 * The slot whose secret opens nothing any more.
 */
removed: string, 
/**
 * What this does and does not mean.
 */
means: string, 
/**
 * The slot in its place.
 */
added: KeySlot, };
export type MadeKeyPair = { 
/**
 * What to hand out, a line of text.
 */
public_key: string, 
/**
 * Where the private key is: a file, or the OS keychain when there is none.
 */
private_key_file: string | null, };
export type RecoveryKit = { 
/**
 * The page: for its owner's eyes only.
 */
file: string, 
/**
 * The slot that the kit's key opens; remove it when the kit is lost.
 */
slot: string, 
/**
 * What the slot is called.
 */
label: string, 
/**
 * The repository.
 */
repository: string, };
export type NewSlotKey = { "kind": "passphrase", 
/**
 * The passphrase.
 */
passphrase: string, } | { "kind": "keychain", } | { "kind": "recovery-key", 
/**
 * The new file that it is written to.
 */
file: string, } | { "kind": "public-key", 
/**
 * The text that `key_pair_generate` has made.
 */
text: string, };
export type WorkspaceStatus = { 
/**
 * Holdfast's version.
 */
version: string, 
/**
 * The home directory.
 */
home: string, 
/**
 * Where secrets are kept.
 */
secret_store: SecretStoreStatus, 
/**
 * Known repositories.
 */
repositories: Array<RepositorySummary>, 
/**
 * Known clusters.
 */
clusters: Array<ClusterSummary>, 
/**
 * Jobs that run now.
 */
running_jobs: Array<JobSummary>, 
/**
 * PostgreSQL servers that can be started here.
 */
server_binaries: Array<ServerBinaries>, 
/**
 * The demo workspace, when there is one.
 */
demo: DemoStatus | null, };
export type Destination = { 
/**
 * It does not exist yet.
 */
path: string, };
export type JobRef = { 
/**
 * The job.
 */
job: string, };
export type JobDetail = { 
/**
 * The job.
 */
job: JobSummary, 
/**
 * The number of its last event.
 */
last_seq: number, 
/**
 * What a restore in place has set aside, until it is purged.
 */
set_aside: SetAside | null, 
/**
 * Its result, with the job's kind.
 */
result: JobResult | null, };
export type JobResult =
  | ({ kind: "backup" } & BackupResult)
  | ({ kind: "archive" } & ArchiveResult)
  | ({ kind: "restore" } & RestoreResult)
  | ({ kind: "rescue" } & RescueResult)
  | ({ kind: "verify" } & VerifyResult)
  | ({ kind: "bundle" } & BundleResult)
  | ({ kind: "replication" } & ReplicationResult)
  | ({ kind: "rekey" } & RekeyResult)
  | ({ kind: "retention" } & RetentionApplied)
  | ({ kind: "demo" } & DemoResult);

/** Every command of the product: name, request, response. */
export interface Commands {
  workspace_status: { request: Record<string, never>; response: WorkspaceStatus };
  overview: { request: Record<string, never>; response: ClusterOverview[] };
  repository_create: { request: { 
/**
 * A folder, or `file://`, `s3://`, `gs://`, `az://`.
 */
url: string, 
/**
 * Adds a passphrase slot.
 */
passphrase: string | null, 
/**
 * Keeps a key in the OS keychain.
 */
keychain: boolean, 
/**
 * Writes a recovery key to this new file.
 */
recovery_key_file: string | null, }; response: RepositorySummary };
  repository_attach: { request: { 
/**
 * Where it is.
 */
url: string, 
/**
 * Its passphrase.
 */
passphrase: string | null, 
/**
 * Or its recovery key.
 */
recovery_key: string | null, 
/**
 * Keeps a key in the OS keychain for the next time.
 */
keychain: boolean, }; response: RepositorySummary };
  repository_status: { request: { 
/**
 * Id or URL; none when there is only one.
 */
repository: string | null, }; response: RepositoryStatus };
  keys_list: { request: { 
/**
 * Id or URL; none when there is only one.
 */
repository: string | null, }; response: KeySlot[] };
  keys_add: { request: { 
/**
 * Id or URL of the repository; none when there is only one.
 */
repository: string | null, 
/**
 * What is to open it.
 */
key: NewSlotKey, 
/**
 * What it is called; none for a name by its kind.
 */
label: string | null, }; response: KeySlot };
  keys_remove: { request: { 
/**
 * Id or URL of the repository; none when there is only one.
 */
repository: string | null, 
/**
 * The slot's id.
 */
slot: string, 
/**
 * Although no passphrase or recovery key would be left.
 */
force: boolean, }; response: RemovedKey };
  keys_rotate: { request: { 
/**
 * Id or URL of the repository; none when there is only one.
 */
repository: string | null, 
/**
 * The slot's id.
 */
slot: string, 
/**
 * What is to open it, of the same kind.
 */
key: NewSlotKey, }; response: RotatedKey };
  key_pair_generate: { request: { 
/**
 * The new file for the public key.
 */
public_key_file: string, 
/**
 * The new file for the private key; none for the OS keychain.
 */
private_key_file: string | null, }; response: MadeKeyPair };
  recovery_kit: { request: { 
/**
 * Id or URL of the repository; none when there is only one.
 */
repository: string | null, 
/**
 * The new file: plain text when its name ends in `.txt`, else HTML.
 */
file: string, }; response: RecoveryKit };
  cluster_check: { request: { 
/**
 * A connection string without a password.
 */
dsn: string, 
/**
 * The password, when one is needed; it is not kept.
 */
password: string | null, }; response: ClusterCheck };
  cluster_add: { request: { 
/**
 * Its name.
 */
name: string, 
/**
 * A connection string without a password.
 */
dsn: string, 
/**
 * The password; it goes to the OS keychain.
 */
password: string | null, 
/**
 * Id or URL of the repository; none when there is only one.
 */
repository: string | null, }; response: ClusterSummary };
  cluster_remove: { request: { 
/**
 * The cluster.
 */
name: string, }; response: null };
  points: { request: { 
/**
 * The cluster.
 */
cluster: string, 
/**
 * Not before.
 */
from: string | null, 
/**
 * Not after.
 */
to: string | null, }; response: Points };
  timeline: { request: { 
/**
 * The cluster.
 */
cluster: string, 
/**
 * Between which times; none for all of it.
 */
shown: TimeSpan | null, 
/**
 * In how many columns, at most 400: snapshots and restore points that fall into one are a group.
 */
groups: number, 
/**
 * Into how many buckets commits are counted, at most 2000.
 */
buckets: number, 
/**
 * Commits along the way to this timeline; none for the newest.
 */
timeline: number | null, }; response: Timeline };
  commits: { request: { 
/**
 * The cluster.
 */
cluster: string, 
/**
 * Around this time.
 */
around: string | null, 
/**
 * Around this LSN.
 */
around_lsn: string | null, 
/**
 * Around the end of this transaction.
 */
around_xid: string | null, 
/**
 * How many, at most 1000.
 */
limit: number, 
/**
 * Along the way to this timeline; none for the newest.
 */
timeline: number | null, }; response: CommitPage };
  density: { request: { 
/**
 * The cluster.
 */
cluster: string, 
/**
 * From.
 */
from: string, 
/**
 * To.
 */
to: string, 
/**
 * Into how many buckets, at most 2000.
 */
buckets: number, 
/**
 * Along the way to this timeline; none for the newest.
 */
timeline: number | null, }; response: Density };
  markers: { request: { 
/**
 * The cluster.
 */
cluster: string, 
/**
 * Committed at this time or later.
 */
from: string | null, 
/**
 * Committed before this time.
 */
to: string | null, 
/**
 * How many transactions are named, at most 2000; of more the gravest.
 */
limit: number, 
/**
 * Into how many spans of time all are counted, at most 2000; 0 for none.
 */
buckets: number, 
/**
 * Read WAL that was archived without markers, up to 256 segments.
 */
rebuild: boolean, }; response: Markers };
  find: { request: { 
/**
 * The cluster.
 */
cluster: string, 
/**
 * Only this table: `name`, `schema.name` or `database.schema.name`, as it was called then.
 */
table: string | null, 
/**
 * Only this transaction.
 */
xid: string | null, 
/**
 * Dropped tables and databases.
 */
drops: boolean, 
/**
 * Truncated tables.
 */
truncates: boolean, 
/**
 * Transactions that deleted many rows of a table.
 */
mass_deletes: boolean, 
/**
 * Only what ended at this time or later.
 */
from: string | null, 
/**
 * Only what ended at this time or earlier.
 */
to: string | null, }; response: Found };
  backup_start: { request: { 
/**
 * The cluster.
 */
cluster: string, 
/**
 * Why.
 */
reason: string | null, 
/**
 * Whether to read only what changed; a full backup unless said.
 */
incremental?: IncrementalMode, }; response: JobRef };
  archive_start: { request: { 
/**
 * The cluster.
 */
cluster: string, }; response: JobRef };
  retention_plan: { request: { 
/**
 * The cluster.
 */
cluster: string, 
/**
 * For a time to come instead of now.
 */
at: string | null, 
/**
 * By another policy than the cluster's.
 */
policy: Policy | null, 
/**
 * So many snapshots and stretches of WAL are listed at most.
 */
limit: number, }; response: RetentionOutline };
  policy_set: { request: { 
/**
 * The cluster.
 */
cluster: string, 
/**
 * What is to be kept from now on.
 */
policy: Policy, }; response: PolicyVersion };
  retention_queue: { request: { 
/**
 * The cluster.
 */
cluster: string, }; response: Queued[] };
  retention_start: { request: { 
/**
 * The cluster.
 */
cluster: string, }; response: JobRef };
  retention_undelete: { request: { 
/**
 * The cluster.
 */
cluster: string, 
/**
 * One mark; null for all of the cluster.
 */
mark: string | null, }; response: Undeleted };
  holds_list: { request: { 
/**
 * The cluster.
 */
cluster: string, }; response: Hold[] };
  holds_add: { request: { 
/**
 * The cluster.
 */
cluster: string, 
/**
 * The snapshot; null for a hold on a time.
 */
snapshot: string | null, 
/**
 * The first moment that is held; null for a hold on a snapshot.
 */
from: string | null, 
/**
 * The last moment that is held.
 */
to: string | null, 
/**
 * Why, in somebody's words.
 */
reason: string, }; response: Hold };
  holds_remove: { request: { 
/**
 * The cluster.
 */
cluster: string, 
/**
 * The hold's id.
 */
hold: string, }; response: Hold };
  replicas_list: { request: { 
/**
 * The cluster.
 */
cluster: string, }; response: Replicas };
  replicas_forget: { request: { 
/**
 * Whose repository.
 */
cluster: string, 
/**
 * The replica.
 */
url: string, }; response: null };
  replicate_start: { request: { 
/**
 * Whose repository.
 */
cluster: string, 
/**
 * Where to; null for every known place. One that is not known becomes known.
 */
to: string | null, 
/**
 * Bytes a second that may be sent; null for no limit.
 */
bytes_per_second: number | null, }; response: JobRef };
  bundle_start: { request: { 
/**
 * Of which cluster.
 */
cluster: string, 
/**
 * The snapshot; null for the newest that can be restored.
 */
snapshot: string | null, 
/**
 * The time that can be restored to at the latest; null for all WAL that there is.
 */
through: string | null, 
/**
 * The whole path, which does not exist: a tar file when it ends in `.tar`, else a folder.
 */
to: string, }; response: JobRef };
  verify_start: { request: { 
/**
 * The cluster whose repository is read and whose snapshots are judged; none when there is only one
 * repository.
 */
cluster: string | null, 
/**
 * How deep; every byte unless said otherwise.
 */
level?: Depth, 
/**
 * One part of packs, WAL and files, such as `1/7`; all of them unless said otherwise.
 */
sample?: string, 
/**
 * One snapshot and what it needs.
 */
snapshot?: string, }; response: JobRef };
  verify_offline_start: { request: { 
/**
 * A bundle, or a repository in a folder.
 */
path: string, 
/**
 * Its passphrase.
 */
passphrase: string | null, 
/**
 * Or its recovery key.
 */
recovery_key: string | null, 
/**
 * How deep.
 */
level: Depth, }; response: JobRef };
  restore_destination: { request: { 
/**
 * The cluster.
 */
cluster: string, }; response: Destination };
  restore_plan: { request: { 
/**
 * The new data directory.
 */
to: string, 
/**
 * Into a new directory unless said otherwise.
 */
placement?: Placement, 
/**
 * Directories of their own for tablespaces, by oid.
 */
tablespaces?: Record<string, string>, 
/**
 * The cluster.
 */
cluster: string, 
/**
 * `latest`, `immediate`, `time:T`, `xid:N`, `lsn:X/Y`, `name:TEXT`.
 */
target: string, 
/**
 * Whether the target itself is left out.
 */
exclusive: boolean, 
/**
 * `latest`, `current` or a number; none for `latest`.
 */
timeline: string | null, 
/**
 * A given snapshot; none for the one that reaches the target soonest.
 */
snapshot: string | null, 
/**
 * Go on although this host differs.
 */
accept_host_differences: boolean, }; response: RestorePlan };
  restore_loss: { request: { 
/**
 * The new data directory.
 */
to: string, 
/**
 * Into a new directory unless said otherwise.
 */
placement?: Placement, 
/**
 * Directories of their own for tablespaces, by oid.
 */
tablespaces?: Record<string, string>, 
/**
 * The cluster.
 */
cluster: string, 
/**
 * `latest`, `immediate`, `time:T`, `xid:N`, `lsn:X/Y`, `name:TEXT`.
 */
target: string, 
/**
 * Whether the target itself is left out.
 */
exclusive: boolean, 
/**
 * `latest`, `current` or a number; none for `latest`.
 */
timeline: string | null, 
/**
 * A given snapshot; none for the one that reaches the target soonest.
 */
snapshot: string | null, 
/**
 * Go on although this host differs.
 */
accept_host_differences: boolean, }; response: LossChanges };
  restore_run: { request: { 
/**
 * The plan's hash.
 */
plan_hash: string, 
/**
 * What to do at the target.
 */
at_target: AtTarget, 
/**
 * Whether the private server stays up.
 */
start: boolean, 
/**
 * The new data directory.
 */
to: string, 
/**
 * Into a new directory unless said otherwise.
 */
placement?: Placement, 
/**
 * Directories of their own for tablespaces, by oid.
 */
tablespaces?: Record<string, string>, 
/**
 * The cluster.
 */
cluster: string, 
/**
 * `latest`, `immediate`, `time:T`, `xid:N`, `lsn:X/Y`, `name:TEXT`.
 */
target: string, 
/**
 * Whether the target itself is left out.
 */
exclusive: boolean, 
/**
 * `latest`, `current` or a number; none for `latest`.
 */
timeline: string | null, 
/**
 * A given snapshot; none for the one that reaches the target soonest.
 */
snapshot: string | null, 
/**
 * Go on although this host differs.
 */
accept_host_differences: boolean, }; response: JobRef };
  restore_step: { request: { 
/**
 * The restore's job.
 */
job: string, 
/**
 * How many commits.
 */
commits: number, }; response: RestoreResult };
  restore_inspect: { request: { 
/**
 * The restore's job.
 */
job: string, 
/**
 * The database; "postgres" when none is named.
 */
database: string | null, 
/**
 * One query: SELECT, VALUES, TABLE or WITH.
 */
sql: string, 
/**
 * How many rows at most; 1000 when not said.
 */
rows: number | null, }; response: Inspection };
  restore_pause: { request: { 
/**
 * The job.
 */
job: string, }; response: null };
  restore_resume: { request: { 
/**
 * The job.
 */
job: string, }; response: null };
  restore_promote: { request: { 
/**
 * The job.
 */
job: string, }; response: RestoreResult };
  restore_discard: { request: { 
/**
 * The job.
 */
job: string, }; response: null };
  restore_swap_back: { request: { 
/**
 * The job.
 */
job: string, }; response: Swapped };
  restore_purge: { request: { 
/**
 * The job.
 */
job: string, }; response: Purged };
  rescue_start: { request: { 
/**
 * The tables, as SQL names them.
 */
tables: Array<string>, 
/**
 * Their database; none for that of the cluster's connection string.
 */
database: string | null, 
/**
 * Only rows for which this holds.
 */
condition: string | null, 
/**
 * Also what refers to them, and what all of it refers to.
 */
follow: boolean, 
/**
 * A new file, or a connection string of a live database.
 */
into: string, 
/**
 * Where the private copy goes; none for a place of its own.
 */
copy: string | null, 
/**
 * What becomes of rows that differ.
 */
mode: MergeMode, 
/**
 * Keep the triggers of users from running.
 */
without_triggers: boolean, 
/**
 * The cluster.
 */
cluster: string, 
/**
 * `latest`, `immediate`, `time:T`, `xid:N`, `lsn:X/Y`, `name:TEXT`.
 */
target: string, 
/**
 * Whether the target itself is left out.
 */
exclusive: boolean, 
/**
 * `latest`, `current` or a number; none for `latest`.
 */
timeline: string | null, 
/**
 * A given snapshot; none for the one that reaches the target soonest.
 */
snapshot: string | null, 
/**
 * Go on although this host differs.
 */
accept_host_differences: boolean, }; response: JobRef };
  jobs_list: { request: Record<string, never>; response: JobSummary[] };
  job_show: { request: { 
/**
 * The job.
 */
job: string, }; response: JobDetail };
  job_cancel: { request: { 
/**
 * The job.
 */
job: string, }; response: null };
  demo_start: { request: Record<string, never>; response: JobRef };
  demo_discard: { request: Record<string, never>; response: null };
}
