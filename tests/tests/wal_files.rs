//! `wal-get` and `wal-put` as PostgreSQL runs them: by its own account, in its data directory.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use holdfast_tests::pg::TestServer;
use holdfast_tests::protected::{CLUSTER, PASSPHRASE, Protected};
use holdfast_tests::{cli, wait_for};

/// A protected server whose repository, and a copy of the command, its own account can use.
struct Site {
    protected: Protected,
    program: PathBuf,
    home: PathBuf,
    repository: PathBuf,
}

impl Site {
    fn new(major: u32) -> Self {
        let server = TestServer::builder(major).config("archive_mode = on").start().unwrap();
        let place = server.new_folder("archive").unwrap();
        let program = place.join("holdfast");
        fs::copy(cli::binary().unwrap(), &program).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let home = server.new_folder("wal-home").unwrap();
        let repository = place.join("repository");
        let dsn = server.dsn();
        let protected =
            Protected::with(server, &dsn, Some(&repository.display().to_string()), Vec::new())
                .unwrap();
        Self { protected, program, home, repository }
    }

    /// Hands what the command has written to the server's account.
    fn share(&self) {
        self.protected.server.account().take_over(&self.repository).unwrap();
    }

    fn line(&self, command: &str) -> String {
        format!(
            "HOLDFAST_PASSPHRASE=\"{PASSPHRASE}\" {} --home {} {command} --repo {}",
            self.program.display(),
            self.home.display(),
            self.repository.display()
        )
    }

    /// Runs a line as PostgreSQL would; its exit code.
    fn run(&self, line: &str, directory: &Path) -> i32 {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", line]).current_dir(directory);
        self.protected.server.account().apply(&mut command);
        command.output().unwrap().status.code().unwrap()
    }

    fn archived(&self) -> u64 {
        let count =
            self.protected.server.psql("SELECT archived_count FROM pg_stat_archiver").unwrap();
        count.parse().unwrap()
    }
}

/// The server's own archiver feeds the archive, and a server that Holdfast did not start recovers from
/// it, across a change of timelines.
fn archives_and_restores(major: u32) {
    let site = Site::new(major);
    let server = &site.protected.server;
    server.psql("CREATE TABLE t (n int)").unwrap();
    site.protected.backup().unwrap();
    site.share();
    let put = site.line("wal-put");
    server.configure(&format!("archive_command = '{put} %p'")).unwrap();

    server.psql("INSERT INTO t SELECT generate_series(1, 1000)").unwrap();
    server.psql("SELECT pg_create_restore_point('one thousand')").unwrap();
    let mut switched = String::new();
    for _ in 0..3 {
        server.psql("INSERT INTO t VALUES (0)").unwrap();
        switched = server.psql("SELECT pg_walfile_name(pg_switch_wal())").unwrap();
    }
    wait_for("the segments to be archived", Duration::from_mins(1), || {
        let last = server.psql("SELECT last_archived_wal FROM pg_stat_archiver").unwrap();
        last >= switched && site.archived() >= 3
    });
    let failed = server.psql("SELECT failed_count FROM pg_stat_archiver").unwrap();
    assert_eq!(failed, "0", "{}", server.log());

    // What was put is what the plan sees: a restore goes there without streaming.
    let copy = site
        .protected
        .restore("name:one thousand", "copy", &["--start", "--at-target", "pause"])
        .unwrap();
    assert_eq!(copy.psql("SELECT count(*) FROM t").unwrap(), "1000");
    copy.discard().unwrap();

    // The same again, and other content under the same name.
    let file = server.data().join("pg_wal").join(&switched);
    let line = format!("{put} pg_wal/{switched}");
    assert_eq!(site.run(&line, server.data()), 0, "it is there already with the same content");
    let original = fs::read(&file).unwrap();
    let mut changed = original.clone();
    let end = changed.len() - 1;
    changed[end] ^= 1;
    let elsewhere = server.new_folder("elsewhere").unwrap();
    fs::write(elsewhere.join(&switched), &changed).unwrap();
    let foreign = format!("{put} {}/{switched}", elsewhere.display());
    assert_eq!(site.run(&foreign, server.data()), 1, "it would overwrite WAL");
    fs::write(elsewhere.join(&switched), &original[..4096]).unwrap();
    assert_eq!(site.run(&foreign, server.data()), 1, "it is cut short");
    assert_eq!(site.run(&format!("{put} pg_wal/nonsense"), server.data()), 1);

    // A server of the user's own.
    site.share();
    let data = server.home().join("own");
    let to = data.display().to_string();
    site.protected
        .cli
        .json(&["restore", "run", CLUSTER, "--target", "immediate", "--to", &to, "--fetch-only"])
        .unwrap();
    fs::write(data.join("recovery.signal"), "").unwrap();
    let get = site.line("wal-get");
    let own = TestServer::builder(major)
        .data_directory(&data)
        .config("archive_mode = off")
        .config(format!("restore_command = '{get} %f %p'"))
        .config("recovery_target_timeline = 'latest'")
        .start()
        .unwrap();
    // It takes readers as soon as it is consistent, and goes on recovering.
    wait_for("recovery to end", Duration::from_mins(1), || {
        own.psql("SELECT pg_is_in_recovery()").unwrap() == "f"
    });
    assert_eq!(own.psql("SELECT count(*) FROM t").unwrap(), "1003", "{}", own.log());

    // The codes that PostgreSQL relies on.
    let ask = |name: &str, more: &str| site.run(&format!("{get} {more} {name} out"), own.data());
    assert_eq!(ask(&switched, ""), 0);
    assert_eq!(fs::read(own.data().join("out")).unwrap(), original);
    assert_eq!(ask("000000010000000900000001", ""), 1, "proven absent");
    assert_eq!(ask("00000009.history", ""), 1, "proven absent");
    assert_eq!(ask("nonsense", ""), 200);
    assert_eq!(ask(&switched, "--unknown-option"), 200);
    assert_eq!(ask(&switched, "--data-directory /nowhere"), 200);
    let wrong = get.replace(PASSPHRASE, "wrong");
    fs::remove_dir_all(site.home.join("wal")).unwrap();
    assert_eq!(site.run(&format!("{wrong} {switched} out"), own.data()), 200);
    let away = get.replace(&site.repository.display().to_string(), "/nowhere/at/all");
    assert_eq!(site.run(&format!("{away} {switched} out"), own.data()), 200);

    // A hole is no end: the segment before the last one is lost.
    let folder = site.repository.join("wal").read_dir().unwrap().next().unwrap().unwrap().path();
    let mut stored: Vec<_> =
        folder.join("00000001").read_dir().unwrap().map(|e| e.unwrap().path()).collect();
    stored.sort();
    let lost = &stored[stored.len() - 2];
    let name = lost.file_name().unwrap().to_string_lossy().into_owned();
    fs::remove_file(lost).unwrap();
    let _ = fs::remove_dir_all(site.home.join("wal"));
    assert_eq!(ask(&name, ""), 200, "PostgreSQL must stop, not come up early");
}

#[test]
fn the_servers_own_commands_on_15() {
    archives_and_restores(15);
}

#[test]
fn the_servers_own_commands_on_17() {
    archives_and_restores(17);
}
