//! Connection strings as libpq reads them (`fe-connect.c`; libpq, "Parameter Key Words").
//!
//! A value comes from the string, else from the service, else from the environment, else from the
//! default. What libpq accepts and this client cannot honour is an error, never silently dropped.

mod files;
mod passfile;
mod service;
mod text;
mod values;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;

pub use values::{
    ChannelBindingMode, HostPort, RequiredAuthentication, RootCertificates, SslMode, TargetSession,
    TlsVersion,
};

use crate::error::WireError;

/// How long one host may take to answer, when `connect_timeout` does not say.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Keywords and the environment variable that stands in for each.
const KEYWORDS: &[(&str, &str)] = &[
    ("application_name", "PGAPPNAME"),
    ("channel_binding", "PGCHANNELBINDING"),
    ("client_encoding", ""),
    ("connect_timeout", "PGCONNECT_TIMEOUT"),
    ("dbname", "PGDATABASE"),
    ("fallback_application_name", ""),
    ("gssencmode", "PGGSSENCMODE"),
    ("host", "PGHOST"),
    ("hostaddr", "PGHOSTADDR"),
    ("keepalives", ""),
    ("keepalives_count", ""),
    ("keepalives_idle", ""),
    ("keepalives_interval", ""),
    ("load_balance_hosts", "PGLOADBALANCEHOSTS"),
    ("max_protocol_version", ""),
    ("min_protocol_version", ""),
    ("options", "PGOPTIONS"),
    ("passfile", "PGPASSFILE"),
    ("port", "PGPORT"),
    ("require_auth", "PGREQUIREAUTH"),
    ("service", "PGSERVICE"),
    ("servicefile", ""),
    ("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION"),
    ("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION"),
    ("sslcert", "PGSSLCERT"),
    ("sslcertmode", "PGSSLCERTMODE"),
    ("sslcompression", ""),
    ("sslcrl", "PGSSLCRL"),
    ("sslcrldir", "PGSSLCRLDIR"),
    ("sslkey", "PGSSLKEY"),
    ("sslmode", "PGSSLMODE"),
    ("sslnegotiation", "PGSSLNEGOTIATION"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslsni", "PGSSLSNI"),
    ("target_session_attrs", "PGTARGETSESSIONATTRS"),
    ("tcp_user_timeout", ""),
    ("user", "PGUSER"),
];

/// Keywords that libpq knows and this client cannot honour: each with the values that ask for
/// nothing it does not do.
const UNSUPPORTED: &[(&str, &[&str])] = &[
    ("client_encoding", &["", "auto", "utf8", "utf-8", "UTF8", "UTF-8"]),
    ("gssencmode", &["", "disable", "prefer"]),
    ("load_balance_hosts", &["", "disable"]),
    ("min_protocol_version", &["", "3.0"]),
    ("max_protocol_version", &["", "3.0", "3.2", "latest"]),
    ("sslcompression", &["", "0"]),
    ("sslcrl", &[""]),
    ("sslcrldir", &[""]),
];

/// How dead TCP connections are noticed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TcpOptions {
    /// Whether keepalives are sent at all (`keepalives`).
    pub keepalives: bool,
    /// Silence before the first one (`keepalives_idle`).
    pub idle: Duration,
    /// Time between two (`keepalives_interval`).
    pub interval: Duration,
    /// How many may stay unanswered (`keepalives_count`).
    pub count: u32,
    /// How long sent data may stay unacknowledged (`tcp_user_timeout`); `None` leaves it to the
    /// operating system.
    pub user_timeout: Option<Duration>,
}

impl Default for TcpOptions {
    /// A dead peer is noticed after a minute.
    fn default() -> Self {
        Self {
            keepalives: true,
            idle: Duration::from_secs(30),
            interval: Duration::from_secs(10),
            count: 3,
            user_timeout: None,
        }
    }
}

