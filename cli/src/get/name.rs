//! The name of the file, where nobody gave one.

use std::path::PathBuf;

use url::Url;

/// The name of what a URL that ends in a slash shows.
const INDEX: &str = "index.html";

/// The longest name that every usual file system takes, less what a name for the time of the download adds.
const MAX_NAME_BYTES: usize = 200;

/// The last part of the URL's path, made a plain name: whatever the URL says, it names a file in the
/// current folder.
pub(super) fn of(url: &Url) -> PathBuf {
    let last = url
        .path_segments()
        .and_then(|mut parts| parts.next_back())
        .unwrap_or_default();
    let name: String = unescape(last)
        .chars()
        .map(|c| if is_plain(c) { c } else { '_' })
        .collect();
    match cut(&name) {
        "" | "." | ".." => PathBuf::from(INDEX),
        name => PathBuf::from(name),
    }
}

fn is_plain(c: char) -> bool {
    !c.is_control() && !"/\\\u{fffd}".contains(c)
}

fn cut(name: &str) -> &str {
    &name[..name.floor_char_boundary(MAX_NAME_BYTES)]
}

/// Turns `%41` into `A`; what is no text then becomes the replacement character.
pub(super) fn unescape(part: &str) -> String {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = after
            .first_chunk()
            .filter(|_| byte == b'%')
            .copied()
            .and_then(unhex);
        bytes.push(escaped.unwrap_or(byte));
        rest = if escaped.is_some() {
            &after[2..]
        } else {
            after
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn unhex(digits: [u8; 2]) -> Option<u8> {
    let mut byte = [0];
    hex::decode_to_slice(digits, &mut byte).ok()?;
    Some(byte[0])
}

#[cfg(test)]
mod tests {
    use std::path::{Component, Path};

    use super::*;

    fn name(url: &str) -> String {
        of(&url.parse().unwrap()).display().to_string()
    }

    #[test]
    fn the_name_is_the_last_part_of_the_path() {
        assert_eq!(name("http://host/a/file.tar.gz?x=/y#z"), "file.tar.gz");
        assert_eq!(name("http://host/a%20b"), "a b");
        assert_eq!(name("http://host/%E4%BD%A0"), "你");
        assert_eq!(name("http://host/100%"), "100%");
    }

    #[test]
    fn a_folder_is_its_index() {
        for url in [
            "http://host",
            "http://host/",
            "http://host/a/",
            "http://host/?x",
            "http://host/a/..",
        ] {
            assert_eq!(name(url), INDEX, "{url}");
        }
    }

    #[test]
    fn no_url_names_a_file_elsewhere() {
        for part in [
            "..",
            "%2e%2e",
            "%2E.",
            ".",
            "..%2f..%2fetc%2fpasswd",
            "%2fetc%2fpasswd",
            "a%5c..%5cb",
            "%00",
            "%ff%0a",
        ] {
            let name = name(&format!("http://host/a/{part}"));
            let mut parts = Path::new(&name).components();
            assert!(
                matches!(parts.next(), Some(Component::Normal(_))),
                "{part}: {name}"
            );
            assert!(parts.next().is_none(), "{part}: {name}");
            assert!(!name.contains(['/', '\\', '\0', '\n']), "{part}: {name:?}");
        }
    }

    #[test]
    fn a_long_name_is_cut_between_letters() {
        let name = name(&format!("http://host/{}", "ä".repeat(500)));
        assert!(name.len() <= MAX_NAME_BYTES);
        assert!(name.chars().all(|c| c == 'ä'));
    }
}
