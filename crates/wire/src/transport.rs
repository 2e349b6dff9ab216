//! The byte stream below the protocol: TCP, TLS over TCP, or a Unix socket.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::dsn::{Dsn, HostPort, TcpOptions};
use crate::error::{CertificateProblem, WireError};
use crate::tls::{self, TlsFacts};

/// A connected stream.
pub(crate) enum Transport {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    #[cfg(unix)]
    Unix(tokio::net::UnixStream),
}

/// How a new stream came to be.
pub(crate) struct Opened {
    pub(crate) transport: Transport,
    pub(crate) tls: Option<TlsFacts>,
    /// Hash of the server's certificate for SCRAM (`tls-server-end-point`, RFC 5929); `None`
    /// without TLS, or when the certificate's signature algorithm defines none.
    pub(crate) end_point_hash: Option<Vec<u8>>,
}

/// What one attempt does about encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encryption {
    /// None.
    Plain,
    /// If the server has it.
    IfOffered,
    /// Or the attempt fails.
    Required,
}

/// The server's answers to an `SSLRequest`.
const SSL_YES: u8 = b'S';
const SSL_NO: u8 = b'N';

/// Opens a stream to one address of one host. On a Unix socket there is never TLS.
pub(crate) async fn open(
    dsn: &Dsn,
    host: &HostPort,
    address: Option<SocketAddr>,
    encryption: Encryption,
) -> Result<Opened, WireError> {
    let plain = |transport| Opened { transport, tls: None, end_point_hash: None };
    let unreachable = |source| WireError::Unreachable { host: host.to_string(), source };
    let Some(address) = address else {
        return Ok(plain(connect_unix(host).await.map_err(unreachable)?));
    };
    let mut stream = connect_tcp(address, &dsn.tcp).await.map_err(unreachable)?;
    if encryption == Encryption::Plain {
        return Ok(plain(Transport::Tcp(stream)));
    }
    if !dsn.direct_tls {
        match ask_for_tls(&mut stream).await? {
            SSL_YES => {}
            SSL_NO if encryption == Encryption::IfOffered => {
                return Ok(plain(Transport::Tcp(stream)));
            }
            SSL_NO => {
                return Err(WireError::TlsRefusedByServer {
                    host: host.to_string(),
                    mode: dsn.sslmode,
                });
            }
            // An error text may follow, but nobody has proven to be the server: it is not shown.
            b'E' => return Err(WireError::protocol("it refused to talk about encryption")),
            other => {
                return Err(WireError::protocol(format!(
                    "it answered the request for encryption with 0x{other:02x}"
                )));
            }
        }
    }
    // Exactly one byte was read before: whatever an attacker put after it is fed to TLS and breaks
    // the handshake instead of being taken for the server's first message.
    let stream = tls::handshake(dsn, host, address.ip(), stream).await?;
    let (tls, end_point_hash) = tls::facts(&stream).map_err(|problem| WireError::Tls {
        host: host.to_string(),
        mode: dsn.sslmode,
        problem: CertificateProblem::Handshake,
        source: Some(problem.into()),
    })?;
    Ok(Opened { transport: Transport::Tls(Box::new(stream)), tls: Some(tls), end_point_hash })
}

async fn ask_for_tls(stream: &mut TcpStream) -> Result<u8, WireError> {
    let during = "asking for encryption";
    let mut request = BytesMut::new();
    postgres_protocol::message::frontend::ssl_request(&mut request);
    stream.write_all(&request).await.map_err(|e| WireError::from_io(during, e))?;
    stream.read_u8().await.map_err(|e| WireError::from_io(during, e))
}

/// The addresses of a host, in the resolver's order; `[None]` for a Unix socket.
pub(crate) async fn addresses(host: &HostPort) -> Result<Vec<Option<SocketAddr>>, WireError> {
    if host.is_unix() {
        return Ok(vec![None]);
    }
    if let Some(address) = host.hostaddr {
        return Ok(vec![Some(SocketAddr::new(address, host.port))]);
    }
    let not_found = |source| WireError::HostNotFound { host: host.host.clone(), source };
    let found: Vec<_> = tokio::net::lookup_host((host.host.as_str(), host.port))
        .await
        .map_err(not_found)?
        .map(Some)
        .collect();
    if found.is_empty() {
        return Err(not_found(io::Error::from(io::ErrorKind::NotFound)));
    }
    Ok(found)
}

#[cfg(unix)]
async fn connect_unix(host: &HostPort) -> io::Result<Transport> {
    let path = host.socket_path().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    tokio::net::UnixStream::connect(path).await.map(Transport::Unix)
}

#[cfg(not(unix))]
async fn connect_unix(_: &HostPort) -> io::Result<Transport> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}

/// TCP with the keepalives that notice a dead peer while nothing is being sent.
async fn connect_tcp(address: SocketAddr, options: &TcpOptions) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    // Status updates and queries are small and wait for answers.
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(&stream);
    if options.keepalives {
        let keepalive = socket2::TcpKeepalive::new()
            .with_time(options.idle)
            .with_interval(options.interval)
            .with_retries(options.count);
        socket.set_tcp_keepalive(&keepalive)?;
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if options.user_timeout.is_some() {
        socket.set_tcp_user_timeout(options.user_timeout)?;
    }
    Ok(stream)
}

impl Transport {
    /// This machine's address on the connection; `None` on a Unix socket.
    pub(crate) fn local_ip(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(stream) => stream.local_addr().ok().map(|address| address.ip()),
            Self::Tls(stream) => stream.get_ref().0.local_addr().ok().map(|address| address.ip()),
            #[cfg(unix)]
            Self::Unix(_) => None,
        }
    }

    /// Whether nobody between the two ends can read along: TLS, or a socket of this machine.
    pub(crate) fn is_private(&self) -> bool {
        !matches!(self, Self::Tcp(_))
    }
}

macro_rules! delegate {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Transport::Tcp($stream) => {
                let $stream = Pin::new($stream);
                $call
            }
            Transport::Tls($stream) => {
                let $stream = Pin::new($stream.as_mut());
                $call
            }
            #[cfg(unix)]
            Transport::Unix($stream) => {
                let $stream = Pin::new($stream);
                $call
            }
        }
    };
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        delegate!(self, stream => stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, stream => stream.poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => stream.poll_shutdown(cx))
    }
}
