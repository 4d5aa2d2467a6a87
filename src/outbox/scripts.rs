//! The scripts, each one atomic step.

use crate::tier::redis::Script;

macro_rules! key_script {
    ($name:literal) => {
        Script::new(
            $name,
            concat!(include_str!("scripts/common.lua"), include_str!(concat!("scripts/", $name, ".lua"))),
        )
    };
}

macro_rules! shard_script {
    ($name:literal) => {
        Script::new($name, include_str!(concat!("scripts/", $name, ".lua")))
    };
}

pub static APPLY: Script = key_script!("apply");
pub static READ: Script = key_script!("read");
pub static TAKE: Script = key_script!("take");
pub static SETTLE: Script = key_script!("settle");
pub static MARK: Script = key_script!("mark");
pub static MIRROR: Script = key_script!("mirror");
pub static RELEASE: Script = key_script!("release");
pub static CLAIM: Script = key_script!("claim");
pub static GIVE_UP: Script = key_script!("give_up");
pub static PEEK: Script = key_script!("peek");
pub static RETRY: Script = key_script!("retry");
pub static DROP: Script = key_script!("drop");
pub static LOOK: Script = shard_script!("look");
pub static EXPIRED: Script = shard_script!("expired");
pub static RAISE: Script = shard_script!("raise");
pub static ADOPT: Script = shard_script!("adopt");
pub static ACCEPT: Script = shard_script!("accept");
pub static EVICTED: Script = shard_script!("evicted");
pub static ANNOUNCE: Script = shard_script!("announce");
