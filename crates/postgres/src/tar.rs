//! A push parser for the ustar archives a server sends (`tar.c`, `basebackup.c`).
//!
//! Only what `BASE_BACKUP` produces is understood: regular files, folders and symbolic links, with
//! GNU's base-256 numbers for sizes of 8 GiB and more. Anything else is refused rather than skipped,
//! since a skipped member is a missing file.

use std::fmt;

/// Headers and the padding of members come in blocks of this size.
const BLOCK: usize = 512;

/// A member of an archive.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub struct TarEntry {
    /// Relative path with single `/` between parts; never empty, never with `.` or `..`.
    pub path: String,
    /// What it is.
    pub kind: TarKind,
    /// Bytes of content that follow; zero unless it is a file.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Last change, seconds since 1970.
    pub mtime: i64,
}

/// What a member is.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub enum TarKind {
    /// A regular file.
    File,
    /// A folder.
    Directory,
    /// A symbolic link, as to a tablespace.
    Symlink {
        /// What it points to; may be absolute.
        target: String,
    },
}

/// What the parser reports, in order: each entry, its data in pieces of any size, its end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TarEvent<'a> {
    /// A member begins.
    Entry(TarEntry),
    /// The next bytes of the file; never empty.
    Data(&'a [u8]),
    /// The member is complete.
    EndEntry,
}

/// Why bytes are no archive this product accepts.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TarError {
    /// The header's checksum does not match.
    #[error("the tar header at byte {offset} is damaged")]
    Checksum {
        /// Where the header starts.
        offset: u64,
    },
    /// A number that is not octal, negative or out of range.
    #[error("the tar header at byte {offset} has no usable {field}")]
    Number {
        /// Where the header starts.
        offset: u64,
        /// Which number.
        field: &'static str,
    },
    /// A path that is empty, absolute, leads upwards or contains a NUL.
    #[error("the tar header at byte {offset} has the path {path:?}, which leads out of its folder")]
    UnsafePath {
        /// Where the header starts.
        offset: u64,
        /// The path, bytes that are no UTF-8 replaced.
        path: String,
    },
    /// A path or link target that is no UTF-8.
    #[error("the tar header at byte {offset} has the name {name:?}, which is not UTF-8")]
    NotUtf8 {
        /// Where the header starts.
        offset: u64,
        /// The name, bytes that are no UTF-8 replaced.
        name: String,
    },
    /// A kind of member no server sends, or a folder or link with content.
    #[error("the tar header at byte {offset} announces an unsupported kind of member, {kind:?}")]
    Unsupported {
        /// Where the header starts.
        offset: u64,
        /// The type flag.
        kind: char,
    },
    /// Something follows the zero blocks that end an archive.
    #[error("the tar archive goes on at byte {offset} after its end")]
    AfterEnd {
        /// Where the block starts.
        offset: u64,
    },
    /// The archive stops inside a member.
    #[error("the tar archive ends at byte {offset}, inside a member")]
    Truncated {
        /// How many bytes there were.
        offset: u64,
    },
}

/// Cuts an archive, given in pieces of any size, into members. Keeps at most one header.
#[derive(Debug)]
pub struct TarParser {
    offset: u64,
    state: State,
    header: [u8; BLOCK],
}

#[derive(Copy, Clone, Debug)]
enum State {
    Header {
        have: usize,
    },
    Data {
        left: u64,
        padding: u64,
    },
    Padding {
        left: u64,
    },
    /// After a zero block.
    End {
        have: usize,
    },
}

impl Default for TarParser {
    fn default() -> Self {
        TarParser::new()
    }
}

impl TarParser {
    /// A parser at the start of an archive.
    #[must_use]
    pub fn new() -> Self {
        TarParser { offset: 0, state: State::Header { have: 0 }, header: [0; BLOCK] }
    }

