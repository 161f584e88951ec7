//! What stands beside the registries: the token server, the redirections to a CDN, the CDN's own check
//! of its signed addresses, and a registry that belongs to an attacker.
//!
//! nginx hands these requests over without their TLS. As it must run inside the source's host, the
//! test binary starts itself there again: with [`SERVE`] set, it is this server.

use std::env;
use std::fs::{self, File};
use std::io::{self, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::json;

use super::SITE;
use super::authority::Identity;
use super::tokens::{LIFETIME_SECS, Signer, User, basic, nonce, unix_secs, user};
use crate::files::sha256;
use crate::http::Request;
use crate::lab::{Host, Process};

/// Tells this binary to be the server: the certificate and the key to sign with, the file for secrets.
const SERVE: &str = "DFNODE_E2E_SERVE_GATE";
/// Where it listens, on the loopback of the source's host.
pub(super) const PORT: u16 = 6000;
/// The header in which nginx says which registry stands behind a name.
pub(super) const REGISTRY_HEADER: &str = "x-lab-registry";
/// The header in which nginx says where that registry keeps its blobs for the world.
pub(super) const CDN_HEADER: &str = "x-lab-cdn";
/// Where nginx finds the blobs, for nobody but itself.
pub(super) const INTERNAL: &str = "/lab-storage";
/// How long an address of the CDN holds.
const SIGNED_SECS: u64 = 300;
/// What all signatures of the CDN begin with before they are hashed.
const CDN_SECRET: &str = "only the registry and its CDN know this";

/// The running server.
pub(super) struct Gate {
    process: Process,
    secrets: PathBuf,
}

impl Gate {
    /// Starts it on `host`; tokens are signed with `identity`.
    pub(super) fn start(host: &Host, identity: &Identity, dir: &Path) -> Self {
        let secrets = dir.join("secrets.log");
        let told = [&identity.certificate, &identity.key, &secrets];
        let told: Vec<_> = told.iter().map(|path| path.to_str().unwrap()).collect();
        let mut command = host.command("env");
        command.arg(format!("{SERVE}={}", told.join(" ")));
        command.arg(env::current_exe().unwrap());
        command.args([
            "registries::gate::is_the_gate_when_told_to",
            "--exact",
            "--nocapture",
        ]);
        let process = Process::start(&mut command, &dir.join("gate.log"));
        Self { process, secrets }
    }

    /// Whether it answers yet; panics with its log when it has ended.
    pub(super) fn is_ready(&mut self) -> bool {
        assert!(self.process.is_running(), "{}", self.process.log());
        self.secrets.exists()
    }

    /// Every token and signature that was handed out so far.
    pub(super) fn secrets(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.secrets).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

#[test]
fn is_the_gate_when_told_to() {
    serve_if_told();
}

/// Serves until it is killed, when this process was started to be the gate.
pub(crate) fn serve_if_told() {
    let Ok(told) = env::var(SERVE) else { return };
    let [certificate, key, secrets] = told.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{SERVE}={told}");
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)).unwrap();
    let signer = Signer::load(certificate.as_ref(), key.as_ref());
    let server = Arc::new(Server {
        signer,
        secrets: Mutex::new(File::create_new(secrets).unwrap()),
        refreshers: Mutex::default(),
    });
    loop {
        let (stream, _nginx) = listener.accept().unwrap();
        let server = Arc::clone(&server);
        thread::spawn(move || server.answer(&stream));
    }
}

struct Server {
    signer: Signer,
    secrets: Mutex<File>,
    /// Refresh tokens, and whose they are.
    refreshers: Mutex<Vec<(String, User)>>,
}

impl Server {
    /// Answers one request; nginx opens a connection for each.
    fn answer(&self, stream: &TcpStream) {
        let Some(request) = Request::read(&mut BufReader::new(stream)) else {
            return;
        };
        let host = request.header("host").unwrap_or_default();
        // A client that has gone away needs no answer.
        let _gone = match host {
            "auth.test" | "auth.docker.io" => self.token(stream, &request),
            "evil.test" => evil(stream, &request),
            SITE => echo(stream),
            _ if request.header(CDN_HEADER).is_some() => self.redirect(stream, &request),
            _ => cdn(stream, &request),
        };
    }

