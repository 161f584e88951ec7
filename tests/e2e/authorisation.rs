//! Private stays private: whoever asks through a node gets what the registry itself would give, however
//! many have the blob already; and no secret shows anywhere.
//!
//! The first table is asked without dfnode, so that what "the registry itself would give" is a
//! measurement as well.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use crate::engines::PROXY;
use crate::engines_themselves::Shelf;
use crate::files::sha256;
use crate::lab::{Host, Job, Lab, Shape, take_turn};
use crate::registries::gate::EVIL_BYTES;
use crate::registries::{self, ALICE, BOB, Registries, basic_header, curl};

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Anonymous,
    /// Alice's name with a wrong password, or a token of hers that was altered.
    Impostor,
    Bob,
    // The last one: before her, nobody has got anything private.
    Alice,
}

const EVERYBODY: [Who; 4] = [Who::Anonymous, Who::Impostor, Who::Bob, Who::Alice];

/// How a request gets to the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Road {
    Direct,
    /// By the node, as `HTTPS_PROXY` does it.
    Proxy,
    /// By the node as a mirror, as containerd does it.
    Mirror,
}

/// Where tokens for a registry are had: the server's address and the service's name.
fn token_server(registry: &str) -> Option<(&'static str, &'static str)> {
    match registry {
        "token.test" => Some(("https://auth.test/token", "token.test")),
        "registry-1.docker.io" => Some(("https://auth.docker.io/token", "registry.docker.io")),
        _ => None,
    }
}

/// Somebody at a keyboard of a host.
#[derive(Clone, Copy)]
pub(crate) struct Asker<'a> {
    pub(crate) host: &'a Host,
    pub(crate) road: Road,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    status: String,
    challenge: String,
    body: String,
}

pub(crate) type Table = BTreeMap<String, Answer>;

impl Asker<'_> {
    /// curl, by this path.
    fn curl(self) -> Command {
        let mut command = curl(self.host);
        if self.road == Road::Proxy {
            command.args(["--proxy", &format!("http://{PROXY}")]);
        }
        command
    }

    /// The credential that `who` shows at `registry` for `repository`, and how its token was answered.
    fn credential(self, registry: &str, repository: &str, who: Who) -> (String, Option<String>) {
        let (name, password) = match who {
            Who::Anonymous => ("", ""),
            Who::Impostor => (ALICE.name, "a wrong one"),
            Who::Bob => (BOB.name, BOB.password),
            Who::Alice => (ALICE.name, ALICE.password),
        };
        let Some((realm, service)) = token_server(registry) else {
            let shown = (who != Who::Anonymous).then(|| basic_header(name, password));
            return (String::new(), shown);
        };
        let body = self.host.dir().join("token");
        let mut command = self.curl();
        command.arg("-o").arg(&body).args(["-w", "%{http_code}"]);
        if who != Who::Anonymous {
            command.args(["--user", &format!("{name}:{password}")]);
        }
        command.arg(format!(
            "{realm}?service={service}&scope=repository:{repository}:pull"
        ));
        let status = Job::new(command)
            .run()
            .expect_success("token")
            .stdout
            .clone();
        let token = |text: &str| {
            let answer: serde_json::Value = serde_json::from_str(text).unwrap();
            answer["token"].as_str().unwrap_or_default().to_owned()
        };
        let text = fs::read_to_string(&body).unwrap();
        let token = match who {
            // Hers, but for one character in the middle of the signature.
            Who::Impostor => {
                let (_status, hers) = self.credential(registry, repository, Who::Alice);
                let mut altered = hers
                    .unwrap()
                    .trim_start_matches("Bearer ")
                    .to_owned()
                    .into_bytes();
                let place = altered.len() - 40;
                altered[place] = if altered[place] == b'A' { b'B' } else { b'A' };
                String::from_utf8(altered).unwrap()
            }
            Who::Anonymous | Who::Bob | Who::Alice => token(&text),
        };
        (status, Some(format!("Bearer {token}")))
    }

    /// Asks for a blob; `more` are further arguments of curl.
    pub(crate) fn ask(
        self,
        registry: &str,
        path: &str,
        credential: Option<&str>,
        more: &[&str],
    ) -> Answer {
        let [body, headers] = ["body", "headers"].map(|name| self.host.dir().join(name));
        fs::write(&body, "").unwrap();
        fs::write(&headers, "").unwrap();
        let mut command = self.curl();
        command.args(["-L", "-w", "%{http_code}"]).args(more);
        command.arg("-o").arg(&body).arg("-D").arg(&headers);
        if let Some(credential) = credential {
            command
                .arg("-H")
                .arg(format!("Authorization: {credential}"));
        }
        command.arg(match self.road {
            Road::Direct | Road::Proxy => format!("https://{registry}{path}"),
            Road::Mirror => {
                let mark = if path.contains('?') { '&' } else { '?' };
                format!("http://{PROXY}{path}{mark}ns={registry}")
            }
        });
        let done = Job::new(command).run();
        let headers = fs::read_to_string(headers).unwrap();
        let challenge = headers
            .lines()
            .filter(|line| line.to_ascii_lowercase().starts_with("www-authenticate"))
            .collect::<Vec<_>>()
            .join("\n")
            .to_ascii_lowercase();
        Answer {
            status: done.stdout,
            challenge,
            body: sha256(&fs::read(&body).unwrap()),
        }
    }

    /// Asks everything of everybody at the registries `asked`.
    pub(crate) fn table(self, asked: &[&str], images: &Shelf) -> Table {
        let public = &images.one.layers[0].blob.digest;
        let secret = &images.private.layers[0].blob.digest;
        let resources = [
            ("a public blob", "test/one", public),
            ("a private blob", "private/secret", secret),
            ("a private blob by a public path", "test/one", secret),
        ];
        let mut table = Table::new();
        for who in EVERYBODY {
            for registry in asked {
                let mut tokens = BTreeMap::new();
                for (what, repository, digest) in &resources {
                    let (token, credential) = tokens
                        .entry(*repository)
                        .or_insert_with(|| self.credential(registry, repository, who));
                    let path = format!("/v2/{repository}/blobs/{digest}");
                    for (how, more) in HOW {
                        if how != "GET" && *what != "a private blob" {
                            continue;
                        }
                        // Headers are all that HEAD brings, and they may differ.
                        let mut answer = self.ask(registry, &path, credential.as_deref(), more);
                        if how == "HEAD" {
                            answer.body.clear();
                        }
                        let row = format!("{who:?} at {registry}: {how} of {what}, token {token}");
                        table.insert(row, answer);
                    }
                }
            }
        }
        table
    }
}

