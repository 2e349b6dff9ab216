//! Text that goes into commands of the replication grammar (`repl_scanner.l`) and into SQL.

use crate::error::WireError;

/// A string literal: quotes are doubled. The walsender's scanner knows no backslash escapes, and
/// `standard_conforming_strings` makes SQL the same.
pub(crate) fn literal(text: &str) -> Result<String, WireError> {
    no_zero(text)?;
    Ok(format!("'{}'", text.replace('\'', "''")))
}

/// A quoted identifier.
pub(crate) fn identifier(text: &str) -> Result<String, WireError> {
    no_zero(text)?;
    if text.is_empty() {
        return Err(WireError::Misuse { what: "an empty name" });
    }
    Ok(format!("\"{}\"", text.replace('"', "\"\"")))
}

/// The name of a setting, which the walsender's `SHOW` takes unquoted.
pub(crate) fn setting(text: &str) -> Result<&str, WireError> {
    let plain = !text.is_empty()
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.')
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if plain { Ok(text) } else { Err(WireError::Misuse { what: "SHOW of what is no setting" }) }
}

fn no_zero(text: &str) -> Result<(), WireError> {
    if text.contains('\0') {
        return Err(WireError::Misuse { what: "a zero byte in a command" });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn quotes_are_doubled() {
        assert_eq!(literal("it's").unwrap(), "'it''s'");
        assert_eq!(identifier("a\"b").unwrap(), "\"a\"\"b\"");
        assert!(literal("a\0").is_err());
        assert!(identifier("").is_err());
        assert_eq!(setting("wal_segment_size").unwrap(), "wal_segment_size");
        assert!(setting("x; DROP").is_err());
    }
}
