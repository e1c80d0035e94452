//! What comes after the kill: those who live on, or newcomers, recover, and the oracle is asked about what they report.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::act::{Act, Order};
use crate::event::{Event, FIRST, Seat};
use crate::explore::Explorer;
use crate::identity::differs_in_more_than_identity;
use crate::image::{Image, Moment, Object, Phase};
use crate::operation::Operation;
use crate::oracle::{Violation, World};
use crate::scenario::{self, Scenario, Step};
use crate::walk::Exploration;

/// What the log outside the segment says when the victim was killed at some moment.
fn world_at(
    scenario: &Scenario,
    exploration: &Exploration,
    moment: Moment,
) -> Result<World, Violation> {
    let operation = scenario.operation;
    let mut in_flight = exploration.in_flight(operation);
    if !moment.advanced {
        // What others send later in the operation was not there.
        let is_later = |tag| exploration.advance.contains(&Event::Sent(tag));
        in_flight.takes.retain(|&tag| !is_later(tag));
    }
    let mut world = exploration.world.clone();
    match moment.phase {
        Phase::Before => {}
        Phase::During | Phase::After => {
            world.enter(&in_flight);
            if moment.advanced {
                world.see(&exploration.advance)?;
            }
        }
    }
    if moment.phase == Phase::After {
        world.returned(&in_flight, &exploration.result)?;
    }
    kill_in(&mut world, scenario, moment.phase);
    Ok(world)
}

/// The victim is killed, and those who die with it.
pub(crate) fn kill_in(world: &mut World, scenario: &Scenario, phase: Phase) {
    let operation = scenario.operation;
    if operation == Operation::Clone {
        world.killed(&[FIRST], false);
    }
    let is_there = operation.is_a_call() || phase != Phase::Before;
    if is_there && operation.takes_part() {
        let is_unsure = operation.comes_or_leaves() && phase == Phase::During;
        world.killed(&[operation.seat()], is_unsure);
    } else {
        world.killed(&[], false);
    }
    if !scenario.peer.survives() {
        world.killed_all();
    }
}

impl Explorer {
    /// Lets newcomers recover from `bytes`; what the oracle says.
    pub(crate) fn recover(
        &mut self,
        scenario: &Scenario,
        exploration: &Exploration,
        moment: Moment,
        bytes: Option<&[u8]>,
        order: Order,
    ) -> Result<Result<Option<bool>, Violation>> {
        let object = self.next_object();
        if let Some(bytes) = bytes {
            object.materialize(bytes)?;
        }
        let take = Act::Take(scenario.ring(object.clone()));
        self.survivors.stage(&take)?;
        let silence = self.limits.silence;
        let events = self.survivors.perform(&Act::Recover(order), silence)?;
        Ok(judge(
            world_at(scenario, exploration, moment),
            &events,
            &object,
        ))
    }

    /// Recovers on the segment of the victim itself: its peers, if they live on, or newcomers.
    pub(crate) fn recover_in_place(
        &mut self,
        scenario: &Scenario,
        exploration: &Exploration,
        moment: Moment,
        order: Order,
    ) -> Result<Result<Option<bool>, Violation>> {
        let world = world_at(scenario, exploration, moment);
        let events = self.go_on_in_place(scenario, &exploration.object, order)?;
        Ok(judge(world, &events, &exploration.object))
    }

    /// Those who live on, or newcomers, go on with `object`, whose victim is dead.
    pub(crate) fn go_on_in_place(
        &mut self,
        scenario: &Scenario,
        object: &Object,
        order: Order,
    ) -> Result<Vec<Event>> {
        if scenario.peer.survives() {
            return self
                .peers
                .perform(&Act::Recover(order), self.limits.silence);
        }
        let take = Act::Take(scenario.ring(object.clone()));
        // So they die.
        self.peers.stage(&take)?;
        self.survivors.stage(&take)?;
        self.survivors
            .perform(&Act::Recover(order), self.limits.silence)
    }

