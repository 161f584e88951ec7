//! A real web server in the source's namespace, and what its access log says was copied.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};
use serde::Deserialize;

use crate::lab::{Host, Process, SOURCE_NAME, program};

/// nginx, serving the files of a folder over http (80), https (443) and https with a certificate
/// that nobody trusts (8443).
pub(crate) struct Origin {
    process: Option<Process>,
    dir: PathBuf,
    program: PathBuf,
    host_name: String,
}

/// One line of the access log.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Request {
    /// The path without the query.
    pub(crate) path: String,
    /// The method.
    pub(crate) method: String,
    /// The status it was answered with.
    pub(crate) status: u16,
    /// How many bytes of body were sent.
    pub(crate) body_bytes: u64,
    /// The `Range` header.
    pub(crate) range: String,
    /// The address that asked.
    pub(crate) from: String,
}

/// How often a file was read from the source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Copies {
    /// GETs that were answered with a body.
    pub(crate) gets: u64,
    /// The bytes of those bodies.
    pub(crate) body_bytes: u64,
}

impl Origin {
    /// Starts nginx on `host`.
    pub(crate) fn start(host: &Host) -> Self {
        Self::start_limited(host, None)
    }

    /// Starts nginx on `host`; each response is limited to `bytes_per_sec`.
    pub(crate) fn start_limited(host: &Host, bytes_per_sec: Option<u64>) -> Self {
        let dir = host.dir().join("nginx");
        fs::create_dir_all(dir.join("www")).unwrap();
        fs::create_dir_all(dir.join("temp")).unwrap();
        write_certificates(&dir);
        fs::write(dir.join("nginx.conf"), configuration(&dir, bytes_per_sec)).unwrap();
        let program = program("nginx").unwrap();
        let mut origin = Self {
            process: None,
            dir,
            program,
            host_name: SOURCE_NAME.to_owned(),
        };
        origin.resume(host);
        origin
    }

