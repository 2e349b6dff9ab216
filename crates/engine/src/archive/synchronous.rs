//! The archive as a synchronous standby: who waits for it, and who else could be waited for.

use holdfast_wire::{Connection, WireError};

/// What `synchronous_standby_names` asks for (`syncrep_gram.y`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// So many of them have to confirm a commit.
    pub(super) count: usize,
    /// Their names; "*" is any.
    pub(super) names: Vec<String>,
}

impl Wanted {
    /// Reads the setting; `None` when no commit waits for anybody, or when it cannot be read.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut words = words(text);
        if words.is_empty() {
            return None;
        }
        let mut count = 1;
        let method = |w: &Word| matches!(w, Word::Name(n, false) if n.eq_ignore_ascii_case("first") || n.eq_ignore_ascii_case("any"));
        let number = |w: Option<&Word>| match w {
            Some(Word::Name(n, false)) => n.parse::<usize>().ok(),
            _ => None,
        };
        // A method's name is only one in front of a number; else it is a standby's.
        if method(&words[0]) && number(words.get(1)).is_some() {
            words.remove(0);
        }
        if let (Some(n), Some(Word::Open)) = (number(words.first()), words.get(1)) {
            count = n;
            if words.pop() != Some(Word::Close) {
                return None;
            }
            words.drain(..2);
        }
        let names: Option<Vec<String>> = words
            .into_iter()
            .map(|w| match w {
                Word::Name(name, _) => Some(name),
                Word::Open | Word::Close => None,
            })
            .collect();
        Some(Self { count, names: names.filter(|names| !names.is_empty())? })
    }

    /// Whether a standby of this name is meant. Names are compared without case, as by the server.
    pub(super) fn means(&self, name: &str) -> bool {
        self.names.iter().any(|n| n == "*" || n.eq_ignore_ascii_case(name))
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Word {
    /// A name or a number, and whether it was quoted.
    Name(String, bool),
    Open,
    Close,
}

fn words(text: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '(' => words.push(Word::Open),
            ')' => words.push(Word::Close),
            '"' => {
                let mut name = String::new();
                while let Some(c) = characters.next() {
                    // A doubled quote is one.
                    if c == '"' && characters.next_if_eq(&'"').is_none() {
                        break;
                    }
                    name.push(c);
                }
                words.push(Word::Name(name, true));
            }
            ',' | ' ' | '\t' | '\n' | '\r' => {}
            first => {
                let mut name = String::from(first);
                while let Some(c) =
                    characters.next_if(|c| !c.is_whitespace() && !"(),\"".contains(*c))
                {
                    name.push(c);
                }
                words.push(Word::Name(name, false));
            }
        }
    }
    words
}

/// What the server waits for, seen from one standby.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Membership {
    /// Commits do not wait for it.
    NotListed,
    /// Commits wait for it, or for enough others.
    OneOfSeveral,
    /// Without it commits wait for ever: there are not enough others.
    Sole,
}

impl Membership {
    pub(super) fn of(setting: &str, name: &str, others: &[String]) -> Self {
        let Some(wanted) = Wanted::parse(setting).filter(|wanted| wanted.means(name)) else {
            return Self::NotListed;
        };
        let enough = others.iter().filter(|other| wanted.means(other)).count() >= wanted.count;
        if enough { Self::OneOfSeveral } else { Self::Sole }
    }

    /// Asks the server. Standbys that our role may not see count as not there.
    pub(super) async fn look(sql: &mut Connection, name: &str) -> Result<Self, WireError> {
        let setting = sql.show("synchronous_standby_names").await?;
        let rows = sql
            .catalog_rows(
                "SELECT application_name FROM pg_catalog.pg_stat_replication WHERE state = 'streaming'",
            )
            .await?;
        let others: Vec<String> = rows
            .into_iter()
            .filter_map(|row| row.into_iter().next().flatten())
            .filter(|other| !other.eq_ignore_ascii_case(name))
            .collect();
        Ok(Self::of(&setting, name, &others))
    }
}

/// What it means to be the only one.
pub(super) fn sole_sentence(name: &str) -> String {
    format!("commits wait for this archive alone ({name}): while it is away, they hang")
}

/// The name under which a cluster's archive takes part: one that stands in the setting without quotes.
pub(super) fn default_name(cluster: &str) -> String {
    let plain: String = cluster
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' })
        .collect();
    let mut name = format!("holdfast_{plain}");
    // NAMEDATALEN - 1
    name.truncate(63);
    name
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn wanted(text: &str) -> (usize, Vec<String>) {
        let wanted = Wanted::parse(text).unwrap();
        (wanted.count, wanted.names)
    }

    #[test]
    fn every_form_of_the_setting_is_read() {
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        assert_eq!(wanted("a"), (1, names(&["a"])));
        assert_eq!(wanted("a, \"b c\",d"), (1, names(&["a", "b c", "d"])));
        assert_eq!(wanted("FIRST 2 (a, b, c)"), (2, names(&["a", "b", "c"])));
        assert_eq!(wanted("any 1(a,b)"), (1, names(&["a", "b"])));
        assert_eq!(wanted("2 (a, *)"), (2, names(&["a", "*"])));
        assert_eq!(wanted("first, any"), (1, names(&["first", "any"])));
        assert_eq!(wanted("\"a\"\"b\""), (1, names(&["a\"b"])));
        for nothing in ["", "  ", "1 (a", "FIRST 1 ()", "(", "1 ("] {
            assert_eq!(Wanted::parse(nothing), None, "{nothing:?}");
        }
    }

    #[test]
    fn a_sole_member_is_known() {
        let of = |setting: &str, others: &[&str]| {
            let others: Vec<_> = others.iter().map(|o| (*o).to_owned()).collect();
            Membership::of(setting, "holdfast_shop", &others)
        };
        assert_eq!(of("", &[]), Membership::NotListed);
        assert_eq!(of("b", &["b"]), Membership::NotListed);
        assert_eq!(of("Holdfast_Shop", &[]), Membership::Sole);
        assert_eq!(of("ANY 1 (holdfast_shop, b)", &["c"]), Membership::Sole);
        assert_eq!(of("ANY 1 (holdfast_shop, b)", &["b"]), Membership::OneOfSeveral);
        assert_eq!(of("ANY 2 (holdfast_shop, b)", &["b"]), Membership::Sole);
        assert_eq!(of("*", &["b"]), Membership::OneOfSeveral);
    }

    #[test]
    fn a_name_needs_no_quotes() {
        assert_eq!(default_name("Orders-EU.1"), "holdfast_orders_eu_1");
        assert_eq!(default_name(&"x".repeat(80)).len(), 63);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in ".{0,60}") {
            let _ = Wanted::parse(&text);
        }
    }
}
