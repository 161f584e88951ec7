//! What wins over what, and what is said about what is wrong.

use std::fs;

use clap::{CommandFactory, FromArgMatches};
use tempfile::TempDir;

use super::*;
use crate::args::{Cli, Command};
use crate::key::{self, Membership};

/// `dfnode run` with these words and this file; the file is in the folder that is the node's too.
fn load(folder: &TempDir, file: &str, words: &[&str]) -> Result<Settings, Failure> {
    let path = folder.path().join("dfnode.toml");
    fs::write(&path, file)?;
    let path = path.display().to_string();
    let data = folder.path().display().to_string();
    let words = [
        &["dfnode", "run", "--config", &path, "--data", &data],
        words,
    ]
    .concat();
    let matches = Cli::command().try_get_matches_from(words)?;
    let cli = Cli::from_arg_matches(&matches)?;
    let Command::Run(args) = cli.command else {
        panic!("a run")
    };
    Settings::load(&args, &cli.log, crate::leaf(&matches))
}

fn loaded(file: &str, words: &[&str]) -> Settings {
    load(&TempDir::new().unwrap(), file, words)
        .map_err(|failure| failure.error)
        .unwrap()
}

fn error(file: &str, words: &[&str]) -> String {
    let failure = load(&TempDir::new().unwrap(), file, words)
        .map(drop)
        .unwrap_err();
    assert_eq!(failure.exit, Exit::Usage);
    format!("{:#}", failure.error)
}

#[test]
fn what_is_typed_wins_over_the_file() {
    let settings = loaded(
        "zone = 'file'\nleech = true\n",
        &["--zone", "typed", "--log-level", "debug"],
    );
    assert_eq!(settings.said.zone.as_deref(), Some("typed"));
    assert_eq!(*settings.origin("zone"), Origin::Flag("--zone".to_owned()));
    assert_eq!(settings.said.leech, Some(true));
    assert!(matches!(settings.origin("leech"), Origin::File(_)));
    assert_eq!(
        *settings.origin("log-level"),
        Origin::Flag("--log-level".to_owned())
    );
    assert_eq!(*settings.origin("listen"), Origin::Default);
}

#[test]
fn a_list_that_is_typed_replaces_that_of_the_file() {
    let settings = loaded("join = ['a', 'b']", &["--join", "c", "--join", "d"]);
    let join: Vec<_> = settings.said.join.iter().map(ToString::to_string).collect();
    assert_eq!(join, ["c", "d"]);
}

#[test]
fn a_switch_can_be_turned_off_again() {
    assert_eq!(
        loaded("open = true", &["--open=false"]).said.open,
        Some(false)
    );
    assert_eq!(
        loaded("open = true", &["--no-mdns"]).said.no_mdns,
        Some(true)
    );
}

#[test]
fn every_flag_is_a_key_and_every_key_a_flag() {
    let every = "
        join = ['peer-a', 'peer-b:7000']
        join-file = '/a'
        no-mdns = true
        open = false
        cluster-key = '/k'
        data = '/d'
        listen = '[::]:7000'
        advertise = ['192.0.2.7']
        status = 'off'
        zone = 'z'
        leech = true
        total-limit = '40M'
        local-limit = '10M'
        cache-size = '50G'
        cache-ttl = '30d'
        proxy = '127.0.0.1:65001'
        registry = ['registry.example']
        proxy-rule = ['^https?://mirror[.]example/']
        prefetch = true
        mirror-upstream = 'https://registry.example'
        upstream-proxy = 'http://proxy.example:3128'
        upstream-direct = ['registry.example']
        source-concurrency = 4
        max-age = '30s'
        cacert = '/c'
        log-format = 'json'
        log-level = 'debug'
        ";
    let said = file::parse(Path::new("f"), every)
        .map_err(|failure| failure.error)
        .unwrap();
    let mut in_file: Vec<_> = table_of(&said)
        .map_err(|failure| failure.error)
        .unwrap()
        .keys()
        .cloned()
        .collect();
    let mut all = keys();
    in_file.sort();
    all.sort();
    assert_eq!(in_file, all);
}

#[test]
fn a_flag_of_get_is_a_key_of_its_own_part() {
    let file =
        "[get]\nlocal-limit = '10M'\ntimeout = '5m'\nfilter = 'a&b'\nquiet = true\nlinger = '1m'\n";
    let get = loaded(file, &[]).said.get.unwrap();
    assert_eq!(get.timeout.unwrap().0.as_secs(), 300);
    assert_eq!(get.filter.unwrap().0, ["a", "b"]);
}

#[test]
fn an_unknown_key_is_refused_with_its_line() {
    let error = error("zone = 'a'\nzoen = 'b'\n", &[]);
    assert!(
        error.contains("line 2") && error.contains("zoen") && error.contains("dfnode.toml"),
        "{error}"
    );
}

