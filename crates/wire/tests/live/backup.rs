//! Base backups, drained whole and checked by the server's own tools.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use futures_util::stream;
use holdfast_postgres::Lsn;
use holdfast_wire::{
    BackupEnd, BackupEvent, BaseBackupOptions, Connection, SessionKind, WireError,
};

use crate::on_each_major;
use crate::server::{Installation, Server, Setup, error_of, path};

pub(crate) struct Archive {
    pub(crate) name: String,
    pub(crate) oid: Option<u32>,
    pub(crate) path: Option<String>,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) struct Drained {
    pub(crate) start_lsn: Lsn,
    pub(crate) archives: Vec<Archive>,
    pub(crate) manifest: Vec<u8>,
    pub(crate) progress: Vec<u64>,
    pub(crate) end: BackupEnd,
}

fn options() -> BaseBackupOptions {
    BaseBackupOptions {
        label: "a test's".to_owned(),
        fast_checkpoint: true,
        progress: true,
        ..BaseBackupOptions::default()
    }
}

pub(crate) async fn drain(connection: Connection) -> Drained {
    drain_with(connection, options()).await.unwrap()
}

async fn drain_with(
    connection: Connection,
    options: BaseBackupOptions,
) -> Result<Drained, WireError> {
    let mut backup = connection.base_backup(options).await?;
    let start_lsn = backup.start_lsn();
    assert!(backup.tablespaces().last().unwrap().oid.is_none(), "the data directory comes last");
    let (mut archives, mut manifest, mut progress) =
        (Vec::<Archive>::new(), Vec::new(), Vec::new());
    let mut in_manifest = false;
    while let Some(event) = backup.next().await? {
        match event {
            BackupEvent::Archive { name, tablespace_path, tablespace_oid, .. } => {
                archives.push(Archive {
                    name,
                    oid: tablespace_oid,
                    path: tablespace_path,
                    bytes: Vec::new(),
                });
            }
            BackupEvent::ManifestStart => in_manifest = true,
            BackupEvent::Data(bytes) if in_manifest => manifest.extend_from_slice(&bytes),
            BackupEvent::Data(bytes) => {
                archives.last_mut().unwrap().bytes.extend_from_slice(&bytes);
            }
            BackupEvent::Progress(done) => progress.push(done),
            BackupEvent::Notice(_) => {}
        }
    }
    assert!(backup.next().await?.is_none(), "the end stays the end");
    let end = backup.finish().await?;
    Ok(Drained { start_lsn, archives, manifest, progress, end })
}

/// Unpacks the archives with `tar`, tablespaces where a restored server looks for them.
fn unpack(drained: &Drained, target: &Path) {
    let base = drained.archives.iter().filter(|archive| archive.oid.is_none());
    let spaces = drained.archives.iter().filter(|archive| archive.oid.is_some());
    for archive in base.chain(spaces) {
        let folder = match archive.oid {
            None => target.to_owned(),
            Some(oid) => target.join("pg_tblspc").join(oid.to_string()),
        };
        fs::create_dir_all(&folder).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), &archive.bytes).unwrap();
        let done = Command::new("tar")
            .args(["-xf", path(file.path()), "-C", path(&folder)])
            .status()
            .unwrap();
        assert!(done.success());
    }
    fs::write(target.join("backup_manifest"), &drained.manifest).unwrap();
}

fn verify_with_the_servers_tool(server: &Server, drained: &Drained) {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    unpack(drained, folder.path());
    // Whoever may run the tool must read what tar made with the server's modes.
    let done = Command::new("chmod").args(["-R", "a+rX", path(folder.path())]).status().unwrap();
    assert!(done.success());
    let said = server.tool("pg_verifybackup", &["-n", path(folder.path())]);
    assert!(said.contains("successfully verified"), "{said}");
}

async fn with_a_tablespace(setup: &Setup, installation: Installation) -> (Server, String) {
    let server = Server::start_with(installation, setup);
    let space = server.folder().join("space");
    server.sql("CREATE TABLE small AS SELECT generate_series(1, 1000) AS x").await;
    server.make_folder(&space);
    server.sql(&format!("CREATE TABLESPACE fast LOCATION '{}'", path(&space))).await;
    server.sql("CREATE TABLE large TABLESPACE fast AS SELECT i, repeat('x', 500) FROM generate_series(1, 5000) i").await;
    (server, path(&space).to_owned())
}

