//! Getting in, and being told why not.

use holdfast_wire::{Connection, ReplicationAccess, SessionKind, WireError};

use crate::on_each_major;
use crate::server::{Server, Setup, error_of, outcome, secret};

const SQL: SessionKind = SessionKind::Sql;
const PHYSICAL: SessionKind = SessionKind::PhysicalReplication;

async fn passwords(major: u32) {
    let setup = Setup::hba(&[
        "local all scram scram-sha-256",
        "host all scram all scram-sha-256",
        "host all old all md5",
        "local all open password",
        "host all open all password",
        "host all nobody all trust",
        "host replication nobody all trust",
    ]);
    let server = Server::start(major, &setup);
    server
        .sql(
            "CREATE ROLE scram LOGIN PASSWORD 'right'; SET password_encryption = 'md5'; \
             CREATE ROLE old LOGIN PASSWORD 'right'; CREATE ROLE open LOGIN PASSWORD 'right'; \
             CREATE ROLE nobody LOGIN",
        )
        .await;
    for user in ["scram", "old", "open"] {
        let tcp = server.tcp(&format!("user={user} dbname=postgres"));
        let expected = if user == "open" { "authentication_unsupported" } else { "ok" };
        assert_eq!(outcome(&tcp, Some("right"), SQL).await, expected, "{user}");
    }
    let tcp = server.tcp("user=scram dbname=postgres");
    assert_eq!(outcome(&tcp, Some("wrong"), SQL).await, "authentication_failed");
    assert_eq!(outcome(&tcp, None, SQL).await, "password_missing");
    let socket = server.socket("user=scram dbname=postgres");
    assert_eq!(outcome(&socket, Some("right"), SQL).await, "ok");
    assert_eq!(outcome(&socket, Some("wrong"), SQL).await, "authentication_failed");
    // A cleartext password is let out only where nobody can read along.
    let open = server.socket("user=open dbname=postgres");
    assert_eq!(outcome(&open, Some("right"), SQL).await, "ok");
    let only_scram = server.socket("user=open dbname=postgres require_auth=scram-sha-256");
    assert_eq!(outcome(&only_scram, Some("right"), SQL).await, "authentication_unsupported");

    let missing = server.tcp("user=scram dbname=nowhere");
    assert_eq!(outcome(&missing, Some("right"), SQL).await, "database_missing");
    let nobody = server.tcp("user=nobody dbname=postgres");
    let error = error_of(Connection::connect(&nobody, None, PHYSICAL).await);
    assert_eq!(error.code(), "replication_not_permitted");
    assert!(error.hint().contains("REPLICATION"));
}
on_each_major!(passwords);

async fn nobody_there(major: u32) {
    let mut server = Server::start(major, &Setup::default());
    let (tcp, socket) = (server.tcp("user=u"), server.socket("user=u"));
    // The second host answers.
    let two = format!(
        "host=127.0.0.1,{} port=1,{} user=postgres dbname=postgres",
        server.folder().display(),
        server.port
    );
    assert_eq!(outcome(&crate::server::dsn(&two), None, SQL).await, "ok");
    let standby = server.socket("user=postgres dbname=postgres target_session_attrs=standby");
    assert_eq!(outcome(&standby, None, SQL).await, "wrong_session");
    let prefer = server.socket("user=postgres dbname=postgres target_session_attrs=prefer-standby");
    assert_eq!(outcome(&prefer, None, SQL).await, "ok");
    server.stop("fast");
    assert_eq!(outcome(&tcp, None, SQL).await, "server_unreachable");
    let error = error_of(Connection::connect(&socket, None, SQL).await);
    assert_eq!(error.code(), "server_unreachable");
    assert!(error.retryable() && error.hint().contains("socket"), "{}", error.hint());
    let nowhere = crate::server::dsn("host=does-not-exist.invalid user=u");
    assert_eq!(outcome(&nowhere, None, SQL).await, "host_not_found");
}
on_each_major!(nobody_there);

async fn all_walsenders_taken(major: u32) {
    let setup = Setup::default().conf("max_wal_senders = 1");
    let server = Server::start(major, &setup);
    let first = server.admin(PHYSICAL).await;
    let dsn = server.socket("user=postgres dbname=postgres");
    let error = error_of(Connection::connect(&dsn, None, PHYSICAL).await);
    assert_eq!(error.server().unwrap().sqlstate, "53300");
    assert_eq!(error.code(), "too_many_connections");
    assert!(error.retryable() && error.hint().contains("max_wal_senders"));
    first.close().await;
}
on_each_major!(all_walsenders_taken);