    /// Starts it again after [`Origin::stop`].
    pub(crate) fn resume(&mut self, host: &Host) {
        let mut command = host.command(&self.program);
        command
            .arg("-p")
            .arg(&self.dir)
            .arg("-c")
            .arg(self.dir.join("nginx.conf"));
        self.process = Some(Process::start(&mut command, &self.dir.join("output.log")));
        let give_up = Instant::now() + Duration::from_secs(10);
        while !self.dir.join("nginx.pid").exists() {
            assert!(
                Instant::now() < give_up,
                "nginx did not start: {}",
                self.log("output.log")
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Switches the source off, as a power cut would: its connections are reset.
    pub(crate) fn stop(&mut self) {
        self.process = None;
        let _ = fs::remove_file(self.dir.join("nginx.pid"));
    }

    /// Puts `content` at /`name`; it appears there at once, whole.
    pub(crate) fn publish(&self, name: &str, content: &[u8]) {
        let hidden = self.dir.join("temp").join(name);
        fs::write(&hidden, content).unwrap();
        fs::rename(hidden, self.dir.join("www").join(name)).unwrap();
    }

    /// The file behind /`name`.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.join("www").join(name)
    }

    /// The address of /`name`.
    pub(crate) fn url(&self, name: &str) -> String {
        format!("http://{}/{name}", self.host_name)
    }

    /// The same over TLS, with a certificate that [`Origin::ca`] signed.
    pub(crate) fn https_url(&self, name: &str) -> String {
        format!("https://{}/{name}", self.host_name)
    }

    /// The same over TLS, with a certificate that nobody trusts.
    pub(crate) fn untrusted_url(&self, name: &str) -> String {
        format!("https://{}:8443/{name}", self.host_name)
    }

    /// The authority that signed the certificate of [`Origin::https_url`].
    pub(crate) fn ca(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// All requests that have ended so far, in the order in which they ended.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.log("access.log")
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// How often /`name` was read.
    pub(crate) fn copies(&self, name: &str) -> Copies {
        count_copies(&self.requests(), &format!("/{name}"))
    }

    /// Forgets the requests so far.
    pub(crate) fn forget(&self) {
        // nginx appends, so the file can be cut under it.
        fs::File::create(self.dir.join("access.log")).unwrap();
    }

    /// What the server has used.
    pub(crate) fn usage(&self) -> crate::lab::Usage {
        self.process.as_ref().unwrap().usage()
    }

    fn log(&self, name: &str) -> String {
        fs::read_to_string(self.dir.join(name)).unwrap_or_default()
    }
}

/// Counts the GETs of `path` that were answered with a body, and its bytes.
fn count_copies(requests: &[Request], path: &str) -> Copies {
    let bodies = requests.iter().filter(|request| {
        let answered = matches!(request.status, 200 | 206);
        request.path == path && request.method == "GET" && answered
    });
    bodies.fold(Copies::default(), |sum, request| Copies {
        gets: sum.gets + 1,
        body_bytes: sum.body_bytes + request.body_bytes,
    })
}

/// One process, so that killing it ends it all; everything it writes stays below its folder.
fn configuration(dir: &Path, bytes_per_sec: Option<u64>) -> String {
    let limit = bytes_per_sec
        .map(|rate| format!("limit_rate {rate};"))
        .unwrap_or_default();
    let dir = dir.display();
    format!(
        r#"
daemon off;
master_process off;
user root;
pid {dir}/nginx.pid;
error_log {dir}/error.log;
events {{ worker_connections 4096; }}
http {{
    log_format counted escape=json '{{"path":"$uri","method":"$request_method","status":$status,'
        '"body_bytes":$body_bytes_sent,"range":"$http_range","from":"$remote_addr"}}';
    access_log {dir}/access.log counted;
    client_body_temp_path {dir}/temp;
    proxy_temp_path {dir}/temp;
    fastcgi_temp_path {dir}/temp;
    uwsgi_temp_path {dir}/temp;
    scgi_temp_path {dir}/temp;
    default_type application/octet-stream;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 100000;
    {limit}
    root {dir}/www;
    server {{
        listen 80; listen [::]:80; listen 443 ssl; listen [::]:443 ssl;
        ssl_certificate {dir}/trusted.pem;
        ssl_certificate_key {dir}/trusted.key;
    }}
    server {{
        listen 8443 ssl; listen [::]:8443 ssl;
        ssl_certificate {dir}/untrusted.pem;
        ssl_certificate_key {dir}/untrusted.key;
    }}
}}
"#
    )
}

/// Writes ca.pem, a certificate it signed, and one that a nameless authority signed.
fn write_certificates(dir: &Path) {
    for (authority, leaf) in [("ca", "trusted"), ("other", "untrusted")] {
        let ca_key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, format!("dfnode lab {authority}"));
        let ca = params.self_signed(&ca_key).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![SOURCE_NAME.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &ca, &ca_key).unwrap();
        fs::write(dir.join(format!("{authority}.pem")), ca.pem()).unwrap();
        fs::write(dir.join(format!("{leaf}.pem")), certificate.pem()).unwrap();
        fs::write(dir.join(format!("{leaf}.key")), key.serialize_pem()).unwrap();
    }
}

#[test]
fn only_gets_with_a_body_count_as_copies() {
    let request = |method: &str, status, body_bytes| Request {
        path: "/file".to_owned(),
        method: method.to_owned(),
        status,
        body_bytes,
        range: String::new(),
        from: String::new(),
    };
    let log = [
        request("HEAD", 200, 0),
        request("GET", 412, 150),
        request("GET", 206, 40),
    ];
    assert_eq!(
        count_copies(&log, "/file"),
        Copies {
            gets: 1,
            body_bytes: 40
        }
    );
    assert_eq!(count_copies(&log, "/other"), Copies::default());
}