async fn full(installation: Installation) {
    let major = installation.major;
    let (server, space) = with_a_tablespace(&Setup::default().initdb("-k"), installation).await;
    let connection = server.admin(SessionKind::PhysicalReplication).await;
    let drained = drain(connection).await;
    assert_eq!(drained.archives.len(), 2);
    assert_eq!(drained.archives[1].name, "base.tar");
    assert_eq!(drained.archives[1].path, None);
    assert_eq!(drained.archives[0].path.as_deref(), Some(space.as_str()));
    assert_eq!(drained.archives[0].name, format!("{}.tar", drained.archives[0].oid.unwrap()));
    assert!(drained.archives.iter().all(|archive| archive.bytes.len() % 512 == 0));
    assert!(major < 15 || drained.progress.last().unwrap() > &1_000_000);
    let manifest: serde_json::Value = serde_json::from_slice(&drained.manifest).unwrap();
    assert!(manifest["Files"].as_array().unwrap().len() > 500);
    assert_eq!(manifest["WAL-Ranges"][0]["Start-LSN"], drained.start_lsn.to_string());
    assert_eq!(manifest["WAL-Ranges"][0]["End-LSN"], drained.end.end_lsn.to_string());
    verify_with_the_servers_tool(&server, &drained);

    // The connection is idle again, and another backup can follow, without manifest and with WAL.
    let mut connection = drained.end.connection;
    assert_eq!(connection.show("block_size").await.unwrap(), "8192");
    let second = drain_with(
        connection,
        BaseBackupOptions {
            manifest: false,
            include_wal: true,
            verify_checksums: false,
            max_rate_kib: Some(1_048_576),
            progress: false,
            ..options()
        },
    )
    .await
    .unwrap();
    assert!(second.manifest.is_empty());
    assert!(second.start_lsn > drained.start_lsn);
}

async fn full_backup(major: u32) {
    full(Installation::required(major)).await;
}
on_each_major!(full_backup);

/// The older grammar and the older form of the stream.
#[tokio::test]
async fn full_backup_on_14_where_it_is_installed() {
    match Installation::find(14) {
        Some(installation) => full(installation).await,
        None => eprintln!("not tested: no PostgreSQL 14 (HOLDFAST_PG_BIN_14)"),
    }
}

async fn damaged_pages(major: u32) {
    let mut server = Server::start(major, &Setup::default().initdb("-k"));
    server
        .sql("CREATE TABLE t AS SELECT i, repeat('x', 100) FROM generate_series(1, 5000) i")
        .await;
    let file = server.sql("SELECT pg_relation_filepath('t')").await.unwrap();
    server.stop("fast");
    damage(&server.data().join(file), 3);
    server.run();
    let connection = server.admin(SessionKind::PhysicalReplication).await;
    let error = error_of(drain_with(connection, options()).await);
    let WireError::ChecksumFailure { end_lsn, timeline, warnings, server: said } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(error.code(), "page_checksum_failure");
    assert!(end_lsn.is_some_and(Lsn::is_valid) && timeline.is_some());
    assert_eq!(said.sqlstate, "XX001");
    assert!(warnings.iter().any(|warning| warning.message.contains("block 3")), "{warnings:?}");

    // Without the server's verification nobody notices.
    let connection = server.admin(SessionKind::PhysicalReplication).await;
    let blind = BaseBackupOptions { verify_checksums: false, ..options() };
    assert!(drain_with(connection, blind).await.is_ok());
}
on_each_major!(damaged_pages);

/// Changes one byte in the middle of a page.
fn damage(file: &Path, page: u64) {
    let mut file = fs::OpenOptions::new().read(true).write(true).open(file).unwrap();
    let at = SeekFrom::Start(page * 8192 + 5000);
    let mut byte = [0];
    file.seek(at).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(at).unwrap();
    file.write_all(&[byte[0] ^ 0xff]).unwrap();
}