    /// Bytes taken so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Takes the next bytes and reports what they contain.
    ///
    /// # Errors
    /// What is wrong with the archive, or what the sink returned. The parser is of no use afterwards.
    pub fn push<E: From<TarError>>(
        &mut self,
        mut bytes: &[u8],
        sink: &mut impl FnMut(TarEvent<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        while !bytes.is_empty() {
            match self.state {
                State::Header { have } => {
                    let have = self.fill(&mut bytes, have);
                    self.state = State::Header { have };
                    if have == BLOCK {
                        self.begin_member(sink)?;
                    }
                }
                State::Data { left, padding } => {
                    let data = self.take(&mut bytes, left);
                    sink(TarEvent::Data(data))?;
                    let left = left - data.len() as u64;
                    if left > 0 {
                        self.state = State::Data { left, padding };
                    } else {
                        // The member ends before its padding, which may never come at the very end.
                        self.state = Self::padding(padding);
                        sink(TarEvent::EndEntry)?;
                    }
                }
                State::Padding { left } => {
                    let skipped = self.take(&mut bytes, left).len() as u64;
                    self.state = Self::padding(left - skipped);
                }
                State::End { have } => {
                    let have = self.fill(&mut bytes, have);
                    if self.header[..have].iter().any(|byte| *byte != 0) {
                        return Err(TarError::AfterEnd { offset: self.offset - have as u64 }.into());
                    }
                    self.state = State::End { have: have % BLOCK };
                }
            }
        }
        Ok(())
    }

    /// Confirms that the archive is whole: between members, or after the zero blocks that servers up
    /// to 14 leave out.
    ///
    /// # Errors
    /// [`TarError::Truncated`].
    pub fn finish(self) -> Result<(), TarError> {
        match self.state {
            State::Header { have: 0 } | State::End { have: 0 } => Ok(()),
            _ => Err(TarError::Truncated { offset: self.offset }),
        }
    }

    fn padding(left: u64) -> State {
        if left == 0 { State::Header { have: 0 } } else { State::Padding { left } }
    }

    fn take<'a>(&mut self, bytes: &mut &'a [u8], wanted: u64) -> &'a [u8] {
        let count = usize::try_from(wanted).unwrap_or(usize::MAX).min(bytes.len());
        let (taken, rest) = bytes.split_at(count);
        *bytes = rest;
        self.offset = self.offset.saturating_add(count as u64);
        taken
    }

    /// Adds to the header block and returns how much of it is there.
    fn fill(&mut self, bytes: &mut &[u8], have: usize) -> usize {
        let taken = self.take(bytes, (BLOCK - have) as u64);
        let end = have + taken.len();
        self.header[have..end].copy_from_slice(taken);
        end
    }

    fn begin_member<E: From<TarError>>(
        &mut self,
        sink: &mut impl FnMut(TarEvent<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.header.iter().all(|byte| *byte == 0) {
            self.state = State::End { have: 0 };
            return Ok(());
        }
        let header = Header { bytes: &self.header, offset: self.offset - BLOCK as u64 };
        let entry = header.entry()?;
        let size = entry.size;
        sink(TarEvent::Entry(entry))?;
        if size == 0 {
            self.state = State::Header { have: 0 };
            return sink(TarEvent::EndEntry);
        }
        let padding = size.wrapping_neg() % BLOCK as u64;
        self.state = State::Data { left: size, padding };
        Ok(())
    }
}

/// One header block and where it stands.
struct Header<'a> {
    bytes: &'a [u8; BLOCK],
    offset: u64,
}

/// Fields of a ustar header: offset and length.
mod field {
    pub(super) const NAME: (usize, usize) = (0, 100);
    pub(super) const MODE: (usize, usize) = (100, 8);
    pub(super) const SIZE: (usize, usize) = (124, 12);
    pub(super) const MTIME: (usize, usize) = (136, 12);
    pub(super) const CHECKSUM: (usize, usize) = (148, 8);
    pub(super) const KIND: usize = 156;
    pub(super) const LINK: (usize, usize) = (157, 100);
    pub(super) const MAGIC: (usize, usize) = (257, 6);
    pub(super) const PREFIX: (usize, usize) = (345, 155);
}