/// How a blob is asked for, and with which arguments of curl.
const HOW: [(&str, &[&str]); 3] = [
    ("GET", &[]),
    ("a range", &["--range", "1000-1999"]),
    ("HEAD", &["--head"]),
];

/// What the table must say, by the registries' own rules; the measurement is held against this.
fn check_plausible(table: &Table) {
    let status = |row: &str| {
        let found = table.iter().find(|(key, _answer)| key.starts_with(row));
        found.map(|(_key, answer)| answer.status.as_str()).unwrap()
    };
    for registry in ["token.test", "registry-1.docker.io"] {
        for (row, expected) in [
            ("Anonymous at REGISTRY: GET of a public blob,", "200"),
            ("Anonymous at REGISTRY: GET of a private blob,", "401"),
            (
                "Anonymous at REGISTRY: GET of a private blob by a public path,",
                "404",
            ),
            ("Bob at REGISTRY: GET of a private blob,", "401"),
            ("Impostor at REGISTRY: GET of a public blob,", "401"),
            ("Impostor at REGISTRY: GET of a private blob,", "401"),
            ("Alice at REGISTRY: GET of a private blob,", "200"),
            ("Alice at REGISTRY: a range of a private blob,", "206"),
            (
                "Alice at REGISTRY: GET of a private blob by a public path,",
                "404",
            ),
        ] {
            assert_eq!(
                status(&row.replace("REGISTRY", registry)),
                expected,
                "{row}, {registry}"
            );
        }
    }
    assert_eq!(
        status("Anonymous at basic.test: GET of a private blob,"),
        "401"
    );
    assert_eq!(
        status("Impostor at basic.test: GET of a private blob,"),
        "401"
    );
    assert_eq!(status("Bob at basic.test: GET of a private blob,"), "200");
}

/// The registries that have something to refuse.
pub(crate) const GUARDED: [&str; 3] = ["token.test", "registry-1.docker.io", "basic.test"];

#[test]
fn the_registries_refuse_whom_they_should() {
    let Some(_turn) = take_turn(&registries::PROGRAMS) else {
        return;
    };
    let mut lab = Lab::new(1, Shape::Unshaped, Shape::Unshaped);
    let registries = Registries::open(&mut lab);
    let shelf = Shelf::fill(&registries);
    let asker = Asker {
        host: &lab.hosts()[0],
        road: Road::Direct,
    };
    let table = asker.table(&GUARDED, &shelf);
    check_plausible(&table);
    // The attacker's registry is there, says yes, and has nothing.
    let path = format!(
        "/v2/any/thing/blobs/{}",
        shelf.private.layers[0].blob.digest
    );
    let evil = asker.ask("evil.test", &path, None, &[]);
    assert_eq!(evil.status, "200");
    assert_eq!(evil.body, sha256(&vec![0; EVIL_BYTES]));
}
