//! What a kit's page says, as text and as HTML.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use holdfast_repository::RepositoryUrl;
use qrcode::{Color, EcLevel, QrCode};
use secrecy::{ExposeSecret as _, SecretString};
use uuid::Uuid;

use super::two_lines;
use crate::error::{EngineError, Result};

/// Light modules that a QR code needs around it.
const QUIET: usize = 4;

/// Everything on the page.
pub(super) struct Kit<'a> {
    pub(super) url: RepositoryUrl,
    pub(super) repository: Uuid,
    pub(super) made: DateTime<Utc>,
    pub(super) slot: Uuid,
    pub(super) label: &'a str,
    pub(super) key: SecretString,
    pub(super) root_public_key: &'a str,
    pub(super) sealing_public_key: &'a str,
    /// Names, and the major version of each.
    pub(super) clusters: Vec<(String, String)>,
}

/// One step: what to do, and the commands for it.
struct Step {
    what: String,
    commands: Vec<String>,
}

const WARNING: &str = "Whoever has this page and can read the repository can read every backup in it. Print it, keep \
     it apart from the repository, and delete the file.";
/// On a line of its own: commands with names and addresses are long.
const WITH_KEY: &str = " \\\n  --recovery-key-file key.txt";
const FILL_IN: [&str; 3] =
    ["Kept by", "Kept where", "Checked on (restore once a year with this page alone)"];

impl Kit<'_> {
    fn facts(&self) -> Vec<(&'static str, String)> {
        vec![
            ("Repository", self.url.to_string()),
            ("Repository id", self.repository.to_string()),
            ("Made", self.made.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)),
            ("Key slot", format!("{} ({})", self.slot, self.label)),
        ]
    }

    fn steps(&self) -> Vec<Step> {
        let url = quoted(&self.url.to_string());
        let cluster = self.clusters.first().map_or("NAME", |(name, _)| name);
        let cluster = quoted(cluster);
        let versions = if self.clusters.is_empty() {
            "the major version of the cluster".to_owned()
        } else {
            let each: Vec<_> =
                self.clusters.iter().map(|(name, major)| format!("{major} for {name}")).collect();
            each.join(", ")
        };
        let restore = format!("{cluster} --target latest --to /restored");
        vec![
            Step {
                what: format!(
                    "Install the command holdfast, version {} or newer, and PostgreSQL's server programs: {versions}.",
                    env!("CARGO_PKG_VERSION")
                ),
                commands: vec!["holdfast server binaries".to_owned()],
            },
            Step { what: reaching(&self.url), commands: Vec::new() },
            Step {
                what: "Type the recovery key above into a file key.txt, or scan its code. Case and dashes do not matter; a \
                       mistyped group is named. This page itself, as a file, will do as well."
                    .to_owned(),
                commands: Vec::new(),
            },
            Step {
                what: "Read the catalog out of the repository.".to_owned(),
                commands: vec![format!("holdfast repo attach {url}{WITH_KEY}")],
            },
            Step {
                what: "See what can be restored.".to_owned(),
                commands: vec![format!("holdfast points {cluster}{WITH_KEY}")],
            },
            Step {
                what: "Look at the plan, then run it. Other targets: time:2026-06-14T09:41:00Z, xid:N, lsn:X/Y, \
                       name:TEXT. The copy is proven and runs on this machine alone until you promote it."
                    .to_owned(),
                commands: vec![
                    format!("holdfast restore plan {restore}{WITH_KEY}"),
                    format!("holdfast restore run {restore} --start{WITH_KEY}"),
                ],
            },
            Step {
                what: "Delete the file with the key. If this page was ever lost or read by others, remove its slot: \
                       that ends this way in, but changes no key that somebody may have copied."
                    .to_owned(),
                commands: vec![format!("holdfast repo keys remove {}", self.slot)],
            },
        ]
    }

    fn keys(&self) -> [(&'static str, &str); 2] {
        [("Root (Ed25519)", self.root_public_key), ("Sealing (X25519)", self.sealing_public_key)]
    }

    /// The page as text of at most 80 columns, but for addresses and names that are longer.
    pub(super) fn text(&self) -> Result<String> {
        let mut page = String::from("HOLDFAST RECOVERY KIT\n=====================\n\n");
        page.push_str(&wrapped(WARNING, ""));
        page.push('\n');
        for (name, value) in self.facts() {
            let _ = writeln!(page, "{name:<15}{value}");
        }
        page.push_str("\nRecovery key\n\n");
        for line in two_lines(&self.key) {
            let _ = writeln!(page, "    {line}");
        }
        page.push('\n');
        let code = Code::of(&self.key)?;
        for y in (0..code.width).step_by(2) {
            let line: String = (0..code.width)
                .map(|x| match (code.dark(x, y), code.dark(x, y + 1)) {
                    (true, true) => '█',
                    (true, false) => '▀',
                    (false, true) => '▄',
                    (false, false) => ' ',
                })
                .collect();
            let line = format!("{}{line}", " ".repeat(QUIET));
            let _ = writeln!(page, "{}", line.trim_end());
        }
        page.push_str("\nHow to restore on a machine that knows nothing\n\n");
        for (number, step) in self.steps().iter().enumerate() {
            let _ = write!(page, "{}. {}", number + 1, wrapped(&step.what, "   ").trim_start());
            for line in step.commands.iter().flat_map(|command| command.lines()) {
                let _ = writeln!(page, "     {line}");
            }
            page.push('\n');
        }
        page.push_str("Public keys of the repository, to tell it from one put in its place\n\n");
        for (name, key) in self.keys() {
            let _ =
                writeln!(page, "{name}\n    {}\n    {}", grouped(&key[..32]), grouped(&key[32..]));
        }
        page.push('\n');
        for line in FILL_IN {
            let _ = writeln!(page, "{line}:\n\n    {}\n", "_".repeat(60));
        }
        Ok(page)
    }

    /// The page as HTML, for A4 and Letter alike.
    pub(super) fn html(&self) -> Result<String> {
        let mut page = String::from(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n<title>Holdfast recovery kit</title>\n<style>\n",
        );
        page.push_str(STYLE);
        page.push_str("</style>\n</head>\n<body>\n<h1>Holdfast recovery kit</h1>\n");
        let _ = writeln!(page, "<p class=\"warning\">{}</p>\n<dl>", escaped(WARNING));
        for (name, value) in self.facts() {
            let _ = writeln!(page, "<dt>{name}</dt><dd>{}</dd>", escaped(&value));
        }
        let [first, second] = two_lines(&self.key);
        let _ = writeln!(
            page,
            "</dl>\n<section class=\"key\">\n<div>\n<h2>Recovery key</h2>\n<pre>\n{first}\n{second}\n</pre>\n</div>\n{}</section>",
            Code::of(&self.key)?.svg()
        );
        page.push_str("<h2>How to restore on a machine that knows nothing</h2>\n<ol>\n");
        for step in self.steps() {
            let _ = write!(page, "<li>{}", escaped(&step.what));
            if !step.commands.is_empty() {
                let _ = write!(page, "\n<pre>{}</pre>", escaped(&step.commands.join("\n")));
            }
            page.push_str("</li>\n");
        }
        page.push_str("</ol>\n<h2>Public keys of the repository</h2>\n<p>They tell it from one put in its place.</p>\n<dl>\n");
        for (name, key) in self.keys() {
            let _ = writeln!(page, "<dt>{name}</dt><dd><code>{}</code></dd>", grouped(key));
        }
        page.push_str("</dl>\n");
        for line in FILL_IN {
            let _ = writeln!(page, "<p class=\"blank\">{line}</p>");
        }
        page.push_str("</body>\n</html>\n");
        Ok(page)
    }
}

