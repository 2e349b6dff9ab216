//! The user interface on loopback, for development and browser tests. No release build has it.
//!
//! Requests must come from the page itself: another origin's page in the same browser is refused.

use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path as UrlPath, Query, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use holdfast_api::JobEvents;
use holdfast_engine::{Engine, EngineError, ErrorObject, Result};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

const POLICY: &str = "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; \
                      connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

struct Host {
    engine: Engine,
    ui: PathBuf,
    origin: String,
}

/// Serves until cancelled. The first line of standard output tells the address as JSON.
pub(crate) async fn serve(
    engine: Engine,
    listen: SocketAddr,
    ui: &Path,
    cancel: &CancellationToken,
) -> Result<()> {
    if !listen.ip().is_loopback() {
        return Err(EngineError::usage(
            format!("{listen} is not on loopback"),
            "The development host has no login: use 127.0.0.1.",
        ));
    }
    let listener = tokio::net::TcpListener::bind(listen)
        .await
        .map_err(EngineError::file("listen on", listen.to_string()))?;
    let address =
        listener.local_addr().map_err(EngineError::file("listen on", listen.to_string()))?;
    let origin = format!("http://{address}");
    println!("{}", serde_json::json!({ "listening": origin }));
    let jobs = engine.clone();
    let host = Arc::new(Host { engine, ui: ui.to_path_buf(), origin });
    let router = Router::new()
        .route("/api/call/{command}", post(call))
        .route("/api/jobs/{job}/events", get(events))
        .fallback(file)
        .with_state(host);
    let served =
        axum::serve(listener, router).with_graceful_shutdown(cancel.clone().cancelled_owned());
    tokio::select! {
        outcome = served => outcome.map_err(EngineError::file("serve", "the development host"))?,
        // Open event streams would hold a graceful end up for ever.
        () = async { cancel.cancelled().await; tokio::time::sleep(std::time::Duration::from_secs(1)).await } => {}
    }
    jobs.cancel_running_jobs();
    Ok(())
}

/// The page's own requests carry its origin or, for a plain GET, none.
fn same_origin(host: &Host, headers: &HeaderMap) -> bool {
    headers.get(header::ORIGIN).is_none_or(|o| o.as_bytes() == host.origin.as_bytes())
        && headers.get(header::HOST).is_some_and(|h| host.origin.as_bytes().ends_with(h.as_bytes()))
}

fn refused(error: &ErrorObject) -> Response {
    let status = match error.code.as_str() {
        "not_found" => StatusCode::NOT_FOUND,
        "usage" => StatusCode::BAD_REQUEST,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    };
    (status, axum::Json(error)).into_response()
}

async fn call(
    State(host): State<Arc<Host>>,
    UrlPath(command): UrlPath<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if !same_origin(&host, &headers) {
        return StatusCode::FORBIDDEN.into_response();
    }
    let Ok(request) = serde_json::from_slice(&body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    match holdfast_api::call(&host.engine, &command, request).await {
        Ok(response) => axum::Json(response).into_response(),
        Err(error) => refused(&error),
    }
}

#[derive(Deserialize)]
struct From {
    from_seq: Option<u64>,
}

async fn events(
    State(host): State<Arc<Host>>,
    UrlPath(job): UrlPath<String>,
    Query(from): Query<From>,
    headers: HeaderMap,
) -> Response {
    if !same_origin(&host, &headers) {
        return StatusCode::FORBIDDEN.into_response();
    }
    let events = match JobEvents::attach(&host.engine, &job, from.from_seq.unwrap_or(1)).await {
        Ok(events) => events,
        Err(error) => return refused(&error),
    };
    let lines = futures_util::stream::unfold(events, |mut events| async move {
        let next = events.next().await;
        if next.is_empty() {
            return None;
        }
        let mut text = Vec::new();
        for event in next {
            text.extend(serde_json::to_vec(&event).unwrap_or_default());
            text.push(b'\n');
        }
        Some((Ok::<_, std::convert::Infallible>(text), events))
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

/// A file of the built page; any other path is a screen of it.
async fn file(State(host): State<Arc<Host>>, uri: Uri) -> Response {
    let path = Path::new(uri.path().trim_start_matches('/'));
    let inside = path.components().all(|c| matches!(c, Component::Normal(_)));
    let wanted = host.ui.join(path);
    let (path, kind) = if inside && path.extension().is_some() && wanted.is_file() {
        let kind = match wanted.extension().and_then(|e| e.to_str()) {
            Some("js") => "text/javascript",
            Some("css") => "text/css",
            Some("svg") => "image/svg+xml",
            Some("png") => "image/png",
            Some("ico") => "image/x-icon",
            Some("woff2") => "font/woff2",
            Some("html") => "text/html; charset=utf-8",
            _ => "application/octet-stream",
        };
        (wanted, kind)
    } else if path.extension().is_none() {
        (host.ui.join("index.html"), "text/html; charset=utf-8")
    } else {
        return StatusCode::NOT_FOUND.into_response();
    };
    match tokio::fs::read(&path).await {
        Ok(bytes) => {
            ([(header::CONTENT_TYPE, kind), (header::CONTENT_SECURITY_POLICY, POLICY)], bytes)
                .into_response()
        }
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}
