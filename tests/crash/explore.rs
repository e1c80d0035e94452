//! One exploration: step the victim through its operation, then recover from every distinct image.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use ipc_ring_tests::step::Progress;

use crate::act::{Act, Order};
use crate::event::{Event, Seat};
use crate::identity::differs_in_more_than_identity;
use crate::image::{Image, Images, Moment, Object, Phase, View, changed_words};
use crate::oracle::{InFlight, Violation, World};
use crate::player::{Player, WATCHDOG};
use crate::ring::Kind;
use crate::scenario::{self, FIRST, Operation, Scenario, Step, Who};
use crate::step::{Futex, Staged, Victim};

/// Beyond this many instructions an operation counts as one that never returns. Joining takes some ten thousand, and some
/// million without optimization.
const MOST_STEPS: u64 = 20_000_000;

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
    fault: Option<&'static str>,
    pub(crate) limits: Limits,
    objects: usize,
}

/// An operation that was stepped from marker to marker.
pub(crate) struct Exploration {
    pub(crate) images: Images,
    pub(crate) steps: u64,
    /// What the operation came to.
    pub(crate) result: Vec<Event>,
    /// What is known before the operation.
    pub(crate) world: World,
    /// What the peers did on the way there; and amid the operation.
    staging: Vec<Vec<Event>>,
    advance: Vec<Event>,
    /// What the segment was when the wreck was killed, and when the peers went on.
    wrecked: Vec<u8>,
    before_advance: Vec<u8>,
    /// The segment of the victim, which is dead. It is discarded with the exploration.
    object: Object,
}

impl Drop for Exploration {
    fn drop(&mut self) {
        self.object.discard();
    }
}

impl Exploration {
    /// What the operation has in flight until it returns.
    pub(crate) fn in_flight(&self, operation: Operation) -> InFlight {
        let tags = |of: fn(&Event) -> Option<crate::message::Tag>| {
            self.result.iter().filter_map(of).collect()
        };
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
            removes: operation.ends_the_ring(),
        }
    }
}

/// What the log outside the segment says when the victim was killed at some moment.
pub(crate) fn world_at(
    scenario: &Scenario,
    exploration: &Exploration,
    moment: Moment,
) -> Result<World, Violation> {
    let operation = scenario.operation;
    let in_flight = exploration.in_flight(operation);
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
    let comes_or_leaves = operation.is_long()
        || matches!(
            operation,
            Operation::SenderLeave | Operation::SenderLeaveOpen | Operation::ReceiverLeave
        );
    if operation == Operation::Clone {
        world.killed(&[FIRST], false);
    }
    let is_there = operation.is_a_call() || phase != Phase::Before;
    let removes = matches!(operation, Operation::Remove | Operation::RemoveInUse);
    if is_there && !removes {
        let is_unsure = comes_or_leaves && phase == Phase::During;
        world.killed(&[operation.seat()], is_unsure);
    } else {
        world.killed(&[], false);
    }
    if !scenario.peer.survives() {
        world.killed_all();
    }
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

    /// Steps `scenario` and recovers from everything that it left behind; `samples` are the instructions at which a real victim
    /// is killed or stopped, besides all system calls; none if it isn't.
    pub(crate) fn explore(&mut self, scenario: Scenario, samples: Option<usize>) -> Report {
        let mut report = Report {
            scenario,
            steps: 0,
            images: 0,
            recoveries: 0,
            strikes: Strikes::default(),
            failures: Vec::new(),
        };
        if let Err(error) = self.try_explore(&mut report, samples) {
            report.failures.push(format!("{error:#}"));
            // Whatever they were in the middle of, the next scenario begins with others.
            self.peers.end();
            self.survivors.end();
        }
        report
    }

    fn try_explore(&mut self, report: &mut Report, samples: Option<usize>) -> Result<()> {
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
        if let Some(samples) = samples {
            self.strike_all(&exploration, samples, report)?;
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
        moment.phase = Phase::During;
        let listens =
            scenario.peer == scenario::Peer::Sleeps || scenario.advance == scenario::Moment::Asleep;
        let counts = matches!(scenario.advance, scenario::Moment::SystemCall(_));
        let (mut changes, mut calls, mut system_calls) = (0, 0, 0);
        let steps = &mut exploration.steps;
        loop {
            let futex = if listens { victim.next_futex()? } else { None };
            calls += usize::from(futex == Some(Futex::Wake));
            system_calls += usize::from(counts && victim.makes_system_call()?);
            let is_time = match scenario.advance {
                scenario::Moment::Never => false,
                scenario::Moment::Change(after) => changes == after,
                scenario::Moment::SystemCall(number) => system_calls == number,
                scenario::Moment::Asleep => futex == Some(Futex::Wait),
            };
            if is_time && !moment.advanced {
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
                *steps < MOST_STEPS,
                "not through after {MOST_STEPS} instructions, at {}",
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
    fn recover_in_place(
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
    fn go_on_from(
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

    pub(crate) fn next_object(&mut self) -> Object {
        self.objects += 1;
        Object {
            namespace: self.namespace.clone(),
            name: format!("image-{}", self.objects),
        }
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
                Operation::Create | Operation::JoinRemoved
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
        let bytes = self.view.as_ref().map(|view| view.bytes(victim));
        Ok(images.record(moment, step, bytes, || victim.address()))
    }
}

/// This program in one of its other roles.
fn helper(role: &str, fault: Option<&str>) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("finding this program")?);
    // A victim that gives up would capture a backtrace, one instruction at a time.
    command.arg(role).env("RUST_BACKTRACE", "0");
    if let Some(fault) = fault {
        command.env("IPC_RING_FAULT", fault);
    }
    Ok(command)
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
