//! Slots and streams of WAL.

use std::time::Duration;

use holdfast_postgres::{Lsn, TimelineId};
use holdfast_wire::{Connection, SessionKind, StartedStream, WalMessage, WalStream};

use crate::on_each_major;
use crate::server::{Server, Setup, error_of, path};

const SEGMENT: u64 = 16 * 1024 * 1024;

fn segment_start(lsn: Lsn, size: u64) -> Lsn {
    Lsn(lsn.0 - lsn.0 % size)
}

async fn walsender(server: &Server) -> Connection {
    server.admin(SessionKind::PhysicalReplication).await
}

async fn stream(
    connection: Connection,
    slot: Option<&str>,
    start: Lsn,
    timeline: u32,
) -> WalStream {
    let timeline = TimelineId::new(timeline).unwrap();
    match connection.start_physical(slot, start, timeline).await.unwrap() {
        StartedStream::Streaming(stream) => stream,
        StartedStream::AlreadyEnded { .. } => panic!("the timeline has ended"),
    }
}

/// Reads until WAL up to `end` has arrived, and returns where it stands.
async fn read_to(stream: &mut WalStream, mut at: Lsn, end: Lsn) -> Lsn {
    while at < end {
        if let WalMessage::Data { start, bytes, .. } = stream.next().await.unwrap() {
            assert_eq!(start, at, "without a gap");
            at = start.saturating_add(u64::try_from(bytes.len()).unwrap());
        }
    }
    at
}

async fn flushed(server: &Server) -> Lsn {
    server.sql("SELECT pg_current_wal_flush_lsn()").await.unwrap().parse().unwrap()
}

async fn slots(major: u32) {
    let server = Server::start(major, &Setup::default().conf("wal_level = logical"));
    for kind in
        [SessionKind::PhysicalReplication, SessionKind::DatabaseReplication, SessionKind::Sql]
    {
        let mut connection = server.admin(kind).await;
        assert_eq!(connection.read_slot("holdfast").await.unwrap(), None);
        connection.create_physical_slot("holdfast").await.unwrap();
        let slot = connection.read_slot("holdfast").await.unwrap().unwrap();
        assert_eq!(slot.kind, "physical");
        assert!(slot.restart_lsn.unwrap().is_valid());
        let error = error_of(connection.create_physical_slot("holdfast").await);
        assert_eq!(
            (error.code(), error.server().unwrap().sqlstate.as_str()),
            ("slot_exists", "42710")
        );
        assert!(connection.drop_slot("holdfast").await.unwrap());
        assert!(!connection.drop_slot("holdfast").await.unwrap(), "it is gone already");
        connection.close().await;
    }
    server.sql("SELECT pg_create_logical_replication_slot('decoding', 'test_decoding')").await;
    let slot = walsender(&server).await.read_slot("decoding").await.unwrap().unwrap();
    assert_eq!(slot.kind, "logical");

    let mut connection = walsender(&server).await;
    let identity = connection.identify_system().await.unwrap();
    assert_eq!(identity.timeline.get(), 1);
    assert_eq!(identity.database, None);
    let control = server.tool("pg_controldata", &["-D", path(&server.data())]);
    assert!(control.contains(&identity.system_identifier.to_string()));
    let error = error_of(connection.timeline_history(identity.timeline).await);
    assert_eq!(error.server().unwrap().sqlstate, "58P01");
}
on_each_major!(slots);

async fn feedback(major: u32) {
    let server = Server::start(major, &Setup::default());
    let mut connection = walsender(&server).await;
    connection.create_physical_slot("holdfast").await.unwrap();
    let begin = connection.read_slot("holdfast").await.unwrap().unwrap().restart_lsn.unwrap();
    let start = segment_start(begin, SEGMENT);
    let mut stream = stream(connection, Some("holdfast"), start, 1).await;

    // A second session cannot have the slot.
    let second = walsender(&server).await;
    let error =
        error_of(second.start_physical(Some("holdfast"), start, TimelineId::new(1).unwrap()).await);
    assert_eq!((error.code(), error.retryable()), ("slot_active", true));

    server
        .sql("CREATE TABLE t AS SELECT i, repeat('x', 200) FROM generate_series(1, 100000) i")
        .await;
    let end = flushed(&server).await;
    assert!(end.0 - start.0 > SEGMENT, "more than one segment");
    let at = read_to(&mut stream, start, end).await;

    // The slot follows what was reported as flushed, and nothing else.
    let report = |stream: WalStream, written: Lsn, flush: Lsn| async move {
        let mut stream = stream;
        stream.send_status(written, flush, Lsn::INVALID, true).await.unwrap();
        while !matches!(stream.next().await.unwrap(), WalMessage::Keepalive { .. }) {}
        stream
    };
    let stream = report(stream, at, Lsn::INVALID).await;
    let mut other = walsender(&server).await;
    assert_eq!(other.read_slot("holdfast").await.unwrap().unwrap().restart_lsn, Some(begin));
    let stream = report(stream, at, at).await;
    assert_eq!(other.read_slot("holdfast").await.unwrap().unwrap().restart_lsn, Some(at));

    let mut connection = stream.stop().await.unwrap();
    assert_eq!(connection.show("wal_segment_size").await.unwrap(), "16MB");
    connection.drop_slot("holdfast").await.unwrap();

    // Ahead of the server's WAL there is nothing, which shows only within the stream.
    let mut ahead = self::stream(connection, None, Lsn(at.0 + 100 * SEGMENT), 1).await;
    assert_eq!(error_of(ahead.next().await).code(), "server_error");
}
on_each_major!(feedback);

