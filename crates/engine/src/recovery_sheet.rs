//! The printable sheet of a recovery key.

use std::path::Path;

use chrono::Utc;
use holdfast_repository::{RecoveryKey, Repository, RepositoryUrl};
use secrecy::{ExposeSecret as _, SecretString};
use uuid::Uuid;

use crate::error::Result;
use crate::secret_file::SecretFile;

/// The sheet is written before the slot is made, so that no slot exists whose key nobody has.
pub(crate) struct RecoverySheet {
    pub(crate) key: RecoveryKey,
    url: String,
    file: SecretFile,
}

impl RecoverySheet {
    pub(crate) fn begin(path: &Path, url: &RepositoryUrl) -> Result<Self> {
        let file = SecretFile::create(path)?;
        let mut sheet = Self { key: RecoveryKey::generate()?, url: url.to_string(), file };
        // As long as the final text: a full disk shows now, and the key stands there whatever comes.
        sheet.write(&Uuid::nil().to_string())?;
        Ok(sheet)
    }

    fn write(&mut self, repository: &str) -> Result<()> {
        self.file.write(&format!(
            "Holdfast recovery key\n\nRepository  {repository}\nAt          {}\nMade        {}\n\n{}\n\n\
             Whoever has this key and the repository can read every backup in it.\n\
             Print it, keep it apart from the repository, and delete this file.\n",
            self.url,
            Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
            self.key.display().expose_secret(),
        ))
    }

    /// A slot takes this key from here on: the file stays even when the second writing fails.
    pub(crate) fn finish(mut self, repository: &Repository) -> Result<()> {
        self.file.keep();
        self.write(&repository.id().to_string())
    }
}

/// Finds the recovery key in what a person saved: the printed page, where it stands on one line or on two,
/// or the key alone.
pub fn recovery_key_from_text(text: &str) -> SecretString {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let joined = lines.windows(2).map(|two| two.join("-"));
    let found = lines
        .iter()
        .map(|line| (*line).to_owned())
        .chain(joined)
        .rfind(|line| RecoveryKey::parse(line).is_ok());
    SecretString::from(found.unwrap_or_else(|| text.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_key_is_found_on_one_line_and_on_two() {
        let key = RecoveryKey::from_bytes([7; 32]).display();
        let key = key.expose_secret();
        let two = format!("{}\n    {}", &key[..41], &key[42..]);
        for text in [key.to_owned(), format!("page 1\n{key}\nend"), format!("a\n\n  {two}\n\nb")] {
            let found = recovery_key_from_text(&text);
            assert!(RecoveryKey::parse(found.expose_secret()).is_ok(), "{text}");
        }
        assert_eq!(recovery_key_from_text(" none \n").expose_secret(), "none");
    }
}
