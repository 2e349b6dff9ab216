//! A certificate authority that exists for one test.

use super::template::run;
use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

/// A self-signed authority and what it issues, made with the `openssl` command.
#[derive(Clone, Debug)]
pub struct TestCa {
    folder: PathBuf,
}

impl TestCa {
    /// A new authority with its files in `folder`.
    pub fn new(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        // An own configuration: the machine's would be mixed in otherwise.
        let configuration = "[req]\ndistinguished_name=name\nprompt=no\nx509_extensions=ca\n\
             [name]\nCN=Holdfast test authority\n\
             [ca]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n\
             subjectKeyIdentifier=hash\n";
        fs::write(folder.join("ca.cnf"), configuration)?;
        let authority = Self { folder: folder.to_path_buf() };
        run(Command::new("openssl")
            .args(["req", "-x509", "-config", "ca.cnf", "-days", "3650", "-sha256"])
            .args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
            .args(["-keyout", "ca.key", "-out", "ca.crt"])
            .current_dir(folder))?;
        Ok(authority)
    }

    /// The authority's certificate (PEM), what a client is told to trust.
    pub fn certificate(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// Issues a certificate and key (PEM) for a name; `subjects` are subject alternative names as
    /// openssl writes them, such as `DNS:localhost` or `IP:127.0.0.1`.
    pub fn issue(&self, common_name: &str, subjects: &[&str]) -> io::Result<(PathBuf, PathBuf)> {
        let file = |ending: &str| self.folder.join(format!("{common_name}.{ending}"));
        fs::write(
            file("cnf"),
            format!("[req]\ndistinguished_name=name\nprompt=no\n[name]\nCN={common_name}\n"),
        )?;
        let mut extensions = String::from("basicConstraints=critical,CA:FALSE\n");
        if !subjects.is_empty() {
            extensions.push_str("subjectAltName=");
            extensions.push_str(&subjects.join(","));
            extensions.push('\n');
        }
        fs::write(file("ext"), extensions)?;
        run(Command::new("openssl")
            .args(["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
            .arg("-config")
            .arg(file("cnf"))
            .arg("-keyout")
            .arg(file("key"))
            .arg("-out")
            .arg(file("csr"))
            .current_dir(&self.folder))?;
        run(Command::new("openssl")
            .args(["x509", "-req", "-sha256", "-days", "3650"])
            .args(["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"])
            .arg("-in")
            .arg(file("csr"))
            .arg("-extfile")
            .arg(file("ext"))
            .arg("-out")
            .arg(file("crt"))
            .current_dir(&self.folder))?;
        Ok((file("crt"), file("key")))
    }
}