    /// The token server: GET with `Basic` or nothing, or a form that was posted with a password or a refresh
    /// token.
    fn token(&self, stream: &TcpStream, request: &Request) -> io::Result<()> {
        let form = |name: &str| request.parameter(name).unwrap_or_default();
        let who = match form("grant_type").as_str() {
            "password" => user(&form("username"), &form("password"))
                .map(Some)
                .ok_or(()),
            "refresh_token" => self.refreshed(&form("refresh_token")).map(Some).ok_or(()),
            _ => basic(request.header("authorization")),
        };
        let Ok(who) = who else {
            let refusal = json!({"errors": [{"code": "UNAUTHORIZED"}], "details": "incorrect username or password"});
            return respond(stream, 401, &[], &refusal.to_string());
        };
        let token = self
            .signer
            .token(who, &form("service"), &request.parameters("scope"));
        self.remember_secret(&token);
        let mut answer = json!({
            "token": token, "access_token": token, "expires_in": LIFETIME_SECS,
        });
        let offline = form("access_type") == "offline" || form("offline_token") == "true";
        if let (true, Some(who)) = (offline, who) {
            let refresher = format!("refresh-{}", nonce());
            self.remember_secret(&refresher);
            answer["refresh_token"] = json!(refresher);
            self.remember_refresher(refresher, who);
        }
        respond(
            stream,
            200,
            &[("Content-Type", "application/json")],
            &answer.to_string(),
        )
    }

    fn remember_refresher(&self, refresher: String, who: User) {
        self.refreshers.lock().unwrap().push((refresher, who));
    }

    fn refreshed(&self, token: &str) -> Option<User> {
        let known = self.refreshers.lock().unwrap();
        let found = known.iter().find(|(refresher, _user)| refresher == token);
        found.map(|(_token, user)| *user)
    }

    /// A registry that keeps its blobs elsewhere: whoever it would give a blob gets a signed address.
    fn redirect(&self, stream: &TcpStream, request: &Request) -> io::Result<()> {
        let registry = request.header(REGISTRY_HEADER).unwrap_or_default();
        if status(&mut ask(registry, "HEAD", request)?)? != 200 {
            io::copy(&mut ask(registry, &request.method, request)?, &mut &*stream)?;
            return Ok(());
        }
        let digest = request.path().rsplit('/').next().unwrap_or_default();
        let cdn = request.header(CDN_HEADER).unwrap_or_default();
        let location = format!("https://{cdn}{}", self.signed(&request.method, digest));
        respond(stream, 307, &[("Location", &location)], "")
    }

    /// An address of the CDN that holds for this method, digest and time.
    fn signed(&self, method: &str, digest: &str) -> String {
        let (expires, nonce) = (unix_secs() + SIGNED_SECS, nonce());
        let path = format!("/blobs/{}", digest.replace(':', "/"));
        let signature = signature(method, &path, &expires.to_string(), &nonce);
        self.remember_secret(&signature);
        format!("{path}?expires={expires}&nonce={nonce}&signature={signature}")
    }

    fn remember_secret(&self, secret: &str) {
        writeln!(self.secrets.lock().unwrap(), "{secret}").unwrap();
    }
}

/// The CDN: knows no users, and refuses requests that bring a credential, as S3 does.
fn cdn(stream: &TcpStream, request: &Request) -> io::Result<()> {
    if request.header("authorization").is_some() {
        return respond(stream, 400, &[], "only one way of authorisation, please\n");
    }
    let part = |name: &str| request.parameter(name).unwrap_or_default();
    let (expires, nonce) = (part("expires"), part("nonce"));
    let right = signature(&request.method, request.path(), &expires, &nonce);
    let late = expires.parse().unwrap_or(0) < unix_secs();
    let Some((_blobs, hex)) = request.path().rsplit_once('/') else {
        return respond(stream, 404, &[], "");
    };
    if late || part("signature") != right {
        return respond(stream, 403, &[], "the signature does not match\n");
    }
    let file = format!("{INTERNAL}/blobs/sha256/{}/{hex}/data", &hex[..2]);
    respond(stream, 200, &[("X-Accel-Redirect", &file)], "")
}

