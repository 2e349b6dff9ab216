//! A private desktop session with nobody in front of it: display, message bus, unlocked keychain.

use crate::{
    Fault,
    setup::{Need, ensure},
    workspace::Workspace,
};
use std::{
    env,
    ffi::OsStr,
    fs,
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    process::{Command, ExitCode},
};
use tempfile::TempDir;

/// Variables of the operator's own session, which the private one must not reach.
const FOREIGN: [&str; 10] = [
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "XAUTHORITY",
    "DBUS_SESSION_BUS_ADDRESS",
    "GNOME_KEYRING_CONTROL",
    "SSH_AUTH_SOCK",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_CACHE_HOME",
    "XDG_STATE_HOME",
];

/// Starts the keychain unlocked, then the program. The daemon goes with the bus.
const INSIDE: &str = r#"eval "$(printf 'private-session' |
    gnome-keyring-daemon --unlock --components=secrets,pkcs11 2>/dev/null |
    sed 's/^/export /')"
exec "$@""#;

/// A session that can be entered; its home goes on drop.
#[derive(Debug)]
pub(crate) struct Session {
    home: TempDir,
}

impl Session {
    /// Prepares a home and a runtime folder.
    pub(crate) fn new() -> Result<Self, Fault> {
        let home = tempfile::Builder::new().prefix("hf-session-").tempdir()?;
        let runtime = home.path().join("run");
        fs::create_dir(&runtime)?;
        fs::set_permissions(&runtime, fs::Permissions::from_mode(0o700))?;
        Ok(Self { home })
    }

    /// A command that runs `program` inside a new session with this home, for at most so long.
    /// Arguments, environment and folder can be added as to any command.
    pub(crate) fn command(
        &self,
        workspace: &Workspace,
        limit: std::time::Duration,
        program: impl AsRef<OsStr>,
    ) -> Command {
        // The limit is inside: the display and the bus are then still ended in order.
        let mut command = Command::new("xvfb-run");
        command
            .args(["--auto-servernum", "--server-args=-screen 0 1440x900x24"])
            .args(["dbus-run-session", "--", "sh", "-c", INSIDE, "session"])
            .args(["timeout", "--kill-after=10", &limit.as_secs().to_string()])
            .arg(program);
        // With another home, cargo and our cache would be looked for in the wrong place.
        let real_home = env::var_os("HOME").unwrap_or_default();
        for (name, folder) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")] {
            if env::var_os(name).is_none() {
                command.env(name, std::path::Path::new(&real_home).join(folder));
            }
        }
        for name in FOREIGN {
            command.env_remove(name);
        }
        command
            .env("HOME", self.home.path())
            .env("XDG_RUNTIME_DIR", self.home.path().join("run"))
            .env("XDG_SESSION_TYPE", "x11")
            .env("GDK_BACKEND", "x11")
            .env("NO_AT_BRIDGE", "1")
            .env("LIBGL_ALWAYS_SOFTWARE", "1")
            .env("HOLDFAST_CACHE_DIR", &workspace.cache)
            .env("PATH", workspace.path_with_tools());
        command
    }
}

/// `cargo xtask session COMMAND…`: to try something by hand in such a session.
pub(crate) fn errand(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode, Fault> {
    let Some((program, rest)) = arguments.split_first() else {
        return Err("which command? For example: cargo xtask session secret-tool search a b".into());
    };
    ensure(workspace, &[Need::Window])?;
    let session = Session::new()?;
    let day = std::time::Duration::from_hours(24);
    let status = session.command(workspace, day, program).args(rest).status()?;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    Ok(code.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}
