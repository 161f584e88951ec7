//! The lab of registries and engines keeps its promises: without dfnode, every engine gets from every
//! registry what it should, and the registries refuse whom they should.

use crate::engines::{self, Client, Engines, Way};
use crate::fault_source::{FaultSource, REGISTRY_PORT};
use crate::files::sha256_of;
use crate::lab::{Job, Lab, Shape, take_turn};
use crate::registries::{self, ALICE, BIG, BOB, Image, MANY, Registries, SMALL_BIG, User};
use crate::sizes::full;

/// The images that the tests pull.
pub(crate) struct Shelf {
    pub(crate) one: Image,
    pub(crate) big: Image,
    pub(crate) many: Image,
    pub(crate) multi: Image,
    pub(crate) shared: [Image; 2],
    pub(crate) private: Image,
    /// On the look-alike of Docker Hub.
    pub(crate) library: Image,
}

impl Shelf {
    /// Fills it, in small sizes unless the full ones are asked for.
    pub(crate) fn fill(registries: &Registries) -> Self {
        let storage = registries.storage();
        let big = if full() { BIG } else { SMALL_BIG };
        let common = storage.layers(6, &[400_000]);
        let with = |seed| [common.clone(), storage.layers(seed, &[50_000])].concat();
        Self {
            one: storage.image("test/one", storage.layers(1, &[1 << 20])),
            big: storage.image("test/big", storage.layers(2, &big)),
            many: storage.image("test/many", storage.layers(3, &MANY)),
            multi: storage.multi_arch("test/multi", go_arch(), storage.layers(4, &[300_000])),
            shared: [
                storage.image("test/shared-a", with(7)),
                storage.image("test/shared-b", with(8)),
            ],
            private: storage.image("private/secret", storage.layers(9, &[299_000])),
            library: storage.image("library/one", storage.layers(10, &[700_000])),
        }
    }
}

/// A name to pull, what it stands for, and who pulls it.
type Pull<'a> = (&'static str, &'a Image, Option<User>);

/// What nobody gets: by which name, and who tries.
pub(crate) const REFUSED: [(&str, Option<User>); 2] = [
    ("basic.test/test/one", None),
    ("token.test/private/secret", Some(BOB)),
];

impl Shelf {
    /// All that `client` is asked to pull. Images with many layers take podman and buildah, who do
    /// the same, seconds each, so one of them is enough.
    pub(crate) fn pulls_of(&self, client: Client) -> Vec<Pull<'_>> {
        let mut pulls: Vec<Pull<'_>> = vec![
            ("registry.test/test/big", &self.big, None),
            ("registry.test/test/multi", &self.multi, None),
            ("basic.test/private/secret", &self.private, Some(BOB)),
            ("token.test/private/secret", &self.private, Some(ALICE)),
            ("redir.test/test/one", &self.one, None),
            ("library/one", &self.library, None),
        ];
        if client != Client::Buildah {
            pulls.extend([
                ("registry.test/test/many", &self.many, None),
                ("registry.test/test/shared-a", &self.shared[0], None),
                ("registry.test/test/shared-b", &self.shared[1], None),
                ("token.test/test/one", &self.one, None),
            ]);
        }
        pulls
    }
}

/// This machine's architecture in Go's words.
fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The digest that `client` must name for `image`.
pub(crate) fn expected(client: Client, image: &Image) -> &str {
    match client {
        Client::Ctr => &image.top.digest,
        Client::Docker | Client::Cri | Client::Podman | Client::Skopeo | Client::Buildah => {
            image.id()
        }
    }
}

#[test]
fn every_engine_pulls_from_every_registry_by_itself() {
    let programs = [&engines::PROGRAMS[..], &registries::PROGRAMS].concat();
    let Some(_turn) = take_turn(&programs) else {
        return;
    };
    let mut lab = Lab::new(1, Shape::Unshaped, Shape::Unshaped);
    let registries = Registries::open(&mut lab);
    let shelf = Shelf::fill(&registries);
    let mut engines = Engines::new(&lab.hosts()[0], Way::Native);
    for client in Client::ALL {
        for (name, image, user) in shelf.pulls_of(client) {
            let got = engines.pull(client, name, user);
            let got = got.unwrap_or_else(|done| panic!("{client:?} of {name}: {done:#?}"));
            assert_eq!(got, expected(client, image), "{client:?} of {name}");
        }
        for (name, user) in REFUSED {
            let got = engines.pull(client, name, user);
            assert!(got.is_err(), "{client:?} of {name} by {user:?}: {got:?}");
        }
    }
}

#[test]
fn the_faulty_registry_does_what_its_names_say() {
    let Some(_turn) = take_turn(&registries::PROGRAMS) else {
        return;
    };
    let mut lab = Lab::new(1, Shape::Unshaped, Shape::Unshaped);
    let registries = Registries::open(&mut lab);
    let storage = registries.storage();
    let _faults = FaultSource::start_registry(lab.source(), storage.dir(), registries.identity());
    let image = storage.image("test/f", storage.layers(1, &[300_000]));
    let layer = &image.layers[0].blob;
    let host = &lab.hosts()[0];
    let ask = |fault: &str| {
        let mut curl = registries::curl(host);
        let file = host.dir().join("layer");
        curl.args(["--max-time", "3", "-w", "%{http_code}", "-o"])
            .arg(&file);
        curl.arg(format!(
            "https://fault.test:{REGISTRY_PORT}/v2/{fault}/f/blobs/{}",
            layer.digest
        ));
        let done = Job::new(curl).run();
        let right = sha256_of(&file).is_some_and(|hex| hex == layer.hex());
        (done.code, done.stdout, right)
    };
    let fine = || (Some(0), "200".to_owned(), true);
    // curl's codes: 18 too short, 28 too late, 56 reset.
    for (fault, first) in [
        ("plain", fine()),
        ("truncate", (Some(18), "200".to_owned(), false)),
        ("reset", (Some(56), "200".to_owned(), false)),
        ("stall", (Some(28), "200".to_owned(), false)),
        ("corrupt-once", (Some(0), "200".to_owned(), false)),
        ("no-range", fine()),
        ("no-length", fine()),
    ] {
        assert_eq!(ask(fault), first, "{fault}");
        assert_eq!(ask(fault), fine(), "{fault}, the second time");
    }
    assert_eq!(ask("503").1, "503");
    assert_eq!(ask("503"), fine());
    for _ in 0..2 {
        assert_eq!(ask("corrupt"), (Some(0), "200".to_owned(), false));
    }
    let name = format!("fault.test:{REGISTRY_PORT}/plain/f");
    let mut engines = Engines::new(host, Way::Native);
    let got = engines.pull(Client::Skopeo, &name, None).unwrap();
    assert_eq!(got, image.id());
}