fn signature(method: &str, path: &str, expires: &str, nonce: &str) -> String {
    let signed = [CDN_SECRET, method, path, expires, nonce].join("|");
    sha256(signed.as_bytes())
}

/// How long the attacker claims every blob to be; Alice's private layer is as long.
pub(crate) const EVIL_BYTES: usize = 300_000;

/// The attacker's registry says yes to everybody and everything, and has nothing but zeros.
fn evil(stream: &TcpStream, request: &Request) -> io::Result<()> {
    let digest = request.path().rsplit('/').next().unwrap_or_default();
    let mut headers = vec![
        ("Content-Type", "application/octet-stream".to_owned()),
        ("Docker-Content-Digest", digest.to_owned()),
        ("ETag", format!("\"{digest}\"")),
        ("Accept-Ranges", "bytes".to_owned()),
    ];
    let range = request.range(EVIL_BYTES);
    let status = if range.is_some() { 206 } else { 200 };
    let range = range.unwrap_or(0..EVIL_BYTES);
    if status == 206 {
        let text = format!("bytes {}-{}/{EVIL_BYTES}", range.start, range.end - 1);
        headers.push(("Content-Range", text));
    }
    headers.push(("Content-Length", range.len().to_string()));
    let headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    write_head(stream, status, &headers)?;
    if request.method == "HEAD" {
        return Ok(());
    }
    (&mut &*stream).write_all(&vec![0; range.len()])
}

/// A websocket that says again what it is told first; the key is the example of RFC 6455.
fn echo(mut stream: &TcpStream) -> io::Result<()> {
    stream.write_all(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
    )?;
    // Whole text, masked, and short: what comes first is its kind, its length and four bytes of mask.
    let mut head = [0; 6];
    stream.read_exact(&mut head)?;
    let mut text = vec![0; usize::from(head[1] & 0x7f)];
    stream.read_exact(&mut text)?;
    let mask = head[2..].iter().cycle();
    let text: Vec<u8> = text
        .iter()
        .zip(mask)
        .map(|(byte, mask)| byte ^ mask)
        .collect();
    stream.write_all(&[&[head[0], head[1] & 0x7f], text.as_slice()].concat())?;
    // The client closes.
    stream.read_exact(&mut [0]).or(Ok(()))
}

/// Sends `request` on to a registry of this host, as `method`.
fn ask(registry: &str, method: &str, request: &Request) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(registry)?;
    let mut head = format!("{method} {} HTTP/1.0\r\n", request.target);
    for name in ["host", "authorization", "range", "accept"] {
        if let Some(value) = request.header(name) {
            head.extend([name, ": ", value, "\r\n"]);
        }
    }
    head.push_str("x-forwarded-proto: https\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    Ok(stream)
}

/// The status of the answer that `stream` begins with.
fn status(stream: &mut TcpStream) -> io::Result<u16> {
    let mut line = [0; "HTTP/1.1 200".len()];
    stream.read_exact(&mut line)?;
    let code = String::from_utf8_lossy(&line);
    Ok(code[9..].parse().unwrap_or(0))
}

fn respond(
    stream: &TcpStream,
    status: u16,
    headers: &[(&str, &str)],
    body: &str,
) -> io::Result<()> {
    let length = body.len().to_string();
    let mut headers = headers.to_vec();
    headers.push(("Content-Length", &length));
    write_head(stream, status, &headers)?;
    (&mut &*stream).write_all(body.as_bytes())
}

fn write_head(mut stream: &TcpStream, status: u16, headers: &[(&str, &str)]) -> io::Result<()> {
    let mut head = format!("HTTP/1.1 {status} Lab\r\n");
    for (name, value) in headers {
        head.extend([*name, ": ", *value, "\r\n"]);
    }
    head.push_str("Connection: close\r\n\r\n");
    stream.write_all(head.as_bytes())
}
