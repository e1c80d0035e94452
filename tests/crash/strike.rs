//! Kernel state is in no image. So real victims are killed: at the entry and at the exit of every system call, and at some
//! instructions, with their locks held; and stopped in place of killed, while the others go round the ring.

use std::ops::Range;

use anyhow::{Result, anyhow};
use ipc_ring_tests::step::Progress;

use crate::act::{Act, Order};
use crate::aftermath::{judge, kill_in};
use crate::event::Event;
use crate::explore::{Explorer, Report};
use crate::image::Phase;
use crate::operation::Operation;
use crate::oracle::{InFlight, Violation};
use crate::scenario::{Advance, Peer, Scenario};
use crate::step::Victim;
use crate::walk::Exploration;

/// So many system calls are struck of an operation that would go on for ever.
const MOST_OF_A_WAIT: usize = 40;

/// Entries and exits of system calls in a marker, at most, before it raises its signal.
const STOPS_OF_A_MARKER: usize = 8;

/// So many are struck of who joins a ring that somebody tried in vain to remove, which takes its time: the rest is as without.
const MOST_AFTER_REFUSAL: usize = 6;

/// Where real victims of a scenario are struck.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blows {
    /// At so many instructions, evenly spaced.
    pub(crate) instructions: usize,
    /// And at one of so many entries and exits of system calls: odd, so that it meets both.
    pub(crate) every: usize,
    /// And stopped there at one of so many.
    pub(crate) stops: usize,
}

/// Where a victim is struck.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// After so many entries and exits of system calls.
    SystemCall(usize),
    /// After so many instructions.
    Instruction(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Kill,
    /// SIGSTOP, and SIGCONT when the others have gone round the ring.
    Stop,
}

/// What came of a strike.
enum Outcome {
    /// The operation was over before.
    Missed,
    Judged(Result<Option<bool>, Violation>),
}

impl Explorer {
    /// Strikes victims of an operation that was stepped before.
    pub(crate) fn strike_all(
        &mut self,
        exploration: &Exploration,
        blows: Blows,
        report: &mut Report,
    ) -> Result<()> {
        let scenario = report.scenario;
        let mut last = 0;
        for number in system_calls(exploration, &scenario).step_by(blows.every) {
            let place = Place::SystemCall(number);
            if !self.strike_once(exploration, place, Deed::Kill, report)? {
                break;
            }
            report.strikes.at_system_calls += 1;
            last = number;
        }
        let steps = exploration.steps.max(1);
        let samples = blows.instructions as u64;
        let samples = (0..samples).map(|sample| (2 * sample + 1) * steps / (2 * samples));
        let samples = samples.collect::<Vec<_>>();
        if scenario.advance == Advance::Never {
            for &instruction in &samples {
                let place = Place::Instruction(instruction);
                if self.strike_once(exploration, place, Deed::Kill, report)? {
                    report.strikes.at_instructions += 1;
                }
            }
        }
        if can_be_stopped(&scenario) {
            let images = exploration.images.distinct();
            let changes = images
                .iter()
                .filter(|image| image.moment.phase == Phase::During);
            let changes = changes.map(|image| image.first_step);
            let instructions = changes.chain(samples).map(Place::Instruction);
            // The kernel's state, which changes in system calls, is what matters to others while somebody comes or leaves.
            // The last ones are the marker's, which raises the same signal.
            let all = last.saturating_sub(STOPS_OF_A_MARKER);
            let calls = (1..=all).step_by(blows.stops);
            let calls = calls.map(Place::SystemCall);
            let calls = calls.filter(|_| scenario.operation.is_long());
            for place in instructions.chain(calls) {
                if self.strike_once(exploration, place, Deed::Stop, report)? {
                    report.strikes.stops += 1;
                }
            }
        }
        Ok(())
    }

    /// Whether there was somebody to strike.
    fn strike_once(
        &mut self,
        exploration: &Exploration,
        place: Place,
        deed: Deed,
        report: &mut Report,
    ) -> Result<bool> {
        if report.failures.len() >= self.limits.failures {
            return Ok(false);
        }
        // Both orders take turns.
        let strikes = report.strikes;
        let number = strikes.at_system_calls + strikes.at_instructions + strikes.stops;
        let order = Order::RECOVERIES[number % Order::RECOVERIES.len()];
        let scenario = report.scenario;
        let outcome = self.strike(&scenario, exploration, (place, deed), order);
        let outcome = outcome.map_err(|error| error.context(format!("{deed:?} at {place:?}")))?;
        match outcome {
            Outcome::Missed => return Ok(false),
            Outcome::Judged(Ok(_)) => {}
            Outcome::Judged(Err(violation)) => {
                let text = format!("{deed:?} at {place:?}, {order}: {violation}");
                report.failures.push(text);
            }
        }
        report.recoveries += 1;
        Ok(true)
    }

