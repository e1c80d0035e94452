//! What a call costs that need not wait: atomic read-modify-writes, fences and system calls, by counting instructions.
//!
//! A child stands still at a breakpoint right before each call, and is then stepped up to one right behind it.
#![allow(unsafe_code, reason = "a breakpoint instruction")]

use ipc_ring::{Builder, Kind, lanes, mpsc, spsc};
use ipc_ring_tests::instruction;
use ipc_ring_tests::step::{Progress, Tracee, marker, processors, stay_on, submit};
use ipc_ring_tests::{Parent, Stage, skip, stage};
use std::fmt;
use std::hint::black_box;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering, fence};

const CAPACITY: usize = 64;
/// Calls before the first one that is stepped: then every slot has been used, and all that is said only once has been said.
const WARM: usize = 4 * CAPACITY;
/// Calls that are stepped: more than a lap, and more than a turn of a lane.
const CALLS: usize = 2 * CAPACITY + 2;

const BREAKPOINT: u8 = 0xCC;

/// What is counted from one breakpoint to the next.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Count {
    instructions: usize,
    read_modify_writes: usize,
    fences: usize,
    system_calls: usize,
}

impl Count {
    /// Steps from a breakpoint to the next one.
    fn of_stretch(tracee: &mut Tracee) -> anyhow::Result<Self> {
        tracee.run_to_breakpoint()?;
        let mut count = Self::default();
        loop {
            let code = tracee.next_instruction()?;
            if code[0] == BREAKPOINT {
                tracee.run_to_breakpoint()?;
                return Ok(count);
            }
            count.instructions += 1;
            match instruction::Kind::of(&code) {
                instruction::Kind::Plain => {}
                instruction::Kind::ReadModifyWrite => count.read_modify_writes += 1,
                instruction::Kind::Fence => count.fences += 1,
                instruction::Kind::SystemCall => count.system_calls += 1,
            }
            anyhow::ensure!(tracee.step()? == Progress::Inside, "a marker in a stretch");
        }
    }

    /// All but the number of instructions, which is up to the compiler.
    fn costs(&self) -> [usize; 3] {
        [self.read_modify_writes, self.fences, self.system_calls]
    }
}

/// A breakpoint, which ends a process that nobody traces.
#[inline(always)]
fn breakpoint() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: it changes neither registers nor memory.
    unsafe {
        std::arch::asm!("int3", options(nostack, preserves_flags));
    }
}

/// The stretch that is counted. What goes in and out is opaque to the optimizer, so that it can't be moved across.
#[inline(always)]
fn counted<R>(call: impl FnOnce() -> R) -> R {
    let call = black_box(call);
    breakpoint();
    let result = black_box(call());
    breakpoint();
    result
}

/// In a child: lets the parent trace this thread, if the system does.
fn is_traced(parent: &mut Parent) -> bool {
    let submitted = submit();
    match &submitted {
        Ok(()) => parent.tell(TRACED),
        Err(error) => parent.tell(format!("{error:#}")),
    }
    if submitted.is_ok() {
        marker();
    }
    submitted.is_ok()
}

const TRACED: &str = "traced";

/// Counts the stretches of a child, but for the first ones. `None`: it can't be done here, and that was said.
fn count(stage: &Stage, role: &str, arguments: &[&str]) -> Option<Vec<Count>> {
    if !cfg!(target_arch = "x86_64") {
        let _ = writeln!(io::stderr(), "skipped: counting instructions takes x86-64");
        return None;
    }
    // Steps are quick there; and without it they are slow.
    if let Some(&processor) = processors().last() {
        let _ = stay_on(processor);
    }
    let mut child = stage.start(role, arguments);
    let told = child.hear();
    if told != TRACED {
        skip(&told);
        return None;
    }
    let mut tracee = Tracee::meet(child.thread()).unwrap();
    for _ in 0..2 * WARM {
        tracee.run_to_breakpoint().unwrap();
    }
    let counts = (0..CALLS).map(|_| Count::of_stretch(&mut tracee).unwrap());
    let counts = counts.collect();
    tracee.release().unwrap();
    child.finish();
    Some(counts)
}

/// Both sides in one process. There is one message in the ring, or none, at any time.
/// Arguments: ring, kind, call.
fn calls(parent: &mut Parent) {
    let name = parent.argument(0).to_owned();
    match parent.argument(1) {
        "spsc" => calls_on(parent, || spsc(&name)),
        "mpsc" => calls_on(parent, || mpsc(&name)),
        "lanes" => calls_on(parent, || lanes(&name)),
        other => panic!("no such kind: {other}"),
    }
}

