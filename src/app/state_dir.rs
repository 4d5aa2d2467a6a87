//! The folder that outlives the process: who this decant is, its phase records, its embedded stores.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// The folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateDirFault {
    #[error("state_dir {}: {source}; make the folder writable for decant, or name another", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("state_dir {} is in use by another decant; give each its own", path.display())]
    InUse { path: PathBuf },
    #[error("{} holds no member name; if it was damaged, restore it: the fences on Redis name this decant by it", path.display())]
    NoMember { path: PathBuf },
}

/// The folder, held for this process alone.
#[derive(Debug)]
pub struct StateDir {
    pub path: PathBuf,
    /// This decant's name in fences and records: made once, then kept.
    pub member: String,
    /// Locked as long as the process lives; the system lets go of it whatever the end.
    _lock: File,
}

impl StateDir {
    pub fn open(path: &Path) -> Result<StateDir, StateDirFault> {
        let fault = |source| StateDirFault::Io { path: path.to_owned(), source };
        fs::create_dir_all(path).map_err(fault)?;
        let lock = File::create(path.join("lock")).map_err(fault)?;
        lock.try_lock().map_err(|e| match e {
            TryLockError::WouldBlock => StateDirFault::InUse { path: path.to_owned() },
            TryLockError::Error(source) => fault(source),
        })?;
        Ok(StateDir { member: member(path)?, path: path.to_owned(), _lock: lock })
    }
}

fn member(dir: &Path) -> Result<String, StateDirFault> {
    let path = dir.join("member");
    let fault = |source| StateDirFault::Io { path: path.clone(), source };
    match fs::read_to_string(&path) {
        Ok(text) => {
            let name = text.trim();
            let plain = !name.is_empty() && name.len() <= 128 && name.chars().all(|c| c.is_ascii_graphic() && c != '/');
            if plain { Ok(name.to_owned()) } else { Err(StateDirFault::NoMember { path }) }
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let name = format!("{}-{:06x}", host(), fastrand::u32(..1 << 24));
            let mut beside = tempfile::NamedTempFile::new_in(dir).map_err(fault)?;
            writeln!(beside, "{name}").map_err(fault)?;
            beside.as_file().sync_all().map_err(fault)?;
            beside.persist(&path).map_err(|e| fault(e.error))?;
            Ok(name)
        }
        Err(source) => Err(fault(source)),
    }
}

/// The machine's name as far as it can stand in a fence.
fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let plain: String =
        name.trim().chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.')).take(64).collect();
    if plain.is_empty() { "decant".to_owned() } else { plain }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_made_once_and_the_folder_is_for_one_process() {
        let dir = tempfile::tempdir().unwrap();
        let first = StateDir::open(dir.path()).unwrap();
        assert!(matches!(StateDir::open(dir.path()), Err(StateDirFault::InUse { .. })));
        let name = first.member.clone();
        drop(first);
        assert_eq!(StateDir::open(dir.path()).unwrap().member, name);
        fs::write(dir.path().join("member"), "two words\n").unwrap();
        assert!(matches!(StateDir::open(dir.path()), Err(StateDirFault::NoMember { .. })));
    }
}
