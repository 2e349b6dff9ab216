//! Data directories, made once per kind and copied per server.

use super::{Account, Binaries};
use crate::places;
use std::{
    fs,
    io::{self, Read},
    os::unix::fs::{FileExt, PermissionsExt},
    path::Path,
    process::{Command, Output, Stdio},
};

/// What `initdb` decides for good.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) checksums: bool,
    /// MiB.
    pub(super) wal_segment_size: u32,
}

/// Makes a new data directory at `data`, with a system identifier of its own.
pub(super) fn create(
    binaries: &Binaries,
    account: &Account,
    layout: Layout,
    data: &Path,
) -> io::Result<()> {
    let template = places::shared()?.join(format!(
        "data-{}-{}-{}-{}",
        binaries.version(),
        account.label(),
        if layout.checksums { "checksums" } else { "plain" },
        layout.wal_segment_size
    ));
    if !template.join("PG_VERSION").exists() {
        build(binaries, account, layout, &template)?;
    }
    let mut copy = Command::new("cp");
    account.apply(copy.arg("-pR").arg(&template).arg(data).current_dir("/"));
    run(&mut copy)?;
    give_identity(binaries, account, data)
}

fn build(
    binaries: &Binaries,
    account: &Account,
    layout: Layout,
    template: &Path,
) -> io::Result<()> {
    let building = tempfile::Builder::new().prefix("data-").tempdir_in(places::shared()?)?;
    fs::set_permissions(building.path(), fs::Permissions::from_mode(0o700))?;
    account.take_over(building.path())?;
    let mut initdb = Command::new(binaries.program("initdb"));
    initdb
        .arg("--pgdata")
        .arg(building.path())
        .args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"])
        .args(["--no-sync", "--no-instructions"])
        .arg(format!("--wal-segsize={}", layout.wal_segment_size))
        .current_dir("/");
    if layout.checksums {
        initdb.arg("--data-checksums");
    } else if binaries.major() >= 18 {
        initdb.arg("--no-data-checksums");
    }
    account.apply(&mut initdb);
    run(&mut initdb)?;
    // The whole template appears at once; whoever comes second keeps the first one's.
    let built = building.keep();
    if fs::rename(&built, template).is_err() {
        fs::remove_dir_all(&built)?;
    }
    Ok(())
}

/// Copies of one template share a system identifier, which real clusters never do. The identifier
/// is the first eight bytes of `pg_control` (src/include/catalog/pg_control.h); pg_resetwal then
/// repairs the checksum and writes WAL that belongs to it.
fn give_identity(binaries: &Binaries, account: &Account, data: &Path) -> io::Result<()> {
    let control = fs::OpenOptions::new().write(true).open(data.join("global/pg_control"))?;
    let mut identifier = [0_u8; 8];
    fs::File::open("/dev/urandom")?.read_exact(&mut identifier)?;
    // Real ones hold a time in the upper half and are never negative as a signed number.
    if let Some(highest) = identifier.last_mut() {
        *highest = (*highest & 0x3f) | 0x40;
    }
    control.write_all_at(&identifier, 0)?;
    let mut reset = Command::new(binaries.program("pg_resetwal"));
    reset.arg("--force").arg("--pgdata").arg(data).current_dir("/");
    account.apply(&mut reset);
    run(&mut reset).map(|_| ())
}

/// Runs a program to its end; a failure carries what it said.
pub(super) fn run(command: &mut Command) -> io::Result<Output> {
    let told = command.stdin(Stdio::null()).output().map_err(|error| {
        io::Error::other(format!("{} does not start: {error}", command.get_program().display()))
    })?;
    if told.status.success() {
        return Ok(told);
    }
    Err(io::Error::other(format!(
        "{} failed ({}): {}{}",
        command.get_program().display(),
        told.status,
        String::from_utf8_lossy(&told.stderr),
        String::from_utf8_lossy(&told.stdout),
    )))
}
