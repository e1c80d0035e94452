//! One exploration: step the victim through its operation, then recover from every distinct image.

use std::time::Duration;

use anyhow::Result;

use crate::act::Order;
use crate::image::{Image, Images, Moment, Object, Phase, changed_words};
use crate::player::{Player, WATCHDOG};
use crate::scenario::Scenario;
use crate::strike::Blows;
use crate::walk::{Exploration, helper};

/// How much is enough.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// A scenario with this many failures is not pursued: what is broken hangs often, and every hang takes its time.
    pub(crate) failures: usize,
    /// How long a process may be silent.
    pub(crate) silence: Duration,
}

impl Limits {
    pub(crate) const OF_A_SEARCH: Self = Self {
        failures: 8,
        silence: WATCHDOG,
    };
}

/// What an exploration found.
pub(crate) struct Report {
    pub(crate) scenario: Scenario,
    pub(crate) steps: u64,
    pub(crate) images: usize,
    pub(crate) recoveries: usize,
    pub(crate) strikes: Strikes,
    pub(crate) failures: Vec<String>,
}

/// How often a real victim was struck where.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Strikes {
    /// Killed at the entry or the exit of a system call.
    pub(crate) at_system_calls: usize,
    /// Killed at an instruction.
    pub(crate) at_instructions: usize,
    /// Stopped at an instruction, while the others went round the ring, and let go on.
    pub(crate) stops: usize,
}

/// Explores scenarios one after the other.
pub(crate) struct Explorer {
    namespace: String,
    /// Those who take part beside the victim.
    pub(crate) peers: Player,
    /// Those who recover from images, with what peers of the victim would remember or with nothing.
    pub(crate) survivors: Player,
    /// What all of them do wrong.
    pub(crate) fault: Option<&'static str>,
    pub(crate) limits: Limits,
    objects: usize,
}

impl Explorer {
    /// With a `fault` that the library under test knows by this name, or none.
    pub(crate) fn new(
        namespace: String,
        fault: Option<&'static str>,
        limits: Limits,
    ) -> Result<Self> {
        Ok(Self {
            namespace,
            peers: Player::new(helper("--player", fault)?),
            survivors: Player::new(helper("--player", fault)?),
            fault,
            limits,
            objects: 0,
        })
    }

    /// Steps `scenario` and recovers from everything that it left behind; `blows` says where real victims are killed or stopped.
    pub(crate) fn explore(&mut self, scenario: Scenario, blows: Option<Blows>) -> Report {
        let mut report = Report {
            scenario,
            steps: 0,
            images: 0,
            recoveries: 0,
            strikes: Strikes::default(),
            failures: Vec::new(),
        };
        if let Err(error) = self.try_explore(&mut report, blows) {
            report.failures.push(format!("{error:#}"));
            // Whatever they were in the middle of, the next scenario begins with others.
            self.peers.end();
            self.survivors.end();
        }
        report
    }

    fn try_explore(&mut self, report: &mut Report, blows: Option<Blows>) -> Result<()> {
        let scenario = report.scenario;
        let exploration = self.step_through(&scenario, |_| Ok(()))?;
        let images = &exploration.images;
        report.steps = exploration.steps;
        report.images = images.distinct().len();

        // Once on the segment of the victim itself: its locks were really held, and it was really killed.
        report.recoveries += 1;
        let order = Order::RECOVERIES[report.images % Order::RECOVERIES.len()];
        let last = Moment {
            phase: Phase::After,
            advanced: !exploration.advance.is_empty(),
        };
        if let Err(violation) = self.recover_in_place(&scenario, &exploration, last, order)? {
            let text = format!("killed behind the operation, {order}: {violation}");
            report.failures.push(text);
            if report.failures.len() >= self.limits.failures {
                return Ok(());
            }
        }
        let mut effects = Vec::new();
        for index in 0..images.distinct().len() {
            effects.push(self.recover_from(&exploration, index, report)?);
            if report.failures.len() >= self.limits.failures {
                return Ok(());
            }
        }
        report
            .failures
            .extend(changes_of_mind(&scenario, images, &effects));
        if let Some(blows) = blows {
            self.strike_all(&exploration, blows, report)?;
        }
        Ok(())
    }

    /// Recovers from one image in every order; whether the operation had taken effect, where that is open.
    fn recover_from(
        &mut self,
        exploration: &Exploration,
        index: usize,
        report: &mut Report,
    ) -> Result<Option<bool>> {
        let images = &exploration.images;
        let image = &images.distinct()[index];
        let mut effects = Vec::new();
        for order in Order::RECOVERIES {
            report.recoveries += 1;
            let recovered = if report.scenario.peer.survives() {
                self.go_on_from(&report.scenario, exploration, image, order)?
            } else {
                let bytes = image.bytes.as_deref();
                self.recover(&report.scenario, exploration, image.moment, bytes, order)?
            };
            match recovered {
                Ok(effect) => effects.push(effect),
                Err(violation) => {
                    let text = format!("{order}: {violation}");
                    report.failures.push(explain(images, index, &text));
                }
            }
        }
        let known = effects.iter().flatten().collect::<Vec<_>>();
        if known.windows(2).any(|pair| pair[0] != pair[1]) {
            let violation = "whether the operation took effect depends on who recovers first";
            report.failures.push(explain(images, index, violation));
        }
        Ok(known.first().copied().copied())
    }

    pub(crate) fn next_object(&mut self) -> Object {
        self.objects += 1;
        Object {
            namespace: self.namespace.clone(),
            name: format!("image-{}", self.objects),
        }
    }
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
        moment,
        first_step,
        seen,
        address,
        ..
    } = &images.distinct()[index];
    let mut text = format!(
        "image {index} ({:?} the operation, after {first_step} instructions, for {seen}, at {address}): {violation}",
        moment.phase
    );
    let position = images.timeline().iter().position(|&(at, _)| at == index);
    if let Some(previous) = position.and_then(|position| position.checked_sub(1)) {
        let previous = &images.distinct()[images.timeline()[previous].0];
        if let (Some(there), Some(here)) = (&previous.bytes, &images.distinct()[index].bytes) {
            for (offset, there, here) in changed_words(there, here).iter().take(4) {
                text += &format!(
                    "\n      it came from the store at {offset:#x}: {there:#x} → {here:#x}"
                );
            }
        }
    }
    text
}
