//! The client against a peer that is no PostgreSQL server: silent, hostile or broken.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::time::Duration;

use holdfast_postgres::{Lsn, TimelineId};
use holdfast_wire::{
    BaseBackupOptions, Connection, Dsn, SessionKind, StartedStream, WalMessage, WireError,
};
use secrecy::SecretString;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A message of the server.
fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// What a server says that trusts everybody.
fn welcome(version: &str) -> Vec<u8> {
    let mut all = message(b'R', &[0, 0, 0, 0]);
    all.extend(message(b'S', format!("server_version\0{version}\0").as_bytes()));
    all.extend(message(b'K', &[0, 0, 0, 7, 1, 2, 3, 4]));
    all.extend(message(b'Z', b"I"));
    all
}

/// Reads the start-up message.
async fn start_up(stream: &mut TcpStream) {
    let length = stream.read_u32().await.unwrap();
    let mut rest = vec![0; usize::try_from(length).unwrap() - 4];
    stream.read_exact(&mut rest).await.unwrap();
}

/// Reads one message of the client; `None` when it is gone.
async fn read(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let tag = stream.read_u8().await.ok()?;
    let length = stream.read_u32().await.ok()?;
    let mut body = vec![0; usize::try_from(length).unwrap() - 4];
    stream.read_exact(&mut body).await.ok()?;
    Some((tag, body))
}

/// Starts a peer whose only connection is served by `script`, and the string that leads to it.
async fn peer<F>(script: impl FnOnce(TcpStream) -> F + Send + 'static, more: &str) -> Dsn
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        drop(listener);
        script(stream).await;
    });
    let text = format!("hostaddr=127.0.0.1 port={port} user=u sslmode=disable {more}");
    Dsn::parse(&text, &|_| None).unwrap()
}

async fn failure(dsn: &Dsn) -> WireError {
    let password = SecretString::from("p".to_owned());
    Connection::connect(dsn, Some(&password), SessionKind::PhysicalReplication).await.unwrap_err()
}

async fn connected(dsn: &Dsn) -> Connection {
    Connection::connect(dsn, None, SessionKind::PhysicalReplication).await.unwrap()
}

/// Waits until the client hangs up.
async fn hold(mut stream: TcpStream) {
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
}

