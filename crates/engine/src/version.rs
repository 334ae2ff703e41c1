//! One version of a playbook, its steps flattened to a program: each knows where it goes on.
//!
//! A branch has arms, arms have steps, and a person stands at one place of it all. Flat, that place is a number.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use model::condition::Condition;
use model::id::ContentHash;
use model::playbook::{Action, Playbook, Send, SendWindow, Step, Wait};
use model::policy::{Channel, MessageClass, Traits};
use model::{BrandName, StepId};

use crate::world::World;

/// One version of a playbook, ready to be walked.
#[derive(Debug, Clone)]
pub struct Version {
    playbook: Playbook,
    program: Vec<Instruction>,
    positions: BTreeMap<StepId, usize>,
}

/// One step of the program.
#[derive(Debug, Clone)]
pub(crate) struct Instruction {
    pub(crate) id: StepId,
    /// Otherwise it is skipped.
    pub(crate) condition: Option<Condition>,
    pub(crate) does: Does,
    /// Where the walk goes on. Beyond the last one: nowhere.
    pub(crate) next: usize,
}

/// What it does.
#[derive(Debug, Clone)]
pub(crate) enum Does {
    Send(Send),
    Wait(Wait),
    /// When an arm fits, and where it begins.
    Branch(Vec<(Option<Condition>, usize)>),
    Exit(String),
}

impl Version {
    /// Flattens the steps of a playbook.
    pub fn new(playbook: Playbook) -> Self {
        let mut program = Vec::new();
        flatten(&playbook.steps, size_of(&playbook.steps), &mut program);
        let positions = program
            .iter()
            .enumerate()
            .map(|(position, step): (usize, &Instruction)| (step.id.clone(), position))
            .collect();
        Self { playbook, program, positions }
    }

    /// The playbook it is made of.
    pub fn playbook(&self) -> &Playbook {
        &self.playbook
    }

    /// The local times at which a send may go: its own, or else the playbook's. `None` where it may at any, or is no send.
    pub fn window(&self, step: &StepId) -> Option<&SendWindow> {
        self.send(step).and_then(|send| self.window_of(send))
    }

    /// The shelf life of a send: its own, or else the playbook's.
    pub fn expires(&self, step: &StepId) -> SignedDuration {
        self.send(step).map_or(self.playbook.expires, |send| self.expires_of(send))
    }

    /// What a send says; `None` where it is not known, or is no send.
    pub(crate) fn content(&self, step: &StepId) -> Option<&ContentHash> {
        self.playbook.contents.get(step)
    }

    pub(crate) fn send(&self, step: &StepId) -> Option<&Send> {
        match &self.at(self.position(step)?)?.does {
            Does::Send(send) => Some(send),
            Does::Wait(_) | Does::Branch(_) | Does::Exit(_) => None,
        }
    }

    pub(crate) fn window_of<'a>(&'a self, send: &'a Send) -> Option<&'a SendWindow> {
        send.window.as_ref().or(self.playbook.window.as_ref())
    }

    pub(crate) fn expires_of(&self, send: &Send) -> SignedDuration {
        send.expires.unwrap_or(self.playbook.expires)
    }

    pub(crate) fn at(&self, position: usize) -> Option<&Instruction> {
        self.program.get(position)
    }

    pub(crate) fn position(&self, step: &StepId) -> Option<usize> {
        self.positions.get(step).copied()
    }

    /// The traits of a message for a purpose. All destinations there are carry mail.
    ///
    /// A purpose that the policy no longer has is taken for marketing, and the gate of consent refuses it.
    pub(crate) fn traits(&self, world: &World<'_>, purpose: &model::PurposeName) -> Traits {
        let known = world.policy.purposes.get(purpose);
        Traits {
            channel: Channel::Email,
            class: known.map_or(MessageClass::Marketing, |known| known.class),
            purpose: purpose.clone(),
            brand: known.map_or_else(|| BrandName::known("unknown"), |known| known.brand.clone()),
            playbook: self.playbook.name.clone(),
        }
    }
}

fn size_of(steps: &[Step]) -> usize {
    steps.iter().map(size_of_one).sum()
}

fn size_of_one(step: &Step) -> usize {
    match &step.action {
        Action::Branch(arms) => 1 + arms.iter().map(|arm| size_of(&arm.steps)).sum::<usize>(),
        Action::Send(_) | Action::Wait(_) | Action::Exit(_) => 1,
    }
}

/// Appends steps to the program; after the last of them the walk goes on at `after`.
fn flatten(steps: &[Step], after: usize, program: &mut Vec<Instruction>) {
    for (position, step) in steps.iter().enumerate() {
        let next = if position + 1 == steps.len() { after } else { program.len() + size_of_one(step) };
        let (id, condition) = (step.id.clone(), step.condition.clone());
        match &step.action {
            Action::Send(send) => {
                program.push(Instruction { id, condition, does: Does::Send(send.clone()), next })
            }
            Action::Wait(wait) => {
                program.push(Instruction { id, condition, does: Does::Wait(wait.clone()), next })
            }
            Action::Exit(word) => {
                program.push(Instruction { id, condition, does: Does::Exit(word.clone()), next })
            }
            Action::Branch(arms) => {
                let mut begins = program.len() + 1;
                let mut targets = Vec::with_capacity(arms.len());
                for arm in arms {
                    targets.push((arm.condition.clone(), if arm.steps.is_empty() { next } else { begins }));
                    begins += size_of(&arm.steps);
                }
                program.push(Instruction { id, condition, does: Does::Branch(targets), next });
                arms.iter().for_each(|arm| flatten(&arm.steps, next, program));
            }
        }
    }
}
