//! What outlives a run: the last reports, and the secret behind the hashes of keys.
//!
//! `<state_dir>/<stash>.verify.json` is replaced whole. It holds no keys, also where a run was asked to show them.

use super::report::{Asked, Report};
use crate::{codec::key::Key, durable, phase::Phase};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::{
    fs, io,
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// Length of the secret, in bytes.
const SECRET_BYTES: usize = 32;

/// The reports of one stash, as they are on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// Of the run that ended last, whatever it was asked for.
    pub last: Option<Report>,
    /// Of the last run over everything: what guards go by.
    pub full: Option<Report>,
    /// A run that has begun, and of which nothing more is known.
    pub under_way: Option<UnderWay>,
}

/// Enough to tell of a run that was cut off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnderWay {
    pub id: String,
    pub phase: Phase,
    pub version: u64,
    pub begun_unix_ms: u64,
    #[serde(flatten)]
    pub asked: Asked,
}

/// The file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreFault {
    #[error("{} cannot be {doing}: {source}; mend the file system or its permissions and start again", path.display())]
    Io { path: PathBuf, doing: &'static str, source: io::Error },
    #[error("{} is damaged ({why}); remove it, and verify again: nothing else depends on it", path.display())]
    Damaged { path: PathBuf, why: String },
}

/// Where the reports of one stash are kept.
#[derive(Clone, Debug)]
pub struct Store {
    path: PathBuf,
}

impl Store {
    pub fn new(dir: &Path, stash: &str) -> Store {
        Store { path: dir.join(format!("{stash}.verify.json")) }
    }

    pub fn load(&self) -> Result<Kept, StoreFault> {
        match fs::read(&self.path) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|why| StoreFault::Damaged { path: self.path.clone(), why: why.to_string() }),
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(Kept::default()),
            Err(source) => Err(StoreFault::Io { path: self.path.clone(), doing: "read", source }),
        }
    }

    /// Blocks.
    pub fn store(&self, kept: &Kept) -> Result<(), StoreFault> {
        let fault = |source| StoreFault::Io { path: self.path.clone(), doing: "written", source };
        let mut kept = kept.clone();
        for report in [&mut kept.last, &mut kept.full].into_iter().flatten() {
            report.differences.iter_mut().for_each(|difference| difference.key = None);
        }
        let mut text = serde_json::to_vec_pretty(&kept).map_err(|why| fault(why.into()))?;
        text.push(b'\n');
        durable::replace(&self.path, &text).map_err(fault)
    }
}

/// Hashes keys for one stash. Without the secret nobody can find a key by trying all that there might be.
pub struct Hasher {
    begun: Hmac<Sha256>,
}

impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hasher(secret)")
    }
}

impl Hasher {
    /// With the secret of the folder, `verify.key`, which is made where there is none.
    pub fn open(dir: &Path, stash: &str) -> Result<Hasher, StoreFault> {
        let path = dir.join("verify.key");
        let fault = |doing, source| StoreFault::Io { path: path.clone(), doing, source };
        let secret = match fs::read(&path) {
            Ok(secret) if secret.len() == SECRET_BYTES => Zeroizing::new(secret),
            Ok(_) => {
                let why = format!(
                    "it is not {SECRET_BYTES} bytes long; hashes of keys in earlier reports mean nothing any more"
                );
                return Err(StoreFault::Damaged { path, why });
            }
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
                let mut secret = Zeroizing::new(vec![0; SECRET_BYTES]);
                getrandom::fill(&mut secret).map_err(|why| fault("made", io::Error::other(why.to_string())))?;
                durable::replace(&path, &secret).map_err(|source| fault("written", source))?;
                secret
            }
            Err(source) => return Err(fault("read", source)),
        };
        Ok(Hasher::new(&secret, stash))
    }

    fn new(secret: &[u8], stash: &str) -> Hasher {
        #[allow(clippy::expect_used, reason = "no key length is refused")]
        let mut begun = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
        begun.update(stash.as_bytes());
        begun.update(&[0]);
        Hasher { begun }
    }

    pub fn hash(&self, key: &Key) -> [u8; 32] {
        let mut mac = self.begun.clone();
        mac.update(key.as_bytes());
        mac.finalize().into_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_is_made_once_and_decides_every_hash() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let key = Key::from_bytes(&b"enwiki:echo:seen:alert:time:7"[..]);
        let hash = |dir: &Path, stash: &str| Hasher::open(dir, stash).unwrap().hash(&key);
        assert_eq!(hash(dir.path(), "s"), hash(dir.path(), "s"));
        assert_ne!(hash(dir.path(), "s"), hash(dir.path(), "t"));
        assert_ne!(hash(dir.path(), "s"), hash(other.path(), "s"));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = fs::metadata(dir.path().join("verify.key")).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        fs::write(dir.path().join("verify.key"), "short").unwrap();
        assert!(Hasher::open(dir.path(), "s").unwrap_err().to_string().contains("verify.key is damaged"));
    }

    #[test]
    fn what_is_kept_is_read_back_and_damage_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path(), "s");
        assert_eq!(store.load().unwrap(), Kept::default());
        let under_way =
            UnderWay { id: "a".into(), phase: Phase::DualWrite, version: 2, begun_unix_ms: 1, asked: Asked::default() };
        let kept = Kept { under_way: Some(under_way), ..Kept::default() };
        store.store(&kept).unwrap();
        assert_eq!(store.load().unwrap(), kept);
        fs::write(dir.path().join("s.verify.json"), "{").unwrap();
        assert!(store.load().unwrap_err().to_string().contains("s.verify.json is damaged"));
    }
}
