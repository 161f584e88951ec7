//! What a member says about itself besides where it is.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The most bytes of text a [`Zone`] holds. It rides in every gossip packet.
pub const MAX_ZONE_BYTES: usize = 15;

/// Where a node stands, as its operator calls it: a rack, a hall, a data centre. May be empty.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Zone {
    length: u8,
    bytes: [u8; MAX_ZONE_BYTES],
}

/// Why a text names no zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidZone {
    /// It is longer than [`MAX_ZONE_BYTES`].
    #[error("a zone's name has at most {MAX_ZONE_BYTES} bytes")]
    TooLong,
    /// It has control characters, which a terminal would obey.
    #[error("a zone's name has no control characters")]
    Control,
}

impl Zone {
    /// A zone called `name`.
    ///
    /// # Errors
    ///
    /// If `name` is longer than [`MAX_ZONE_BYTES`] or has control characters.
    pub fn try_new(name: &str) -> Result<Self, InvalidZone> {
        if name.chars().any(char::is_control) {
            return Err(InvalidZone::Control);
        }
        let mut bytes = [0; MAX_ZONE_BYTES];
        bytes
            .get_mut(..name.len())
            .ok_or(InvalidZone::TooLong)?
            .copy_from_slice(name.as_bytes());
        let length = u8::try_from(name.len()).map_err(|_| InvalidZone::TooLong)?;
        Ok(Self { length, bytes })
    }

    /// The zone's name.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.bytes[..usize::from(self.length)]).unwrap_or_default()
    }

    /// Whether the operator named no zone.
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Zone({})", self.as_str())
    }
}

impl Serialize for Zone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::try_new(&name).map_err(D::Error::custom)
    }
}

/// What a member tells the others about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Labels {
    /// Where the node stands. Default: empty.
    pub zone: Zone,
    /// How much of the work the node takes, in percent of a usual node. Default: 100.
    pub weight: u8,
    /// The node fetches but never uploads. Default: no.
    pub leech: bool,
}

impl Default for Labels {
    fn default() -> Self {
        Self {
            zone: Zone::default(),
            weight: 100,
            leech: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_bounded_and_keeps_its_text() {
        assert_eq!(Zone::try_new("").unwrap(), Zone::default());
        assert!(Zone::default().is_empty());
        assert_eq!(Zone::try_new("halle-süd").unwrap().as_str(), "halle-süd");
        assert_eq!(
            Zone::try_new("0123456789abcde").unwrap().to_string().len(),
            15
        );
        assert_eq!(Zone::try_new("0123456789abcdef"), Err(InvalidZone::TooLong));
    }
    #[test]
    fn a_zone_says_nothing_to_a_terminal_not_even_one_from_the_wire() {
        use serde::de::IntoDeserializer as _;
        use serde::de::value::{Error, StrDeserializer};

        for name in ["\x1b[2J", "a\nb", "\u{9b}1m", "\x7f", "\0"] {
            assert_eq!(Zone::try_new(name), Err(InvalidZone::Control));
            let wire: StrDeserializer<'_, Error> = name.into_deserializer();
            assert!(Zone::deserialize(wire).is_err(), "{name:?}");
        }
    }
}
