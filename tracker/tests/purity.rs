//! The machines stay pure: no runtime, no socket, no HTTP beneath them.

use std::process::Command;

/// What would bring a clock, a socket or a thread of its own.
const IMPURE: &[&str] = &[
    "tokio", "quinn", "libp2p", "reqwest", "hyper", "mio", "socket2",
];

#[test]
fn neither_gossip_nor_tracker_depends_on_a_runtime_or_a_socket() {
    for package in ["dfnode-gossip", "dfnode-tracker"] {
        let listed = Command::new(env!("CARGO"))
            .args([
                "tree",
                "--package",
                package,
                "--edges",
                "normal",
                "--prefix",
                "none",
                "--locked",
                "--offline",
            ])
            .output()
            .unwrap();
        assert!(
            listed.status.success(),
            "{}",
            String::from_utf8_lossy(&listed.stderr)
        );
        let tree = String::from_utf8(listed.stdout).unwrap();
        assert!(tree.starts_with(package), "{tree}");
        for line in tree.lines() {
            let name = line.split(' ').next().unwrap();
            assert!(!IMPURE.contains(&name), "{package} depends on {line}");
        }
    }
}