impl Header<'_> {
    fn field(&self, (at, length): (usize, usize)) -> &[u8] {
        &self.bytes[at..at + length]
    }

    fn entry(&self) -> Result<TarEntry, TarError> {
        let offset = self.offset;
        let (checksum_at, checksum_length) = field::CHECKSUM;
        let sum: u64 = (0..)
            .zip(self.bytes)
            .map(|(at, byte)| {
                let inside = (checksum_at..checksum_at + checksum_length).contains(&at);
                u64::from(if inside { b' ' } else { *byte })
            })
            .sum();
        if self.number("checksum", field::CHECKSUM).ok() != Some(sum) {
            return Err(TarError::Checksum { offset });
        }
        let size = self.number("size", field::SIZE)?;
        if i64::try_from(size).is_err() {
            return Err(TarError::Number { offset, field: "size" });
        }
        let flag = self.bytes[field::KIND];
        let kind = match flag {
            b'0' | 0 => TarKind::File,
            b'5' if size == 0 => TarKind::Directory,
            b'2' if size == 0 => {
                let target = self.name(field::LINK)?;
                if target.is_empty() {
                    return Err(TarError::UnsafePath { offset, path: target });
                }
                TarKind::Symlink { target }
            }
            _ => return Err(TarError::Unsupported { offset, kind: flag.into() }),
        };
        let mode = self.number("mode", field::MODE)? & 0o7777;
        let mtime = self.number("time", field::MTIME)?;
        Ok(TarEntry {
            path: self.path()?,
            kind,
            size,
            mode: u32::try_from(mode).unwrap_or_default(),
            mtime: i64::try_from(mtime).map_err(|_| TarError::Number { offset, field: "time" })?,
        })
    }

    /// Octal digits between blanks and NULs, or GNU's big-endian base 256 behind a byte 0x80.
    fn number(&self, name: &'static str, place: (usize, usize)) -> Result<u64, TarError> {
        let bytes = self.field(place);
        let value = if let [0x80, digits @ ..] = bytes {
            digits
                .iter()
                .try_fold(0u64, |value, digit| Some(value.checked_mul(256)? | u64::from(*digit)))
        } else {
            let is_filler = |byte: &u8| matches!(byte, b' ' | 0);
            let start = bytes.iter().take_while(|byte| **byte == b' ').count();
            let digits = &bytes[start..];
            let end = digits.iter().position(is_filler).unwrap_or(digits.len());
            let (digits, rest) = digits.split_at(end);
            // Eleven octal digits are 33 bits: no overflow.
            (rest.iter().all(is_filler) && digits.iter().all(|digit| (b'0'..=b'7').contains(digit)))
                .then(|| digits.iter().fold(0, |value, digit| value << 3 | u64::from(digit - b'0')))
        };
        value.ok_or(TarError::Number { offset: self.offset, field: name })
    }

    /// Text up to the first NUL, behind which nothing may stand.
    fn name(&self, place: (usize, usize)) -> Result<String, TarError> {
        let bytes = self.field(place);
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        let (text, rest) = bytes.split_at(end);
        if rest.iter().any(|byte| *byte != 0) {
            return Err(TarError::UnsafePath { offset: self.offset, path: lossy(bytes) });
        }
        String::from_utf8(text.to_vec())
            .map_err(|_| TarError::NotUtf8 { offset: self.offset, name: lossy(text) })
    }

    fn path(&self) -> Result<String, TarError> {
        let mut path = self.name(field::NAME)?;
        if self.field(field::MAGIC) == b"ustar\0" {
            let prefix = self.name(field::PREFIX)?;
            if !prefix.is_empty() {
                path = format!("{prefix}/{path}");
            }
        }
        normalise(&path).ok_or(TarError::UnsafePath { offset: self.offset, path })
    }
}

/// Drops `.` and empty parts; `None` for paths that are absolute, lead upwards or are empty.
fn normalise(path: &str) -> Option<String> {
    if path.starts_with('/') {
        return None;
    }
    let mut normal = String::with_capacity(path.len());
    for part in path.split('/').filter(|part| !matches!(*part, "" | ".")) {
        if part == ".." {
            return None;
        }
        if !normal.is_empty() {
            normal.push('/');
        }
        normal.push_str(part);
    }
    (!normal.is_empty()).then_some(normal)
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl fmt::Display for TarKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TarKind::File => "file",
            TarKind::Directory => "folder",
            TarKind::Symlink { .. } => "link",
        })
    }
}

#[cfg(test)]
mod tests;
