//! Who this node is: an ed25519 key that outlives restarts.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use dfnode_gossip::PeerId;
use libp2p::identity::{Keypair, PublicKey};

use crate::{ambient, private_file};

/// The name of the key's file in the data folder.
pub const KEY_FILE: &str = "node.key";

/// What stands before the secret in the file, so that a later format can be told apart.
const KEY_PREFIX: &str = "dfnode-node-key-1:";
const MAX_KEY_FILE_BYTES: u64 = 1024;

/// The node's key pair and the name that follows from it.
#[derive(Clone)]
pub struct Identity {
    keypair: Keypair,
    peer: PeerId,
}

/// Why the node has no identity. Nothing was changed on disk.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The key cannot be read or written. Mend the folder's permissions.
    #[error("cannot use the node key {path}")]
    File {
        /// Where the key lies or should lie.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Others may read the key and so pass for this node. `chmod 600` it, or delete it for a new one.
    #[error("the node key {path} may be used by others (mode {mode:03o}, must be 600)")]
    NotPrivate {
        /// Where the key lies.
        path: PathBuf,
        /// Its permission bits for group and others.
        mode: u32,
    },
    /// The file holds no key. Restore it, or delete it: the node then gets a new identity.
    #[error("the node key {path} is damaged: restore it, or delete it to get a new identity")]
    Damaged {
        /// Where the file lies.
        path: PathBuf,
    },
}

impl Identity {
    /// A new identity that is nowhere on disk.
    pub fn generate() -> Self {
        Self::from_secret(ambient::random_bytes())
    }

    /// The identity whose ed25519 secret is `secret`.
    pub fn from_secret(secret: [u8; 32]) -> Self {
        let keypair = Keypair::ed25519_from_bytes(secret)
            .expect("every 32 bytes are the secret of an ed25519 key");
        let peer = raw_key(&keypair.public()).expect("the key is of the ed25519 kind");
        Self { keypair, peer }
    }

    /// Reads the identity in folder `data`, or makes one there.
    ///
    /// # Errors
    ///
    /// If the file cannot be used, is open to others or is damaged; it is never overwritten.
    pub fn load_or_create(data: &Path) -> Result<Self, IdentityError> {
        let path = data.join(KEY_FILE);
        if let Some(identity) = Self::load(&path)? {
            return Ok(identity);
        }
        let secret: [u8; 32] = ambient::random_bytes();
        let text = format!("{KEY_PREFIX}{}\n", hex::encode(secret));
        match private_file::create(&path, text.as_bytes()) {
            Ok(true) => Ok(Self::from_secret(secret)),
            // Another process was faster: its key is this node's key.
            Ok(false) => Self::load(&path)?.ok_or(IdentityError::Damaged { path }),
            Err(source) => Err(IdentityError::File { path, source }),
        }
    }

    fn load(path: &Path) -> Result<Option<Self>, IdentityError> {
        let file_error = |source| IdentityError::File {
            path: path.to_owned(),
            source,
        };
        let damaged = || IdentityError::Damaged {
            path: path.to_owned(),
        };
        let text = match private_file::read(path, MAX_KEY_FILE_BYTES) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(damaged()),
            Err(error) => return Err(file_error(error)),
        };
        let mode = private_file::others_may(path).map_err(file_error)?;
        if mode != 0 {
            return Err(IdentityError::NotPrivate {
                path: path.to_owned(),
                mode,
            });
        }
        let mut secret = [0; 32];
        let digits = text.trim().strip_prefix(KEY_PREFIX).ok_or_else(damaged)?;
        hex::decode_to_slice(digits, &mut secret).map_err(|_| damaged())?;
        Ok(Some(Self::from_secret(secret)))
    }

    /// This node's name.
    pub const fn peer(&self) -> PeerId {
        self.peer
    }

    /// The key pair as libp2p has it, for its certificates and its mDNS.
    pub const fn keypair(&self) -> &Keypair {
        &self.keypair
    }

    /// A secret for one use that is the same after every restart.
    pub(crate) fn secret_for(&self, purpose: &'static str) -> [u8; 32] {
        let keypair = self.keypair.clone().try_into_ed25519();
        let keypair = keypair.expect("it was made as an ed25519 key");
        blake3::derive_key(purpose, keypair.secret().as_ref())
    }

    /// Signs `bytes`; anyone who knows the [`PeerId`] can verify.
    pub fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        self.keypair
            .sign(bytes)
            .ok()
            .and_then(|signature| signature.try_into().ok())
            .expect("an ed25519 key always signs, with 64 bytes")
    }
}

/// The name behind a libp2p peer id; `None` if its key is of another kind than ed25519.
pub fn peer_of(peer: &libp2p::PeerId) -> Option<PeerId> {
    // An ed25519 key is short enough for libp2p to put it into the id itself.
    let public = PublicKey::try_decode_protobuf(peer.as_ref().digest()).ok()?;
    raw_key(&public)
}

/// The libp2p peer id of `peer`; `None` if its bytes are no point on the curve.
pub fn libp2p_peer_of(peer: &PeerId) -> Option<libp2p::PeerId> {
    let key = libp2p::identity::ed25519::PublicKey::try_from_bytes(peer.as_bytes()).ok()?;
    Some(PublicKey::from(key).to_peer_id())
}

fn raw_key(public: &PublicKey) -> Option<PeerId> {
    let key = public.clone().try_into_ed25519().ok()?;
    Some(PeerId::from_bytes(key.to_bytes()))
}

impl fmt::Debug for Identity {
    /// Shows the name and never the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.peer).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use ed25519_dalek::{Signature, VerifyingKey};

    use super::*;

    #[test]
    fn an_identity_outlives_a_restart() {
        let data = tempfile::tempdir().unwrap();
        let first = Identity::load_or_create(data.path()).unwrap();
        let second = Identity::load_or_create(data.path()).unwrap();
        assert_eq!(first.peer(), second.peer());
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let data = tempfile::tempdir().unwrap();
        Identity::load_or_create(data.path()).unwrap();
        let path = data.path().join(KEY_FILE);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = Identity::load_or_create(data.path()).unwrap_err();
        assert!(
            matches!(error, IdentityError::NotPrivate { mode: 0o040, .. }),
            "{error}"
        );
    }

    #[test]
    fn a_damaged_key_is_refused_and_kept() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join(KEY_FILE);
        for text in [&b""[..], b"dfnode-node-key-1:00", b"hello", b"\xff\xff"] {
            private_file::replace(&path, text).unwrap();
            let error = Identity::load_or_create(data.path()).unwrap_err();
            assert!(matches!(error, IdentityError::Damaged { .. }), "{error}");
            assert_eq!(std::fs::read(&path).unwrap(), text);
        }
    }

    #[test]
    fn a_signature_verifies_under_the_name() {
        let identity = Identity::from_secret([7; 32]);
        let signature = Signature::from_bytes(&identity.sign(b"piece"));
        let key = VerifyingKey::from_bytes(identity.peer().as_bytes()).unwrap();
        assert!(key.verify_strict(b"piece", &signature).is_ok());
        assert!(key.verify_strict(b"other", &signature).is_err());
    }

    #[test]
    fn the_names_convert_both_ways() {
        let identity = Identity::generate();
        let libp2p = identity.keypair().public().to_peer_id();
        assert_eq!(peer_of(&libp2p), Some(identity.peer()));
        assert_eq!(libp2p_peer_of(&identity.peer()), Some(libp2p));
    }
}
