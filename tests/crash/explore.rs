//! One exploration: step the victim through its operation, then recover from every distinct image.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ipc_ring_tests::step::Progress;

use crate::event::Event;
use crate::image::{Image, Images, Object, Phase, View, changed_words};
use crate::oracle::{Violation, judge};
use crate::recover::{Order, Request, Survivor};
use crate::scenario::Scenario;
use crate::step::Victim;

/// Beyond this many instructions an operation counts as one that never returns. Joining takes some ten thousand.
const MOST_STEPS: u64 = 20_000_000;

/// A scenario with this many failures is not pursued: what is broken hangs often, and every hang takes its time.
const MOST_FAILURES: usize = 8;

/// How long survivors may be silent.
pub(crate) const WATCHDOG: Duration = Duration::from_secs(20);

/// What an exploration found.
pub(crate) struct Report {
    pub(crate) scenario: Scenario,
    pub(crate) steps: u64,
    pub(crate) images: usize,
    pub(crate) recoveries: usize,
    pub(crate) failures: Vec<String>,
}

/// Explores scenarios one after the other, with one survivor process for all of them.
pub(crate) struct Explorer {
    namespace: String,
    survivor: Survivor,
    objects: usize,
}

/// The images of an operation that was stepped from marker to marker.
pub(crate) struct Exploration {
    pub(crate) images: Images,
    steps: u64,
    /// The segment of the victim, which is dead. It is discarded with the exploration.
    object: Object,
}

impl Drop for Exploration {
    fn drop(&mut self) {
        self.object.discard();
    }
}

impl Explorer {
    pub(crate) fn new(namespace: String) -> Result<Self> {
        Ok(Self {
            namespace,
            survivor: Survivor::new(helper("--survivor")?),
            objects: 0,
        })
    }

    /// Steps `scenario` and recovers from everything that it left behind.
    pub(crate) fn explore(&mut self, scenario: Scenario) -> Report {
        let mut report = Report {
            scenario,
            steps: 0,
            images: 0,
            recoveries: 0,
            failures: Vec::new(),
        };
        if let Err(error) = self.try_explore(&mut report) {
            report.failures.push(format!("{error:#}"));
        }
        report
    }

    fn try_explore(&mut self, report: &mut Report) -> Result<()> {
        let scenario = report.scenario;
        let exploration = self.step_through(&scenario)?;
        let images = &exploration.images;
        report.steps = exploration.steps;
        report.images = images.distinct().len();

        let mut effects = Vec::new();
        for index in 0..images.distinct().len() {
            effects.push(self.recover_from(images, index, report)?);
            if report.failures.len() >= MOST_FAILURES {
                return Ok(());
            }
        }
        report
            .failures
            .extend(changes_of_mind(&scenario, images, &effects));
        if report.failures.is_empty() {
            // Once more on the segment of the victim itself: its locks were really held, and it was really killed.
            report.recoveries += 1;
            let order = Order::RECOVERIES[report.images % Order::RECOVERIES.len()];
            if let Err(violation) =
                self.recover_object(&scenario, Phase::After, &exploration.object, order)?
            {
                report
                    .failures
                    .push(format!("killed behind the operation, {order}: {violation}"));
            }
        }
        Ok(())
    }

    /// Recovers from one image in every order; whether the operation had taken effect, where that is open.
    fn recover_from(
        &mut self,
        images: &Images,
        index: usize,
        report: &mut Report,
    ) -> Result<Option<bool>> {
        let image = &images.distinct()[index];
        let mut effects = Vec::new();
        for order in Order::RECOVERIES {
            report.recoveries += 1;
            match self.recover(&report.scenario, image.phase, &image.bytes, order)? {
                Ok(possible) => {
                    effects.push(possible.map(|there| report.scenario.took_effect(there)))
                }
                Err(violation) => {
                    report
                        .failures
                        .push(explain(images, index, &format!("{order}: {violation}")))
                }
            }
        }
        if effects.windows(2).any(|pair| pair[0] != pair[1]) {
            let violation = "whether the operation took effect depends on who recovers first";
            report.failures.push(explain(images, index, violation));
        }
        Ok(effects.first().copied().flatten())
    }

    /// Runs a victim from its first marker to its second and notes every image on the way.
    pub(crate) fn step_through(&mut self, scenario: &Scenario) -> Result<Exploration> {
        self.step_through_with(scenario, |_| Ok(()))
    }

    /// The same, with something done to the segment behind the victim's back at the first marker.
    pub(crate) fn step_through_with(
        &mut self,
        scenario: &Scenario,
        tamper: impl FnOnce(&Object) -> Result<()>,
    ) -> Result<Exploration> {
        let mut exploration = Exploration {
            images: Images::default(),
            steps: 0,
            object: self.next_object(),
        };
        let Exploration {
            images,
            steps,
            object,
        } = &mut exploration;
        if let Some(operation) = scenario.operation.wrecked() {
            wreck(
                &Scenario {
                    operation,
                    ..*scenario
                },
                object,
            )?;
        } else if scenario.operation.is_takeover() {
            let status = helper("--stage")?
                .args(victim_arguments(scenario, object))
                .status()?;
            ensure!(status.success(), "staging failed with {status}");
        }
        let mut victim = launch(scenario, object)?;
        let view = View::open(&object.path())?;
        images.record(Phase::Before, 0, view.bytes(&victim), || victim.address());
        tamper(object)?;
        while victim.step()? == Progress::Inside {
            *steps += 1;
            ensure!(
                *steps < MOST_STEPS,
                "not through after {MOST_STEPS} instructions, at {}",
                victim.address()
            );
            images.record(Phase::During, *steps, view.bytes(&victim), || {
                victim.address()
            });
        }
        images.record(Phase::After, *steps, view.bytes(&victim), || {
            victim.address()
        });
        victim.confirm()?;
        drop(victim);
        Ok(exploration)
    }

