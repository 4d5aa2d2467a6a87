//! Where a move leads, and the step that keys take by it. Pure.

use super::{Phase, ahead::Ahead};

/// What an operator wants to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goal {
    /// This phase, for every key.
    Phase(Phase),
    /// The phase stays, and these keys are one ahead of it.
    Ahead(Ahead),
    /// The phase stays, and no key is ahead of it any more.
    NoneAhead,
}

impl Goal {
    /// For people.
    pub fn text(&self) -> String {
        match self {
            Goal::Phase(phase) => phase.to_string(),
            Goal::Ahead(ahead) => format!("{} ahead", ahead.text()),
            Goal::NoneAhead => "no key ahead".to_owned(),
        }
    }
}

/// One move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What holds afterwards.
    pub phase: Phase,
    pub ahead: Option<Ahead>,
    /// The step of the keys that take one: what it must have is what this step must have.
    pub from: Phase,
    pub to: Phase,
}

/// A step that is not one cannot be forced.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoStep {
    #[error("{from} does not lead to {to} in one step; phases go {}, one at a time, either way", order())]
    NotNeighbours { from: Phase, to: Phase },
    #[error("the stash is in {0} already")]
    AlreadyThere(Phase),
    #[error(
        "{} are one phase ahead: the stash can only follow them to {next}, or they come back first (decant phase ahead clear)",
        .ahead.text()
    )]
    OthersAhead { ahead: Ahead, next: Phase },
    #[error("no phase follows {0}, so that no key can be ahead of it")]
    Last(Phase),
    #[error("no key is ahead")]
    NoneAhead,
    #[error("{} are ahead already", .0.text())]
    AheadAlready(Ahead),
    #[error(
        "{} are ahead: another rule could only cover more than that, which a larger share does and no other pattern surely; take them back \
         first (decant phase ahead clear)",
        .0.text()
    )]
    NotWider(Ahead),
}

impl NoStep {
    /// What is wanted is what there is.
    pub fn holds_already(&self) -> bool {
        matches!(self, NoStep::AlreadyThere(_) | NoStep::AheadAlready(_) | NoStep::NoneAhead)
    }
}

fn order() -> String {
    Phase::ALL.map(Phase::name).join(", ")
}

/// Whether there is such a step at all. While keys are ahead, all of a stash can only be where some of it is: so a key never takes two steps
/// at once.
pub fn step(phase: Phase, ahead: Option<&Ahead>, goal: &Goal) -> Result<Step, NoStep> {
    let next = || phase.next().ok_or(NoStep::Last(phase));
    let to = |phase, ahead, from, to| Step { phase, ahead, from, to };
    match (goal, ahead) {
        (Goal::Phase(wanted), _) if *wanted == phase => Err(NoStep::AlreadyThere(phase)),
        (Goal::Phase(wanted), Some(ahead)) if Some(*wanted) != phase.next() => {
            Err(NoStep::OthersAhead { ahead: ahead.clone(), next: next()? })
        }
        (Goal::Phase(wanted), _) if phase.is_step_to(*wanted) => Ok(to(*wanted, None, phase, *wanted)),
        (Goal::Phase(wanted), _) => Err(NoStep::NotNeighbours { from: phase, to: *wanted }),
        (Goal::Ahead(wanted), Some(ahead)) if wanted == ahead => Err(NoStep::AheadAlready(ahead.clone())),
        (Goal::Ahead(wanted), Some(ahead)) if !wanted.widens(ahead) => Err(NoStep::NotWider(ahead.clone())),
        (Goal::Ahead(wanted), _) => Ok(to(phase, Some(wanted.clone()), phase, next()?)),
        (Goal::NoneAhead, None) => Err(NoStep::NoneAhead),
        (Goal::NoneAhead, Some(_)) => Ok(to(phase, None, next()?, phase)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_neighbours_are_a_step() {
        for from in Phase::ALL {
            for to in Phase::ALL {
                let distance = (from as i8 - to as i8).abs();
                assert_eq!(step(from, None, &Goal::Phase(to)).is_ok(), distance == 1, "{from} {to}");
            }
        }
    }

    #[test]
    fn while_keys_are_ahead_the_stash_follows_them_or_they_come_back() {
        let rule: Ahead = "share:0.1".parse().unwrap();
        for phase in Phase::ALL {
            let Some(next) = phase.next() else { continue };
            for to in Phase::ALL {
                let taken = step(phase, Some(&rule), &Goal::Phase(to));
                assert_eq!(taken.is_ok(), to == next, "{phase} {to}");
            }
            let followed = step(phase, Some(&rule), &Goal::Phase(next)).unwrap();
            assert_eq!(followed, Step { phase: next, ahead: None, from: phase, to: next });
            let back = step(phase, Some(&rule), &Goal::NoneAhead).unwrap();
            assert_eq!(back, Step { phase, ahead: None, from: next, to: phase });
        }
    }

    #[test]
    fn a_rule_is_set_where_there_is_none_or_covers_more() {
        use Phase::{DualWrite, KaskFirst, KaskOnly};
        let rule = |text: &str| text.parse::<Ahead>().unwrap();
        let set = |now: Option<&str>, wanted: &str| {
            step(DualWrite, now.map(rule).as_ref(), &Goal::Ahead(rule(wanted))).map(|step| step.ahead)
        };
        for (now, wanted) in [(None, "share:0.1"), (None, "match:a*"), (Some("share:0.1"), "share:0.2")] {
            let taken = step(DualWrite, now.map(rule).as_ref(), &Goal::Ahead(rule(wanted))).unwrap();
            let ahead = Some(rule(wanted));
            assert_eq!(taken, Step { phase: DualWrite, ahead, from: DualWrite, to: KaskFirst });
        }
        assert_eq!(set(Some("share:0.1"), "share:0.1"), Err(NoStep::AheadAlready(rule("share:0.1"))));
        for (now, wanted) in [("share:0.2", "share:0.1"), ("match:a*", "match:*"), ("match:a*", "share:0.9")] {
            assert_eq!(set(Some(now), wanted), Err(NoStep::NotWider(rule(now))), "{now} {wanted}");
        }
        assert_eq!(step(KaskOnly, None, &Goal::Ahead(rule("share:0.1"))), Err(NoStep::Last(KaskOnly)));
        assert_eq!(step(DualWrite, None, &Goal::NoneAhead), Err(NoStep::NoneAhead));
    }
}
