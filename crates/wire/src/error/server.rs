//! An error or notice as the server sent it (protocol.sgml, "Error and Notice Message Fields").

use std::fmt;

use crate::error::WireError;
use crate::message::Cursor;

/// The longest text that is kept of one field, in bytes. The server's own limit is far higher, but
/// nobody reads more, and a peer that is not a server may send anything.
const MAX_FIELD_BYTES: usize = 8 * 1024;

/// The fields of an `ErrorResponse` or `NoticeResponse` that this product uses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerError {
    /// `ERROR`, `FATAL`, `PANIC`, `WARNING`, `NOTICE`, …; never translated.
    pub severity: String,
    /// The five characters of the SQLSTATE (errcodes.txt).
    pub sqlstate: String,
    /// The primary message, in the server's language.
    pub message: String,
    /// More about it.
    pub detail: Option<String>,
    /// What the server suggests.
    pub hint: Option<String>,
    /// The C function that raised it; never translated, so it tells apart what shares an SQLSTATE.
    pub routine: Option<String>,
}

impl ServerError {
    /// Reads the body of the message: fields of one type byte and a string, ended by a zero byte.
    ///
    /// # Errors
    /// [`WireError::Protocol`] when a field is not terminated.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, WireError> {
        let mut cursor = Cursor::new(body);
        let mut error = Self::default();
        let mut localised_severity = String::new();
        loop {
            let field = cursor.u8()?;
            if field == 0 {
                break;
            }
            let raw = cursor.cstr()?;
            let kept = raw.get(..MAX_FIELD_BYTES).unwrap_or(raw);
            let text = String::from_utf8_lossy(kept).into_owned();
            match field {
                b'S' => localised_severity = text,
                b'V' => error.severity = text,
                b'C' => error.sqlstate = text,
                b'M' => error.message = text,
                b'D' => error.detail = Some(text),
                b'H' => error.hint = Some(text),
                b'R' => error.routine = Some(text),
                _ => {}
            }
        }
        if error.severity.is_empty() {
            error.severity = localised_severity;
        }
        Ok(error)
    }

    /// Whether the refusal came from the lines of `pg_hba.conf`, not from a method that failed: both
    /// are 28000. `ClientAuthentication` (`auth.c`) raises the first itself, but a missing client
    /// certificate too; the file's name stands in every translation of the first only.
    pub(crate) fn is_hba_refusal(&self) -> bool {
        self.sqlstate == "28000"
            && self.message.contains("pg_hba.conf")
            && self.routine.as_deref().is_none_or(|routine| routine == "ClientAuthentication")
    }

    /// Whether the message is about `wal_level` (several SQLSTATEs share the meaning).
    pub(crate) fn is_wal_level(&self) -> bool {
        self.sqlstate == "55000"
            && (self.message.contains("wal_level") || self.message.contains("WAL level"))
    }

    /// Whether the server is set to take no replication connection at all (`InitProcess` in `proc.c`).
    pub(crate) fn takes_no_replication(&self) -> bool {
        self.sqlstate == "53300"
            && self.message.contains("max_wal_senders")
            && self.message.contains("currently 0)")
    }

    /// Whether the role lacks the attribute that a walsender asks for.
    pub(crate) fn is_replication_role(&self) -> bool {
        self.sqlstate == "42501"
            && (self.routine.as_deref() == Some("InitPostgres")
                || self.message.contains("walsender")
                || self.message.contains("WAL sender")
                || self.message.contains("replication"))
    }

    /// The stable name of this failure.
    pub fn code(&self) -> &'static str {
        if self.is_wal_level() {
            return "wal_level_too_low";
        }
        if self.takes_no_replication() {
            return "wal_senders_off";
        }
        if self.is_replication_role() {
            return "replication_not_permitted";
        }
        match self.sqlstate.as_str() {
            "28000" | "28P01" => "authentication_failed",
            "3D000" => "database_missing",
            "42501" => "permission_denied",
            "42704" => "slot_missing",
            "42710" => "slot_exists",
            "53300" => "too_many_connections",
            "53400" => "too_many_slots",
            "53100" => "server_disk_full",
            "55006" => "slot_active",
            "55000" => "server_not_ready_for_this",
            "57P01" | "57P02" => "server_shutting_down",
            "57P03" => "server_starting",
            "57014" => "cancelled_by_server",
            "58P01" => "wal_removed",
            "XX001" => "server_data_corrupted",
            _ => "server_error",
        }
    }

    /// Whether the same request may succeed later with nothing changed.
    pub fn retryable(&self) -> bool {
        if self.takes_no_replication() {
            return false;
        }
        matches!(
            self.sqlstate.as_str(),
            "53300" | "53200" | "55006" | "57P01" | "57P02" | "57P03" | "57014" | "40001" | "40P01"
        ) || self.sqlstate.starts_with("08")
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.severity, self.sqlstate, self.message)?;
        if let Some(detail) = &self.detail {
            write!(f, " ({detail})")?;
        }
        Ok(())
    }
}

impl std::error::Error for ServerError {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn body(fields: &[(u8, &str)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (kind, text) in fields {
            bytes.push(*kind);
            bytes.extend_from_slice(text.as_bytes());
            bytes.push(0);
        }
        bytes.push(0);
        bytes
    }

    #[test]
    fn the_untranslated_severity_wins() {
        let error = ServerError::parse(&body(&[
            (b'S', "FATAL (übersetzt)"),
            (b'V', "FATAL"),
            (b'C', "28P01"),
            (b'M', "no"),
            (b'Z', "unknown field"),
        ]))
        .unwrap();
        assert_eq!(error.severity, "FATAL");
        assert_eq!(error.sqlstate, "28P01");
        assert_eq!(error.to_string(), "FATAL 28P01: no");
    }

    #[test]
    fn an_unterminated_field_is_an_error() {
        assert!(ServerError::parse(b"Sabc").is_err());
        assert!(ServerError::parse(b"").is_err());
    }

    #[test]
    fn a_failed_method_is_not_a_refusal_by_the_file() {
        let refusal = |routine: &str, message: &str| ServerError {
            sqlstate: "28000".into(),
            message: message.into(),
            routine: Some(routine.into()),
            ..ServerError::default()
        };
        let no_line = "kein pg_hba.conf-Eintrag";
        assert!(refusal("ClientAuthentication", no_line).is_hba_refusal());
        assert!(!refusal("auth_failed", no_line).is_hba_refusal());
        let certificate = "connection requires a valid client certificate";
        assert!(!refusal("ClientAuthentication", certificate).is_hba_refusal());
    }
}