    /// Lets survivors recover from `bytes`; what the oracle says.
    pub(crate) fn recover(
        &mut self,
        scenario: &Scenario,
        phase: Phase,
        bytes: &[u8],
        order: Order,
    ) -> Result<Result<Option<bool>, Violation>> {
        let object = self.next_object();
        object.materialize(bytes)?;
        self.recover_object(scenario, phase, &object, order)
    }

    fn recover_object(
        &mut self,
        scenario: &Scenario,
        phase: Phase,
        object: &Object,
        order: Order,
    ) -> Result<Result<Option<bool>, Violation>> {
        let promise = scenario.promise(phase);
        let request = Request {
            object: object.clone(),
            words: scenario.words,
            capacity: scenario.capacity,
            order,
        };
        let events = self.survivor.recover(&request, WATCHDOG)?;
        let verdict = judge(&promise, &events);
        let left_behind = object.discard();
        Ok(match verdict {
            Ok(_) if left_behind => Err(Violation::new(
                "the removed segment still has its name",
                &events,
            )),
            verdict => verdict,
        })
    }

    /// Asks survivors for nothing, with nobody to wake them.
    pub(crate) fn stall(&mut self, watchdog: Duration) -> Result<Vec<Event>> {
        let request = Request {
            object: self.next_object(),
            words: 1,
            capacity: 1,
            order: Order::Stall,
        };
        self.survivor.recover(&request, watchdog)
    }

    fn next_object(&mut self) -> Object {
        self.objects += 1;
        Object {
            namespace: self.namespace.clone(),
            name: format!("image-{}", self.objects),
        }
    }
}

/// This program in one of its other roles.
fn helper(role: &str) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("finding this program")?);
    // A victim that gives up would capture a backtrace, one instruction at a time.
    command.arg(role).env("RUST_BACKTRACE", "0");
    Ok(command)
}

fn launch(scenario: &Scenario, object: &Object) -> Result<Victim> {
    Victim::launch(helper("--victim")?.args(victim_arguments(scenario, object)))
}

/// Kills a victim amid its operation, when it has changed the segment as often as the scenario says.
fn wreck(scenario: &Scenario, object: &Object) -> Result<()> {
    let mut victim = launch(scenario, object)?;
    let view = View::open(&object.path())?;
    for _ in 0..scenario.wreck {
        let before = view.bytes(&victim).to_vec();
        while view.bytes(&victim) == before {
            // An operation of fewer changes is killed behind its last one.
            if victim.step()? == Progress::Through {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn victim_arguments(scenario: &Scenario, object: &Object) -> [String; 3] {
    [
        scenario.to_string(),
        object.namespace.clone(),
        object.name.clone(),
    ]
}

/// An operation takes effect at one instruction: once an image shows the effect, every later one does. And a recovery
/// changes nothing about what its predecessor did.
fn changes_of_mind(
    scenario: &Scenario,
    images: &Images,
    effects: &[Option<bool>],
) -> Option<String> {
    let is_recovery = scenario.operation.wrecked().is_some();
    let known = images
        .timeline()
        .iter()
        .filter_map(|&(index, step)| Some((index, step, effects[index]?)));
    let known = known.collect::<Vec<_>>();
    known.windows(2).find_map(|pair| {
        let [(_, _, earlier), (index, step, later)] = *pair else {
            return None;
        };
        (earlier != later && (is_recovery || earlier)).then(|| {
            let change = if later { "came about" } else { "was undone" };
            format!(
                "the effect of the operation {change} after {step} instructions (image {index})"
            )
        })
    })
}

/// Everything that is needed to find the instruction and the store that a failure is about.
fn explain(images: &Images, index: usize, violation: &str) -> String {
    let Image {
        phase,
        first_step,
        seen,
        address,
        ..
    } = &images.distinct()[index];
    let mut text = format!(
        "image {index} ({phase:?} the operation, after {first_step} instructions, for {seen}, at {address}): {violation}"
    );
    let position = images.timeline().iter().position(|&(at, _)| at == index);
    if let Some(previous) = position.and_then(|position| position.checked_sub(1)) {
        let previous = &images.distinct()[images.timeline()[previous].0];
        let changes = changed_words(&previous.bytes, &images.distinct()[index].bytes);
        for (offset, there, here) in changes.iter().take(4) {
            text +=
                &format!("\n      it came from the store at {offset:#x}: {there:#x} → {here:#x}");
        }
    }
    text
}
