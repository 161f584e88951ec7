//! Images made of noise, written straight into a registry's storage.
//!
//! Nothing is pulled from anywhere, and what a client must end up with is known before it asks.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use serde_json::{Value, json};

use crate::files::{noise, sha256};

const MIB: usize = 1 << 20;
const KIB: usize = 1 << 10;
/// The layers of the image that benchmarks pull, 211 MB on the wire.
pub(crate) const BIG: [usize; 5] = [120 * MIB, 40 * MIB, 20 * MIB, 15 * MIB, 5 * MIB];
/// The same shape in a size for tests.
pub(crate) const SMALL_BIG: [usize; 5] = [5 * MIB, 2 * MIB, MIB, 600 * KIB, 200 * KIB];
/// Many small layers.
pub(crate) const MANY: [usize; 20] = [100 * KIB; 20];

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A blob of a registry.
#[derive(Clone, Debug)]
pub(crate) struct Blob {
    /// `sha256:HEX`.
    pub(crate) digest: String,
    /// How long it is.
    pub(crate) bytes: usize,
}

impl Blob {
    /// The digest without the name of its algorithm.
    pub(crate) fn hex(&self) -> &str {
        self.digest.trim_start_matches("sha256:")
    }

    fn descriptor(&self, media_type: &str) -> Value {
        json!({"mediaType": media_type, "size": self.bytes, "digest": self.digest})
    }
}

/// A layer: the blob that travels, and the digest of what it unpacks to.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    pub(crate) blob: Blob,
    diff_id: String,
}

/// An image that lies in the storage.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    /// The manifest, or the index that leads to it: what a tag names.
    pub(crate) top: Blob,
    /// The configuration, whose digest is the id under which engines know the image.
    pub(crate) config: Blob,
    /// Its layers, the lowest first.
    pub(crate) layers: Vec<Layer>,
}

impl Image {
    /// The id under which docker, podman and CRI know it, `sha256:HEX`.
    pub(crate) fn id(&self) -> &str {
        &self.config.digest
    }

    /// Its layers and its configuration.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = &Blob> {
        let layers = self.layers.iter().map(|layer| &layer.blob);
        layers.chain([&self.config])
    }

    /// One copy of it on the wire, without manifests and headers.
    pub(crate) fn wire_bytes(&self) -> u64 {
        self.blobs().map(|blob| blob.bytes as u64).sum()
    }
}

/// The folder that registries serve. Its layout is the one of docker-registry's `filesystem` driver.
pub(crate) struct Storage {
    dir: PathBuf,
}

impl Storage {
    /// An empty one in `dir`.
    pub(crate) fn create(dir: &Path) -> Self {
        let dir = dir.to_owned();
        fs::create_dir_all(&dir).unwrap();
        Self { dir }
    }

    /// What docker-registry calls its root directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file behind the blob `digest`.
    pub(crate) fn file(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        self.v2()
            .join("blobs/sha256")
            .join(&hex[..2])
            .join(hex)
            .join("data")
    }

    /// The bytes of the blob `digest`.
    pub(crate) fn read(&self, digest: &str) -> Vec<u8> {
        fs::read(self.file(digest)).unwrap()
    }

    /// The digest that `repository:latest` names.
    pub(crate) fn tagged(&self, repository: &str) -> Option<String> {
        let tag = self.repository(repository).join("_manifests/tags/latest");
        fs::read_to_string(tag.join("current/link")).ok()
    }

    /// Makes layers of `sizes` bytes of noise; `seed` says which noise.
    pub(crate) fn layers(&self, seed: u64, sizes: &[usize]) -> Vec<Layer> {
        let make = |(place, size): (u64, &usize)| {
            let name = format!("noise-{seed}-{place}");
            let tar = tar_of(&name, &noise(seed * 1000 + place, *size));
            Layer {
                diff_id: format!("sha256:{}", sha256(&tar)),
                blob: self.put(&gzipped(tar)),
            }
        };
        (0..).zip(sizes).map(make).collect()
    }

    /// Makes an image of `layers` and gives it the name `repository:latest`.
    pub(crate) fn image(&self, repository: &str, layers: Vec<Layer>) -> Image {
        let config = self.config("amd64", &layers);
        let top = self.manifest(repository, (MANIFEST, CONFIG, LAYER), &config, &layers);
        self.tag(repository, &top);
        Image {
            top,
            config,
            layers,
        }
    }

