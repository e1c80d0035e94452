//! The way through the operation: ring, peers and victim are brought to where it begins, and the victim is stepped to its end.

use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use ipc_ring_tests::step::Progress;

use crate::act::Act;
use crate::event::{Event, FIRST};
use crate::explore::Explorer;
use crate::image::{Images, Moment, Object, Phase, View};
use crate::message::Tag;
use crate::operation::Operation;
use crate::oracle::{InFlight, World};
use crate::ring::Kind;
use crate::scenario::{self, Scenario, Step, Who};
use crate::step::{Call, Staged, Victim};

/// Beyond so many instructions an operation counts as one that never returns. A call that sleeps takes some ten thousand, most of
/// them to find out how many processors there are; to come or go takes up to forty thousand; without optimization, ten times as
/// many.
const MOST_STEPS: u64 = 400_000;
const MOST_STEPS_TO_COME: u64 = 2_000_000;

/// An operation that was stepped from marker to marker.
pub(crate) struct Exploration {
    pub(crate) images: Images,
    pub(crate) steps: u64,
    /// What the operation came to.
    pub(crate) result: Vec<Event>,
    /// What is known before the operation.
    pub(crate) world: World,
    /// What the peers did on the way there; and amid the operation.
    pub(crate) staging: Vec<Vec<Event>>,
    pub(crate) advance: Vec<Event>,
    /// What the segment was when the wreck was killed, and when the peers went on.
    pub(crate) wrecked: Vec<u8>,
    pub(crate) before_advance: Vec<u8>,
    /// The segment of the victim, which is dead. It is discarded with the exploration.
    pub(crate) object: Object,
}

impl Drop for Exploration {
    fn drop(&mut self) {
        self.object.discard();
    }
}

impl Exploration {
    /// What the operation has in flight until it returns.
    pub(crate) fn in_flight(&self, operation: Operation) -> InFlight {
        let tags = |of: fn(&Event) -> Option<Tag>| self.result.iter().filter_map(of).collect();
        InFlight {
            sends: tags(|event| match event {
                Event::Sent(tag) => Some(*tag),
                _ => None,
            }),
            takes: tags(|event| match event {
                Event::Received(tag) => Some(*tag),
                _ => None,
            }),
            claims: operation.claims(),
            comes_or_leaves: operation.comes_or_leaves(),
            removes: operation.ends_the_ring(),
        }
    }
}

impl Explorer {
    /// Brings ring and peers into the state in which the operation begins.
    pub(crate) fn stage(
        &mut self,
        scenario: &Scenario,
        object: &Object,
    ) -> Result<(Staged, Stage)> {
        let take = Act::Take(scenario.ring(object.clone()));
        self.peers.stage(&take)?;
        let mut victim = Staged::launch(&mut helper("--victim", self.fault)?)?;
        victim.stage(&take)?;
        let mut wreck = match scenario.operation.wrecked() {
            None => None,
            Some(_) => {
                let mut wreck = Staged::launch(&mut helper("--victim", self.fault)?)?;
                wreck.stage(&take)?;
                Some(wreck)
            }
        };
        let mut stage = Stage {
            world: World::new(scenario.kind, scenario.capacity),
            events: Vec::new(),
            wrecked: Vec::new(),
        };
        for step in scenario.steps() {
            let events = match step {
                Step::Act(Who::Peers, act) => self.peers.stage(&act)?,
                Step::Act(Who::Victim, act) => victim.stage(&act)?,
                Step::Act(Who::Wreck, act) => wreck.as_mut().context("no wreck")?.stage(&act)?,
                Step::Wreck => {
                    let wreck = wreck.take().context("no wreck")?;
                    stage.wreck(scenario, wreck, object)?
                }
            };
            let seen = stage.world.see(&events);
            seen.map_err(|violation| anyhow::anyhow!("staging: {violation}"))?;
            stage.events.push(events);
        }
        Ok((victim, stage))
    }

    /// Runs a victim from its first marker to its last and notes every image on the way. `tamper` is done to the segment behind
    /// the victim's back at the first marker.
    pub(crate) fn step_through(
        &mut self,
        scenario: &Scenario,
        tamper: impl FnOnce(&Object) -> Result<()>,
    ) -> Result<Exploration> {
        let object = self.next_object();
        let staged = self.stage(scenario, &object);
        let (victim, stage) = staged.inspect_err(|_| {
            object.discard();
        })?;
        let mut exploration = Exploration {
            images: Images::default(),
            steps: 0,
            result: Vec::new(),
            world: stage.world,
            staging: stage.events,
            advance: Vec::new(),
            wrecked: stage.wrecked,
            before_advance: Vec::new(),
            object,
        };
        let sleeps = scenario.peer == scenario::Peer::Sleeps;
        if sleeps {
            // Or they would look for themselves while the victim is stepped.
            self.peers.stop()?;
        }
        let stepped = self.step_on(scenario, victim, &mut exploration, tamper);
        if sleeps {
            self.peers.go_on()?;
        }
        stepped?;
        Ok(exploration)
    }

