//! The token that makes hosts a cluster: who holds it belongs.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::{ambient, private_file};

/// The name of the key's file in the data folder.
pub const KEY_FILE: &str = "cluster.key";
/// The variable that may hold the key itself.
pub const KEY_VARIABLE: &str = "DFNODE_CLUSTER_KEY";
/// Where a host's administrator may put the key.
pub const SYSTEM_KEY_FILE: &str = "/etc/dfnode/cluster.key";

/// What a token starts with, so that it is recognised in logs and by secret scanners.
const TOKEN_PREFIX: &str = "dfnode-cluster-key-1:";
const MAX_KEY_FILE_BYTES: u64 = 4096;

/// 256 random bits. Anyone who holds them is a member of the cluster.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; 32]);

impl Token {
    /// A new token.
    pub fn generate() -> Self {
        Self(ambient::random_bytes())
    }

    /// A key for one purpose. The token itself never leaves this module except as text.
    pub(crate) fn derive(&self, purpose: &str) -> [u8; 32] {
        blake3::derive_key(purpose, &self.0)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{TOKEN_PREFIX}{}", hex::encode(self.0))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The text is no token. It is not repeated here, as it may be a token with a typing mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseKeyError {
    /// There is nothing in it.
    #[error("no cluster key in it")]
    Empty,
    /// A line is no token.
    #[error("a cluster key looks like {TOKEN_PREFIX}… with 64 hexadecimal digits")]
    Malformed,
    /// There are more tokens than the current and the previous one.
    #[error("more than two cluster keys in it: only the current and the previous one count")]
    TooMany,
}

impl FromStr for Token {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text
            .strip_prefix(TOKEN_PREFIX)
            .ok_or(ParseKeyError::Malformed)?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| ParseKeyError::Malformed)?;
        Ok(Self(bytes))
    }
}

/// The tokens that this node accepts; it seals with the current one.
///
/// To change the key of a running cluster, give every node `old` then `new` on two lines, restart
/// them one by one, then `new` then `old`, and at last `new` alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterKeys {
    current: Token,
    previous: Option<Token>,
    open: bool,
}

impl ClusterKeys {
    /// One token and no other.
    pub const fn new(current: Token) -> Self {
        Self {
            current,
            previous: None,
            open: false,
        }
    }

    /// Accepts `previous` as well.
    #[must_use]
    pub fn with_previous(mut self, previous: Token) -> Self {
        self.previous = Some(previous);
        self
    }

    /// The key that everybody knows, for `--open`: no secret at all. The transport then refuses to
    /// talk to addresses that are not private.
    pub fn open() -> Self {
        Self {
            current: Token(blake3::derive_key("dfnode 1 open cluster", &[])),
            previous: None,
            open: true,
        }
    }

    /// Whether anybody can be a member.
    pub const fn is_open(&self) -> bool {
        self.open
    }

    /// The token that this node seals with.
    pub const fn current(&self) -> &Token {
        &self.current
    }

    /// All accepted tokens, the current one first.
    pub fn accepted(&self) -> impl Iterator<Item = &Token> {
        std::iter::once(&self.current).chain(self.previous.as_ref())
    }
}

impl FromStr for ClusterKeys {
    type Err = ParseKeyError;

    /// One or two tokens, divided by white space or a comma; lines that start with `#` are skipped.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut tokens = text
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'))
            .flat_map(|line| line.split(|c: char| c == ',' || c.is_whitespace()))
            .filter(|word| !word.is_empty())
            .map(str::parse::<Token>);
        let current = tokens.next().ok_or(ParseKeyError::Empty)??;
        let previous = tokens.next().transpose()?;
        if tokens.next().is_some() {
            return Err(ParseKeyError::TooMany);
        }
        Ok(Self {
            current,
            previous,
            open: false,
        })
    }
}

/// Where a key is looked for, in this order: `file`, `variable`, `data`, `system`.
#[derive(Clone, Debug)]
pub struct KeyLookup {
    /// `--cluster-key FILE`.
    pub file: Option<PathBuf>,
    /// The content of [`KEY_VARIABLE`].
    pub variable: Option<String>,
    /// The data folder.
    pub data: PathBuf,
    /// [`SYSTEM_KEY_FILE`], except in tests.
    pub system: PathBuf,
}

/// Where a key was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyOrigin {
    /// In this file.
    File(PathBuf),
    /// In [`KEY_VARIABLE`].
    Variable,
    /// Nowhere: it was made and lies in this file.
    Created(PathBuf),
}

/// Why there is no usable cluster key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("cannot use the cluster key {path}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file holds no key.
    #[error("the cluster key {path} is unusable")]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: ParseKeyError,
    },
    /// The variable holds no key.
    #[error("{KEY_VARIABLE} is unusable")]
    Variable(#[source] ParseKeyError),
}

impl KeyLookup {
    /// The usual places, with the environment of this process.
    pub fn new(file: Option<PathBuf>, data: &Path) -> Self {
        Self {
            file,
            variable: std::env::var(KEY_VARIABLE).ok(),
            data: data.to_owned(),
            system: PathBuf::from(SYSTEM_KEY_FILE),
        }
    }