/// The role and the file of a managed server.
async fn managed_server(major: u32) {
    let setup =
        Setup::hba(&["host all all 0.0.0.0/0 scram-sha-256", "host all all ::0/0 scram-sha-256"])
            .conf("wal_level = logical");
    let server = Server::start(major, &setup);
    server
        .sql(
            "CREATE ROLE managed NOSUPERUSER CREATEDB CREATEROLE LOGIN REPLICATION BYPASSRLS PASSWORD 'p'; \
             GRANT pg_monitor, pg_read_all_data, pg_signal_backend TO managed",
        )
        .await;
    let dsn = server.tcp("user=managed dbname=postgres");
    let password = secret("p");
    let error = error_of(Connection::connect(&dsn, Some(&password), PHYSICAL).await);
    assert_eq!(error.code(), "hba_refused");
    let hint = error.hint();
    assert!(hint.contains("host replication managed 127.0.0.1/32 scram-sha-256"), "{hint}");

    let (mut connection, access) =
        Connection::connect_for_backup(&dsn, Some(&password)).await.unwrap();
    assert_eq!(access, ReplicationAccess::ViaDatabase);
    let identity = connection.identify_system().await.unwrap();
    assert_eq!(identity.database.as_deref(), Some("postgres"));
    assert_eq!(connection.query_value("SELECT 1 + 1").await.unwrap().as_deref(), Some("2"));
    assert_eq!(connection.show("wal_level").await.unwrap(), "logical");
    connection.create_physical_slot("s").await.unwrap();
    let end = crate::backup::drain(connection).await;
    assert!(end.end.end_lsn > end.start_lsn);
}
on_each_major!(managed_server);

async fn both_ways_refused(major: u32) {
    let server = Server::start(major, &Setup::hba(&["hostssl all all all scram-sha-256"]));
    server.sql("CREATE ROLE backup LOGIN REPLICATION PASSWORD 'p'").await;
    let dsn = server.tcp("user=backup dbname=postgres");
    let error = error_of(Connection::connect_for_backup(&dsn, Some(&secret("p"))).await);
    let WireError::HbaRefused(refusal) = &error else { panic!("{error:?}") };
    assert!(refusal.tried_database && !refusal.encrypted);
    let hint = error.hint();
    assert!(hint.contains("replication=database"), "{hint}");
    assert!(hint.ends_with("host replication backup 127.0.0.1/32 scram-sha-256"), "{hint}");
}
on_each_major!(both_ways_refused);

async fn queries(major: u32) {
    let server = Server::start(major, &Setup::default());
    let mut connection = server.admin(SQL).await;
    assert_eq!(connection.facts().version.major(), major);
    assert!(connection.facts().backend_pid > 0);
    let sets = connection
        .query("SELECT 1 AS a, NULL AS b; CREATE TABLE t (x int); INSERT INTO t VALUES (1), (2); SELECT x FROM t")
        .await
        .unwrap();
    assert_eq!(sets.len(), 4);
    assert_eq!(sets[0].columns, ["a", "b"]);
    assert_eq!(sets[0].rows, [[Some("1".to_owned()), None]]);
    assert_eq!(sets[2].tag, "INSERT 0 2");
    assert_eq!(sets[3].rows.len(), 2);
    let error = error_of(connection.query("SELECT * FROM nowhere").await);
    assert_eq!(error.server().unwrap().sqlstate, "42P01");
    // After an error, an empty query and a large row it still works.
    assert_eq!(connection.query("").await.unwrap().len(), 1);
    let long = connection.query_value("SELECT repeat('x', 3000000)").await.unwrap().unwrap();
    assert_eq!(long.len(), 3_000_000);
    let error = error_of(
        connection.query("SELECT repeat('x', 1000000) FROM generate_series(1, 100)").await,
    );
    assert_eq!(error.code(), "result_too_large");
    let error = error_of(connection.query("SELECT 1").await);
    assert_eq!(error.code(), "connection_misuse");

    let mut connection = server.admin(SQL).await;
    let pid = connection.facts().backend_pid;
    server.sql(&format!("SELECT pg_terminate_backend({pid}, 10000)")).await;
    let error = error_of(connection.query("SELECT 1").await);
    assert!(["server_shutting_down", "connection_closed"].contains(&error.code()), "{error:?}");
    assert!(error.retryable());
}
on_each_major!(queries);