    /// Has survivors come to where the victim's peers were, and go on from `image`; what the oracle says.
    pub(crate) fn go_on_from(
        &mut self,
        scenario: &Scenario,
        exploration: &Exploration,
        image: &Image,
        order: Order,
    ) -> Result<Result<Option<bool>, Violation>> {
        let object = self.next_object();
        let outcome = self.play_again(scenario, exploration, image, order, &object);
        let outcome = outcome.map(|events| {
            judge(
                world_at(scenario, exploration, image.moment),
                &events,
                &object,
            )
        });
        object.discard();
        outcome
    }

    fn play_again(
        &mut self,
        scenario: &Scenario,
        exploration: &Exploration,
        image: &Image,
        order: Order,
        object: &Object,
    ) -> Result<Vec<Event>> {
        let survivors = &mut self.survivors;
        survivors.stage(&Act::Take(scenario.ring(object.clone())))?;
        for (step, known) in scenario.steps().iter().zip(&exploration.staging) {
            let events = match step {
                // The victim's as well: its counterpart dies below.
                Step::Act(_, act) => survivors.stage(act)?,
                Step::Wreck => {
                    let (_, seat) = scenario.operation.wrecked().context("no wreck")?;
                    let vanished = survivors.stage(&Act::Vanish(seat))?;
                    object.overwrite(&exploration.wrecked)?;
                    vanished
                }
            };
            ensure!(
                events == *known,
                "staged otherwise: {events:?}, not {known:?}"
            );
        }
        let before = exploration.images.distinct()[0].bytes.as_deref();
        let before = before.context("nobody survives without a ring")?;
        if let Some(difference) = differs_in_more_than_identity(before, &object.read()?) {
            bail!("staged otherwise: {difference}");
        }
        if image.moment.advanced {
            object.overwrite(&exploration.before_advance)?;
            let mut events = Vec::new();
            for act in scenario.advances() {
                events.extend(survivors.stage(&act)?);
            }
            let known = &exploration.advance;
            ensure!(
                events == *known,
                "advanced otherwise: {events:?}, not {known:?}"
            );
        }
        // Not before: while the others went on, the victim lived.
        for seat in victims(scenario) {
            survivors.stage(&Act::Vanish(seat))?;
        }
        let bytes = image.bytes.as_deref();
        let bytes = bytes.context("nobody survives without a ring")?;
        if scenario.peer == scenario::Peer::Sleeps {
            survivors.stop()?;
            object.overwrite(bytes)?;
            survivors.go_on()?;
        } else {
            object.overwrite(bytes)?;
        }
        survivors.perform(&Act::Recover(order), self.limits.silence)
    }

    /// Asks survivors for nothing, with nobody to wake them.
    pub(crate) fn stall(&mut self, watchdog: Duration, scenario: &Scenario) -> Result<Vec<Event>> {
        let object = self.next_object();
        self.survivors.stage(&Act::Take(scenario.ring(object)))?;
        self.survivors
            .perform(&Act::Recover(Order::Stall), watchdog)
    }
}

/// What the oracle says to the end of it. What is left of the ring is discarded.
pub(crate) fn judge(
    world: Result<World, Violation>,
    events: &[Event],
    object: &Object,
) -> Result<Option<bool>, Violation> {
    let is_left = object.discard();
    let mut world = world?;
    world.see(events)?;
    let verdict = world.verdict(events)?;
    if is_left {
        return Err(Violation::new(
            "the removed segment still has its name",
            events,
        ));
    }
    Ok(verdict)
}

/// Whom the victim plays before its operation.
fn victims(scenario: &Scenario) -> Vec<Seat> {
    match scenario.operation {
        Operation::Clone => vec![FIRST],
        operation if operation.is_a_call() => vec![operation.seat()],
        _ => Vec::new(),
    }
}
