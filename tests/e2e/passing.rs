//! What is no pull of an image: pushes, logins, searches, hosts without names or without TLS, hosts that
//! are no registries. By itself, and through the node, which must not be noticed.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::engines::{self, Client, Engines, PROXY, Way, command};
use crate::engines_themselves::{Shelf, expected};
use crate::lab::{Finished, Host, Job, Lab, Shape, take_turn};
use crate::registries::{self, ALICE, BOB, Registries, SITE};

/// A host, the registries, and how it reaches them.
struct Passing<'a, 'lab> {
    host: &'lab Host,
    source: &'lab Host,
    way: Way,
    engines: Engines<'lab>,
    registries: &'a Registries,
    shelf: &'a Shelf,
}

#[test]
fn all_that_is_no_pull_works_by_itself() {
    let programs = [&engines::PROGRAMS[..], &registries::PROGRAMS, &["openssl"]].concat();
    let Some(_turn) = take_turn(&programs) else {
        return;
    };
    let mut lab = Lab::new(1, Shape::Unshaped, Shape::Unshaped);
    let registries = Registries::open(&mut lab);
    let shelf = Shelf::fill(&registries);
    check_all(&lab, Way::Native, &registries, &shelf);
}

/// Checks everything on the first host of `lab`.
pub(crate) fn check_all(lab: &Lab, way: Way, registries: &Registries, shelf: &Shelf) {
    let host = &lab.hosts()[0];
    let mut passing = Passing {
        host,
        source: lab.source(),
        way,
        engines: Engines::new(host, way),
        registries,
        shelf,
    };
    passing.hosts_without_a_name_or_without_tls();
    passing.docker_pushes_where_it_may();
    passing.the_tools_push();
    passing.docker_logs_in_and_searches();
    passing.a_host_that_is_no_registry_shows_its_own_certificate();
    passing.a_websocket_is_a_tunnel();
}

impl Passing<'_, '_> {
    fn docker(&mut self, args: &[&str]) -> Finished {
        Job::new(self.engines.docker().command(args)).run()
    }

    fn hosts_without_a_name_or_without_tls(&mut self) {
        let by_address = format!("{}:5000/test/many", self.source.v4());
        for (name, image) in [
            (by_address.as_str(), &self.shelf.many),
            ("registry.test:5000/test/multi", &self.shelf.multi),
            // One of dockerd's insecure registries.
            ("registry.test:80/test/one", &self.shelf.one),
        ] {
            let got = self.engines.pull(Client::Docker, name, None).unwrap();
            assert_eq!(got, expected(Client::Docker, image), "{name}");
        }
    }

    fn docker_pushes_where_it_may(&mut self) {
        let pushed = "token.test/pushed/by-docker";
        self.docker(&["tag", "registry.test:80/test/one", pushed])
            .expect_success("docker tag");
        let docker = self.engines.docker();
        docker.login("token.test", BOB).unwrap();
        let refused = self.docker(&["push", pushed]);
        assert_ne!(refused.code, Some(0), "Bob may not push: {refused:?}");
        assert_eq!(self.registries.storage().tagged("pushed/by-docker"), None);
        self.engines.docker().login("token.test", ALICE).unwrap();
        self.docker(&["push", "--quiet", pushed])
            .expect_success("docker push");
        self.expect_pushed("pushed/by-docker");
        self.docker(&["logout", "token.test"]);
    }

    fn the_tools_push(&mut self) {
        let mut skopeo = command(self.host, self.way, "skopeo");
        skopeo.args(["copy", "--quiet", "--dest-creds"]);
        skopeo.arg(format!("{}:{}", ALICE.name, ALICE.password));
        skopeo.args([
            "docker://registry.test/test/one",
            "docker://token.test/pushed/by-skopeo",
        ]);
        Job::new(skopeo).run().expect_success("skopeo's push");
        self.expect_pushed("pushed/by-skopeo");
        let podman = |args: &[&str]| {
            let mut podman = command(self.host, self.way, "podman");
            podman.args(args);
            Job::new(podman).run().expect_success("podman's push");
        };
        podman(&["pull", "--quiet", "registry.test/test/one"]);
        let to = "docker://registry.test/pushed/by-podman";
        podman(&["push", "--quiet", "registry.test/test/one", to]);
        self.expect_pushed("pushed/by-podman");
    }

