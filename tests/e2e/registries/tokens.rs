//! Who may do what at the registries that want tokens, and the tokens that say so.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

/// Who signs, as registries and tokens spell it.
pub(crate) const ISSUER: &str = "dfnode lab tokens";
/// How long a token holds.
pub(super) const LIFETIME_SECS: u64 = 300;

/// Somebody with a password, which nothing but the registries may ever see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: &'static str,
    pub(crate) password: &'static str,
}

/// May do everything.
pub(crate) const ALICE: User = User {
    name: "alice",
    password: "alices-password-2f9c1e",
};
/// May pull what everybody may.
pub(crate) const BOB: User = User {
    name: "bob",
    password: "bobs-password-77d0ab",
};
/// Where only Alice may go.
const PRIVATE: &str = "private/";

/// The user who knows that password.
pub(super) fn user(name: &str, password: &str) -> Option<User> {
    let mut known = [ALICE, BOB].into_iter();
    known.find(|user| user.name == name && user.password == password)
}

/// The user in a `Basic` credential; `Err` when there is one and it is wrong.
pub(super) fn basic(header: Option<&str>) -> Result<Option<User>, ()> {
    let Some(encoded) = header.and_then(|text| text.strip_prefix("Basic ")) else {
        return Ok(None);
    };
    let decoded = STANDARD.decode(encoded).map_err(|_| ())?;
    let text = String::from_utf8(decoded).map_err(|_| ())?;
    let (name, password) = text.split_once(':').ok_or(())?;
    user(name, password).map(Some).ok_or(())
}

/// A `Basic` credential.
pub(crate) fn basic_header(name: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
}

/// What of a scope (`repository:NAME:ACTION,ACTION`) `user` is granted.
fn granted(user: Option<User>, scope: &str) -> Option<Value> {
    let (kind, rest) = scope.split_once(':')?;
    let (name, actions) = rest.rsplit_once(':')?;
    let may = |action: &str| match user {
        Some(user) if user == ALICE => true,
        _ => action == "pull" && !name.starts_with(PRIVATE),
    };
    let actions: Vec<_> = actions.split(',').filter(|action| may(action)).collect();
    (kind == "repository").then(|| json!({"type": kind, "name": name, "actions": actions}))
}

/// Signs tokens as docker-registry verifies them.
pub(super) struct Signer {
    key: EcdsaKeyPair,
    /// The certificate, in the token's own encoding.
    certificate: String,
}

impl Signer {
    /// Signs with the certificate and key in these files.
    pub(super) fn load(certificate: &Path, key: &Path) -> Self {
        let key = PrivateKeyDer::from_pem_file(key).unwrap();
        let certificate = CertificateDer::from_pem_file(certificate).unwrap();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        Self {
            key: EcdsaKeyPair::from_pkcs8(algorithm, key.secret_der(), &SystemRandom::new())
                .unwrap(),
            certificate: STANDARD.encode(&certificate),
        }
    }

    /// A token that lets `user` do at `service` what the scopes ask for and the user may.
    pub(super) fn token(&self, user: Option<User>, service: &str, scopes: &[String]) -> String {
        let now = unix_secs();
        let asked = scopes.iter().flat_map(|scope| scope.split(' '));
        let access: Vec<_> = asked.filter_map(|scope| granted(user, scope)).collect();
        let header = json!({"typ": "JWT", "alg": "ES256", "x5c": [self.certificate]});
        let claims = json!({
            "iss": ISSUER,
            "sub": user.map_or("", |user| user.name),
            "aud": service,
            "iat": now,
            "nbf": now - 60,
            "exp": now + LIFETIME_SECS,
            "jti": nonce(),
            "access": access,
        });
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(signature.unwrap());
        format!("{signed}.{signature}")
    }
}

pub(super) fn unix_secs() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// Something that nobody can guess and that never comes again.
pub(super) fn nonce() -> String {
    let mut bytes = [0; 16];
    fs::File::open("/dev/urandom")
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut bytes))
        .unwrap();
    hex::encode(bytes)
}

#[test]
fn bob_is_not_granted_what_is_private_and_nobody_but_alice_may_push() {
    let pull = |name: &str| format!("repository:{name}:pull,push");
    let actions = |user, name: &str| granted(user, &pull(name)).unwrap()["actions"].clone();
    assert_eq!(actions(Some(ALICE), "private/a"), json!(["pull", "push"]));
    assert_eq!(actions(Some(BOB), "private/a"), json!([]));
    assert_eq!(actions(None, "test/a"), json!(["pull"]));
}
