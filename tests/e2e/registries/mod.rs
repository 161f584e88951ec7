//! Container registries on the source's host, each of the kinds that clients meet.
//!
//! | name | what |
//! |---|---|
//! | registry.test | for everybody; 443 and 5000 with TLS (5000 by address too), 80 without |
//! | basic.test | for Alice and Bob, by password |
//! | token.test, auth.test | by tokens: everybody may pull all but `private/…`, Alice may do all |
//! | redir.test, cdn.test | for everybody; blobs are redirected to addresses signed for one use |
//! | registry-1.docker.io, auth.docker.io, production.cloudflare.docker.com | tokens and redirections, as the real ones |
//! | evil.test | says yes to everything, and has nothing |
//! | site.test | no registry at all, over TLS |
//!
//! The registries are real ones (docker-registry, all on one storage) behind nginx, whose certificates
//! come from the lab's own public [`Authority`].

mod authority;
pub(crate) mod gate;
pub(crate) mod image;
mod nginx;
mod tokens;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;

use self::authority::Authority;
pub(crate) use self::authority::Identity;
use self::gate::Gate;
pub(crate) use self::image::{BIG, Image, MANY, SMALL_BIG, Storage};
pub(crate) use self::tokens::{ALICE, BOB, User, basic_header};
use crate::lab::{Host, Lab, Process, program};

/// All names of the source's host.
#[rustfmt::skip]
pub(crate) const NAMES: [&str; 12] = [
    "registry.test", "basic.test", "token.test", "auth.test", "redir.test", "cdn.test",
    "registry-1.docker.io", "auth.docker.io", "production.cloudflare.docker.com",
    "evil.test", "fault.test", SITE,
];
/// A host that is no registry, with a certificate that no other name shares.
pub(crate) const SITE: &str = "site.test";
/// The programs behind the names.
pub(crate) const PROGRAMS: [&str; 4] = ["docker-registry", "nginx", "htpasswd", "gzip"];
/// How long the servers may take until all answer.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// How a docker-registry behind nginx decides who may enter, and where it listens.
struct Door {
    port: u16,
    /// The `auth` part of its configuration.
    auth: String,
}

/// The running registries and what they keep.
pub(crate) struct Registries {
    storage: Storage,
    dir: PathBuf,
    gate: Gate,
    authority: Authority,
    identity: Identity,
    site_identity: Identity,
    servers: Vec<Process>,
}

/// One line of nginx's access log.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Request {
    /// The name that was asked for.
    pub(crate) host: String,
    /// The method.
    pub(crate) method: String,
    /// The path without the query.
    pub(crate) path: String,
    /// The status of the answer.
    pub(crate) status: u16,
    /// How many bytes of body were sent.
    pub(crate) body_bytes: u64,
    /// The `Range` header.
    pub(crate) range: String,
    /// The address that asked.
    pub(crate) from: String,
    /// Whether a credential came along: `0` or `1`.
    pub(crate) credential: String,
}

impl Registries {
    /// Gives the hosts of `lab` roots that know the registries' names and trust their certificates,
    /// and starts the registries, empty.
    pub(crate) fn open(lab: &mut Lab) -> Self {
        let dir = lab.dir().join("registries");
        let authority = Authority::create(&dir.join("certificates"));
        lab.furnish(&authority.pem(), &NAMES);
        let host = lab.source();
        let others: Vec<_> = NAMES.into_iter().filter(|name| *name != SITE).collect();
        let all = authority.identify("all", &others, &[host.v4()]);
        let site = authority.identify("site", &[SITE], &[]);
        let storage = Storage::create(&dir.join("storage"));
        let gate = Gate::start(host, &all, &dir);
        let mut servers = Vec::new();
        for (name, door) in [
            (
                "open",
                Door {
                    port: nginx::OPEN,
                    auth: String::new(),
                },
            ),
            (
                "basic",
                Door {
                    port: nginx::BASIC,
                    auth: by_password(&dir),
                },
            ),
            (
                "token",
                Door {
                    port: nginx::TOKEN,
                    auth: by_token("https://auth.test/token", "token.test", &all),
                },
            ),
            (
                "hub",
                Door {
                    port: nginx::HUB,
                    auth: by_token("https://auth.docker.io/token", "registry.docker.io", &all),
                },
            ),
        ] {
            let file = dir.join(format!("{name}.yml"));
            fs::write(&file, registry_configuration(&door, &storage)).unwrap();
            let mut command = host.command(program("docker-registry").unwrap());
            command.arg("serve").arg(&file);
            servers.push(Process::start(
                &mut command,
                &dir.join(format!("{name}.log")),
            ));
        }
        fs::create_dir_all(dir.join("temp")).unwrap();
        fs::create_dir_all(dir.join("site")).unwrap();
        let configuration = nginx::configuration(&dir, &storage, &all, &site);
        fs::write(dir.join("nginx.conf"), configuration).unwrap();
        let mut command = host.command(program("nginx").unwrap());
        command
            .arg("-p")
            .arg(&dir)
            .arg("-c")
            .arg(dir.join("nginx.conf"));
        servers.push(Process::start(&mut command, &dir.join("nginx.output")));
        let mut registries = Self {
            storage,
            dir,
            gate,
            authority,
            identity: all,
            site_identity: site,
            servers,
        };
        registries.wait_until_all_answer(host);
        registries
    }

