//! The two notations of a connection string, and its canonical form (libpq, "Connection Strings").

use crate::error::WireError;

/// Longest connection string that is read, in bytes.
const MAX_TEXT_BYTES: usize = 64 * 1024;

/// Keywords whose values are secrets: they are refused, and their values never repeated.
const SECRETS: &[&str] =
    &["password", "sslpassword", "scram_client_key", "scram_server_key", "oauth_client_secret"];

/// Splits either notation into keyword and value, in order of appearance.
pub(super) fn settings(text: &str) -> Result<Vec<(String, String)>, WireError> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(WireError::bad_dsn("it is too long"));
    }
    let pairs =
        match text.strip_prefix("postgresql://").or_else(|| text.strip_prefix("postgres://")) {
            Some(rest) => uri(rest)?,
            None if text.contains("://") && !text.contains('=') => {
                return Err(WireError::bad_dsn("a URI begins with postgresql:// or postgres://"));
            }
            None => key_values(text)?,
        };
    for (keyword, value) in &pairs {
        if is_secret(keyword) {
            return Err(WireError::PasswordInDsn { keyword: keyword.clone() });
        }
        if value.contains('\0') {
            return Err(WireError::bad_dsn(format!(
                "the value of \"{keyword}\" holds a zero byte"
            )));
        }
    }
    Ok(pairs)
}

/// Whether the values of a keyword are secrets.
pub(super) fn is_secret(keyword: &str) -> bool {
    SECRETS.contains(&keyword)
}

/// `keyword = value` pairs, separated by white space; values may stand in single quotes, and a
/// backslash takes the next character as it is.
fn key_values(text: &str) -> Result<Vec<(String, String)>, WireError> {
    let mut pairs = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(char::is_ascii_whitespace).is_some() {}
        if chars.peek().is_none() {
            return Ok(pairs);
        }
        let mut keyword = String::new();
        while let Some(c) = chars.next_if(|c| *c != '=' && !c.is_ascii_whitespace()) {
            keyword.push(c);
        }
        while chars.next_if(char::is_ascii_whitespace).is_some() {}
        if chars.next() != Some('=') {
            // The word may be a secret that lost its keyword: it is not repeated.
            return Err(WireError::bad_dsn(format!(
                "\"=\" is missing after word {} of it",
                pairs.len() + 1
            )));
        }
        while chars.next_if(char::is_ascii_whitespace).is_some() {}
        let mut value = String::new();
        if chars.next_if_eq(&'\'').is_some() {
            loop {
                match chars.next() {
                    None => {
                        return Err(WireError::bad_dsn(format!(
                            "the quoted value of \"{keyword}\" does not end"
                        )));
                    }
                    Some('\'') => break,
                    Some('\\') => value.extend(chars.next()),
                    Some(c) => value.push(c),
                }
            }
        } else {
            while let Some(c) = chars.next_if(|c| !c.is_ascii_whitespace()) {
                if c == '\\' {
                    value.extend(chars.next());
                } else {
                    value.push(c);
                }
            }
        }
        pairs.push((keyword, value));
    }
}

/// What follows the scheme: `[user[:password]@][host[:port],…][/dbname][?keyword=value&…]`.
fn uri(rest: &str) -> Result<Vec<(String, String)>, WireError> {
    let mut pairs = Vec::new();
    let (location, query) = match rest.split_once('?') {
        Some((location, query)) => (location, Some(query)),
        None => (rest, None),
    };
    let (authority, database) = match location.split_once('/') {
        Some((authority, database)) => (authority, Some(database)),
        None => (location, None),
    };
    let hosts = match authority.rsplit_once('@') {
        Some((credentials, hosts)) => {
            let (user, password) = match credentials.split_once(':') {
                Some((user, password)) => (user, password),
                None => (credentials, ""),
            };
            if !password.is_empty() {
                return Err(WireError::PasswordInDsn { keyword: "password".to_owned() });
            }
            if !user.is_empty() {
                pairs.push(("user".to_owned(), decode("user", user)?));
            }
            hosts
        }
        None => authority,
    };
    if !hosts.is_empty() {
        let mut names = Vec::new();
        let mut ports = Vec::new();
        for item in hosts.split(',') {
            let (name, port) = host_and_port(item)?;
            names.push(decode("host", name)?);
            ports.push(decode("port", port)?);
        }
        if names.iter().any(|name| !name.is_empty()) {
            pairs.push(("host".to_owned(), names.join(",")));
        }
        if ports.iter().any(|port| !port.is_empty()) {
            pairs.push(("port".to_owned(), ports.join(",")));
        }
    }
    if let Some(database) = database.filter(|name| !name.is_empty()) {
        pairs.push(("dbname".to_owned(), decode("dbname", database)?));
    }
    for item in query.into_iter().flat_map(|query| query.split('&')).filter(|item| !item.is_empty())
    {
        let Some((keyword, value)) = item.split_once('=') else {
            return Err(WireError::bad_dsn("a parameter after \"?\" lacks its \"=\""));
        };
        let keyword = decode("parameter", keyword)?;
        let value = decode(&keyword, value)?;
        // JDBC's spelling, which libpq takes too.
        if keyword == "ssl" && value == "true" {
            pairs.push(("sslmode".to_owned(), "require".to_owned()));
        } else {
            pairs.push((keyword, value));
        }
    }
    Ok(pairs)
}