/// A connection string, read and completed. It never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Dsn {
    /// Where to try, in order; never empty.
    pub hosts: Vec<HostPort>,
    /// The role.
    pub user: String,
    /// The database, for sessions that have one.
    pub database: String,
    /// How much encryption is asked for.
    pub sslmode: SslMode,
    /// Which authorities are trusted; `None`: none were named and `~/.postgresql/root.crt` was not
    /// there when the string was read.
    pub sslrootcert: Option<RootCertificates>,
    /// The client certificate (PEM, with its chain).
    pub sslcert: Option<PathBuf>,
    /// Its private key (PEM, not encrypted).
    pub sslkey: Option<PathBuf>,
    /// Whether TLS begins without asking first (`sslnegotiation=direct`, servers from 17).
    pub direct_tls: bool,
    /// Whether the host name is told to the server before encryption (`sslsni`).
    pub sslsni: bool,
    /// Oldest and newest TLS that is spoken.
    pub tls_versions: (TlsVersion, TlsVersion),
    /// Whether SCRAM is bound to the server's certificate.
    pub channel_binding: ChannelBindingMode,
    /// Which ways of authentication are let pass; `None`: all that are implemented.
    pub require_auth: Option<RequiredAuthentication>,
    /// The name in `pg_stat_replication`, and in `synchronous_standby_names`.
    pub application_name: String,
    /// How long one address may take until the session is ready; zero is for ever.
    pub connect_timeout: Duration,
    /// The password file; `None` is `~/.pgpass`.
    pub passfile: Option<PathBuf>,
    /// The service whose settings went into this.
    pub service: Option<String>,
    /// The file in which the service was found.
    pub service_file: Option<PathBuf>,
    /// Command line options for the server's process (`-c name=value`).
    pub options: Option<String>,
    /// Which kind of server will do.
    pub target_session: TargetSession,
    /// How dead TCP connections are noticed.
    pub tcp: TcpOptions,
}

/// The environment, behind a function so that nothing here depends on the process.
pub(crate) struct Environment<'a>(&'a dyn Fn(&str) -> Option<String>);

impl Environment<'_> {
    fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    fn home(&self) -> Option<PathBuf> {
        self.get("HOME").or_else(|| self.get("USERPROFILE")).map(PathBuf::from)
    }

    /// Where libpq keeps a user's certificates.
    fn certificates(&self) -> Option<PathBuf> {
        if cfg!(windows) {
            self.get("APPDATA").map(|path| Path::new(&path).join("postgresql"))
        } else {
            self.home().map(|home| home.join(".postgresql"))
        }
    }

    fn default_passfile(&self) -> Option<PathBuf> {
        if cfg!(windows) {
            self.get("APPDATA").map(|path| Path::new(&path).join("postgresql").join("pgpass.conf"))
        } else {
            self.home().map(|home| home.join(".pgpass"))
        }
    }
}