    /// The image `one` lies in the registry under another name.
    fn expect_pushed(&self, repository: &str) {
        let storage = self.registries.storage();
        let digest = storage.tagged(repository).unwrap();
        let manifest: Value = serde_json::from_slice(&storage.read(&digest)).unwrap();
        let config = &manifest["config"]["digest"];
        assert_eq!(config.as_str(), Some(self.shelf.one.id()), "{repository}");
    }

    fn docker_logs_in_and_searches(&mut self) {
        for registry in ["basic.test", "token.test"] {
            let docker = self.engines.docker();
            docker.login(registry, ALICE).unwrap();
            let wrong = registries::User {
                password: "a wrong one",
                ..ALICE
            };
            let refused = docker.login(registry, wrong).unwrap_err();
            let said = refused.stderr.to_lowercase();
            assert!(said.contains("unauthorized"), "{refused:#?}");
        }
        let found = self.docker(&["search", "registry.test/one"]);
        assert!(found.stdout.contains("found in the lab"), "{found:#?}");
    }

    /// `openssl s_client` to site.test, which reads its input from a pipe.
    fn s_client(&self, options: &[&str]) -> Command {
        let mut client = self.host.command("timeout");
        client.args(["20", "openssl", "s_client", "-verify_return_error"]);
        client.args(["-CAfile", "/etc/ssl/certs/ca-certificates.crt"]);
        client.args(["-connect", &format!("{SITE}:443"), "-servername", SITE]);
        if self.way == Way::Proxy {
            client.args(["-proxy", PROXY]);
        }
        client.args(options).stdin(Stdio::piped());
        client
    }

    fn a_host_that_is_no_registry_shows_its_own_certificate(&self) {
        let shown = Job::new(self.s_client(&[])).run();
        let own = fs::read_to_string(&self.registries.site_identity().certificate).unwrap();
        assert!(shown.stdout.contains(own.trim()), "{shown:#?}");
        fs::write(self.registries.site().join("page"), "a page").unwrap();
        let mut curl = command(self.host, self.way, "curl");
        curl.args(["-sS", "--fail", &format!("https://{SITE}/page")]);
        let done = Job::new(curl).run();
        assert_eq!(done.expect_success("curl").stdout, "a page");
    }

    fn a_websocket_is_a_tunnel(&self) {
        // The key and its answer are the example of RFC 6455; the frame is masked with zeros.
        let handshake = "GET /ws HTTP/1.1\\r\\nHost: site.test\\r\\nConnection: Upgrade\\r\\n\
            Upgrade: websocket\\r\\nSec-WebSocket-Version: 13\\r\\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\\r\\n\\r\\n";
        let frame = "\\201\\205\\0\\0\\0\\0hello";
        let client = self.s_client(&["-quiet"]);
        let words: Vec<_> = client
            .get_args()
            .map(|word| word.to_str().unwrap())
            .collect();
        let typed = format!("{{ printf '{handshake}'; sleep 1; printf '{frame}'; sleep 1; }}");
        let line = format!(
            "{typed} | {} {}",
            client.get_program().to_str().unwrap(),
            words.join(" ")
        );
        let mut shell = Command::new("sh");
        shell.args(["-c", &line]);
        let done = Job::new(shell).within(Duration::from_secs(30)).run();
        assert!(done.stdout.contains("101 Switching Protocols"), "{done:#?}");
        assert!(
            done.stdout.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            "{done:#?}"
        );
        assert!(done.stdout.ends_with("\u{5}hello"), "{done:#?}");
    }
}