fn host_and_port(item: &str) -> Result<(&str, &str), WireError> {
    if let Some(bracketed) = item.strip_prefix('[') {
        let Some((name, after)) = bracketed.split_once(']') else {
            return Err(WireError::bad_dsn("\"]\" is missing after an IPv6 address"));
        };
        return match after.strip_prefix(':') {
            Some(port) => Ok((name, port)),
            None if after.is_empty() => Ok((name, "")),
            None => Err(WireError::bad_dsn("something other than a port follows an IPv6 address")),
        };
    }
    match item.split_once(':') {
        Some((_, port)) if port.contains(':') => {
            Err(WireError::bad_dsn("an IPv6 address in a URI stands in brackets: [::1]"))
        }
        Some(parts) => Ok(parts),
        None => Ok((item, "")),
    }
}

/// Takes the percent-encoding off.
fn decode(what: &str, text: &str) -> Result<String, WireError> {
    let broken = || WireError::bad_dsn(format!("the percent-encoding of the {what} is broken"));
    let mut bytes = Vec::with_capacity(text.len());
    let mut input = text.bytes();
    while let Some(byte) = input.next() {
        if byte == b'%' {
            let high = input.next().and_then(hex_digit).ok_or_else(broken)?;
            let low = input.next().and_then(hex_digit).ok_or_else(broken)?;
            bytes.push(high << 4 | low);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).map_err(|_| broken())
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Appends ` keyword=value`, quoted where it has to be.
pub(super) fn append(out: &mut String, keyword: &str, value: &str) {
    if !out.is_empty() {
        out.push(' ');
    }
    out.push_str(keyword);
    out.push('=');
    let plain = !value.is_empty()
        && !value.chars().any(|c| c.is_ascii_whitespace() || matches!(c, '\'' | '\\'));
    if plain {
        out.push_str(value);
        return;
    }
    out.push('\'');
    for c in value.chars() {
        if matches!(c, '\'' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('\'');
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        settings(text).unwrap()
    }

    fn owned(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn key_values_with_quotes_and_spaces() {
        assert_eq!(
            pairs(r" host = 'a b' user=x\'y dbname='it\'s' options='' port=1"),
            owned(&[
                ("host", "a b"),
                ("user", "x'y"),
                ("dbname", "it's"),
                ("options", ""),
                ("port", "1")
            ])
        );
        assert!(settings("host").is_err());
        assert!(settings("host='a").is_err());
    }

    #[test]
    fn uris() {
        assert_eq!(
            pairs(
                "postgresql://me@db1:5433,[::1]:5434,db3/app?sslmode=require&application_name=a%20b"
            ),
            owned(&[
                ("user", "me"),
                ("host", "db1,::1,db3"),
                ("port", "5433,5434,"),
                ("dbname", "app"),
                ("sslmode", "require"),
                ("application_name", "a b"),
            ])
        );
        assert_eq!(
            pairs("postgres://%2Fvar%2Frun/db?ssl=true"),
            owned(&[("host", "/var/run"), ("dbname", "db"), ("sslmode", "require")])
        );
        assert_eq!(pairs("postgresql://"), vec![]);
        assert_eq!(pairs("postgresql:///db"), owned(&[("dbname", "db")]));
        assert!(settings("postgresql://::1/db").is_err());
        assert!(settings("postgresql://h/%zz").is_err());
        assert!(settings("mysql://h/db").is_err());
    }

    #[test]
    fn secrets_are_refused_and_not_repeated() {
        for text in [
            "host=a password=hunter2",
            "postgresql://u:hunter2@h/db",
            "postgresql://u@h/db?password=hunter2",
            "postgresql://u:hun@ter2@h/db",
            "sslpassword=hunter2",
        ] {
            let error = settings(text).unwrap_err();
            assert_eq!(error.code(), "password_in_dsn", "{text}");
            assert!(!format!("{error:?} {error}").contains("ter2"), "{text}");
        }
        let error = settings("host=a hunter2").unwrap_err();
        assert!(!format!("{error:?}").contains("hunter2"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(values in prop::collection::vec("\\PC*[ '\\\\]?", 0..6)) {
            let mut text = String::new();
            let mut expected = Vec::new();
            for (n, value) in values.iter().enumerate() {
                let keyword = format!("k{n}");
                append(&mut text, &keyword, value);
                expected.push((keyword, value.clone()));
            }
            prop_assert_eq!(key_values(&text).unwrap(), expected);
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in ".*") {
            let _ = settings(&text);
            let _ = settings(&format!("postgresql://{text}"));
        }
    }
}