/// A future that is dropped half-way loses no message.
async fn dropped_futures(major: u32) {
    let server = Server::start(major, &Setup::default());
    let mut connection = walsender(&server).await;
    let start = segment_start(connection.identify_system().await.unwrap().flush_lsn, SEGMENT);
    let mut stream = stream(connection, None, start, 1).await;
    server
        .sql("CREATE TABLE t AS SELECT i, repeat('x', 200) FROM generate_series(1, 50000) i")
        .await;
    let end = flushed(&server).await;
    let mut at = start;
    while at < end {
        let message = tokio::select! {
            biased;
            message = stream.next() => message.unwrap(),
            () = tokio::task::yield_now() => continue,
        };
        if let WalMessage::Data { start, bytes, .. } = message {
            assert_eq!(start, at);
            at = start.saturating_add(u64::try_from(bytes.len()).unwrap());
        }
    }
    drop(stream);
}
on_each_major!(dropped_futures);

/// An idle server answers when it is asked, so silence alone never ends a stream.
async fn silence(major: u32) {
    let server = Server::start(major, &Setup::default().conf("wal_sender_timeout = 0"));
    let mut connection = walsender(&server).await;
    let start = segment_start(connection.identify_system().await.unwrap().flush_lsn, SEGMENT);
    let mut stream = stream(connection, None, start, 1).await;
    stream.set_silence_limits(Duration::from_millis(50), Duration::from_secs(30));
    let mut keepalives = 0;
    while keepalives < 3 {
        if matches!(stream.next().await.unwrap(), WalMessage::Keepalive { .. }) {
            keepalives += 1;
        }
    }
}
on_each_major!(silence);

async fn removed_wal(major: u32) {
    let setup = Setup::default()
        .initdb("--wal-segsize=1")
        .conf("min_wal_size = '2MB'")
        .conf("max_wal_size = '2MB'")
        .conf("wal_keep_size = 0");
    let server = Server::start(major, &setup);
    let mut connection = walsender(&server).await;
    let start = segment_start(connection.identify_system().await.unwrap().flush_lsn, 1024 * 1024);
    for _ in 0..5 {
        server
            .sql("SELECT pg_logical_emit_message(false, 'x', repeat('x', 700000)), pg_switch_wal()")
            .await;
        server.sql("CHECKPOINT").await;
    }
    let mut stream = stream(connection, None, start, 1).await;
    let error = loop {
        match stream.next().await {
            Ok(WalMessage::Keepalive { .. }) => {}
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), "wal_removed");
    assert!(!error.retryable() && error.hint().contains("base backup"));
    assert_eq!(error.server().unwrap().sqlstate, "58P01");
    assert_eq!(error_of(stream.next().await).code(), "connection_misuse");
}
on_each_major!(removed_wal);

async fn promoted_standby(major: u32) {
    let primary = Server::start(major, &Setup::default());
    let mut standby = Server::empty(primary.installation.clone());
    let (data, port) = (standby.data(), primary.port.to_string());
    primary.tool(
        "pg_basebackup",
        &[
            "-h",
            path(primary.folder()),
            "-p",
            &port,
            "-U",
            "postgres",
            "-D",
            path(&data),
            "-R",
            "-N",
            "-c",
            "fast",
        ],
    );
    standby.configure(&Setup::default());
    standby.run();
    let wanted = standby.socket("user=postgres dbname=postgres target_session_attrs=standby");
    assert_eq!(crate::server::outcome(&wanted, None, SessionKind::Sql).await, "ok");

    let mut connection = walsender(&standby).await;
    let start = segment_start(connection.identify_system().await.unwrap().flush_lsn, SEGMENT);
    let mut old = stream(connection, None, start, 1).await;
    standby.sql("SELECT pg_promote()").await;

    let mut at = start;
    let next = loop {
        match old.next().await.unwrap() {
            WalMessage::Data { start, bytes, .. } => {
                assert_eq!(start, at);
                at = start.saturating_add(u64::try_from(bytes.len()).unwrap());
            }
            WalMessage::Keepalive { .. } => {}
            WalMessage::EndOfTimeline { next } => break next.unwrap(),
        }
    };
    assert_eq!(next.timeline.get(), 2);
    assert_eq!(next.switch_lsn, at, "all of the timeline was sent");
    let mut connection = old.into_connection().unwrap();
    let (name, content) = connection.timeline_history(next.timeline).await.unwrap();
    assert_eq!(name, "00000002.history");
    assert!(String::from_utf8_lossy(&content).starts_with(&format!("1\t{at}\t")));

    // At the very end of the old timeline there is nothing more to stream.
    let ended = connection.start_physical(None, at, TimelineId::new(1).unwrap()).await.unwrap();
    let StartedStream::AlreadyEnded { connection, next: again } = ended else {
        panic!("{ended:?}")
    };
    assert_eq!(again, Some(next));

    standby.sql("CREATE TABLE after_promotion ()").await;
    let end = flushed(&standby).await;
    let mut new = stream(connection, None, segment_start(at, SEGMENT), 2).await;
    read_to(&mut new, segment_start(at, SEGMENT), end).await;

    // A server that stops sends all it has, waits until that is reported as flushed, then says so.
    let ended = tokio::spawn(async move {
        loop {
            match new.next().await {
                Err(error) => break error,
                Ok(WalMessage::Data { start, bytes, .. }) => {
                    let end = start.saturating_add(u64::try_from(bytes.len()).unwrap());
                    new.send_status(end, end, end, false).await.unwrap();
                }
                Ok(_) => {}
            }
        }
    });
    tokio::task::spawn_blocking(move || standby.stop("fast")).await.unwrap();
    let error = ended.await.unwrap();
    assert!(error.retryable(), "{error:?}");
}
on_each_major!(promoted_standby);