    fn wait_until_all_answer(&mut self, host: &Host) {
        let give_up = Instant::now() + START_TIMEOUT;
        let names = [
            "registry.test",
            "basic.test",
            "token.test",
            "registry-1.docker.io",
        ];
        let answers = |name: &&str| {
            let url = format!("https://{name}/v2/");
            let got = curl(host)
                .args(["-o", "/dev/null", "-w", "%{http_code}", &url])
                .output()
                .unwrap();
            let code = String::from_utf8_lossy(&got.stdout).into_owned();
            code.ends_with("200") || code.ends_with("401")
        };
        while !(self.gate.is_ready() && names.iter().all(answers)) {
            assert!(
                Instant::now() < give_up,
                "no registries: see {}",
                self.logs()
            );
            thread::sleep(Duration::from_millis(20));
        }
        self.forget();
    }

    /// Switches them off as a power cut would: their connections are reset.
    pub(crate) fn switch_off(&mut self) {
        self.servers.clear();
    }

    /// Where images are put.
    pub(crate) fn storage(&self) -> &Storage {
        &self.storage
    }

    /// The authority's certificate, which the hosts trust.
    pub(crate) fn authority_pem(&self) -> String {
        self.authority.pem()
    }

    /// The certificate of all names but site.test.
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The certificate of site.test.
    pub(crate) fn site_identity(&self) -> &Identity {
        &self.site_identity
    }

    /// The folder that site.test serves.
    pub(crate) fn site(&self) -> PathBuf {
        self.dir.join("site")
    }

    /// All requests that have ended so far, in the order in which they ended.
    pub(crate) fn requests(&self) -> Vec<Request> {
        let text = fs::read_to_string(self.dir.join("access.log")).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let parse =
            |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        whole.lines().map(parse).collect()
    }

    /// Forgets the requests so far.
    pub(crate) fn forget(&self) {
        // nginx appends, so the file can be cut under it.
        fs::File::create(self.dir.join("access.log")).unwrap();
    }

    /// How many bytes of the blobs of `image` were sent, by whatever names they were asked for.
    pub(crate) fn blob_bytes(&self, image: &Image) -> u64 {
        let of_image = |request: &Request| {
            let mut blobs = image.blobs();
            let asked = request.path.contains("/blobs/");
            asked && blobs.any(|blob| request.path.contains(blob.hex()))
        };
        let answered =
            |request: &Request| request.method == "GET" && matches!(request.status, 200 | 206);
        let all = self.requests().into_iter();
        all.filter(|request| of_image(request) && answered(request))
            .map(|request| request.body_bytes)
            .sum()
    }

    /// Every token and signature that was handed out, and every password: what must never be seen
    /// anywhere else.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let mut secrets = self.gate.secrets();
        for user in [ALICE, BOB] {
            secrets.push(user.password.to_owned());
            secrets.push(basic_header(user.name, user.password)["Basic ".len()..].to_owned());
        }
        secrets
    }

    fn logs(&self) -> String {
        self.dir.display().to_string()
    }
}

/// `curl` on `host`, silent, with nothing of the machine's own settings.
pub(crate) fn curl(host: &Host) -> Command {
    let mut command = host.command("env");
    command.args(["-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "curl", "-sS"]);
    command.args(["--max-time", "60"]);
    command
}

/// Lets in whoever is in the file of passwords.
fn by_password(dir: &std::path::Path) -> String {
    let file = dir.join("passwords");
    fs::write(&file, "").unwrap();
    for user in [ALICE, BOB] {
        // The cheapest bcrypt: it is computed for each request.
        let mut command = Command::new(program("htpasswd").unwrap());
        command.args(["-b", "-B", "-C", "4"]).arg(&file);
        let made = command.args([user.name, user.password]).output().unwrap();
        assert!(made.status.success(), "htpasswd: {made:?}");
    }
    format!(
        "auth:\n  htpasswd:\n    realm: basic.test\n    path: {}\n",
        file.display()
    )
}

/// Lets in whoever has a token that `signer` signed.
fn by_token(realm: &str, service: &str, signer: &Identity) -> String {
    format!(
        "auth:\n  token:\n    realm: {realm}\n    service: {service}\n    issuer: {}\n    rootcertbundle: {}\n",
        tokens::ISSUER,
        signer.certificate.display()
    )
}

fn registry_configuration(door: &Door, storage: &Storage) -> String {
    format!(
        "version: 0.1
log:
  accesslog:
    disabled: true
  level: warn
storage:
  filesystem:
    rootdirectory: {}
http:
  addr: 127.0.0.1:{}
  secret: one for all
  relativeurls: false
{}",
        storage.dir().display(),
        door.port,
        door.auth
    )
}
