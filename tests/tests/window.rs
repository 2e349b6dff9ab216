//! The real window: adds a cluster with a key in the real keychain, backs it up, restores it, and the
//! rows are there. Needs a desktop session, so it runs only when asked for (`cargo xtask test` does).

#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use holdfast_tests::pg::TestServer;
use holdfast_tests::places::free_ports;
use serde_json::{Value, json};

/// How long a step of the window may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(100);

/// The WebDriver bridge, ended with the test.
struct Driver(Child);

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The window, seen through WebDriver (W3C): JSON over HTTP.
struct Window {
    http: reqwest::Client,
    session: String,
    _driver: Driver,
}

/// The key under which WebDriver names an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

impl Window {
    async fn open(home: &std::path::Path) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let application =
            PathBuf::from(std::env::var_os("HOLDFAST_DESKTOP_BIN").expect("HOLDFAST_DESKTOP_BIN"));
        let [port, native] = free_ports().unwrap();
        let driver = Command::new("tauri-driver")
            .args(["--port", &port.to_string(), "--native-port", &native.to_string()])
            .args(["--native-driver", "/usr/bin/WebKitWebDriver"])
            .env("HOLDFAST_HOME", home)
            .stdin(Stdio::null())
            .spawn()
            .expect("tauri-driver is on PATH");
        let driver = Driver(driver);
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "wry", "tauri:options": { "application": application },
        }}});
        let began = Instant::now();
        loop {
            let asked = http
                .post(format!("http://127.0.0.1:{port}/session"))
                .body(wanted.to_string())
                .send()
                .await;
            let answer: Value = match asked {
                Ok(answer) => {
                    serde_json::from_str(&answer.text().await.unwrap()).unwrap_or(Value::Null)
                }
                Err(_) => Value::Null,
            };
            if let Some(id) = answer["value"]["sessionId"].as_str() {
                let session = format!("http://127.0.0.1:{port}/session/{id}");
                return Self { http, session, _driver: driver };
            }
            assert!(began.elapsed() < PATIENCE, "the window did not open: {answer}");
            tokio::time::sleep(POLL).await;
        }
    }

    /// One command of the protocol.
    async fn command(&self, path: &str, body: Value) -> Result<Value, String> {
        let answer =
            self.http.post(format!("{}/{path}", self.session)).body(body.to_string()).send().await;
        let answer: Value = serde_json::from_str(&answer.unwrap().text().await.unwrap()).unwrap();
        match answer["value"]["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(answer["value"].clone()),
        }
    }

    async fn script(&self, script: &str, arguments: Value) -> Result<Value, String> {
        self.command("execute/sync", json!({ "script": script, "args": arguments })).await
    }

    /// Tries until it works; the page's text is in the failure.
    async fn until<T>(
        &self,
        what: &str,
        mut attempt: impl AsyncFnMut(&Self) -> Result<T, String>,
    ) -> T {
        let began = Instant::now();
        loop {
            match attempt(self).await {
                Ok(value) => return value,
                Err(error) if began.elapsed() > PATIENCE => {
                    let page = self
                        .script(
                            "return document.title + '\\n' + document.body.innerText",
                            json!([]),
                        )
                        .await;
                    panic!(
                        "{what}: {error}\nThe page says:\n{}",
                        page.unwrap_or_default().as_str().unwrap_or_default()
                    );
                }
                Err(_) => tokio::time::sleep(POLL).await,
            }
        }
    }

    async fn find(&self, xpath: &str) -> Result<String, String> {
        let found = self.command("element", json!({ "using": "xpath", "value": xpath })).await?;
        found[ELEMENT].as_str().map(ToOwned::to_owned).ok_or_else(|| "no element".to_owned())
    }

    /// Finds an element and scrolls as a person does: to where nothing lies over it.
    async fn find_in_view(&self, xpath: &str) -> Result<String, String> {
        let element = self.find(xpath).await?;
        let handle = json!({ ELEMENT: element });
        self.script("arguments[0].scrollIntoView({ block: 'center' })", json!([handle])).await?;
        Ok(element)
    }

    async fn click(&self, xpath: &str) {
        self.until(xpath, async |w| {
            let element = w.find_in_view(xpath).await?;
            w.command(&format!("element/{element}/click"), json!({})).await
        })
        .await;
    }

    /// Goes to a screen of the page, as a link would.
    async fn go(&self, path: &str) {
        let script = "window.history.pushState({}, '', arguments[0]); window.dispatchEvent(new PopStateEvent('popstate'))";
        self.script(script, json!([path])).await.unwrap();
    }

    /// Clicks what carries `text` on the screen: a button or a link.
    async fn press(&self, text: &str) {
        self.click(&format!(
            "(//main//button|//main//a)[contains(normalize-space(.), \"{text}\") and not(@disabled)]"
        ))
        .await;
    }

    /// Follows a link until the screen with `label` is there: a layout that still moves under the
    /// pointer swallows a click, and a person clicks again.
    async fn follow(&self, text: &str, label: &str) {
        let link = format!("//main//a[contains(normalize-space(.), \"{text}\")]");
        let screen = format!("//label[normalize-space(.) = \"{label}\"]");
        self.until(&screen, async |w| {
            if w.find(&screen).await.is_ok() {
                return Ok(());
            }
            let element = w.find(&link).await?;
            w.command(&format!("element/{element}/click"), json!({})).await?;
            Err("the screen did not open".to_owned())
        })
        .await;
    }

    /// Clicks a button of the dialog on top.
    async fn press_in_dialog(&self, text: &str) {
        self.click(&format!("//dialog//button[contains(normalize-space(.), \"{text}\")]")).await;
    }

    async fn fill(&self, label: &str, value: &str) {
        let xpath = format!("//input[@id = //label[normalize-space(.) = \"{label}\"]/@for]");
        self.until(&xpath, async |w| {
            let element = w.find_in_view(&xpath).await?;
            w.command(&format!("element/{element}/clear"), json!({})).await?;
            w.command(&format!("element/{element}/value"), json!({ "text": value })).await
        })
        .await;
    }

    async fn sees(&self, text: &str) {
        let xpath = format!("//*[contains(normalize-space(.), \"{text}\")]");
        self.until(&xpath, async |w| w.find(&xpath).await).await;
    }

    async fn close(self) {
        let _ = self.http.delete(&self.session).send().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a desktop session"]
async fn a_cluster_is_added_backed_up_and_restored() {
    let server = TestServer::start(17).unwrap();
    server.psql("CREATE TABLE weddings (id int PRIMARY KEY, couple text)").unwrap();
    server
        .psql("INSERT INTO weddings SELECT n, 'couple ' || n FROM generate_series(1, 2143) AS n")
        .unwrap();
    let place = tempfile::tempdir().unwrap();
    let window = Window::open(&place.path().join("home")).await;

    window.follow("Add a cluster", "Folder or URL").await;
    window.fill("Folder or URL", &place.path().join("repository").display().to_string()).await;
    window.fill("Passphrase", "a long enough passphrase").await;
    window.fill("Passphrase again", "a long enough passphrase").await;
    window
        .fill(
            "Write the recovery key to this new file",
            &place.path().join("recovery-key.txt").display().to_string(),
        )
        .await;
    window.press("Create repository").await;
    window.fill("Connection string", &server.dsn_socket()).await;
    window.press("Check this server").await;
    window.fill("Name", "weddings").await;
    window.press("Add weddings").await;
    // The key is in the keychain: the recovery key was written, the passphrase is not asked for again.
    assert!(place.path().join("recovery-key.txt").is_file());

    window.go("/overview").await;
    window.press("Back up now").await;
    window.sees("Snapshot").await;
    window.go("/c/weddings/restore/new?target=latest").await;
    window.press("Plan this restore").await;
    window.press("Restore weddings").await;
    window.press_in_dialog("Restore weddings").await;
    window.sees("Connect to it from this machine").await;
    window.sees("Last transaction held").await;

    let dsn = window.script("return [...document.querySelectorAll('pre')].find(p => p.innerText.includes('host=')).innerText", json!([])).await.unwrap();
    let dsn = dsn.as_str().unwrap().trim().to_owned();
    let counted = Command::new(server.binaries().program("psql"))
        .args(["-XAtc", "SELECT count(*) FROM weddings", &dsn])
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&counted.stdout).trim(),
        "2143",
        "{}",
        String::from_utf8_lossy(&counted.stderr)
    );

    window.press("Discard copy").await;
    window.press_in_dialog("Discard copy").await;
    window.sees("The copy was discarded").await;
    window.close().await;
}
