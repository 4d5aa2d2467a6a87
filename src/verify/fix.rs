//! A key whose tiers differ is brought in step by the protocol, as any copy is, and looked at again.

use super::{
    case::{Case, Next},
    class::Class,
    run::Run,
    shard::look_once,
};
use crate::{
    codec::key::Key,
    protocol::{World as _, backfill::copy_many, heal::heal},
};

/// What the key is afterwards; `class` where it still is what it was.
pub(super) async fn fix(run: &Run, key: &Key, class: Class) -> Next {
    let site = &run.stash.site;
    match run.compares_a_mirror(key) {
        // What came of it shows in the next look: both leave an intent where they could not finish.
        true => drop(heal(site, key, &run.belief).await),
        false => drop(copy_many(site, std::slice::from_ref(key)).await),
    }
    let mut case = Case::default();
    loop {
        let (next, _) = look_once(run, key, &mut case).await;
        return match next {
            Next::Again(at) => {
                let wait = at.saturating_sub(site.world.now());
                tokio::select! {
                    () = run.stop.cancelled() => return Next::Done(class),
                    () = site.world.sleep(wait) => continue,
                }
            }
            Next::Done(Class::Equal) => Next::Done(Class::Fixed),
            Next::Done(Class::Unknown) => Next::Done(class),
            next => next,
        };
    }
}
