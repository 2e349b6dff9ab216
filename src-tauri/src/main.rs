//! The desktop application: a window on the engine.
//!
//! Thin: every command of the page goes to `holdfast_api::call`, every job's events come through a
//! channel. The page has no right to files, processes or the network.

#![cfg_attr(all(windows, not(debug_assertions)), windows_subsystem = "windows")]

mod bridge;
mod window;

use holdfast_engine::home::Home;
use holdfast_engine::secrets::GivenSecrets;
use holdfast_engine::{Engine, EngineError};
use tauri::Manager as _;

/// Large buffers pass through many threads here; the allocator of glibc keeps a share for each.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("HOLDFAST_LOG")
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn")),
        )
        .with_writer(std::io::stderr)
        .init();
    let engine = match tauri::async_runtime::block_on(open()) {
        Ok(engine) => engine,
        Err(error) => {
            let object = error.to_object();
            eprintln!("error: {}\n  {}", object.message, object.hint.unwrap_or_default());
            std::process::exit(i32::from(error.outcome().exit_code()));
        }
    };
    let ending = engine.clone();
    let built = tauri::Builder::default()
        // First, so that a second start is noticed before anything else happens.
        .plugin(tauri_plugin_single_instance::init(|app, _arguments, _directory| {
            window::focus(app)
        }))
        .manage(bridge::Attached::default())
        .manage(engine)
        .invoke_handler(tauri::generate_handler![
            bridge::call,
            bridge::job_attach,
            bridge::job_detach
        ])
        .setup(|app| {
            window::open(app.handle(), &first_screen(&app.state::<Engine>()))?;
            Ok(())
        })
        .build(tauri::generate_context!());
    match built {
        Ok(app) => app.run(move |app, event| {
            if let tauri::RunEvent::Exit = event {
                app.state::<bridge::Attached>().detach_all();
                ending.cancel_running_jobs();
                // Jobs take back what they wrote before the process goes.
                tauri::async_runtime::block_on(
                    ending.wait_for_jobs(std::time::Duration::from_secs(30)),
                );
            }
        }),
        Err(error) => {
            eprintln!("error: the window could not be opened: {error}");
            std::process::exit(1);
        }
    }
}

/// With `--demo` the demo workspace is prepared at once and its screen comes first.
fn first_screen(engine: &Engine) -> String {
    if !std::env::args().any(|a| a == "--demo") {
        return String::new();
    }
    match tauri::async_runtime::block_on(engine.start_demo()) {
        Ok(job) => format!("demo/{job}"),
        // There is one already: the overview shows it.
        Err(_) => String::new(),
    }
}

async fn open() -> Result<Engine, EngineError> {
    let home = Home::open(Home::default_root(|name| std::env::var(name).ok())?)?;
    let passphrase = std::env::var("HOLDFAST_PASSPHRASE").ok().filter(|p| !p.is_empty());
    let secrets =
        GivenSecrets { passphrase: passphrase.map(Into::into), ..GivenSecrets::default() };
    Engine::open(home, secrets, None).await
}