    fn strike(
        &mut self,
        scenario: &Scenario,
        exploration: &Exploration,
        (place, deed): (Place, Deed),
        order: Order,
    ) -> Result<Outcome> {
        let object = self.next_object();
        let outcome = (|| {
            let operation = scenario.operation;
            let (victim, stage) = self.stage(scenario, &object)?;
            let mut victim = victim.operate(operation, operation.seat())?;
            let mut advance = Vec::new();
            let mut go_on = || -> Result<()> {
                for act in scenario.advances() {
                    advance.extend(self.peers.stage(&act)?);
                }
                Ok(())
            };
            if !bring(&mut victim, place, scenario.advance, &mut go_on)? {
                if scenario.peer == Peer::Sleeps {
                    // Nobody will wake them, and who sleeps can't be made to vanish.
                    self.peers.end();
                }
                return Ok(Outcome::Missed);
            }
            // Others would only say that they can't have the mutex.
            while deed == Deed::Stop && object.is_locked_by(&victim)? {
                if victim.step()? == Progress::Through {
                    return Ok(Outcome::Missed);
                }
            }
            let mut world = stage.world;
            let in_flight = InFlight {
                // What it waited for does not come.
                takes: match is_a_wait(operation) {
                    true => Vec::new(),
                    false => exploration.in_flight(operation).takes,
                },
                ..exploration.in_flight(operation)
            };
            world.enter(&in_flight);
            if let Err(violation) = world.see(&advance) {
                return Ok(Outcome::Judged(Err(violation)));
            }
            let phase = match deed {
                Deed::Kill => Phase::During,
                Deed::Stop => {
                    victim.leave_stopped()?;
                    for act in meanwhile(operation) {
                        let events = self.peers.perform(&act, self.limits.silence)?;
                        if let Err(violation) = world.see(&events) {
                            return Ok(Outcome::Judged(Err(violation)));
                        }
                    }
                    let result = victim.go_on_to_the_end();
                    let result = result.map_err(|error| anyhow!("it was let go on: {error:#}"))?;
                    if let Err(violation) = world.returned(&in_flight, &result) {
                        return Ok(Outcome::Judged(Err(violation)));
                    }
                    Phase::After
                }
            };
            drop(victim);
            kill_in(&mut world, scenario, phase);
            let events = self.go_on_in_place(scenario, &object, order)?;
            Ok(Outcome::Judged(judge(Ok(world), &events, &object)))
        })();
        object.discard();
        outcome
    }
}

/// The entries and exits of system calls at which victims are killed.
fn system_calls(exploration: &Exploration, scenario: &Scenario) -> Range<usize> {
    let first = match scenario.advance {
        // Before, it is as if nobody had gone on.
        Advance::SystemCall(number) => entry_of(number),
        _ => 1,
    };
    let most = match is_a_wait(scenario.operation) {
        true => MOST_OF_A_WAIT,
        false if exploration.advance.contains(&Event::Refused) => MOST_AFTER_REFUSAL,
        false => usize::MAX,
    };
    first..first.saturating_add(most)
}

/// Each system call stops its caller at its entry and at its exit.
const fn entry_of(system_call: usize) -> usize {
    2 * system_call - 1
}

/// Whether the victim comes there. If the others are to go on when it is about to make some system call, they do.
fn bring(
    victim: &mut Victim,
    place: Place,
    advance: Advance,
    go_on: &mut dyn FnMut() -> Result<()>,
) -> Result<bool> {
    match place {
        Place::SystemCall(number) => {
            for stop in 1..=number {
                if victim.run_to_system_call()? == Progress::Through {
                    return Ok(false);
                }
                if matches!(advance, Advance::SystemCall(call) if stop == entry_of(call)) {
                    go_on()?;
                }
            }
        }
        Place::Instruction(number) => {
            for _ in 0..number {
                if victim.step()? == Progress::Through {
                    return Ok(false);
                }
            }
        }
    }
    Ok(true)
}

/// Whether the operation waits for somebody to act, who here does not.
fn is_a_wait(operation: Operation) -> bool {
    matches!(operation, Operation::SendWaiting | Operation::RecvWaiting)
}

/// What the others do while the victim stands still.
fn meanwhile(operation: Operation) -> Vec<Act> {
    match operation {
        Operation::JoinRefused => vec![Act::Return, Act::Lap],
        _ => vec![Act::Lap],
    }
}

/// Whether what the victim comes to when it is let go on is known, whatever the others did. (Who removes a ring keeps others from
/// coming as long as it stands still.)
fn can_be_stopped(scenario: &Scenario) -> bool {
    let operation = scenario.operation;
    let carries_messages = matches!(
        operation,
        Operation::TrySend
            | Operation::ReservePublish
            | Operation::ReserveDrop
            | Operation::SendSlice
            | Operation::TryRecv
            | Operation::PeekConsume
            | Operation::RecvSlice
            | Operation::Drain
    );
    let keeps_the_ring = operation.comes_or_leaves() && !operation.ends_the_ring();
    scenario.peer == Peer::Lives
        && (carries_messages || keeps_the_ring || operation == Operation::JoinRefused)
}
