//! The part of a resource that a request asks for.

use hyper::header::{HeaderMap, RANGE};

/// One range of bytes, as a client names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Everything.
    All,
    /// From a byte to another, both counted in, or to the end.
    From(u64, Option<u64>),
    /// The last so many bytes.
    Last(u64),
}

impl Wanted {
    /// What `headers` ask for; `None` if only the upstream can tell.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(RANGE).iter();
        let Some(value) = values.next() else {
            return Some(Self::All);
        };
        if values.next().is_some() {
            return None;
        }
        let range = value.to_str().ok()?.trim().strip_prefix("bytes=")?;
        let (first, last) = range.split_once('-')?;
        let number = |digits: &str| {
            let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| digits.parse::<u64>().ok()).flatten()
        };
        match (first.trim(), last.trim()) {
            ("", last) => number(last).map(Self::Last),
            (first, "") => Some(Self::From(number(first)?, None)),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self::From(first, Some(last)))
            }
        }
    }

    /// First byte and the byte behind the last, of `length` bytes; `None` if there is no such part.
    pub(crate) fn within(self, length: u64) -> Option<(u64, u64)> {
        match self {
            Self::All => Some((0, length)),
            Self::From(first, last) => {
                let end = last.map_or(length, |last| last.saturating_add(1).min(length));
                (first < length).then_some((first, end))
            }
            Self::Last(0) => None,
            Self::Last(count) => (length > 0).then(|| (length.saturating_sub(count), length)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> Option<Wanted> {
        let mut headers = HeaderMap::new();
        headers.insert(RANGE, text.parse().unwrap());
        Wanted::of(&headers)
    }

    #[test]
    fn ranges_are_read_or_left_to_the_upstream() {
        assert_eq!(Wanted::of(&HeaderMap::new()), Some(Wanted::All));
        assert_eq!(of("bytes=5-"), Some(Wanted::From(5, None)));
        assert_eq!(of("bytes=5-9"), Some(Wanted::From(5, Some(9))));
        assert_eq!(of("bytes=-9"), Some(Wanted::Last(9)));
        for text in [
            "bytes=1-2,4-5",
            "bytes=9-5",
            "items=1-2",
            "bytes=a-",
            "bytes=-",
            "bytes=+1-",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }

    #[test]
    fn a_part_beyond_the_end_does_not_exist() {
        assert_eq!(Wanted::From(9, None).within(10), Some((9, 10)));
        assert_eq!(Wanted::From(10, None).within(10), None);
        assert_eq!(Wanted::Last(20).within(10), Some((0, 10)));
        assert_eq!(Wanted::Last(0).within(10), None);
        assert_eq!(Wanted::All.within(0), Some((0, 0)));
        assert_eq!(Wanted::From(0, Some(u64::MAX)).within(10), Some((0, 10)));
    }

    proptest! {
        #[test]
        fn no_header_panics(text in "bytes=[0-9, -]{0,50}", length: u64) {
            if let Some((first, end)) = of(&text).and_then(|wanted| wanted.within(length)) {
                prop_assert!(first <= end && end <= length);
            }
        }
    }
}
