//! Keys and passwords in the operating system's keychain: a real Secret Service on a session bus of
//! its own.
#![allow(clippy::unwrap_used)]

use holdfast_tests::{
    cli::Cli,
    pg::TestServer,
    places,
    protected::{CLUSTER, failure},
    wait_for,
};
use std::{
    fs,
    io::Write,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

const BUS: &str = r#"<busconfig>
  <type>session</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"#;

/// A session of its own: bus, unlocked keyring, home and runtime directory.
struct Session {
    bus: Child,
    keyring: Child,
    place: tempfile::TempDir,
}

impl Session {
    /// `None`, and a word about it, where the programs are not installed.
    fn start(test: &str) -> Option<Self> {
        if places::on_path("dbus-daemon").is_none()
            || places::on_path("gnome-keyring-daemon").is_none()
        {
            eprintln!("skipped: {test}: dbus-daemon or gnome-keyring-daemon is not installed");
            return None;
        }
        let place = tempfile::Builder::new().prefix("hf-key-").tempdir_in("/tmp").unwrap();
        for folder in ["home", "run"] {
            fs::create_dir(place.path().join(folder)).unwrap();
            fs::set_permissions(place.path().join(folder), fs::Permissions::from_mode(0o700))
                .unwrap();
        }
        let socket = place.path().join("bus");
        // A bus that starts no services: it would start a keyring of its own, which nobody has opened,
        // for the first who asks before ours is there.
        let config = place.path().join("bus.conf");
        fs::write(&config, BUS.replace("{socket}", &socket.display().to_string())).unwrap();
        let bus = Command::new("dbus-daemon")
            .args(["--nofork", "--nopidfile"])
            .arg(format!("--config-file={}", config.display()))
            .envs(environment(place.path()))
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_for("the bus", Duration::from_secs(20), || socket.exists());
        let mut keyring = Command::new("gnome-keyring-daemon")
            .args(["--foreground", "--unlock", "--components=secrets"])
            .envs(environment(place.path()))
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        keyring.stdin.take().unwrap().write_all(b"keyring password\n").unwrap();
        let session = Self { bus, keyring, place };
        // The service answers before it has made and opened its first collection.
        wait_for("the keyring", Duration::from_secs(20), || {
            let asked = |arguments: &[&str]| {
                Command::new("dbus-send")
                    .args(["--session", "--print-reply", "--dest=org.freedesktop.secrets"])
                    .args(arguments)
                    .envs(environment(session.place.path()))
                    .output()
                    .map(|told| String::from_utf8_lossy(&told.stdout).into_owned())
                    .unwrap_or_default()
            };
            let default = asked(&[
                "/org/freedesktop/secrets",
                "org.freedesktop.Secret.Service.ReadAlias",
                "string:default",
            ]);
            let locked = asked(&[
                "/org/freedesktop/secrets/collection/login",
                "org.freedesktop.DBus.Properties.Get",
                "string:org.freedesktop.Secret.Collection",
                "string:Locked",
            ]);
            default.contains("/collection/login") && locked.contains("boolean false")
        });
        Some(session)
    }

    /// The command in this session, with a home of its own.
    fn cli(&self) -> Cli {
        Cli::new(self.path("holdfast")).unwrap().envs(environment(self.place.path()))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Everything the keyring has written to disk must be sealed.
    fn keyring_files(&self) -> Vec<Vec<u8>> {
        let folder = self.path("home/.local/share/keyrings");
        fs::read_dir(folder)
            .unwrap()
            .flatten()
            .filter_map(|entry| fs::read(entry.path()).ok())
            .collect()
    }

    /// Removes every entry of Holdfast, as a person would in the keychain's own window.
    fn forget_everything(&self) {
        let call = |arguments: &[&str]| {
            let told = Command::new("dbus-send")
                .args(["--session", "--print-reply", "--dest=org.freedesktop.secrets"])
                .args(arguments)
                .envs(environment(self.place.path()))
                .output()
                .unwrap();
            assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
            String::from_utf8_lossy(&told.stdout).into_owned()
        };
        let found = call(&[
            "/org/freedesktop/secrets",
            "org.freedesktop.Secret.Service.SearchItems",
            "dict:string:string:service,holdfast",
        ]);
        let items: Vec<_> = found.split('"').filter(|part| part.starts_with("/org/")).collect();
        assert!(!items.is_empty(), "{found}");
        for item in items {
            call(&[item, "org.freedesktop.Secret.Item.Delete"]);
        }
    }
}

fn environment(place: &Path) -> Vec<(&'static str, String)> {
    let at = |name: &str| place.join(name).display().to_string();
    vec![
        ("DBUS_SESSION_BUS_ADDRESS", format!("unix:path={}", at("bus"))),
        ("HOME", at("home")),
        ("XDG_RUNTIME_DIR", at("run")),
        ("XDG_DATA_HOME", at("home/.local/share")),
        ("XDG_CONFIG_HOME", at("home/.config")),
        ("XDG_CACHE_HOME", at("home/.cache")),
    ]
}

impl Drop for Session {
    fn drop(&mut self) {
        for child in [&mut self.keyring, &mut self.bus] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn fails(cli: &Cli, arguments: &[&str], code: i32, name: &str) -> serde_json::Value {
    let (found, error) = failure(cli, arguments).unwrap();
    assert_eq!((found, error["code"].as_str().unwrap()), (code, name), "{arguments:?}: {error}");
    error
}

#[test]
fn a_repository_opens_with_the_key_in_the_keychain() {
    let Some(session) = Session::start("a_repository_opens_with_the_key_in_the_keychain") else {
        return;
    };
    let server = TestServer::start(17).unwrap();
    let cli = session.cli();
    let url = session.text("repository");
    let created =
        cli.json(&["repo", "create", &url, "--recovery-key-out", &session.text("key")]).unwrap();
    assert_eq!(created["unlock"], "keychain");
    cli.json(&["cluster", "add", CLUSTER, "--dsn", &server.dsn()]).unwrap();
    cli.json(&["backup", CLUSTER]).unwrap();
    assert_eq!(cli.json(&["points", CLUSTER]).unwrap()["snapshots"].as_array().unwrap().len(), 1);
    cli.json(&["verify", CLUSTER]).unwrap();
    let slots = |cli: &Cli| {
        cli.json(&["repo", "keys", "list"]).unwrap()["slots"].as_array().unwrap().clone()
    };
    let kinds: Vec<_> =
        slots(&cli).iter().map(|slot| slot["kind"].as_str().unwrap().to_owned()).collect();
    assert_eq!(kinds.len(), 2, "{kinds:?}");
    assert!(kinds.contains(&"keychain".to_owned()), "{kinds:?}");

    // The entry is removed: that is told, and no new key takes its place.
    session.forget_everything();
    let before = walk(&session.path("repository"));
    let error = fails(&cli, &["points", CLUSTER], 6, "key_not_in_keychain");
    assert!(error["hint"].as_str().unwrap().contains("recovery"), "{error}");
    fails(&cli, &["backup", CLUSTER], 6, "key_not_in_keychain");
    fails(&cli, &["repo", "keys", "add", "--keychain"], 6, "key_not_in_keychain");
    assert_eq!(walk(&session.path("repository")), before, "something was written without a key");

    // The printed key opens it, and puts a new one into the keychain.
    let key = session.text("key");
    cli.json(&["--recovery-key-file", &key, "points", CLUSTER]).unwrap();
    cli.json(&[
        "--recovery-key-file",
        &key,
        "repo",
        "keys",
        "add",
        "--keychain",
        "--label",
        "this machine",
    ])
    .unwrap();
    cli.json(&["points", CLUSTER]).unwrap();
    assert_eq!(slots(&cli).len(), 3);
    let stale = slots(&cli)
        .iter()
        .find(|s| s["kind"] == "keychain" && s["label"] != "this machine")
        .unwrap()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    cli.json(&["repo", "keys", "remove", &stale]).unwrap();
    assert_eq!(slots(&cli).len(), 2);
    // Replaced: the keychain holds what opens the new slot, and the old one is gone.
    let own = slots(&cli).iter().find(|s| s["kind"] == "keychain").unwrap()["id"].clone();
    cli.json(&["repo", "keys", "rotate", own.as_str().unwrap()]).unwrap();
    let now = slots(&cli);
    let rotated = now.iter().find(|s| s["kind"] == "keychain").unwrap();
    assert_eq!(
        (now.len(), &rotated["label"], &rotated["opened"]),
        (2, &"this machine".into(), &true.into())
    );
    assert_ne!(rotated["id"], own);
    cli.json(&["backup", CLUSTER]).unwrap();

    // A key pair of this person's, in the keychain too, opens what it was admitted to elsewhere.
    let public = session.text("own.pub");
    cli.json(&["repo", "keys", "generate", "--public-key-out", &public]).unwrap();
    fails(
        &cli,
        &["repo", "keys", "generate", "--public-key-out", &session.text("2")],
        3,
        "key_pair_exists",
    );
    cli.json(&["repo", "keys", "add", "--public-key", &public]).unwrap();
    let elsewhere = Cli::new(session.path("elsewhere")).unwrap();
    let elsewhere = elsewhere.envs(environment(session.place.path()));
    elsewhere.json(&["repo", "attach", &url]).unwrap();
    assert_eq!(elsewhere.json(&["points", CLUSTER]).unwrap()["cluster"], CLUSTER);

    // With the slot gone, what the keychain holds opens nothing any more.
    let own = slots(&cli).iter().find(|s| s["kind"] == "keychain").unwrap()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    cli.json(&["repo", "keys", "remove", &own]).unwrap();
    fails(&cli, &["points", CLUSTER], 6, "wrong_key");
}

#[test]
fn a_database_password_is_kept_in_the_keychain() {
    let Some(session) = Session::start("a_database_password_is_kept_in_the_keychain") else {
        return;
    };
    let server = TestServer::builder(17)
        .password("squeamish ossifrage")
        .hba("host all all 127.0.0.1/32 scram-sha-256")
        .hba("host replication all 127.0.0.1/32 scram-sha-256")
        .start()
        .unwrap();
    let cli = session.cli();
    cli.json(&["repo", "create", &session.text("repository")]).unwrap();
    let dsn = server.dsn();
    let add = ["cluster", "add", CLUSTER, "--dsn", &dsn, "--save-password"];
    fails(&cli, &add, 2, "usage");
    fails(&cli.clone().env("PGPASSWORD", "wrong"), &add, 6, "authentication_failed");
    cli.clone().env("PGPASSWORD", "squeamish ossifrage").json(&add).unwrap();
    // From now on without it.
    cli.json(&["backup", CLUSTER]).unwrap();
    assert_eq!(cli.json(&["cluster", "check", CLUSTER]).unwrap()["mode"], "physical");
    let secret = b"squeamish ossifrage";
    for file in walk(&session.path("holdfast")).into_iter().chain(walk(&session.path("repository")))
    {
        let content = fs::read(&file).unwrap();
        assert!(
            !content.windows(secret.len()).any(|window| window == secret),
            "{}",
            file.display()
        );
    }
    assert!(
        session
            .keyring_files()
            .iter()
            .all(|file| !file.windows(secret.len()).any(|window| window == secret))
    );
    // Forgotten with the cluster.
    cli.json(&["cluster", "remove", CLUSTER]).unwrap();
    fails(&cli, &["cluster", "add", CLUSTER, "--dsn", &dsn], 6, "password_missing");
}

#[test]
fn a_locked_keychain_makes_nothing() {
    let Some(mut session) = Session::start("a_locked_keychain_makes_nothing") else { return };
    let _ = session.keyring.kill();
    let _ = session.keyring.wait();
    let cli = session.cli().timeout(Duration::from_mins(1));
    let repository = session.path("repository");
    fails(&cli, &["repo", "create", &repository.display().to_string()], 6, "keychain_unavailable");
    assert!(!repository.exists());
}

/// Every file below a folder, sorted.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            found.extend(walk(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}