async fn given_up_half_way(major: u32) {
    let server = Server::start(major, &Setup::default());
    let connection = server.admin(SessionKind::PhysicalReplication).await;
    let mut backup = connection.base_backup(options()).await.unwrap();
    backup.next().await.unwrap();
    let error = error_of(backup.finish().await);
    assert_eq!(error.code(), "connection_misuse");
    // A wrong option is the server's to refuse.
    let connection = server.admin(SessionKind::PhysicalReplication).await;
    let wrong = BaseBackupOptions { max_rate_kib: Some(1), ..options() };
    let error = error_of(connection.base_backup(wrong).await);
    assert_eq!(error.code(), "server_error");
}
on_each_major!(given_up_half_way);

fn pieces(manifest: &[u8]) -> impl futures_util::Stream<Item = std::io::Result<Bytes>> {
    let pieces: Vec<_> = manifest.chunks(100_000).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
    stream::iter(pieces)
}

#[tokio::test]
async fn incremental_backups_on_17() {
    let server = Server::start(17, &Setup::default().conf("summarize_wal = on"));
    server
        .sql("CREATE TABLE t AS SELECT i, repeat('x', 100) FROM generate_series(1, 50000) i")
        .await;
    let connection = server.admin(SessionKind::PhysicalReplication).await;
    let first = drain(connection).await;
    server.sql("UPDATE t SET i = -i WHERE i = 7").await;

    let size = |archives: &[Archive]| archives.iter().map(|a| a.bytes.len()).sum::<usize>();
    let first_size = size(&first.archives);
    let mut connection = first.end.connection;
    // A source that fails, and a manifest that is none: the connection survives both.
    let broken = stream::iter([Ok(Bytes::from_static(b"{")), Err(std::io::Error::other("cut"))]);
    assert_eq!(error_of(connection.upload_manifest(broken).await).code(), "manifest_unreadable");
    let nonsense = stream::iter([Ok(Bytes::from(vec![b'x'; 1_000_000]))]);
    assert_eq!(error_of(connection.upload_manifest(nonsense).await).code(), "server_error");

    let sent = connection.upload_manifest(pieces(&first.manifest)).await.unwrap();
    assert_eq!(sent, u64::try_from(first.manifest.len()).unwrap());
    let second =
        drain_with(connection, BaseBackupOptions { incremental: true, ..options() }).await.unwrap();
    assert!(size(&second.archives) * 2 < first_size, "{} {first_size}", size(&second.archives));
    let manifest = String::from_utf8_lossy(&second.manifest);
    assert!(manifest.contains("/INCREMENTAL."));
    verify_with_the_servers_tool(&server, &second);
}

#[tokio::test]
async fn incremental_backups_are_not_for_15() {
    let server = Server::start(15, &Setup::default());
    let mut connection = server.admin(SessionKind::PhysicalReplication).await;
    let error = error_of(connection.upload_manifest(pieces(b"{}")).await);
    assert_eq!(error.code(), "version_unsupported");
    let incremental = BaseBackupOptions { incremental: true, ..options() };
    let error = error_of(connection.base_backup(incremental).await);
    assert_eq!(error.code(), "version_unsupported");
}

/// Run by hand, with `--release`: how fast a large backup passes when nothing is done with it.
#[tokio::test]
#[ignore = "a measurement, not a test"]
async fn throughput() {
    let server = Server::start(17, &Setup::default().conf("max_wal_size = '10GB'"));
    server
        .sql("CREATE UNLOGGED TABLE t AS SELECT i, repeat(md5(i::text), 30) FROM generate_series(1, 1000000) i; ALTER TABLE t SET LOGGED")
        .await;
    let connection = server.admin(SessionKind::PhysicalReplication).await;
    let options = BaseBackupOptions { manifest: false, ..options() };
    let mut backup = connection.base_backup(options).await.unwrap();
    let began = std::time::Instant::now();
    let (mut bytes, mut messages) = (0_usize, 0_usize);
    while let Some(event) = backup.next().await.unwrap() {
        if let BackupEvent::Data(data) = event {
            bytes += data.len();
            messages += 1;
        }
    }
    let took = began.elapsed();
    backup.finish().await.unwrap();
    eprintln!("{} MiB in {messages} messages: {took:?}", bytes >> 20);
}