#[tokio::test]
async fn an_impostor_that_skips_the_proof_is_found_out() {
    let dsn = peer(
        async |mut stream: TcpStream| {
            start_up(&mut stream).await;
            stream.write_all(&message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0")).await.unwrap();
            read(&mut stream).await;
            stream.write_all(&welcome("17.11")).await.unwrap();
            hold(stream).await;
        },
        "",
    )
    .await;
    assert_eq!(failure(&dsn).await.code(), "server_not_verified");
}

#[tokio::test]
async fn a_cleartext_password_is_not_given_away() {
    let (followed, what_followed) = tokio::sync::oneshot::channel();
    let dsn = peer(
        async |mut stream: TcpStream| {
            start_up(&mut stream).await;
            stream.write_all(&message(b'R', &[0, 0, 0, 3])).await.unwrap();
            followed.send(read(&mut stream).await).unwrap();
        },
        "",
    )
    .await;
    assert_eq!(failure(&dsn).await.code(), "authentication_unsupported");
    assert_eq!(what_followed.await.unwrap(), None);
}

#[tokio::test]
async fn a_peer_that_never_answers_times_out() {
    let dsn = peer(hold, "connect_timeout=1").await;
    let error = failure(&dsn).await;
    assert_eq!((error.code(), error.retryable()), ("timeout", true));
}

#[tokio::test]
async fn other_protocols_are_named_as_such() {
    for answer in
        [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"SSH-2.0-x\r\n", &[0xff; 64], b"R\0\0\0\x08"]
    {
        let dsn = peer(
            async move |mut stream: TcpStream| {
                start_up(&mut stream).await;
                stream.write_all(answer).await.unwrap();
            },
            "",
        )
        .await;
        let code = failure(&dsn).await.code();
        assert!(["protocol_violation", "connection_closed"].contains(&code), "{code}");
    }
}

#[tokio::test]
async fn bytes_before_encryption_are_not_believed() {
    let dsn = peer(
        async |mut stream: TcpStream| {
            start_up(&mut stream).await;
            let mut bytes = b"S".to_vec();
            bytes.extend(welcome("17.11"));
            stream.write_all(&bytes).await.unwrap();
            hold(stream).await;
        },
        "",
    )
    .await;
    let dsn = Dsn { sslmode: holdfast_wire::SslMode::Require, ..dsn };
    assert_eq!(failure(&dsn).await.code(), "tls_failed");
}

#[tokio::test]
async fn versions_out_of_range_are_refused() {
    for version in ["13.22", "99.1"] {
        let script = async move |mut stream: TcpStream| {
            start_up(&mut stream).await;
            stream.write_all(&welcome(version)).await.unwrap();
            hold(stream).await;
        };
        let dsn = peer(script, "").await;
        let connection = connected(&dsn).await;
        let error = connection.base_backup(BaseBackupOptions::default()).await.unwrap_err();
        assert_eq!(error.code(), "version_unsupported");
    }
}

/// Answers START_REPLICATION with an open stream.
async fn begin_stream(stream: &mut TcpStream) {
    start_up(stream).await;
    stream.write_all(&welcome("17.11")).await.unwrap();
    read(stream).await.unwrap();
    stream.write_all(&message(b'W', &[0, 0, 0])).await.unwrap();
}

async fn open_stream(dsn: &Dsn) -> holdfast_wire::WalStream {
    let start = connected(dsn).await.start_physical(None, Lsn(0x0100_0000), TimelineId::FIRST);
    match start.await.unwrap() {
        StartedStream::Streaming(stream) => stream,
        StartedStream::AlreadyEnded { .. } => panic!("it has only begun"),
    }
}

#[tokio::test]
async fn a_silent_stream_is_asked_and_then_given_up() {
    let (asked, was_asked) = tokio::sync::oneshot::channel();
    let dsn = peer(
        async |mut stream: TcpStream| {
            begin_stream(&mut stream).await;
            let (tag, body) = read(&mut stream).await.unwrap();
            // A status update whose last byte asks for a reply, with no position advanced.
            asked
                .send(tag == b'd' && body[0] == b'r' && body[1..25] == [0; 24] && body[33] == 1)
                .unwrap();
            hold(stream).await;
        },
        "",
    )
    .await;
    let mut stream = open_stream(&dsn).await;
    stream.set_silence_limits(Duration::from_millis(20), Duration::from_millis(200));
    let error = stream.next().await.unwrap_err();
    assert_eq!((error.code(), error.retryable()), ("timeout", true));
    assert!(was_asked.await.unwrap());
}

#[tokio::test]
async fn a_keepalive_that_wants_an_answer_gets_the_last_positions() {
    let (answer, answered) = tokio::sync::oneshot::channel();
    let dsn = peer(
        async |mut stream: TcpStream| {
            begin_stream(&mut stream).await;
            read(&mut stream).await.unwrap();
            let mut keepalive = vec![b'k'];
            keepalive.extend_from_slice(&[0; 16]);
            keepalive.push(1);
            stream.write_all(&message(b'd', &keepalive)).await.unwrap();
            answer.send(read(&mut stream).await.unwrap().1).unwrap();
            hold(stream).await;
        },
        "",
    )
    .await;
    let mut stream = open_stream(&dsn).await;
    stream.send_status(Lsn(3), Lsn(2), Lsn(1), false).await.unwrap();
    let message = stream.next().await.unwrap();
    assert!(matches!(message, WalMessage::Keepalive { reply_requested: true, .. }));
    let body = answered.await.unwrap();
    assert_eq!((body[8], body[16], body[24], body[33]), (3, 2, 1, 0));
}
