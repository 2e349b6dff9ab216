#![allow(clippy::unwrap_used)]
use proptest::prelude::*;
use secrecy::ExposeSecret as _;

use super::*;

fn env<'a>(list: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
    move |name| list.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
}

fn parse(text: &str) -> Dsn {
    Dsn::parse(text, &env(&[("USER", "me")])).unwrap()
}

fn problem(text: &str) -> String {
    Dsn::parse(text, &env(&[("USER", "me")])).unwrap_err().to_string()
}

#[test]
fn defaults_are_libpqs() {
    let dsn = parse("host=db");
    assert_eq!((dsn.user.as_str(), dsn.database.as_str()), ("me", "me"));
    assert_eq!(dsn.hosts[0].port, 5432);
    assert_eq!(dsn.sslmode, SslMode::Prefer);
    assert_eq!(dsn.channel_binding, ChannelBindingMode::Prefer);
    assert!(dsn.sslsni && dsn.tcp.keepalives);
    assert!(parse("").hosts[0].is_unix() || cfg!(not(unix)));
    assert!(Dsn::parse("host=db", &env(&[])).is_err(), "no user anywhere");
}

#[test]
fn the_string_beats_the_environment() {
    let variables = [
        ("PGHOST", "a,b"),
        ("PGPORT", "1,2"),
        ("PGUSER", "u"),
        ("PGSSLMODE", "require"),
        ("PGAPPNAME", "x"),
    ];
    let dsn = Dsn::parse("user=v", &env(&variables)).unwrap();
    assert_eq!(dsn.user, "v");
    assert_eq!(dsn.hosts[1].to_string(), "b:2");
    assert_eq!(dsn.sslmode, SslMode::Require);
    assert_eq!(dsn.application_name, "x");
    assert!(Dsn::parse("", &env(&[("PGUSER", "u"), ("PGSSLCRL", "/x")])).is_err());
}

#[test]
fn several_hosts() {
    let dsn = parse("host=a,b,/sock port=5433");
    let shown: Vec<_> = dsn.hosts.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["a:5433", "b:5433", "/sock/.s.PGSQL.5433"]);
    let dsn = parse("hostaddr=127.0.0.1,::1 host=x,");
    assert_eq!(dsn.hosts[0].host, "x");
    assert_eq!(dsn.hosts[1].host, "::1");
    assert!(problem("host=a,b,c port=1,2").contains("port"));
    assert!(problem("host=a,b hostaddr=127.0.0.1").contains("hostaddr"));
    assert!(problem("hostaddr=name").contains("numeric"));
}

#[test]
fn what_cannot_be_honoured_is_an_error() {
    for text in [
        "hosst=a",
        "sslmode=on",
        "port=0",
        "port=70000",
        "sslcrl=/x",
        "gssencmode=require",
        "replication=true",
        "client_encoding=latin1",
        "sslrootcert=system sslmode=require",
        "sslnegotiation=direct",
        "ssl_min_protocol_version=TLSv1.3 ssl_max_protocol_version=TLSv1.2",
        "target_session_attrs=master",
        "require_auth=kerberos",
        "connect_timeout=soon",
        "keepalives=yes",
        "keepalives_idle=-1",
        "requirepeer=postgres",
        "host=@abstract",
        "load_balance_hosts=random",
    ] {
        let error = Dsn::parse(text, &env(&[("USER", "me")])).unwrap_err();
        assert_eq!(error.code(), "bad_dsn", "{text}");
    }
}

#[test]
fn a_password_that_broke_the_uri_is_not_repeated() {
    for text in ["postgresql://u:hunter2/x@h/db", "postgresql://u:hunter2?x@h/db"] {
        let error = Dsn::parse(text, &env(&[])).unwrap_err();
        assert!(!format!("{error:?} {error} {}", error.hint()).contains("hunter2"), "{text}");
    }
}

#[test]
fn system_roots_imply_the_strongest_mode() {
    let dsn = parse("host=db sslrootcert=system");
    assert_eq!(dsn.sslmode, SslMode::VerifyFull);
    assert_eq!(dsn.sslrootcert, Some(RootCertificates::System));
}

