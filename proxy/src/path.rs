//! The paths of a registry, as the distribution specification has them.

use dfnode_tracker::Digest;

/// The longest name of a repository.
const MAX_NAME_BYTES: usize = 512;
/// The longest tag or digest that names a manifest.
const MAX_REFERENCE_BYTES: usize = 256;

/// What a path of a registry names. Only names that every registry understands alike are known: a path that one side
/// could read in another way is no one's blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Named {
    /// `/v2/NAME/blobs/sha256:HEX`
    Blob { repository: String, digest: Digest },
    /// `/v2/NAME/manifests/REFERENCE`
    Manifest { repository: String },
}

/// Reads a path, which has no query.
pub(crate) fn read(path: &str) -> Option<Named> {
    let rest = path.strip_prefix("/v2/")?;
    let (front, last) = rest.rsplit_once('/')?;
    let (name, kind) = front.rsplit_once('/')?;
    let repository = is_repository(name).then(|| name.to_owned())?;
    match kind {
        "blobs" => {
            let digits = last.strip_prefix("sha256:")?;
            // One spelling only: the registry's.
            let is_plain = digits
                .bytes()
                .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
            let digest = is_plain.then(|| last.parse().ok())??;
            Some(Named::Blob { repository, digest })
        }
        "manifests" => is_reference(last).then_some(Named::Manifest { repository }),
        _ => None,
    }
}

fn is_repository(name: &str) -> bool {
    let is_part = |part: &str| {
        let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let (first, last) = (part.bytes().next(), part.bytes().last());
        first.is_some_and(is_word)
            && last.is_some_and(is_word)
            && part
                .bytes()
                .all(|byte| is_word(byte) || matches!(byte, b'.' | b'_' | b'-'))
    };
    name.len() <= MAX_NAME_BYTES && name.split('/').all(is_part)
}

/// Whether `text` is a tag or a digest. Nothing in either can be read as more than one part of a path.
fn is_reference(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let is_sign = |byte: u8| matches!(byte, b'.' | b'-' | b':' | b'+' | b'=');
    text.len() <= MAX_REFERENCE_BYTES
        && text.bytes().next().is_some_and(is_word)
        && text.bytes().all(|byte| is_word(byte) || is_sign(byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn blobs_and_manifests_are_known() {
        let digest = format!("sha256:{HEX}").parse().unwrap();
        assert_eq!(
            read(&format!("/v2/library/a_b/c.d/blobs/sha256:{HEX}")),
            Some(Named::Blob {
                repository: "library/a_b/c.d".to_owned(),
                digest
            })
        );
        for reference in ["latest", "_V1.2-rc", &format!("sha256:{HEX}")] {
            assert_eq!(
                read(&format!("/v2/a/manifests/{reference}")),
                Some(Named::Manifest {
                    repository: "a".to_owned()
                })
            );
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_nothing() {
        for path in [
            format!("/v2/a/../b/blobs/sha256:{HEX}"),
            format!("/v2/a//b/blobs/sha256:{HEX}"),
            format!("/v2//blobs/sha256:{HEX}"),
            format!("/v2/a%2fb/blobs/sha256:{HEX}"),
            format!("/v2/A/blobs/sha256:{HEX}"),
            format!("/v2/a/blobs/sha256:{}", HEX.to_uppercase()),
            format!("/v2/a/blobs/sha256:{HEX}/"),
            "/v2/a/blobs/sha256:12".to_owned(),
            "/v2/a/blobs/uploads/".to_owned(),
            "/v2/a/manifests/".to_owned(),
            "/v2/a/manifests/..".to_owned(),
            "/v2/a/manifests/%2e%2e%2f%2e%2e%2fb%2fmanifests%2fx".to_owned(),
            "/v2/".to_owned(),
            "/".to_owned(),
        ] {
            assert_eq!(read(&path), None, "{path}");
        }
    }

    proptest! {
        #[test]
        fn no_path_panics(path in "(/v2/)?[a-z/.:%]{0,60}") {
            let _ = read(&path);
        }
    }
}
