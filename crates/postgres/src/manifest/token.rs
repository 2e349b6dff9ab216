//! The parts of JSON that manifests are made of, cut from a stream in bounded memory.

use super::ManifestError;

/// Longest text or number, in bytes with escapes. A path of 1024 bytes has 2048 hexadecimal digits
/// or, with every byte escaped, 6144.
pub(super) const TOKEN_MAX: usize = 16 * 1024;

/// One token. Manifests have no other values than texts and non-negative whole numbers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Token {
    ObjectStart,
    ObjectEnd,
    ArrayStart,
    ArrayEnd,
    Colon,
    Comma,
    Text(String),
    Number(u64),
}

#[derive(Debug, Default)]
pub(super) struct Tokenizer {
    offset: u64,
    /// The token begun: a text from its opening quote on, or the digits of a number.
    pending: Vec<u8>,
    escaped: bool,
}

impl Tokenizer {
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether a token has begun that is not complete.
    pub(super) fn in_token(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Takes one byte off `bytes` at least; `None` when they end before a token does.
    pub(super) fn next(&mut self, bytes: &mut &[u8]) -> Result<Option<Token>, ManifestError> {
        while let Some((byte, rest)) = bytes.split_first() {
            if self.pending.first().is_some_and(u8::is_ascii_digit) && !byte.is_ascii_digit() {
                // The byte that ends a number is a token of its own.
                return self.number().map(Some);
            }
            *bytes = rest;
            self.offset += 1;
            if self.in_token() {
                self.keep(*byte)?;
                if self.pending.first() == Some(&b'"') && self.text_ends(*byte) {
                    return self.text().map(Some);
                }
                continue;
            }
            let token = match byte {
                b' ' | b'\t' | b'\r' | b'\n' => continue,
                b'"' | b'0'..=b'9' => {
                    self.keep(*byte)?;
                    continue;
                }
                b'{' => Token::ObjectStart,
                b'}' => Token::ObjectEnd,
                b'[' => Token::ArrayStart,
                b']' => Token::ArrayEnd,
                b':' => Token::Colon,
                b',' => Token::Comma,
                _ => return Err(self.syntax("an unexpected character")),
            };
            return Ok(Some(token));
        }
        Ok(None)
    }

    fn keep(&mut self, byte: u8) -> Result<(), ManifestError> {
        if self.pending.len() >= TOKEN_MAX {
            return Err(ManifestError::TooLong { offset: self.offset });
        }
        self.pending.push(byte);
        Ok(())
    }

    /// Whether `byte`, the last one kept, closes the text.
    fn text_ends(&mut self, byte: u8) -> bool {
        let escaped = std::mem::take(&mut self.escaped);
        match byte {
            b'\\' => {
                self.escaped = !escaped;
                false
            }
            b'"' => !escaped,
            _ => false,
        }
    }

    fn text(&mut self) -> Result<Token, ManifestError> {
        let text = serde_json::from_slice(&self.pending).map_err(|_| self.syntax("not a text"))?;
        self.pending.clear();
        Ok(Token::Text(text))
    }

    fn number(&mut self) -> Result<Token, ManifestError> {
        let number =
            serde_json::from_slice(&self.pending).map_err(|_| self.syntax("not a whole number"))?;
        self.pending.clear();
        Ok(Token::Number(number))
    }

    pub(super) fn syntax(&self, what: &'static str) -> ManifestError {
        ManifestError::Syntax { offset: self.offset, what }
    }
}