const STYLE: &str = "@page { margin: 15mm; }
body { font: 10pt/1.35 sans-serif; color: #000; background: #fff; max-width: 180mm; margin: 1em auto; }
h1 { font-size: 16pt; margin: 0 0 .3em; }
h2 { font-size: 11pt; margin: .9em 0 .3em; break-after: avoid; }
pre, code { font: 9pt/1.35 monospace; white-space: pre-wrap; overflow-wrap: anywhere; margin: .2em 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1em 1em; margin: .4em 0; }
dd { margin: 0; overflow-wrap: anywhere; }
ol { padding-left: 1.4em; }
li { margin-bottom: .35em; break-inside: avoid; }
.warning { border: 1pt solid #000; padding: .4em .6em; font-weight: bold; }
.key { display: flex; gap: 6mm; align-items: center; border: 1pt solid #000; padding: 2mm 4mm; break-inside: avoid; }
.key pre { font-size: 11pt; white-space: pre; }
.key svg { width: 42mm; height: 42mm; flex: none; }
.blank { border-bottom: .5pt solid #000; padding-bottom: 7mm; margin: .6em 0; break-inside: avoid; }
";

/// How the place of a repository is reached from a new machine.
fn reaching(url: &RepositoryUrl) -> String {
    let text = url.to_string();
    match text.split_once("://").map(|(scheme, _)| scheme) {
        Some("s3") => {
            "Make the store reachable: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION in the environment; \
             AWS_ENDPOINT_URL as well for a store that is not Amazon's. Reading is enough."
        }
        Some("gs") => {
            "Make the store reachable: GOOGLE_APPLICATION_CREDENTIALS names the file of a service account. Reading is \
             enough."
        }
        Some("az") => {
            "Make the store reachable: AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY in the environment. \
             Reading is enough."
        }
        _ => {
            "Make the folder reachable. When it is at another path than the one above, or a copy of it is, use that \
             path below."
        }
    }
    .to_owned()
}

/// The QR code of a recovery key, with its margin.
struct Code {
    width: usize,
    inner: usize,
    modules: Vec<Color>,
}

impl Code {
    fn of(key: &SecretString) -> Result<Self> {
        let code = QrCode::with_error_correction_level(key.expose_secret(), EcLevel::M)
            .map_err(|e| EngineError::Fault(format!("the QR code of a recovery key: {e}")))?;
        let inner = code.width();
        Ok(Self { width: inner + 2 * QUIET, inner, modules: code.into_colors() })
    }

    fn dark(&self, x: usize, y: usize) -> bool {
        let inside = |at: usize| at.checked_sub(QUIET).filter(|at| *at < self.inner);
        match (inside(x), inside(y)) {
            (Some(x), Some(y)) => self.modules.get(y * self.inner + x) == Some(&Color::Dark),
            _ => false,
        }
    }

    fn svg(&self) -> String {
        let mut path = String::new();
        for y in 0..self.width {
            for x in (0..self.width).filter(|x| self.dark(*x, y)) {
                let _ = write!(path, "M{x} {y}h1v1h-1z");
            }
        }
        let width = self.width;
        format!(
            "<svg viewBox=\"0 0 {width} {width}\" role=\"img\" aria-label=\"The recovery key as a QR code\" \
             shape-rendering=\"crispEdges\"><path fill=\"#fff\" d=\"M0 0h{width}v{width}h-{width}z\"/><path d=\"{path}\"/></svg>\n"
        )
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// One word for a POSIX shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:".contains(c);
    if !text.is_empty() && text.chars().all(plain) && !text.starts_with('-') {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Hexadecimal in groups of four, to be read aloud.
fn grouped(hex: &str) -> String {
    let digits: Vec<char> = hex.chars().collect();
    let groups: Vec<String> = digits.chunks(4).map(|group| group.iter().collect()).collect();
    groups.join(" ")
}

/// Lines of at most 78 columns, each after `indent`.
fn wrapped(text: &str, indent: &str) -> String {
    let mut lines = String::new();
    let mut line = indent.to_owned();
    for word in text.split_whitespace() {
        if line.len() > indent.len() && line.len() + 1 + word.len() > 78 {
            let _ = writeln!(lines, "{line}");
            indent.clone_into(&mut line);
        }
        if line.len() > indent.len() {
            line.push(' ');
        }
        line.push_str(word);
    }
    let _ = writeln!(lines, "{line}");
    lines
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::recovery_sheet::recovery_key_from_text;
    use holdfast_repository::RecoveryKey;

    fn kit(url: &str) -> Kit<'static> {
        Kit {
            url: RepositoryUrl::parse(url).unwrap(),
            repository: Uuid::from_u128(1),
            made: DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
            slot: Uuid::from_u128(2),
            label: "Recovery kit of 2027-01-15",
            key: RecoveryKey::from_bytes([0x5a; 32]).display(),
            root_public_key: "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            sealing_public_key: "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210",
            clusters: vec![("o'brien & <sons>".to_owned(), "17".to_owned())],
        }
    }

    #[test]
    fn the_key_is_read_from_either_page() {
        let kit = kit("s3://backups/orders");
        for page in [kit.text().unwrap(), kit.html().unwrap()] {
            let found = recovery_key_from_text(&page);
            assert_eq!(
                found.expose_secret().replace('-', ""),
                kit.key.expose_secret().replace('-', "")
            );
            for needed in ["repo attach s3://backups/orders", "AWS_REGION", "17 for", "Kept by"] {
                assert!(page.contains(needed), "{needed}");
            }
        }
    }

    #[test]
    fn the_html_needs_nothing_else_and_names_stay_names() {
        let page = kit("/srv/a b").html().unwrap();
        for foreign in ["<script", "http", "src=", "@import", "url(", "<sons>"] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        assert!(page.contains("repo attach '/srv/a b'"));
        assert!(page.contains("points 'o'\\''brien &amp; &lt;sons&gt;'"));
    }

    #[test]
    fn the_text_fits_a_printed_line() {
        let page = kit("/srv/backups").text().unwrap();
        let longest = page.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(longest <= 90, "{longest}");
        assert!(page.lines().filter(|line| line.contains('█')).count() > 12, "the code's rows");
    }

    /// The three corners of a code, with their light ring, tell where it is and that it has a margin.
    #[test]
    fn the_code_has_its_corners_and_its_margin() {
        let code = Code::of(&kit("/srv").key).unwrap();
        assert_eq!(code.inner, 33);
        let corner = |x0: usize, y0: usize| {
            (0..7).all(|y| {
                (0..7).all(|x: usize| {
                    let ring = x.min(6 - x).min(y).min(6 - y);
                    code.dark(x0 + x, y0 + y) == (ring != 1)
                })
            })
        };
        let far = QUIET + code.inner - 7;
        assert!(corner(QUIET, QUIET) && corner(far, QUIET) && corner(QUIET, far));
        let edge = code.width - 1;
        assert!((0..code.width).all(|at| !code.dark(at, 0) && !code.dark(edge, at)));
    }
}