    /// The first key found; `None` if there is none anywhere.
    ///
    /// # Errors
    ///
    /// If a place has something that is no key, or cannot be read: falling through to the next place
    /// would join another cluster than the one that was meant. A file named by `--cluster-key` must
    /// exist.
    pub fn find(&self) -> Result<Option<(ClusterKeys, KeyOrigin)>, KeyError> {
        if let Some(path) = &self.file {
            let missing = || KeyError::File {
                path: path.clone(),
                source: io::ErrorKind::NotFound.into(),
            };
            return read(path)?.ok_or_else(missing).map(Some);
        }
        if let Some(text) = self.variable.as_deref().filter(|text| !text.is_empty()) {
            let keys = text.parse().map_err(KeyError::Variable)?;
            return Ok(Some((keys, KeyOrigin::Variable)));
        }
        match read(&self.data.join(KEY_FILE))? {
            Some(found) => Ok(Some(found)),
            None => read(&self.system),
        }
    }

    /// The first key found, or a new one in the data folder.
    ///
    /// # Errors
    ///
    /// As [`find`](Self::find), and if the new key cannot be written.
    pub fn find_or_create(&self) -> Result<(ClusterKeys, KeyOrigin), KeyError> {
        if let Some(found) = self.find()? {
            return Ok(found);
        }
        let path = self.data.join(KEY_FILE);
        let token = Token::generate();
        match private_file::create(&path, format!("{token}\n").as_bytes()) {
            Ok(true) => Ok((ClusterKeys::new(token), KeyOrigin::Created(path))),
            // Another process was faster: its key is the cluster's key.
            Ok(false) => read(&path)?.ok_or_else(|| KeyError::File {
                path,
                source: io::ErrorKind::NotFound.into(),
            }),
            Err(source) => Err(KeyError::File { path, source }),
        }
    }
}

fn read(path: &Path) -> Result<Option<(ClusterKeys, KeyOrigin)>, KeyError> {
    let file_error = |source| KeyError::File {
        path: path.to_owned(),
        source,
    };
    let text = match private_file::read(path, MAX_KEY_FILE_BYTES) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(file_error(error)),
    };
    let mode = private_file::others_may(path).map_err(file_error)?;
    if mode & 0o007 != 0 {
        // Not refused: a secret mounted into a container is often readable by all in it.
        tracing::warn!(path = %path.display(), mode = format!("{mode:03o}"), "every user of this host may read the cluster key");
    }
    let keys = text.parse().map_err(|source| KeyError::Content {
        path: path.to_owned(),
        source,
    })?;
    Ok(Some((keys, KeyOrigin::File(path.to_owned()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Places {
        root: tempfile::TempDir,
        lookup: KeyLookup,
    }

    fn places() -> Places {
        let root = tempfile::tempdir().unwrap();
        let data = root.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let lookup = KeyLookup {
            file: None,
            variable: None,
            data,
            system: root.path().join("system.key"),
        };
        Places { root, lookup }
    }

    fn keys(byte: u8) -> ClusterKeys {
        ClusterKeys::new(Token([byte; 32]))
    }

    fn put(path: &Path, byte: u8) {
        private_file::replace(path, Token([byte; 32]).to_string().as_bytes()).unwrap();
    }

    #[test]
    fn the_places_are_asked_in_their_order() {
        let Places { root, mut lookup } = places();
        let found = |lookup: &KeyLookup| lookup.find().unwrap().map(|(keys, _)| keys);
        assert_eq!(found(&lookup), None);
        put(&lookup.system, 4);
        assert_eq!(found(&lookup), Some(keys(4)));
        put(&lookup.data.join(KEY_FILE), 3);
        assert_eq!(found(&lookup), Some(keys(3)));
        lookup.variable = Some(Token([2; 32]).to_string());
        assert_eq!(found(&lookup), Some(keys(2)));
        let file = root.path().join("mine.key");
        lookup.file = Some(file.clone());
        assert!(matches!(lookup.find(), Err(KeyError::File { .. })));
        put(&file, 1);
        assert_eq!(found(&lookup), Some(keys(1)));
    }

    #[test]
    fn a_place_with_rubbish_is_never_passed_over() {
        let Places {
            root: _root,
            lookup,
        } = places();
        put(&lookup.system, 4);
        private_file::replace(&lookup.data.join(KEY_FILE), b"rubbish").unwrap();
        assert!(matches!(lookup.find(), Err(KeyError::Content { .. })));
        assert!(lookup.find_or_create().is_err());
    }

    #[test]
    fn a_created_key_is_found_again() {
        let Places {
            root: _root,
            lookup,
        } = places();
        let (made, origin) = lookup.find_or_create().unwrap();
        let path = lookup.data.join(KEY_FILE);
        assert_eq!(origin, KeyOrigin::Created(path.clone()));
        assert_eq!(
            lookup.find_or_create().unwrap(),
            (made, KeyOrigin::File(path))
        );
    }

    #[test]
    fn the_text_form_goes_both_ways_and_debug_hides_the_token() {
        let token = Token::generate();
        assert_eq!(token.to_string().parse::<Token>().unwrap(), token);
        assert!(!format!("{:?}", ClusterKeys::new(token.clone())).contains(&hex::encode(token.0)));
    }

    #[test]
    fn a_second_token_is_the_previous_one() {
        let (new, old) = (Token([1; 32]), Token([2; 32]));
        let text = format!("# rotated on Monday\n{new}\n  {old}\n");
        let keys: ClusterKeys = text.parse().unwrap();
        assert_eq!(
            keys,
            ClusterKeys::new(new.clone()).with_previous(old.clone())
        );
        assert_eq!(keys.accepted().collect::<Vec<_>>(), [&new, &old]);
        let three = format!("{new},{old},{new}");
        assert_eq!(three.parse::<ClusterKeys>(), Err(ParseKeyError::TooMany));
        assert_eq!(
            "# nothing".parse::<ClusterKeys>(),
            Err(ParseKeyError::Empty)
        );
    }
}