impl Dsn {
    /// Reads a connection string in either notation and completes it.
    ///
    /// # Errors
    /// [`WireError::BadDsn`] for what cannot be understood or honoured, [`WireError::PasswordInDsn`]
    /// for a secret in the text, [`WireError::FileUnreadable`] for a service file.
    pub fn parse(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Dsn, WireError> {
        let env = Environment(env);
        let mut given = BTreeMap::new();
        for (keyword, value) in text::settings(text)? {
            check_keyword(&keyword)?;
            // The last of several wins, as in libpq.
            given.insert(keyword, value);
        }
        let mut service_file = None;
        let service = non_empty(given.remove("service")).or_else(|| env.get("PGSERVICE"));
        let explicit_file = non_empty(given.remove("servicefile")).map(PathBuf::from);
        if let Some(name) = &service {
            let found = service::find(name, explicit_file.as_deref(), &env)?;
            for (keyword, value) in found.settings {
                if text::is_secret(&keyword) {
                    if keyword != "password" {
                        return Err(WireError::bad_dsn(format!("\"{keyword}\" is not supported")));
                    }
                    continue;
                }
                check_keyword(&keyword)?;
                given.entry(keyword).or_insert(value);
            }
            service_file = Some(found.file);
        }
        for (keyword, variable) in KEYWORDS {
            if !variable.is_empty()
                && *keyword != "service"
                && let Some(value) = env.get(variable)
            {
                given.entry((*keyword).to_owned()).or_insert(value);
            }
        }
        for (keyword, harmless) in UNSUPPORTED {
            if let Some(value) = given.get(*keyword)
                && !harmless.contains(&value.as_str())
            {
                return Err(WireError::bad_dsn(format!("{keyword}={value} is not supported")));
            }
        }
        complete(&given, &env, service, service_file)
    }

    /// The canonical `keyword=value` form: no secret, nothing left to the environment but the
    /// password. Read again with the same files present it gives the same value.
    pub fn to_redacted_string(&self) -> String {
        let mut out = String::new();
        let mut put = |keyword: &str, value: &str| text::append(&mut out, keyword, value);
        let join = |item: &dyn Fn(&HostPort) -> String| {
            self.hosts.iter().map(item).collect::<Vec<_>>().join(",")
        };
        put("host", &join(&|host| host.host.clone()));
        if self.hosts.iter().any(|host| host.hostaddr.is_some()) {
            put(
                "hostaddr",
                &join(&|host| host.hostaddr.map(|address| address.to_string()).unwrap_or_default()),
            );
        }
        put("port", &join(&|host| host.port.to_string()));
        put("user", &self.user);
        put("dbname", &self.database);
        put("sslmode", self.sslmode.name());
        match &self.sslrootcert {
            Some(RootCertificates::System) => put("sslrootcert", "system"),
            Some(RootCertificates::File(path)) => put("sslrootcert", &path.to_string_lossy()),
            None => {}
        }
        for (keyword, path) in [
            ("sslcert", &self.sslcert),
            ("sslkey", &self.sslkey),
            ("passfile", &self.passfile),
            ("servicefile", &self.service_file),
        ] {
            if let Some(path) = path {
                put(keyword, &path.to_string_lossy());
            }
        }
        if let Some(service) = &self.service {
            put("service", service);
        }
        if self.direct_tls {
            put("sslnegotiation", "direct");
        }
        if !self.sslsni {
            put("sslsni", "0");
        }
        if self.tls_versions.0 != TlsVersion::V12 {
            put("ssl_min_protocol_version", self.tls_versions.0.name());
        }
        if self.tls_versions.1 != TlsVersion::V13 {
            put("ssl_max_protocol_version", self.tls_versions.1.name());
        }
        if self.channel_binding != ChannelBindingMode::Prefer {
            put("channel_binding", self.channel_binding.name());
        }
        if let Some(required) = &self.require_auth {
            put("require_auth", &required.to_string());
        }
        put("application_name", &self.application_name);
        put("connect_timeout", &self.connect_timeout.as_secs().to_string());
        if let Some(options) = &self.options {
            put("options", options);
        }
        if self.target_session != TargetSession::Any {
            put("target_session_attrs", self.target_session.name());
        }
        let tcp = TcpOptions::default();
        if !self.tcp.keepalives {
            put("keepalives", "0");
        }
        if self.tcp.idle != tcp.idle {
            put("keepalives_idle", &self.tcp.idle.as_secs().to_string());
        }
        if self.tcp.interval != tcp.interval {
            put("keepalives_interval", &self.tcp.interval.as_secs().to_string());
        }
        if self.tcp.count != tcp.count {
            put("keepalives_count", &self.tcp.count.to_string());
        }
        if let Some(timeout) = self.tcp.user_timeout {
            put("tcp_user_timeout", &timeout.as_millis().to_string());
        }
        out
    }

    /// Looks for the password where libpq does: the service's section, `PGPASSWORD`, then the
    /// password file (first line that fits one of the hosts). `None`: there is none.
    ///
    /// # Errors
    /// [`WireError::PassfileUnsafe`] when others can read the file,
    /// [`WireError::FileUnreadable`] when it exists and cannot be read.
    pub fn find_password(
        &self,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Option<SecretString>, WireError> {
        let env = Environment(env);
        if let (Some(service), Some(file)) = (&self.service, &self.service_file) {
            let found = service::find(service, Some(file), &env)?;
            let password = found.settings.into_iter().find(|(keyword, _)| keyword == "password");
            if let Some((_, password)) = password {
                return Ok(Some(SecretString::from(password)));
            }
        }
        if let Some(password) = env.get("PGPASSWORD") {
            return Ok(Some(SecretString::from(password)));
        }
        match self.passfile.clone().or_else(|| env.default_passfile()) {
            Some(path) => passfile::find(&path, &self.hosts, &self.database, &self.user),
            None => Ok(None),
        }
    }
}

fn non_empty(value: Option<String>) -> Option<String> {
    value.filter(|value| !value.is_empty())
}

fn check_keyword(keyword: &str) -> Result<(), WireError> {
    if KEYWORDS.iter().any(|(known, _)| *known == keyword) {
        return Ok(());
    }
    Err(WireError::bad_dsn(match keyword {
        "replication" => "\"replication\" is decided by what is done, not by the string".to_owned(),
        _ => format!("\"{keyword}\" is not a keyword that is supported"),
    }))
}

/// Turns settings into the value; an empty string counts as not given.
fn complete(
    given: &BTreeMap<String, String>,
    env: &Environment<'_>,
    service: Option<String>,
    service_file: Option<PathBuf>,
) -> Result<Dsn, WireError> {
    let get = |keyword: &str| given.get(keyword).map(String::as_str).filter(|v| !v.is_empty());
    let user = match get("user") {
        Some(user) => user.to_owned(),
        None => ["USER", "LOGNAME", "USERNAME"]
            .into_iter()
            .find_map(|name| env.get(name))
            .ok_or_else(|| WireError::bad_dsn("it names no user, and the environment has none"))?,
    };
    let certificates = env.certificates();
    let existing = |name: &str| {
        certificates.as_ref().map(|directory| directory.join(name)).filter(|path| path.exists())
    };
    let sslrootcert = match get("sslrootcert") {
        Some("system") => Some(RootCertificates::System),
        Some(path) => Some(RootCertificates::File(PathBuf::from(path))),
        None => existing("root.crt").map(RootCertificates::File),
    };
    let system = sslrootcert == Some(RootCertificates::System);
    let sslmode = match get("sslmode") {
        Some(text) => SslMode::parse(text)?,
        None if system => SslMode::VerifyFull,
        None => SslMode::default(),
    };
    if system && sslmode != SslMode::VerifyFull {
        return Err(WireError::bad_dsn(format!(
            "sslmode={sslmode} is too weak for sslrootcert=system: anybody can have a certificate that the system \
             trusts, so only verify-full says something"
        )));
    }
    let direct_tls = match get("sslnegotiation") {
        None | Some("postgres") => false,
        Some("direct") if sslmode.needs_tls() => true,
        Some("direct") => {
            return Err(WireError::bad_dsn(
                "sslnegotiation=direct needs sslmode=require or stronger",
            ));
        }
        Some(_) => return Err(WireError::bad_dsn("sslnegotiation must be postgres or direct")),
    };
    let certificate_wanted = match get("sslcertmode") {
        None | Some("allow") => true,
        Some("disable") => false,
        Some("require") => {
            return Err(WireError::bad_dsn("sslcertmode=require is not supported"));
        }
        Some(_) => return Err(WireError::bad_dsn("sslcertmode must be disable or allow")),
    };
    let (sslcert, sslkey) = if certificate_wanted {
        let certificate = get("sslcert").map(PathBuf::from).or_else(|| existing("postgresql.crt"));
        let key = get("sslkey")
            .map(PathBuf::from)
            .or_else(|| certificate.as_ref().and_then(|_| existing("postgresql.key")));
        (certificate, key)
    } else {
        (None, None)
    };
    let minimum = TlsVersion::parse_minimum(get("ssl_min_protocol_version").unwrap_or_default())?;
    let maximum = TlsVersion::parse_maximum(get("ssl_max_protocol_version").unwrap_or_default())?;
    if minimum > maximum {
        return Err(WireError::bad_dsn(
            "ssl_min_protocol_version is above ssl_max_protocol_version",
        ));
    }
    Ok(Dsn {
        hosts: hosts(get("host"), get("hostaddr"), get("port"))?,
        database: get("dbname").unwrap_or(&user).to_owned(),
        user,
        sslmode,
        sslrootcert,
        sslcert,
        sslkey,
        direct_tls,
        sslsni: flag("sslsni", get("sslsni"))?,
        tls_versions: (minimum, maximum),
        channel_binding: get("channel_binding")
            .map_or(Ok(ChannelBindingMode::default()), ChannelBindingMode::parse)?,
        require_auth: RequiredAuthentication::parse(get("require_auth").unwrap_or_default())?,
        application_name: get("application_name")
            .or_else(|| get("fallback_application_name"))
            .unwrap_or("holdfast")
            .to_owned(),
        connect_timeout: connect_timeout(get("connect_timeout"))?,
        passfile: get("passfile").map(PathBuf::from),
        service,
        service_file,
        options: get("options").map(str::to_owned),
        target_session: get("target_session_attrs")
            .map_or(Ok(TargetSession::default()), TargetSession::parse)?,
        tcp: tcp_options(&get)?,
    })
}

fn tcp_options<'a>(get: &impl Fn(&str) -> Option<&'a str>) -> Result<TcpOptions, WireError> {
    let default = TcpOptions::default();
    let seconds = |keyword: &str, default: Duration| {
        Ok::<_, WireError>(match number(keyword, get(keyword))? {
            None | Some(0) => default,
            Some(value) => Duration::from_secs(value.into()),
        })
    };
    Ok(TcpOptions {
        keepalives: flag("keepalives", get("keepalives"))?,
        idle: seconds("keepalives_idle", default.idle)?,
        interval: seconds("keepalives_interval", default.interval)?,
        count: number("keepalives_count", get("keepalives_count"))?
            .filter(|count| *count > 0)
            .unwrap_or(default.count),
        user_timeout: number("tcp_user_timeout", get("tcp_user_timeout"))?
            .filter(|timeout| *timeout > 0)
            .map(|milliseconds| Duration::from_millis(milliseconds.into())),
    })
}

fn number(keyword: &str, text: Option<&str>) -> Result<Option<u32>, WireError> {
    text.map(|text| {
        text.trim()
            .parse()
            .ok()
            // What does not fit a C int is refused by libpq as well.
            .filter(|value| *value <= 0x7FFF_FFFF)
            .ok_or_else(|| WireError::bad_dsn(format!("{keyword} is not a number")))
    })
    .transpose()
}

fn flag(keyword: &str, text: Option<&str>) -> Result<bool, WireError> {
    match text {
        None | Some("1") => Ok(true),
        Some("0") => Ok(false),
        Some(_) => Err(WireError::bad_dsn(format!("{keyword} must be 0 or 1"))),
    }
}

/// Whole seconds; zero and less are for ever, as in libpq.
fn connect_timeout(text: Option<&str>) -> Result<Duration, WireError> {
    match text.map(|text| text.trim().parse::<i32>()) {
        None => Ok(DEFAULT_CONNECT_TIMEOUT),
        Some(Ok(seconds)) => Ok(Duration::from_secs(u64::try_from(seconds).unwrap_or(0))),
        Some(Err(_)) => Err(WireError::bad_dsn("connect_timeout is not a number of seconds")),
    }
}

/// Pairs hosts, addresses and ports: one port serves all hosts, else there are as many.
fn hosts(
    host: Option<&str>,
    hostaddr: Option<&str>,
    port: Option<&str>,
) -> Result<Vec<HostPort>, WireError> {
    let names: Vec<&str> = host.map(|list| list.split(',').collect()).unwrap_or_default();
    let addresses: Vec<&str> = hostaddr.map(|list| list.split(',').collect()).unwrap_or_default();
    let ports: Vec<&str> = port.map(|list| list.split(',').collect()).unwrap_or_default();
    let count = names.len().max(addresses.len()).max(1);
    if !names.is_empty() && !addresses.is_empty() && names.len() != addresses.len() {
        return Err(WireError::bad_dsn("host and hostaddr name different numbers of hosts"));
    }
    if ports.len() > 1 && ports.len() != count {
        return Err(WireError::bad_dsn("port names a different number than host"));
    }
    let mut all = Vec::with_capacity(count);
    for n in 0..count {
        let name = names.get(n).copied().unwrap_or_default().trim();
        let address = addresses.get(n).copied().unwrap_or_default().trim();
        let port = ports.get(n).or(ports.first()).copied().unwrap_or_default().trim();
        let hostaddr = match address {
            "" => None,
            text => Some(
                text.parse::<IpAddr>()
                    .map_err(|_| WireError::bad_dsn("hostaddr is not a numeric address"))?,
            ),
        };
        if name.starts_with('@') {
            return Err(WireError::bad_dsn("abstract Unix sockets are not supported"));
        }
        let host = match (name, hostaddr) {
            ("", Some(address)) => address.to_string(),
            ("", None) => default_host(),
            (name, _) => name.to_owned(),
        };
        let port = match port {
            "" => 5432,
            // The text is not repeated: a password that broke the URI may have ended up here.
            text => text
                .parse::<u16>()
                .ok()
                .filter(|port| *port > 0)
                .ok_or_else(|| WireError::bad_dsn("a port is a number from 1 to 65535"))?,
        };
        all.push(HostPort { host, hostaddr, port });
    }
    Ok(all)
}

/// Where a server of this machine listens.
fn default_host() -> String {
    if cfg!(unix) {
        // Debian's directory when it is there, else the one PostgreSQL is built with.
        let debian = "/var/run/postgresql";
        if Path::new(debian).is_dir() { debian.to_owned() } else { "/tmp".to_owned() }
    } else {
        "localhost".to_owned()
    }
}

#[cfg(test)]
mod tests;
