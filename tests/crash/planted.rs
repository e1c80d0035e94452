//! Negative controls: faults in the library's own code, each of which the explorer must report.
//!
//! Where this is compiled with `cfg(planted)` (`cargo test -p ipc-ring-crash-planted`), the library under test asks its
//! environment which fault to commit. Every process of an exploration then commits it: the victim, its peers, the survivors.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use ipc_ring_tests::step::{processors, stay_on};

use crate::controls::Control;
use crate::explore::{Explorer, Limits};
use crate::matrix;
use crate::operation::Operation;
use crate::ring::{Kind, Way};
use crate::scenario::{self, Peer, Scenario};
use crate::strike::Blows;

/// A fault by the library's name for it, what it is, and words that the names of the scenarios have in which it bites.
struct Fault {
    name: &'static str,
    what: &'static str,
    words: &'static [&'static str],
}

const fn fault(name: &'static str, what: &'static str, words: &'static [&'static str]) -> Fault {
    Fault { name, what, words }
}

/// Those of every crash-safe queue, and one of our own for each protocol. The longest first: the processors then finish together.
const FAULTS: [Fault; 23] = [
    fault(
        "TakenBackEarly",
        "came before its entry said so",
        &["receiver/join", "peer=lives"],
    ),
    fault(
        "RefusedLocked",
        "who is refused locks the ring",
        &["sender/join-refused", "peer=lives"],
    ),
    fault(
        "JoinUnlocked",
        "joined without the lifecycle lock",
        &["sender/join-removed", "advance=call-1"],
    ),
    fault("NamedEarly", "created under its name", &["create"]),
    fault(
        "PublishEarly",
        "spsc: publish before payload",
        &["spsc try_send words=7", "peer=dies"],
    ),
    fault(
        "PublishEarly",
        "mpsc: publish before payload",
        &["mpsc try_send words=7", "peer=dies"],
    ),
    fault(
        "PublishEarly",
        "lanes: publish before payload",
        &["lanes try_send words=7", "peer=dies"],
    ),
    fault(
        "ReleaseEarly",
        "head before copy",
        &["try_recv words=7 capacity=1", "advance=1"],
    ),
    fault(
        "NoSweep",
        "mpsc: no sweep",
        &["mpsc try_send words=7", "peer=lives"],
    ),
    fault(
        "PassUnsettled",
        "mpsc: a claim is passed over and stays",
        &["mpsc try_send words=7", "peer=lives"],
    ),
    fault(
        "SkipUnasked",
        "mpsc: skip without asking the kernel",
        &[
            "mpsc try_send words=7 capacity=2",
            "peer=lives",
            "advance=never",
        ],
    ),
    fault(
        "EntryClearedEarly",
        "mpsc: entry cleared before settling",
        &["mpsc sender/leave-open"],
    ),
    fault(
        "ClaimForgotten",
        "mpsc: claim never given up",
        &["mpsc sender/leave-open"],
    ),
    fault(
        "NoWake",
        "wake omitted",
        &["try_send words=7", "peer=sleeps"],
    ),
    fault(
        "SleepUnsliced",
        "a sleeper relies on being woken",
        &["spsc try_send words=7", "peer=sleeps"],
    ),
    fault(
        "TakeOverAtHead",
        "spsc: a take-over begins at head",
        &["spsc sender/take-over", "backlog=1", "peer=dies"],
    ),
    fault(
        "TakeOverAtHead",
        "lanes: a take-over begins at head",
        &["lanes sender/take-over", "backlog=1", "peer=dies"],
    ),
    fault(
        "OneLaneArmed",
        "lanes: one lane may wake the sleeper",
        &["lanes try_send words=7", "peer=sleeps"],
    ),
    fault(
        "RemoveUnchecked",
        "removed while in use",
        &["remove/in-use"],
    ),
    fault(
        "HintBeforeClaim",
        "mpsc: hint before claim",
        &["capacity=16"],
    ),
    fault(
        "NotRebuilt",
        "locked: nothing is derived anew after a death with the mutex held",
        &["locked try_send words=7"],
    ),
    fault(
        "NotQueued",
        "locked: what is handed on is left to others",
        &["locked try_send words=7"],
    ),
    fault(
        "EndingsForgotten",
        "an ending dies with who was to hear it",
        &["try_recv/empty", "peer=left"],
    ),
];

