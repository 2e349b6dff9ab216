//! The one window.

use tauri::{AppHandle, Manager as _, Runtime, WebviewUrl, WebviewWindowBuilder};

/// Opens the window at a path of the page.
pub(crate) fn open<R: Runtime>(app: &AppHandle<R>, path: &str) -> tauri::Result<()> {
    WebviewWindowBuilder::new(app, "main", WebviewUrl::App(path.into()))
        .title("Holdfast")
        .inner_size(1280.0, 860.0)
        .min_inner_size(375.0, 560.0)
        // The page is ours alone: nothing else is ever loaded into the window.
        .on_navigation(|url| {
            matches!(url.scheme(), "tauri" | "asset")
                || url.host_str().is_some_and(|h| h == "tauri.localhost" || h == "localhost")
        })
        .build()
        .map(drop)
}

/// Brings the window to the front: somebody started the application a second time.
pub(crate) fn focus<R: Runtime>(app: &AppHandle<R>) {
    if let Some(window) = app.get_webview_window("main") {
        let _ = window.unminimize();
        let _ = window.show();
        let _ = window.set_focus();
    }
}
