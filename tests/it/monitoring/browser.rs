//! A real Chromium, of Debian's packages, driven by `WebDriver`.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder};
use hyper::Method;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use url::{ParseError, Url};

use super::free_port;
use crate::setting::{PATIENCE, skip};

/// What each page is looked at in: a width, a height, and the colours that the reader prefers.
const LOOKS: [(&str, u32, u32, &str); 5] = [
    ("wide-light", 1_440, 900, "light"),
    ("wide-dark", 1_440, 900, "dark"),
    ("middle-light", 1_000, 800, "light"),
    ("narrow-light", 360, 740, "light"),
    ("narrow-dark", 360, 740, "dark"),
];

/// Names nothing but this machine, and asks for nothing by itself.
const ARGUMENTS: [&str; 11] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
];

/// Texts whose colour is too close to what is behind them (WCAG 2.2, 1.4.3: 4.5 to 1).
const FAINT: &str = r"
    const channels = text => (text.match(/[\d.]+/g) || []).map(Number);
    const luminance = ([r, g, b]) => [r, g, b]
        .map(c => c / 255)
        .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
    const behind = element => {
        for (; element; element = element.parentElement) {
            const colour = channels(getComputedStyle(element).backgroundColor);
            if (colour.length === 3 || colour[3] === 1) return colour;
        }
        return [255, 255, 255];
    };
    const faint = [];
    for (const element of document.querySelectorAll('body *')) {
        const own = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
        if (!own || element instanceof SVGElement) continue;
        const pair = [channels(getComputedStyle(element).color), behind(element)].map(luminance);
        const ratio = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
        if (ratio < 4.5) faint.push(element.textContent.slice(0, 40) + ' ' + ratio.toFixed(2));
    }
    return faint;
";

/// Elements that reach beyond the right edge.
const WIDE: &str = r"
    const edge = document.documentElement.clientWidth;
    const beyond = element => element.getBoundingClientRect().right > edge + 1;
    return [...document.querySelectorAll('body *')].filter(beyond).map(element => element.outerHTML.slice(0, 80));
";

/// Scripts, attributes that are scripts, and what else was fetched.
const ACTIVE: &str = r"
    const attributes = [...document.querySelectorAll('*')].flatMap(element => [...element.attributes]);
    const handlers = attributes.filter(attribute => attribute.name.startsWith('on'));
    return [document.scripts.length, handlers.length, performance.getEntriesByType('resource').length];
";

/// A running Chromium; gone when dropped.
pub(super) struct Browser {
    client: Client,
    /// In a namespace of processes of its own, which end with it.
    _driver: Child,
    /// For what it leaves behind.
    _folder: TempDir,
}

impl Browser {
    /// A new one; `None` where there is none on this machine.
    pub(super) async fn start() -> Option<Self> {
        let installed = std::process::Command::new("chromedriver")
            .arg("--version")
            .output();
        if installed.is_err() {
            skip("the package chromium-driver is missing");
            return None;
        }
        if !nix::unistd::geteuid().is_root() {
            skip("only root can keep a browser's processes together");
            return None;
        }
        let port = free_port();
        let folder = tempfile::tempdir().unwrap();
        let mut driver = Command::new("unshare")
            .args(["--pid", "--fork", "--mount-proc", "--kill-child=KILL"])
            .args(["chromedriver", &format!("--port={port}")])
            .env("TMPDIR", folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let options = json!({"args": ARGUMENTS});
        let wanted =
            json!({"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}});
        let Value::Object(wanted) = wanted else {
            unreachable!()
        };
        let begun = Instant::now();
        let client = loop {
            let connected = ClientBuilder::new(HttpConnector::new())
                .capabilities(wanted.clone())
                .connect(&format!("http://127.0.0.1:{port}"))
                .await;
            match connected {
                Ok(client) => break client,
                Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
            }
            if let Some(status) = driver.try_wait().unwrap() {
                panic!("chromedriver has ended with {status}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        Some(Self {
            client,
            _driver: driver,
            _folder: folder,
        })
    }

    pub(super) async fn open(&self, url: &str) {
        self.client.goto(url).await.unwrap();
    }

    /// What this script returns.
    pub(super) async fn ask(&self, script: &str) -> Value {
        self.client.execute(script, vec![]).await.unwrap()
    }

    /// The visible text of the first element that the selector finds.
    pub(super) async fn text(&self, selector: &str) -> String {
        let script =
            format!("return document.querySelector({selector:?})?.innerText ?? 'nothing is there'");
        self.ask(&script).await.as_str().unwrap().to_owned()
    }

    /// Looks at the open page in every way, and says that nothing is wrong with it in any: a picture of each goes to the folder that
    /// the variable `SCREENSHOTS` names.
    pub(super) async fn look(&self, name: &str) {
        for (look, width, height, colours) in LOOKS {
            let mobile = width < 600;
            let metrics =
                json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile});
            self.devtools("Emulation.setDeviceMetricsOverride", metrics)
                .await;
            let media = json!({"features": [{"name": "prefers-color-scheme", "value": colours}]});
            self.devtools("Emulation.setEmulatedMedia", media).await;
            let nothing = json!([]);
            assert_eq!(self.ask(FAINT).await, nothing, "{name} {look}: faint");
            assert_eq!(self.ask(WIDE).await, nothing, "{name} {look}: too wide");
            self.picture(&format!("{name}-{look}")).await;
        }
        assert_eq!(self.ask(ACTIVE).await, json!([0, 0, 0]), "{name}");
        let said = self.command("se/log", json!({"type": "browser"})).await;
        assert_eq!(said, json!([]), "{name}");
    }

    async fn picture(&self, name: &str) {
        let Some(folder) = std::env::var_os("SCREENSHOTS") else {
            return;
        };
        let whole = json!({"captureBeyondViewport": true, "format": "png"});
        let picture = self.devtools("Page.captureScreenshot", whole).await;
        let picture = STANDARD.decode(picture["data"].as_str().unwrap()).unwrap();
        let folder = PathBuf::from(folder);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("{name}.png")), picture).unwrap();
    }

    async fn devtools(&self, method: &str, parameters: Value) -> Value {
        let body = json!({"cmd": method, "params": parameters});
        self.command("goog/cdp/execute", body).await
    }

    async fn command(&self, path: &'static str, body: Value) -> Value {
        let command = Foreign { path, body };
        self.client.issue_cmd(command).await.unwrap()
    }
}

/// A command of chromedriver's own.
#[derive(Debug)]
struct Foreign {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Foreign {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        let session = session.unwrap_or_default();
        base.join(&format!("session/{session}/{}", self.path))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(self.body.to_string()))
    }
}
