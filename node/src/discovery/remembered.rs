//! The members of the last run, so that a restart needs neither `--join` nor luck.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use crate::private_file;

/// The name of the file in the data folder.
pub const MEMBERS_FILE: &str = "members";
/// Addresses kept. A few members suffice to find all others.
pub const MAX_REMEMBERED: usize = 256;

const HEADER: &str = "dfnode members 1";
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// The remembered addresses, best first; none if there is no file or it is damaged.
pub fn load(data: &Path) -> Vec<SocketAddr> {
    let path = data.join(MEMBERS_FILE);
    let text = match private_file::read(&path, MAX_FILE_BYTES) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the remembered members are lost");
            return Vec::new();
        }
    };
    let mut lines = text.lines();
    if lines.next() != Some(HEADER) {
        tracing::warn!(path = %path.display(), "the remembered members are of another format");
        return Vec::new();
    }
    lines
        .filter_map(|line| line.parse().ok())
        .take(MAX_REMEMBERED)
        .collect()
}

/// Remembers the first [`MAX_REMEMBERED`] of `addrs`. Blocks on the disk.
///
/// # Errors
///
/// If the file cannot be written; the former one is then as it was.
pub fn save(data: &Path, addrs: &[SocketAddr]) -> io::Result<()> {
    let lines = addrs.iter().take(MAX_REMEMBERED).map(ToString::to_string);
    let text: Vec<String> = std::iter::once(HEADER.to_owned()).chain(lines).collect();
    private_file::replace(
        &data.join(MEMBERS_FILE),
        (text.join("\n") + "\n").as_bytes(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_loaded_in_its_order() {
        let data = tempfile::tempdir().unwrap();
        assert_eq!(load(data.path()), []);
        let addrs: Vec<SocketAddr> = (1..=300)
            .rev()
            .map(|port| ([10, 0, 0, 1], port).into())
            .collect();
        save(data.path(), &addrs).unwrap();
        assert_eq!(load(data.path()), addrs[..MAX_REMEMBERED]);
    }

    #[test]
    fn damage_costs_what_is_damaged() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join(MEMBERS_FILE);
        std::fs::write(
            &path,
            format!("{HEADER}\n10.0.0.1:1\nrubbish\n10.0.0.2:1\n"),
        )
        .unwrap();
        assert_eq!(load(data.path()).len(), 2);
        std::fs::write(&path, b"\xff\xfe").unwrap();
        assert_eq!(load(data.path()), []);
        std::fs::write(&path, "10.0.0.1:1\n").unwrap();
        assert_eq!(load(data.path()), []);
    }
}