    /// Makes an OCI index with an image for each of two architectures; the one for this lab's engines
    /// (they run on `ours`, in Go's words) is returned.
    pub(crate) fn multi_arch(&self, repository: &str, ours: &str, layers: Vec<Layer>) -> Image {
        let types = (OCI_MANIFEST, OCI_CONFIG, OCI_LAYER);
        let other_layers = self.layers(77, &[30 * KIB]);
        let other = self.config("s390x", &other_layers);
        let other = self.manifest(repository, types, &other, &other_layers);
        let config = self.config(ours, &layers);
        let manifest = self.manifest(repository, types, &config, &layers);
        let entry = |blob: &Blob, architecture: &str| {
            let mut entry = blob.descriptor(OCI_MANIFEST);
            entry["platform"] = json!({"architecture": architecture, "os": "linux"});
            entry
        };
        let index = json!({
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [entry(&other, "s390x"), entry(&manifest, ours)],
        });
        let top = self.put(index.to_string().as_bytes());
        self.link_manifest(repository, &top);
        self.tag(repository, &top);
        Image {
            top,
            config,
            layers,
        }
    }

    fn config(&self, architecture: &str, layers: &[Layer]) -> Blob {
        let diff_ids: Vec<_> = layers.iter().map(|layer| &layer.diff_id).collect();
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "config": {"Cmd": ["/noise"]},
            "created": "2026-01-01T00:00:00Z",
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": vec![json!({"created": "2026-01-01T00:00:00Z"}); layers.len()],
        });
        self.put(config.to_string().as_bytes())
    }

    /// Writes a manifest of the three media types (manifest, configuration, layer).
    fn manifest(
        &self,
        repository: &str,
        (manifest, config_type, layer_type): (&str, &str, &str),
        config: &Blob,
        layers: &[Layer],
    ) -> Blob {
        let descriptors: Vec<_> = layers
            .iter()
            .map(|layer| layer.blob.descriptor(layer_type))
            .collect();
        let text = json!({
            "schemaVersion": 2,
            "mediaType": manifest,
            "config": config.descriptor(config_type),
            "layers": descriptors,
        });
        for blob in layers.iter().map(|layer| &layer.blob).chain([config]) {
            let layers = self.repository(repository).join("_layers/sha256");
            link(&layers.join(blob.hex()), blob);
        }
        let manifest = self.put(text.to_string().as_bytes());
        self.link_manifest(repository, &manifest);
        manifest
    }

    fn link_manifest(&self, repository: &str, manifest: &Blob) {
        let revisions = self
            .repository(repository)
            .join("_manifests/revisions/sha256");
        link(&revisions.join(manifest.hex()), manifest);
    }

    fn tag(&self, repository: &str, manifest: &Blob) {
        let tag = self.repository(repository).join("_manifests/tags/latest");
        link(&tag.join("current"), manifest);
        link(&tag.join("index/sha256").join(manifest.hex()), manifest);
    }

    fn put(&self, bytes: &[u8]) -> Blob {
        let digest = format!("sha256:{}", sha256(bytes));
        let file = self.file(&digest);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
        Blob {
            digest,
            bytes: bytes.len(),
        }
    }

    fn repository(&self, name: &str) -> PathBuf {
        self.v2().join("repositories").join(name)
    }

    fn v2(&self) -> PathBuf {
        self.dir.join("docker/registry/v2")
    }
}

/// Says in `folder` which blob is meant.
fn link(folder: &Path, blob: &Blob) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("link"), &blob.digest).unwrap();
}

const TAR_BLOCK: usize = 512;

/// A tar archive with one file in it.
fn tar_of(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = [0; TAR_BLOCK];
    let mut field =
        |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    field(0, name);
    field(100, "0000644\0");
    field(108, "0000000\0");
    field(116, "0000000\0");
    field(124, &format!("{:011o}\0", content.len()));
    field(136, "00000000000\0");
    // While the checksum is computed, its field counts as blanks.
    field(148, "        ");
    field(156, "0");
    field(257, "ustar\x0000");
    let sum: u32 = header.iter().copied().map(u32::from).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut tar = header.to_vec();
    tar.extend_from_slice(content);
    let padded = tar.len().next_multiple_of(TAR_BLOCK) + 2 * TAR_BLOCK;
    tar.resize(padded, 0);
    tar
}

/// `content` as gzip writes it, without the time of day.
fn gzipped(content: Vec<u8>) -> Vec<u8> {
    let mut gzip = Command::new("gzip")
        .args(["-1", "-n", "-c"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut into = gzip.stdin.take().unwrap();
    let feed = thread::spawn(move || into.write_all(&content).unwrap());
    let output = gzip.wait_with_output().unwrap();
    feed.join().unwrap();
    assert!(output.status.success(), "gzip: {:?}", output.status);
    output.stdout
}
