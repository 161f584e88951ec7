//! The numbers that a script can tell outcomes apart by.

use std::process::ExitCode;

use dfnode_node::get::GetError;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything went well.
    Ok = 0,
    /// Something that has no number of its own.
    Other = 1,
    /// The command makes no sense.
    Usage = 2,
    /// The source refused the request.
    SourceRefused = 3,
    /// The source has nothing there.
    NotFound = 4,
    /// The content is not what its digest says.
    DigestMismatch = 5,
    /// The disk is full.
    NoSpace = 6,
    /// It took too long.
    Timeout = 7,
    /// The source cannot be reached, or fails.
    SourceFailed = 8,
    /// The cluster or its key.
    Cluster = 9,
    /// The source was not to be asked, and nobody else has it.
    NoSource = 10,
    /// Ctrl-C.
    Interrupted = 130,
}

/// For `dfnode get --help`.
pub(crate) const HELP: &str = "\
Exit codes:
    0  downloaded, and every byte verified
    1  anything that is not below
    2  the command makes no sense
    3  the source refused the request (401, 402, 403, 407, 410, 451)
    4  the source has nothing at this URL (404)
    5  the content is not what its digest says
    6  no space left
    7  the timeout is over
    8  the source cannot be reached, or fails
    9  the cluster or its key
   10  --no-source, and no peer has it
  130  interrupted; what was verified is kept, and the same command resumes";

impl Exit {
    /// The number.
    pub(crate) const fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

impl From<&GetError> for Exit {
    fn from(error: &GetError) -> Self {
        match error {
            GetError::SourceRefused { .. } => Self::SourceRefused,
            GetError::NotFound => Self::NotFound,
            GetError::DigestMismatch { .. } => Self::DigestMismatch,
            GetError::NoSpace => Self::NoSpace,
            GetError::Timeout => Self::Timeout,
            GetError::SourceFailed { .. } | GetError::Changed | GetError::Unproved => {
                Self::SourceFailed
            }
            GetError::NoSource => Self::NoSource,
            GetError::Cluster { .. } => Self::Cluster,
            GetError::Usage { .. } => Self::Usage,
            GetError::Cancelled | GetError::Internal { .. } => Self::Other,
        }
    }
}

/// An error that says how the command ends: [`Exit::Other`] unless something says otherwise.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The number to end with.
    pub(crate) exit: Exit,
    /// What to say.
    pub(crate) error: anyhow::Error,
}

impl Failure {
    /// Ends the command with `exit`, saying `error`.
    pub(crate) fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self {
            exit,
            error: error.into(),
        }
    }

    /// The command makes no sense.
    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self::new(Exit::Usage, anyhow::Error::msg(what.into()))
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = error.into();
        let exit = error
            .downcast_ref::<GetError>()
            .map_or(Exit::Other, Exit::from);
        Self { exit, error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_documented() {
        let every = [
            Exit::Ok,
            Exit::Other,
            Exit::Usage,
            Exit::SourceRefused,
            Exit::NotFound,
            Exit::DigestMismatch,
            Exit::NoSpace,
            Exit::Timeout,
            Exit::SourceFailed,
            Exit::Cluster,
            Exit::NoSource,
            Exit::Interrupted,
        ];
        let documented: Vec<&str> = HELP
            .lines()
            .filter_map(|line| line.split_whitespace().next())
            .collect();
        for exit in every {
            assert!(
                documented.contains(&exit.code().to_string().as_str()),
                "{exit:?}"
            );
        }
    }

    #[test]
    fn errors_of_a_download_have_the_documented_numbers() {
        let code = |error: GetError| Exit::from(&error).code();
        assert_eq!(code(GetError::SourceRefused { status: 403 }), 3);
        assert_eq!(code(GetError::NotFound), 4);
        assert_eq!(
            code(GetError::DigestMismatch {
                expected: String::new(),
                got: String::new()
            }),
            5
        );
        assert_eq!(code(GetError::NoSpace), 6);
        assert_eq!(code(GetError::Timeout), 7);
        assert_eq!(
            code(GetError::SourceFailed {
                what: String::new()
            }),
            8
        );
        assert_eq!(code(GetError::Changed), 8);
        assert_eq!(
            code(GetError::Cluster {
                what: String::new()
            }),
            9
        );
        assert_eq!(code(GetError::NoSource), 10);
        assert_eq!(
            code(GetError::Usage {
                what: String::new()
            }),
            2
        );
        assert_eq!(
            code(GetError::Internal {
                what: String::new()
            }),
            1
        );
    }
}