#[test]
fn services_fill_in_and_keep_their_password() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("services");
    std::fs::write(&file, "[prod]\nhost=db1\nuser=backup\npassword=from-service\n[bad]\nfoo=1\n")
        .unwrap();
    let path = file.to_str().unwrap();
    let variables = [("PGSERVICEFILE", path), ("PGHOST", "other"), ("PGPASSWORD", "from-env")];
    let dsn = Dsn::parse("service=prod port=5555", &env(&variables)).unwrap();
    assert_eq!(dsn.hosts[0].to_string(), "db1:5555");
    assert_eq!(dsn.user, "backup");
    let password = dsn.find_password(&env(&variables)).unwrap().unwrap();
    assert_eq!(password.expose_secret(), "from-service");
    let text = dsn.to_redacted_string();
    assert!(!text.contains("from-service"), "{text}");
    assert_eq!(Dsn::parse(&text, &env(&[])).unwrap(), dsn);
    assert!(Dsn::parse("service=bad", &env(&variables)).is_err());
    assert!(Dsn::parse("service=none", &env(&variables)).is_err());
}

#[test]
fn passwords_come_from_the_environment_then_from_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path().to_str().unwrap();
    let file = directory.path().join(".pgpass");
    std::fs::write(&file, "b:5432:replication:me:from-file\n").unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let dsn = parse("host=a,b");
    let with = |list: &[(&str, &str)]| {
        dsn.find_password(&env(list)).unwrap().map(|p| p.expose_secret().to_owned())
    };
    if cfg!(unix) {
        assert_eq!(with(&[("HOME", home)]).as_deref(), Some("from-file"));
    }
    assert_eq!(with(&[("HOME", home), ("PGPASSWORD", "e")]).as_deref(), Some("e"));
    assert_eq!(with(&[]), None);
}

#[test]
fn certificates_of_the_home_directory_are_found() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join(".postgresql");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("root.crt"), "").unwrap();
    let variables = [("HOME", directory.path().to_str().unwrap()), ("USER", "me")];
    if cfg!(unix) {
        let dsn = Dsn::parse("host=a", &env(&variables)).unwrap();
        assert_eq!(dsn.sslrootcert, Some(RootCertificates::File(folder.join("root.crt"))));
        assert_eq!(dsn.sslcert, None);
    }
}

fn value() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9äß '\\\\=?&/@:%_-]{1,12}"
}

prop_compose! {
    fn text()(
        names in prop::collection::vec("[a-z][a-z0-9.]{0,8}|/[a-z/ ]{0,8}[a-z]|::1", 1..4),
        port in 1u16..,
        user in value(),
        dbname in value(),
        mode in prop::sample::select(vec!["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]),
        root in prop::option::of(value()),
        application in value(),
        options in prop::option::of(value()),
        timeout in 0u32..100_000,
        binding in prop::sample::select(vec!["disable", "prefer", "require"]),
        auth in prop::sample::select(vec!["", "scram-sha-256", "!password,!md5"]),
        session in prop::sample::select(vec!["any", "primary", "prefer-standby"]),
        idle in 0u32..1000,
        keepalives in 0u8..2,
    ) -> String {
        let mut out = String::new();
        let mut put = |k: &str, v: &str| text::append(&mut out, k, v);
        put("host", &names.join(","));
        put("port", &port.to_string());
        put("user", &user);
        put("dbname", &dbname);
        put("sslmode", mode);
        if let Some(root) = root.filter(|root| root != "system") { put("sslrootcert", &root); }
        put("application_name", &application);
        if let Some(options) = options { put("options", &options); }
        put("connect_timeout", &timeout.to_string());
        put("channel_binding", binding);
        put("require_auth", auth);
        put("target_session_attrs", session);
        put("keepalives_idle", &idle.to_string());
        put("keepalives", &keepalives.to_string());
        out
    }
}

proptest! {
    #[test]
    fn the_canonical_form_reads_back_to_the_same(text in text()) {
        let dsn = Dsn::parse(&text, &env(&[])).unwrap();
        let canonical = dsn.to_redacted_string();
        let again = Dsn::parse(&canonical, &env(&[])).unwrap();
        prop_assert_eq!(&again, &dsn);
        prop_assert_eq!(again.to_redacted_string(), canonical);
    }
}