fn calls_on<K: Kind>(parent: &mut Parent, ring: impl Fn() -> Builder<u64, K>) {
    let mut tx = ring().capacity(CAPACITY).sender().unwrap();
    let mut rx = ring().receiver().unwrap();
    if !is_traced(parent) {
        return;
    }
    let call = parent.argument(2);
    for number in 0..(WARM + CALLS) as u64 {
        match call {
            "try_send" => counted(|| tx.try_send(number)).unwrap(),
            "send" => counted(|| tx.send(number)).unwrap(),
            _ => tx.try_send(number).unwrap(),
        }
        let received = match call {
            "try_recv" => counted(|| rx.try_recv()).unwrap(),
            "recv" => counted(|| rx.recv()).unwrap(),
            _ => rx.try_recv().unwrap(),
        };
        assert_eq!(received, number);
    }
}

/// A line of the table: the median number of instructions, and of everything the most that a call took.
struct Row<'a> {
    kind: &'a str,
    call: &'a str,
    counts: &'a [Count],
}

impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let most = |part: fn(&Count) -> usize| self.counts.iter().map(part).max().unwrap_or(0);
        let mut instructions: Vec<_> = self.counts.iter().map(|count| count.instructions).collect();
        instructions.sort_unstable();
        write!(
            f,
            "{:<6} {:<10} {:>12} {:>6} {:>19} {:>7} {:>13}",
            self.kind,
            self.call,
            instructions[instructions.len() / 2],
            most(|count| count.instructions),
            most(|count| count.read_modify_writes),
            most(|count| count.fences),
            most(|count| count.system_calls),
        )
    }
}

#[test]
fn uncontended_sending_costs_one_read_modify_write_in_one_order_and_none_otherwise() {
    let stage = stage!(calls);
    let mut table = format!(
        "\n{:<6} {:<10} {:>12} {:>6} {:>19} {:>7} {:>13}\n",
        "kind", "call", "instructions", "most", "read-modify-writes", "fences", "system calls"
    );
    let mut wrong = Vec::new();
    for kind in ["spsc", "mpsc", "lanes"] {
        for call in ["try_send", "send", "try_recv", "recv"] {
            let ring = stage.ring();
            let Some(counts) = count(&stage, "calls", &[&ring, kind, call]) else {
                return;
            };
            let claims = kind == "mpsc" && call.ends_with("send");
            let expected = [usize::from(claims), 0, 0];
            let other = counts.iter().find(|count| count.costs() != expected);
            wrong.extend(other.map(|other| format!("{kind} {call}: {other:?}")));
            let counts = &counts;
            table += &format!("{}\n", Row { kind, call, counts });
        }
    }
    // Past the harness, which keeps to itself what a passing test prints.
    let _ = writeln!(io::stderr(), "{table}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Argument: what to do.
fn does(parent: &mut Parent) {
    if !is_traced(parent) {
        return;
    }
    static WORD: AtomicU64 = AtomicU64::new(0);
    let word = black_box(&WORD);
    for number in 0..(WARM + CALLS) as u64 {
        match parent.argument(0) {
            "nothing" => counted(|| {}),
            "a Release store" => counted(|| word.store(number, Ordering::Release)),
            "a SeqCst store" => counted(|| word.store(number, Ordering::SeqCst)),
            "fetch_add" => {
                counted(|| word.fetch_add(number, Ordering::Relaxed));
            }
            "compare_exchange" => {
                let (from, to) = (number, number + 1);
                let exchange =
                    || word.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed);
                counted(exchange).unwrap();
            }
            "a Release fence" => counted(|| fence(Ordering::Release)),
            "a SeqCst fence" => counted(|| fence(Ordering::SeqCst)),
            "a system call" => {
                counted(nix::unistd::getppid);
            }
            other => panic!("{other}?"),
        }
    }
}

#[test]
fn the_count_would_notice() {
    let stage = stage!(does);
    for (what, expected) in [
        ("nothing", [0, 0, 0]),
        ("a Release store", [0, 0, 0]),
        ("a SeqCst store", [1, 0, 0]),
        ("fetch_add", [1, 0, 0]),
        ("compare_exchange", [1, 0, 0]),
        ("a Release fence", [0, 0, 0]),
        ("a SeqCst fence", [0, 1, 0]),
        ("a system call", [0, 0, 1]),
    ] {
        let Some(counts) = count(&stage, "does", &[what]) else {
            return;
        };
        assert!(
            counts.iter().all(|count| count.costs() == expected),
            "{what}: {:?}",
            counts[0]
        );
    }
}
