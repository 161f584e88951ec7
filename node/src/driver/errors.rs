//! What went wrong, in the words of whoever asked.

use dfnode_tracker::{SourceFailure, TaskFailure};

use super::pump::same_kind;
use super::tasks::Entry;
use crate::get::GetError;
use crate::store::{ReserveError, WriteFailure};

impl From<SourceFailure> for GetError {
    fn from(failure: SourceFailure) -> Self {
        match failure {
            SourceFailure::Refused { status } => Self::SourceRefused { status },
            SourceFailure::NotFound => Self::NotFound,
            SourceFailure::Changed => Self::Changed,
            SourceFailure::Busy { status, .. } => Self::SourceFailed {
                what: format!("it is busy (status {status})"),
            },
            SourceFailure::Transient { what } | SourceFailure::Final { what } => {
                Self::SourceFailed { what }
            }
        }
    }
}

impl From<ReserveError> for GetError {
    fn from(error: ReserveError) -> Self {
        match error {
            ReserveError::NoRoom { .. } | ReserveError::DiskFull { .. } => Self::NoSpace,
            ReserveError::Io { why } => Self::Internal { what: why },
            ReserveError::Gone => Self::Internal {
                what: "the task was removed meanwhile".to_owned(),
            },
        }
    }
}

impl From<WriteFailure> for GetError {
    fn from(failure: WriteFailure) -> Self {
        match failure {
            WriteFailure::NoSpace => Self::NoSpace,
            WriteFailure::Io(what) => Self::Internal { what },
        }
    }
}

/// Why nobody who waits for this task gets it.
pub(super) fn of_task(failure: TaskFailure, entry: &Entry) -> GetError {
    match failure {
        TaskFailure::Source(failure) => failure.into(),
        TaskFailure::WrongDigest => wrong_digest(entry),
        TaskFailure::KeepsChanging => GetError::Changed,
        TaskFailure::NoSource => GetError::NoSource,
    }
}

fn wrong_digest(entry: &Entry) -> GetError {
    let expected = entry.expected_digests();
    let news = entry.news.borrow();
    let pair = expected.iter().find_map(|wanted| {
        let got = news
            .digests
            .iter()
            .find(|got| same_kind(got, wanted) && *got != wanted)?;
        Some((wanted.to_string(), got.to_string()))
    });
    let (expected, got) = pair.unwrap_or_else(|| {
        let wanted = expected
            .first()
            .map(ToString::to_string)
            .unwrap_or_default();
        (wanted, "another".to_owned())
    });
    GetError::DigestMismatch { expected, got }
}
