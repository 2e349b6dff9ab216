//! A session that is ready for commands.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use holdfast_postgres::ServerVersion;
use postgres_protocol::IsNull;
use postgres_protocol::message::frontend;
use serde::{Deserialize, Serialize};

use crate::error::WireError;
use crate::frame::{Frame, Framed};
use crate::message::{self, tag};
use crate::tls::TlsFacts;
use crate::transport::Transport;

/// How long a command may stay silent, unless [`Connection::set_silence_limit`] says otherwise.
const DEFAULT_SILENCE: Duration = Duration::from_mins(5);

/// How long a polite goodbye may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// How many settings a server may report; a real one reports about fifteen.
const MAX_PARAMETERS: usize = 256;

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionKind {
    /// An ordinary session of one database.
    Sql,
    /// A walsender without a database (`replication=true`): replication commands and `SHOW` only.
    PhysicalReplication,
    /// A walsender of one database (`replication=database`): replication commands and SQL.
    DatabaseReplication,
}

/// What is known about the server once the session is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFacts {
    /// The server's version.
    pub version: ServerVersion,
    /// What the server reports by itself (`server_version`, `in_hot_standby`, `TimeZone`, …), kept
    /// up to date while the connection is used.
    pub parameters: BTreeMap<String, String>,
    /// The encryption, if there is one.
    pub tls: Option<TlsFacts>,
    /// The process id of the session's backend.
    pub backend_pid: i32,
}

/// A session that is idle between commands.
///
/// Dropping it closes the socket; [`Connection::close`] says goodbye first. When the future of a
/// command is dropped half-way the connection is out of step, and every later use answers
/// [`WireError::Misuse`].
pub struct Connection {
    pub(crate) framed: Framed<Transport>,
    pub(crate) facts: ServerFacts,
    pub(crate) kind: SessionKind,
    /// A command was sent and its `ReadyForQuery` has not been seen.
    pub(crate) busy: bool,
    silence: Option<Duration>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("facts", &self.facts)
            .field("kind", &self.kind)
            .field("busy", &self.busy)
            .finish_non_exhaustive()
    }
}

impl Connection {
    pub(crate) fn ready(
        framed: Framed<Transport>,
        facts: ServerFacts,
        kind: SessionKind,
    ) -> Connection {
        Connection { framed, facts, kind, busy: false, silence: Some(DEFAULT_SILENCE) }
    }

    /// What is known about the server.
    pub fn facts(&self) -> &ServerFacts {
        &self.facts
    }

    /// What the session was opened for.
    pub fn kind(&self) -> SessionKind {
        self.kind
    }

    /// Changes how long the server may stay silent during a query or a short replication command
    /// (default: five minutes); `None` waits for ever. Backups and streams have rules of their own.
    /// Gives what it was before.
    pub fn set_silence_limit(&mut self, limit: Option<Duration>) -> Option<Duration> {
        std::mem::replace(&mut self.silence, limit)
    }

    pub(crate) fn silence_limit(&self) -> Option<Duration> {
        self.silence
    }

    /// Says goodbye and closes the socket. Takes two seconds at most.
    pub async fn close(mut self) {
        frontend::terminate(self.framed.output());
        let _ = tokio::time::timeout(GOODBYE, async {
            if self.framed.flush("saying goodbye").await.is_ok() {
                self.framed.shutdown().await;
            }
        })
        .await;
    }

    /// Sends a command in the simple query protocol.
    pub(crate) async fn send_command(
        &mut self,
        text: &str,
        during: &'static str,
    ) -> Result<(), WireError> {
        if self.busy {
            return Err(WireError::Misuse { what: "an earlier command was not read to its end" });
        }
        frontend::query(text, self.framed.output())
            .map_err(|_| WireError::Misuse { what: "a zero byte in a command" })?;
        self.busy = true;
        self.framed.flush(during).await
    }

    /// Sends one statement without parameters in the extended protocol, and `Sync`.
    pub(crate) async fn send_statement(
        &mut self,
        sql: &str,
        during: &'static str,
    ) -> Result<(), WireError> {
        if self.busy {
            return Err(WireError::Misuse { what: "an earlier command was not read to its end" });
        }
        let output = self.framed.output();
        let zero = |_| WireError::Misuse { what: "a zero byte in a command" };
        frontend::parse("", sql, std::iter::empty(), output).map_err(zero)?;
        let none = std::iter::empty::<i16>;
        frontend::bind(
            "",
            "",
            none(),
            std::iter::empty::<()>(),
            |(), _| Ok(IsNull::Yes),
            none(),
            output,
        )
        .map_err(|_| WireError::Misuse { what: "a statement that cannot be bound" })?;
        frontend::execute("", 0, output).map_err(zero)?;
        frontend::sync(output);
        self.busy = true;
        self.framed.flush(during).await
    }

    /// The next message that is about the command: settings that changed are noted, notifications
    /// dropped. Cancel-safe. `limit` bounds the silence before it; `None` waits for ever.
    pub(crate) async fn receive(
        &mut self,
        limit: Option<Duration>,
        during: &'static str,
    ) -> Result<Frame, WireError> {
        loop {
            while let Some(frame) = self.framed.buffered()? {
                match frame.tag {
                    tag::PARAMETER_STATUS => self.note_parameter(&frame.body)?,
                    tag::NOTIFICATION => {}
                    _ => return Ok(frame),
                }
            }
            match limit {
                None => self.framed.fill(during).await?,
                Some(limit) => tokio::time::timeout(limit, self.framed.fill(during))
                    .await
                    .map_err(|_| WireError::Timeout { during: during.to_owned(), limit })??,
            }
        }
    }

    fn note_parameter(&mut self, body: &[u8]) -> Result<(), WireError> {
        let (name, value) = message::parameter(body)?;
        note_parameter(&mut self.facts.parameters, name, value);
        Ok(())
    }
}

/// Keeps a reported setting, unless there are already too many others.
pub(crate) fn note_parameter(
    parameters: &mut BTreeMap<String, String>,
    name: String,
    value: String,
) {
    if parameters.len() < MAX_PARAMETERS || parameters.contains_key(&name) {
        parameters.insert(name, value);
    }
}
