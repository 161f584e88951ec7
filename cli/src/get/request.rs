//! From the words of `dfnode get` to what a node is asked.

use dfnode_node::get::{GetRequest, SourcePolicy};
use dfnode_node::limits::ByteRate;
use url::Url;

use crate::args::{GetArgs, GetOptions};
use crate::config::certificates;
use crate::exit::{Exit, Failure};
use crate::words::Header;

/// What a node is asked for `args`; `options` are those of `args` laid over those of the file.
pub(super) fn build(args: &GetArgs, options: &GetOptions) -> Result<GetRequest, Failure> {
    let mut request = GetRequest::new(args.url.clone());
    request.headers = headers(&args.header)?;
    if let Some(credentials) = take_credentials(&mut request.url) {
        request
            .headers
            .retain(|(name, _)| !name.eq_ignore_ascii_case("authorization"));
        request
            .headers
            .push(("Authorization".to_owned(), credentials));
    }
    request.digest = args.digest.clone().or_else(|| args.md5.clone());
    request.range = args.range.map(|range| (range.first, range.last));
    request.filter = options
        .filter
        .clone()
        .map(|filter| filter.0)
        .unwrap_or_default();
    request.tag = options.tag.clone().unwrap_or_default();
    request.max_age = options.max_age.map(|span| span.0);
    request.local_limit = options.local_limit.map(ByteRate::get);
    request.timeout = options.timeout.map(|span| span.0);
    request.source = match (args.no_source, args.source_only) {
        (true, _) => SourcePolicy::Never,
        (_, true) => SourcePolicy::Only,
        (false, false) => SourcePolicy::Auto,
    };
    // Whatever the output is, it is written from front to back if it must be.
    request.pipe = true;
    let cacert = options.cacert.as_deref().map(certificates).transpose();
    request.cacert = cacert.map_err(|error| Failure::new(Exit::Usage, error))?;
    Ok(request)
}

fn headers(words: &[String]) -> Result<Vec<(String, String)>, Failure> {
    let parse = |word: &String| {
        let header: Header = word
            .parse()
            .map_err(|error| Failure::new(Exit::Usage, error))?;
        Ok((header.name, header.value))
    };
    words.iter().map(parse).collect()
}

/// Takes `user:password@` out of the URL, as what it means: the value of an `Authorization` header.
fn take_credentials(url: &mut Url) -> Option<String> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let user = super::name::unescape(url.username());
    let password = super::name::unescape(url.password().unwrap_or_default());
    // These fail only for URLs without a host, which are refused earlier.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    Some(format!(
        "Basic {}",
        base64(format!("{user}:{password}").as_bytes())
    ))
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = group
            .iter()
            .fold(0, |bits, byte| bits << 8 | u32::from(*byte))
            << (8 * (3 - group.len()));
        for place in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= group.len() {
                char::from(letter)
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn build_of(words: &[&str]) -> Result<GetRequest, Failure> {
        let cli =
            Cli::try_parse_from([&["dfnode", "get"], words].concat()).map_err(Failure::from)?;
        let Command::Get(args) = cli.command else {
            panic!("a get")
        };
        build(&args, &args.options)
    }

    #[test]
    fn every_flag_reaches_the_request() {
        let md5 = "d41d8cd98f00b204e9800998ecf8427e";
        let request = build_of(&[
            "http://host/a",
            "-H",
            "A: b",
            "-H",
            "C:d",
            "--md5",
            md5,
            "--local-limit",
            "10M",
            "--timeout",
            "5m",
            "--filter",
            "k1&k2",
            "--tag",
            "t",
            "--max-age",
            "0",
            "--no-source",
        ]);
        let request = request.map_err(|failure| failure.error).unwrap();
        assert_eq!(
            request.headers,
            [
                ("A".to_owned(), "b".to_owned()),
                ("C".to_owned(), "d".to_owned())
            ]
        );
        assert_eq!(request.digest.unwrap().to_string(), format!("md5:{md5}"));
        assert_eq!(request.local_limit, Some(10_000_000));
        assert_eq!(request.timeout.unwrap().as_secs(), 300);
        assert_eq!(request.filter, ["k1", "k2"]);
        assert_eq!(request.tag, "t");
        assert_eq!(request.max_age.unwrap().as_secs(), 0);
        assert_eq!(request.source, SourcePolicy::Never);
    }

    #[test]
    fn a_range_is_passed_on() {
        let range = |text| {
            build_of(&["http://host/a", "--range", text])
                .map_err(|failure| failure.error)
                .unwrap()
                .range
        };
        assert_eq!(range("5-9"), Some((5, Some(9))));
        assert_eq!(range("5-"), Some((5, None)));
    }

    #[test]
    fn credentials_in_the_url_become_a_header() {
        let request = build_of(&["https://me:pa%3Ass@host/a"])
            .map_err(|failure| failure.error)
            .unwrap();
        assert_eq!(request.url.as_str(), "https://host/a");
        assert_eq!(
            request.headers,
            [("Authorization".to_owned(), "Basic bWU6cGE6c3M=".to_owned())]
        );
    }

    #[test]
    fn a_header_that_makes_no_sense_is_not_repeated() {
        let failure = build_of(&["http://host/a", "-H", "secret"]).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(!format!("{:#}", failure.error).contains("secret"));
    }

    #[test]
    fn what_excludes_each_other_is_refused() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for words in [
            &["--no-source", "--source-only"][..],
            &[
                "--digest",
                &digest,
                "--md5",
                "d41d8cd98f00b204e9800998ecf8427e",
            ],
            &["--digest", &digest, "--range", "0-1"],
            &["--digest", "sha256:00"],
            &["--range", "9-1"],
            &["--local-limit", "fast"],
            &["--cacert", "/nonexistent"],
        ] {
            assert!(
                build_of(&[&["http://host/a"], words].concat()).is_err(),
                "{words:?}"
            );
        }
    }

    #[test]
    fn base64_is_padded() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
