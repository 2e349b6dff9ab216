//! The bodies of the few backend messages that matter, read with every length checked
//! (protocol.sgml, "Message Formats").

use bytes::Bytes;
use holdfast_postgres::Lsn;

use crate::error::WireError;

/// Type bytes of the messages a server sends.
pub(crate) mod tag {
    pub(crate) const AUTHENTICATION: u8 = b'R';
    pub(crate) const BACKEND_KEY: u8 = b'K';
    pub(crate) const PARAMETER_STATUS: u8 = b'S';
    pub(crate) const READY: u8 = b'Z';
    pub(crate) const ERROR: u8 = b'E';
    pub(crate) const NOTICE: u8 = b'N';
    pub(crate) const NOTIFICATION: u8 = b'A';
    pub(crate) const ROW_DESCRIPTION: u8 = b'T';
    pub(crate) const DATA_ROW: u8 = b'D';
    pub(crate) const COMMAND_COMPLETE: u8 = b'C';
    pub(crate) const EMPTY_QUERY: u8 = b'I';
    pub(crate) const PARSE_COMPLETE: u8 = b'1';
    pub(crate) const BIND_COMPLETE: u8 = b'2';
    pub(crate) const COPY_IN: u8 = b'G';
    pub(crate) const COPY_OUT: u8 = b'H';
    pub(crate) const COPY_BOTH: u8 = b'W';
    pub(crate) const COPY_DATA: u8 = b'd';
    pub(crate) const COPY_DONE: u8 = b'c';
    pub(crate) const NEGOTIATE_VERSION: u8 = b'v';
}

/// A message type as people read it.
pub(crate) fn name_of(tag: u8) -> String {
    if tag.is_ascii_alphabetic() {
        format!("message '{}'", char::from(tag))
    } else {
        format!("message 0x{tag:02x}")
    }
}

/// Reads integers and strings off a body; every shortage is a protocol error.
pub(crate) struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    pub(crate) fn new(body: &'a [u8]) -> Self {
        Self(body)
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let (head, tail) = self
            .0
            .split_at_checked(count)
            .ok_or_else(|| WireError::protocol("a message ends early"))?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (head, tail) = self
            .0
            .split_first_chunk::<N>()
            .ok_or_else(|| WireError::protocol("a message ends early"))?;
        self.0 = tail;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, WireError> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub(crate) fn i16(&mut self) -> Result<i16, WireError> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    pub(crate) fn i32(&mut self) -> Result<i32, WireError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, WireError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(crate) fn i64(&mut self) -> Result<i64, WireError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, WireError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub(crate) fn lsn(&mut self) -> Result<Lsn, WireError> {
        self.u64().map(Lsn)
    }

    /// The bytes before the next zero byte, which is taken too.
    pub(crate) fn cstr(&mut self) -> Result<&'a [u8], WireError> {
        let end = self
            .0
            .iter()
            .position(|byte| *byte == 0)
            .ok_or_else(|| WireError::protocol("a string in a message does not end"))?;
        let text = self.take(end)?;
        self.take(1)?;
        Ok(text)
    }

    pub(crate) fn text(&mut self) -> Result<String, WireError> {
        Ok(String::from_utf8_lossy(self.cstr()?).into_owned())
    }
}

/// The column names of a RowDescription.
pub(crate) fn column_names(body: &[u8]) -> Result<Vec<String>, WireError> {
    let mut cursor = Cursor::new(body);
    let count = cursor.i16()?;
    let mut names = Vec::new();
    for _ in 0..count {
        names.push(cursor.text()?);
        // Table oid, attribute number, type oid, type length, type modifier, format.
        cursor.take(4 + 2 + 4 + 2 + 4 + 2)?;
    }
    Ok(names)
}

/// The cells of a DataRow, sharing the frame's memory.
pub(crate) fn row_cells(body: &Bytes) -> Result<Vec<Option<Bytes>>, WireError> {
    let mut cursor = Cursor::new(body);
    let count = cursor.i16()?;
    let mut cells = Vec::new();
    for _ in 0..count {
        let length = cursor.i32()?;
        cells.push(match usize::try_from(length) {
            Ok(length) => Some(body.slice_ref(cursor.take(length)?)),
            Err(_) if length == -1 => None,
            Err(_) => return Err(WireError::protocol("a cell has a negative length")),
        });
    }
    Ok(cells)
}

/// The tag of a CommandComplete.
pub(crate) fn command_tag(body: &[u8]) -> Result<String, WireError> {
    Cursor::new(body).text()
}

/// Name and value of a ParameterStatus.
pub(crate) fn parameter(body: &[u8]) -> Result<(String, String), WireError> {
    let mut cursor = Cursor::new(body);
    Ok((cursor.text()?, cursor.text()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::error::ServerError;

    #[test]
    fn rows_and_columns() {
        let mut body = vec![0, 2];
        for name in ["a", "bc"] {
            body.extend_from_slice(name.as_bytes());
            body.extend_from_slice(&[0; 19]);
        }
        assert_eq!(column_names(&body).unwrap(), ["a", "bc"]);
        let row = Bytes::from_static(b"\x00\x02\x00\x00\x00\x02hi\xff\xff\xff\xff");
        assert_eq!(row_cells(&row).unwrap(), [Some(Bytes::from_static(b"hi")), None]);
        assert!(row_cells(&Bytes::from_static(b"\x00\x01\xff\xff\xff\xfe")).is_err());
        assert!(row_cells(&Bytes::from_static(b"\x7f\xff")).is_err());
    }

    proptest! {
        #[test]
        fn random_bodies_never_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = column_names(&body);
            let _ = row_cells(&Bytes::from(body.clone()));
            let _ = command_tag(&body);
            let _ = parameter(&body);
            let _ = ServerError::parse(&body);
        }
    }
}
