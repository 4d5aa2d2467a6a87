//! Secrets from files.

use super::image::SecretText;
use super::review::Review;
use super::secret::Secret;
use std::{fs, io::Read as _, os::unix::fs::PermissionsExt as _, path::Path};
use zeroize::Zeroizing;

/// The largest secret read, in bytes: anything larger is another file.
const SECRET_BYTES_MAX: u64 = 64 * 1024;
/// Others may read the file.
const WORLD_READABLE: u32 = 0o004;

/// The secret of `key` (from the environment) or of `{key}_file`. The environment wins, as everywhere.
/// `None`: neither is set, or the file is at fault, which is then in `review`.
pub(super) fn either(
    key: &str,
    direct: Option<SecretText>,
    file: Option<&Path>,
    review: &mut Review,
) -> Option<Secret> {
    match (direct, file) {
        (Some(text), _) if text.is_empty() => {
            review.fault(key, "is an empty secret", "set it to the secret, or unset it");
            None
        }
        (Some(text), _) => Some(Secret::new(text.as_bytes())),
        (None, Some(path)) => read(&format!("{key}_file"), path, review),
        (None, None) => None,
    }
}

/// The content of a secret file without the newline at its end.
fn read(key: &str, path: &Path, review: &mut Review) -> Option<Secret> {
    let shown = path.display();
    // One allocation that is large enough from the start: a growing buffer would leave copies of the secret behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_BYTES_MAX as usize + 1));
    let opened = fs::File::open(path).and_then(|file| {
        let mode = file.metadata()?.permissions().mode();
        file.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        Ok(mode)
    });
    let mode = match opened {
        Ok(mode) => mode,
        Err(error) => {
            let todo = "create it, readable by the user that decant runs as and nobody else (chmod 600)";
            review.fault(key, format!("the secret file {shown} cannot be read: {error}"), todo);
            return None;
        }
    };
    if mode & WORLD_READABLE != 0 {
        review.warn(key, format!("the secret file {shown} can be read by every user of this machine: chmod 600 it"));
    }
    if bytes.len() as u64 > SECRET_BYTES_MAX {
        let what = format!("the secret file {shown} is larger than {SECRET_BYTES_MAX} bytes");
        review.fault(key, what, "name the file that holds the secret and nothing else");
        return None;
    }
    let trimmed = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let trimmed = trimmed.strip_suffix(b"\r").unwrap_or(trimmed);
    if trimmed.is_empty() {
        review.fault(
            key,
            format!("the secret file {shown} is empty"),
            "write the secret into it, or leave the key out",
        );
        return None;
    }
    Some(Secret::new(trimmed))
}