/// Many senders find several slots taken before they ask for the hint, so it needs more slots than scenarios have otherwise.
const HINT: Scenario = Scenario {
    kind: Kind::Mpsc,
    operation: Operation::TrySend,
    words: 7,
    capacity: 16,
    start: 0,
    history: 0,
    backlog: 12,
    peer: Peer::Dies,
    advance: scenario::Advance::Never,
    by: 0,
    wreck: 0,
    way: Way::Futex,
};

/// So many scenarios may pass before one must fail.
const MOST_SCENARIOS: usize = 24;

/// Where real victims are struck.
const BLOWS: Blows = Blows {
    instructions: 12,
    every: 1,
    stops: 3,
};

/// One failure is enough, and who hangs need not hang for long: longer than survivors wait for each other.
const LIMITS: Limits = Limits {
    failures: 1,
    silence: Duration::from_secs(6),
};

/// Plants every fault, on every processor at once; what the explorers report. Without `full`, of those that are noticed when
/// somebody comes, which takes long, only the first.
pub(crate) fn run(namespace: &str, full: bool) -> Result<Vec<Control>> {
    let all = matrix::all(HINT.words);
    let is_long = |fault: &&Fault| {
        fault
            .scenarios(&all)
            .any(|scenario| scenario.operation.is_long())
    };
    let (long, others): (Vec<_>, Vec<_>) = FAULTS.iter().partition(is_long);
    let most = if full { long.len() } else { 1 };
    let faults: Vec<_> = long.into_iter().take(most).chain(others).collect();
    let next = AtomicUsize::new(0);
    let controls = Mutex::new(Vec::new());
    thread::scope(|scope| {
        let workers = processors().into_iter().map(|processor| {
            let (next, controls, all, faults) = (&next, &controls, &all, &faults);
            scope.spawn(move || -> Result<()> {
                stay_on(processor)?;
                // Relaxed: handing out numbers orders nothing.
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(fault) = faults.get(number) else {
                        return Ok(());
                    };
                    let control = fault.plant(&format!("{namespace}-{number}"), all)?;
                    controls.lock().expect("no holder panics").push(control);
                }
            })
        });
        let workers = workers.collect::<Vec<_>>();
        workers.into_iter().try_for_each(|worker| {
            worker
                .join()
                .map_err(|_| anyhow::anyhow!("an explorer panicked"))?
        })
    })?;
    Ok(controls.into_inner().expect("no holder panicked"))
}

impl Fault {
    /// In which it is to be noticed.
    fn scenarios<'a>(&self, all: &'a [Scenario]) -> impl Iterator<Item = Scenario> + use<'a> {
        let words = self.words;
        let has_all_words = move |scenario: &Scenario| {
            let name = scenario.to_string();
            words.iter().all(|word| name.contains(word))
        };
        let scenarios = all.iter().copied().chain([HINT]).filter(has_all_words);
        scenarios.take(MOST_SCENARIOS)
    }

    fn plant(&self, namespace: &str, all: &[Scenario]) -> Result<Control> {
        let Self { name, what, words } = *self;
        let scenarios = self.scenarios(all).collect::<Vec<_>>();
        ensure!(!scenarios.is_empty(), "no scenario has the words {words:?}");

        let mut explorer = Explorer::new(namespace.to_owned(), Some(name), LIMITS)?;
        let caught = scenarios.into_iter().find_map(|scenario| {
            let report = explorer.explore(scenario, Some(BLOWS));
            let failure = report.failures.into_iter().next()?;
            Some((scenario, failure))
        });
        if let Some((scenario, _)) = &caught {
            // What was reported is the fault, and not the scenario.
            let mut explorer = Explorer::new(format!("{namespace}-sound"), None, LIMITS)?;
            let sound = explorer.explore(*scenario, Some(BLOWS)).failures;
            ensure!(
                sound.is_empty(),
                "{scenario}, with nothing planted: {sound:?}"
            );
        }
        Ok(Control {
            name: what,
            caught: caught.map(|(scenario, failure)| format!("{scenario}: {failure}")),
        })
    }
}