#[test]
fn a_value_that_makes_no_sense_is_refused_with_its_line() {
    for (file, word) in [
        ("\nlisten = 'here'", "line 2"),
        ("cache-size = '10 parsecs'", "parsecs"),
        ("join = ['http://peer-a']", "neither HOST"),
        ("source-concurrency = 0", "line 1"),
        ("leech = 'maybe'", "line 1"),
        ("[get]\ntimeout = 'soon'", "line 2"),
        ("= 1", "line 1"),
    ] {
        let error = error(file, &[]);
        assert!(error.contains(word), "{file}: {error}");
    }
}

#[test]
fn a_file_that_was_named_must_be_there() {
    let matches =
        Cli::command().get_matches_from(["dfnode", "run", "--config", "/nonexistent/dfnode.toml"]);
    let cli = Cli::from_arg_matches(&matches).unwrap();
    let Command::Run(args) = cli.command else {
        panic!("a run")
    };
    let failure = Settings::load(&args, &cli.log, crate::leaf(&matches))
        .map(drop)
        .unwrap_err();
    assert!(format!("{:#}", failure.error).contains("/nonexistent/dfnode.toml"));
}

#[test]
fn what_is_printed_names_every_origin_and_can_be_read_again() {
    let folder = TempDir::new().unwrap();
    let settings = load(
        &folder,
        "zone = 'z'\n[get]\nquiet = true\n",
        &["--join", "peer-a"],
    );
    let settings = settings.map_err(|failure| failure.error).unwrap();
    let defaults = defaults(&settings)
        .map_err(|failure| failure.error)
        .unwrap();
    let text = print::print(&settings, &defaults)
        .map_err(|failure| failure.error)
        .unwrap();
    let line = |start: &str| {
        text.lines()
            .find(|line| line.starts_with(start))
            .unwrap_or_default()
            .to_owned()
    };
    assert!(line("join = [\"peer-a\"]").ends_with("# --join"), "{text}");
    assert!(line("zone = ").ends_with("dfnode.toml"), "{text}");
    assert!(line("listen = ").ends_with("# default"), "{text}");
    assert_eq!(line("# total-limit"), "# total-limit is not set");
    let again = file::parse(Path::new("f"), &text)
        .map_err(|failure| failure.error)
        .unwrap();
    assert_eq!(again.join, settings.said.join);
    assert_eq!(again.get, settings.said.get);
}

#[test]
fn joining_without_a_key_says_what_to_copy_where() {
    let folder = TempDir::new().unwrap();
    let settings = load(&folder, "", &["--join", "peer-a"])
        .map_err(|failure| failure.error)
        .unwrap();
    let failure = key::membership(&settings).map(drop).unwrap_err();
    assert_eq!(failure.exit, Exit::Cluster);
    let text = failure.error.to_string();
    for word in [
        "dfnode key show",
        "--open",
        "--cluster-key",
        &folder.path().join("cluster.key").display().to_string(),
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
}

#[test]
fn a_node_that_stays_makes_a_key_and_one_that_does_not_is_alone() {
    let folder = TempDir::new().unwrap();
    let settings = load(&folder, "", &[])
        .map_err(|failure| failure.error)
        .unwrap();
    assert!(matches!(key::membership(&settings), Ok(Membership::Alone)));
    assert!(!folder.path().join("cluster.key").exists());
    assert!(matches!(
        key::membership_of_daemon(&settings),
        Ok(Membership::Keyed(..))
    ));
    assert!(folder.path().join("cluster.key").exists());
    assert!(matches!(
        key::membership(&settings),
        Ok(Membership::Keyed(..))
    ));
}

#[test]
fn the_node_of_a_download_takes_the_usual_port_from_nobody() {
    let port = |file: &str, role| {
        let config = crate::start::node_config(&loaded(file, &[]), Membership::Alone, role);
        config
            .map_err(|failure| failure.error)
            .unwrap()
            .listen
            .port()
    };
    assert_eq!(port("", Role::Daemon), 65000);
    assert_eq!(port("", Role::Embedded), 0);
    assert_eq!(port("listen = '[::]:7000'", Role::Embedded), 7000);
}

#[test]
fn an_open_node_has_no_key() {
    assert!(matches!(
        key::membership(&loaded("open = true", &["--join", "a"])),
        Ok(Membership::Open)
    ));
    let both = loaded("", &["--open", "--cluster-key", "/k"]);
    assert_eq!(
        key::membership(&both).map(drop).unwrap_err().exit,
        Exit::Usage
    );
}

#[test]
fn a_check_finds_every_fault_at_once() {
    let settings = loaded(
        "cacert = '/nonexistent/a'\njoin-file = '/nonexistent/b'\nzone = 'longer than a name may be'\nlog-level = 'a=b=c'\n",
        &[
            "--cluster-key",
            "/nonexistent/c",
            "--upstream-proxy",
            "https://elsewhere",
        ],
    );
    let faults = check::check(&settings);
    let text: Vec<_> = faults
        .iter()
        .map(|fault| format!("{:#}", fault.error))
        .collect();
    for name in [
        "/nonexistent/a",
        "/nonexistent/b",
        "/nonexistent/c",
        "15 bytes",
        "upstream proxy",
        "log level",
    ] {
        assert!(
            text.iter().any(|text| text.contains(name)),
            "{name}: {text:?}"
        );
    }
}