    fn step_on(
        &mut self,
        scenario: &Scenario,
        victim: Staged,
        exploration: &mut Exploration,
        tamper: impl FnOnce(&Object) -> Result<()>,
    ) -> Result<()> {
        let mut victim = victim.operate(scenario.operation, scenario.operation.seat())?;
        let mut watch = Watch::new(&exploration.object, scenario)?;
        let mut moment = Moment {
            phase: Phase::Before,
            advanced: false,
        };
        watch.record(&mut exploration.images, moment, 0, &victim)?;
        tamper(&exploration.object)?;
        let most_steps = match scenario.operation.is_long() {
            true => MOST_STEPS_TO_COME,
            false => MOST_STEPS,
        };
        moment.phase = Phase::During;
        let listens = scenario.peer == scenario::Peer::Sleeps
            || scenario.advance == scenario::Advance::Asleep;
        let counts = matches!(scenario.advance, scenario::Advance::SystemCall(_));
        let (mut changes, mut calls, mut system_calls) = (0, 0, 0);
        let mut is_due = false;
        let steps = &mut exploration.steps;
        loop {
            let call = if listens { victim.next_call()? } else { None };
            calls += usize::from(call == Some(Call::Wake));
            system_calls += usize::from(counts && victim.makes_system_call()?);
            let is_time = match scenario.advance {
                scenario::Advance::Never => false,
                scenario::Advance::Change(after) => changes == after,
                scenario::Advance::SystemCall(number) => system_calls == number,
                scenario::Advance::Asleep => call == Some(Call::Wait),
            };
            // With the mutex held, the others could only wait: they go on as soon as it is not.
            is_due |= is_time;
            if is_due && !moment.advanced && !exploration.object.is_locked_by(&victim)? {
                if exploration.object.exists() {
                    exploration.before_advance = exploration.object.read()?;
                }
                for act in scenario.advances() {
                    exploration.advance.extend(self.peers.stage(&act)?);
                }
                moment.advanced = true;
                watch.record(&mut exploration.images, moment, *steps, &victim)?;
            }
            if victim.step()? == Progress::Through {
                break;
            }
            *steps += 1;
            ensure!(
                *steps < most_steps,
                "not through after {most_steps} instructions, at {}",
                victim.address()
            );
            let changed = watch.record(&mut exploration.images, moment, *steps, &victim)?;
            changes += usize::from(changed);
        }
        moment.phase = Phase::After;
        watch.record(&mut exploration.images, moment, *steps, &victim)?;
        exploration.result = victim.confirm()?;
        let joined = |event: &Event| matches!(event, Event::Joined(_));
        if exploration.result.iter().any(joined) && !exploration.object.exists() {
            bail!("the victim has joined a ring that has no name");
        }
        let slept = scenario.peer == scenario::Peer::Sleeps;
        // Of lanes, who sleeps waits for a place in its own.
        let concerns = |event: &Event| match event {
            Event::Received(tag) => scenario.kind != Kind::Lanes || tag.sender == FIRST,
            _ => true,
        };
        let concerned = exploration.result.iter().any(concerns);
        if slept && concerned && scenario.operation.calls() && calls == 0 {
            bail!("who slept was not called: the victim made no system call to wake anybody");
        }
        Ok(())
    }
}

/// What came of staging.
pub(crate) struct Stage {
    pub(crate) world: World,
    events: Vec<Vec<Event>>,
    wrecked: Vec<u8>,
}

impl Stage {
    /// Kills a victim amid its operation, when it has changed the segment as often as the scenario says.
    fn wreck(&mut self, scenario: &Scenario, wreck: Staged, object: &Object) -> Result<Vec<Event>> {
        let (operation, seat) = scenario.operation.wrecked().context("no wreck")?;
        let in_flight = self.world.next_of(operation, seat);
        let mut wreck = wreck.operate(operation, seat)?;
        let view = View::open(&object.path())?.context("the segment is gone")?;
        'changes: for _ in 0..scenario.wreck {
            let before = view.bytes(&wreck).to_vec();
            while view.bytes(&wreck) == before {
                // An operation of fewer changes is killed behind its last one.
                if wreck.step()? == Progress::Through {
                    break 'changes;
                }
            }
        }
        drop(wreck);
        self.wrecked = object.read()?;
        self.world.enter(&in_flight);
        Ok(vec![Event::Vanished(seat)])
    }
}

/// A look at the victim's segment, which may come and go.
struct Watch<'a> {
    object: &'a Object,
    view: Option<View>,
    /// Whether the name can come or go in the operation.
    may_change: bool,
}

impl<'a> Watch<'a> {
    fn new(object: &'a Object, scenario: &Scenario) -> Result<Self> {
        Ok(Self {
            object,
            view: View::open(&object.path())?,
            may_change: matches!(
                scenario.operation,
                Operation::Create | Operation::JoinRemoved | Operation::RemoveInUse
            ) || scenario.operation.ends_the_ring(),
        })
    }

    fn record(
        &mut self,
        images: &mut Images,
        moment: Moment,
        step: u64,
        victim: &Victim,
    ) -> Result<bool> {
        if self.may_change && self.view.is_some() != self.object.exists() {
            self.view = View::open(&self.object.path())?;
        }
        let bytes = self.view.as_ref().map(|view| view.left_by(victim));
        Ok(images.record(moment, step, bytes.as_deref(), || victim.address()))
    }
}

/// This program in one of its other roles.
pub(crate) fn helper(role: &str, fault: Option<&str>) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("finding this program")?);
    // A victim that gives up would capture a backtrace, one instruction at a time.
    command.arg(role).env("RUST_BACKTRACE", "0");
    if let Some(fault) = fault {
        command.env("IPC_RING_FAULT", fault);
    }
    Ok(command)
}
