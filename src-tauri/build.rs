//! Declares the window's commands, so that each needs a permission of its own.

fn main() {
    let commands = tauri_build::AppManifest::new().commands(&["call", "job_attach", "job_detach"]);
    let attributes = tauri_build::Attributes::new().app_manifest(commands);
    if let Err(error) = tauri_build::try_build(attributes) {
        println!("cargo:warning={error:#}");
        std::process::exit(1);
    }
}
