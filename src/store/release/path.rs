//! Which paths can be in a release.

/// Longest path, in bytes.
pub const MAX_PATH_BYTES: usize = 1024;

/// What is wrong with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Too long.
    #[error("it is longer than {MAX_PATH_BYTES} bytes")]
    TooLong,
    /// Starts at the root.
    #[error("it starts with a slash; paths are relative")]
    Absolute,
    /// An empty segment: empty path, `a//b`, or a slash at the end.
    #[error("it is empty, ends with a slash or holds two slashes in a row")]
    EmptySegment,
    /// `.` or `..`.
    #[error("`.` and `..` are not permitted as a segment")]
    Dots,
    /// A backslash, which some clients take for a slash.
    #[error("it holds a backslash")]
    Backslash,
    /// NUL or another control character.
    #[error("it holds a control character")]
    Control,
}

/// Checks that a path is relative, has no empty, `.` or `..` segment, no backslash and no control character, and is at
/// most [`MAX_PATH_BYTES`] long. Letters are taken as they are; no Unicode normalisation is asked for.
///
/// # Errors
/// [`PathError`] with the first rule broken.
pub fn check_path(path: &str) -> Result<(), PathError> {
    if path.len() > MAX_PATH_BYTES {
        return Err(PathError::TooLong);
    }
    if path.starts_with('/') {
        return Err(PathError::Absolute);
    }
    if path.contains('\\') {
        return Err(PathError::Backslash);
    }
    if path.chars().any(char::is_control) {
        return Err(PathError::Control);
    }
    for segment in path.split('/') {
        match segment {
            "" => return Err(PathError::EmptySegment),
            "." | ".." => return Err(PathError::Dots),
            _ => {}
        }
    }
    Ok(())
}
