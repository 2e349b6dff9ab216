//! What each errand needs, provided only where it is missing.

use crate::{Fault, fetch, nothing_else, packages, take_flag, workspace::Workspace};
use holdfast_tests::{pg::Binaries, store};
use std::{process::ExitCode, time::Instant};

/// Something that an errand cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Compiling everything but the desktop shell.
    Build,
    /// PostgreSQL in all versions that are tested.
    Servers,
    /// Any one PostgreSQL.
    AnyServer,
    /// The object store.
    Store,
    /// Azure's blobs, emulated.
    Blobs,
    /// The test runner.
    Nextest,
    /// Line coverage.
    Coverage,
    /// Building and testing the user interface.
    Ui,
    /// A browser.
    Browser,
    /// Compiling the desktop shell.
    Desktop,
    /// Driving the real window.
    Window,
}

/// `cargo xtask setup [--desktop]`.
pub(crate) fn errand(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode, Fault> {
    use Need::{Blobs, Browser, Build, Coverage, Desktop, Nextest, Servers, Store, Ui, Window};
    let mut arguments = arguments.to_vec();
    let desktop = take_flag(&mut arguments, "--desktop");
    nothing_else(&arguments)?;
    let began = Instant::now();
    let mut needs = vec![Build, Servers, Store, Blobs, Nextest, Coverage, Ui, Browser];
    if desktop {
        needs.extend([Desktop, Window]);
    }
    ensure(workspace, &needs)?;
    for major in fetch::MAJORS {
        let found = Binaries::find(major)?;
        println!("PostgreSQL {}: {}", found.version(), found.folder().display());
    }
    println!("SeaweedFS: {}", store::find_weed()?.display());
    crate::report::line("ok", began.elapsed(), "set up", "");
    Ok(ExitCode::SUCCESS)
}

/// Provides what is missing of these.
pub(crate) fn ensure(workspace: &Workspace, needs: &[Need]) -> Result<(), Fault> {
    let needs = |need: Need| needs.contains(&need);
    let any_server = fetch::MAJORS.into_iter().any(|major| Binaries::search(major).is_some());
    let majors: &[u32] = match (needs(Need::Servers), needs(Need::AnyServer) && !any_server) {
        (true, _) => &fetch::MAJORS,
        (false, true) => &[17],
        (false, false) => &[],
    };
    let fetches = majors.iter().any(|major| Binaries::search(*major).is_none())
        || needs(Need::Store) && store::find_weed().is_err()
        || needs(Need::Nextest) && workspace.tool("cargo-nextest").is_none()
        || needs(Need::Coverage) && workspace.tool("cargo-llvm-cov").is_none();

    let llvm = packages::llvm().filter(|_| needs(Need::Coverage));
    let llvm: Vec<&str> = llvm.as_deref().into_iter().collect();
    let packages: [(bool, &[&str]); 7] = [
        (needs(Need::Build), packages::BUILD),
        (fetches, packages::FETCH),
        (needs(Need::Servers), packages::SERVERS),
        (needs(Need::Coverage), &llvm),
        (needs(Need::Browser), packages::BROWSER),
        (needs(Need::Desktop), packages::DESKTOP),
        (needs(Need::Window), packages::WINDOW),
    ];
    let wanted: Vec<&[&str]> =
        packages.into_iter().filter(|(wanted, _)| *wanted).map(|(_, names)| names).collect();
    packages::install(&workspace.logs(), &wanted)?;

    for major in majors {
        fetch::postgresql(workspace, *major)?;
    }
    if needs(Need::Store) {
        fetch::seaweedfs(workspace)?;
    }
    if needs(Need::Blobs) {
        fetch::azurite(workspace)?;
    }
    if needs(Need::Nextest) {
        fetch::cargo_tool(workspace, "cargo-nextest")?;
    }
    if needs(Need::Coverage) {
        fetch::cargo_tool(workspace, "cargo-llvm-cov")?;
    }
    if needs(Need::Ui) {
        fetch::node_modules(workspace)?;
    }
    if needs(Need::Window) {
        fetch::tauri_driver(workspace)?;
    }
    Ok(())
}
