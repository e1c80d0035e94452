//! A test that plays in several processes: the test binary executes itself again, for the one test that wants a
//! child, which then plays the role that its environment names.

use crate::nursery::{self, ORIGIN};
use crate::{Child, RingName, sandbox};
use std::env;
use std::io::{self, BufRead, Write};
use std::process::{self, Command, Stdio};
use std::str::FromStr;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const ROLE: &str = "IPC_RING_TEST_ROLE";
const ARGUMENTS: &str = "IPC_RING_TEST_ARGUMENTS";

/// Begins what a child tells its parent; the test harness writes to the same pipe.
pub(crate) const MARK: char = '\u{2}';

/// The stage of the test that says this, with the roles that its children play. In a child it does not return.
#[macro_export]
macro_rules! stage {
    ($($role:ident),+ $(,)?) => {{
        fn here() {}
        $crate::Stage::enter(
            ::std::any::type_name_of_val(&here),
            &[$((stringify!($role), $role as $crate::Role)),+],
        )
    }};
}

/// Has all of the test that says this played in one child, which may change what its process has only once.
#[macro_export]
macro_rules! in_a_child {
    ($role:expr) => {{
        fn here() {}
        let role: $crate::Role = $role;
        $crate::Stage::enter(::std::any::type_name_of_val(&here), &[("alone", role)])
            .play("alone", &[]);
    }};
}

/// What a child process does.
pub type Role = fn(&mut Parent);

/// Starts the children of one test.
#[derive(Debug)]
pub struct Stage {
    test: String,
    roles: Vec<&'static str>,
}

impl Stage {
    /// See [`stage!`](crate::stage).
    ///
    /// # Panics
    ///
    /// In a child, if its role is not one of `roles`.
    pub fn enter(here: &'static str, roles: &[(&'static str, Role)]) -> Self {
        let path = here.strip_suffix("::here").unwrap_or(here);
        let test = path.split_once("::").map_or(path, |(_, test)| test);
        let stage = Self {
            test: test.to_owned(),
            roles: roles.iter().map(|(name, _)| *name).collect(),
        };
        let Ok(role) = env::var(ROLE) else {
            watch();
            return stage;
        };
        let arguments = env::var(ARGUMENTS).unwrap_or_default();
        let arguments = arguments.split('\n').map(str::to_owned).collect();
        Parent::ends_with_us();
        let mut parent = Parent::of_this_process(arguments);
        parent.tell(nix::unistd::gettid());
        if role == ORIGIN {
            nursery::serve(roles, &mut parent);
        }
        role_of(roles, &role)(&mut parent);
        // Not by returning: what the harness prints is of no interest, and a role may be unable to write.
        process::exit(0);
    }

    /// A name that no other test, process or run has.
    pub fn ring(&self) -> RingName {
        RingName::of(&self.test)
    }

    /// The command of a child that plays `role`.
    ///
    /// # Panics
    ///
    /// If there is no such role.
    pub fn command(&self, role: &str, arguments: &[&str]) -> Command {
        assert!(
            role == ORIGIN || self.roles.contains(&role),
            "{role} is not on stage"
        );
        let mut command = Command::new(env::current_exe().expect("/proc is there"));
        command
            .args([&self.test, "--exact", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .env(ARGUMENTS, arguments.join("\n"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        command
    }

    /// Starts a child that plays `role`.
    ///
    /// # Panics
    ///
    /// If the system refuses.
    pub fn start(&self, role: &str, arguments: &[&str]) -> Child {
        let process = self.command(role, arguments).spawn();
        Child::new(role, process.expect("the test binary starts again"))
    }

    /// Starts one in a pid namespace of its own. (What it says about its thread is of no use outside.)
    ///
    /// # Errors
    ///
    /// Why the system does not allow it.
    pub fn start_with_own_pids(&self, role: &str, arguments: &[&str]) -> Result<Child, String> {
        let process = sandbox::spawn_with_own_pids(self.command(role, arguments))?;
        Ok(Child::new(role, process))
    }

    /// Has `role` played from beginning to end.
    pub fn play(&self, role: &str, arguments: &[&str]) {
        self.start(role, arguments).finish();
    }
}

/// The role that goes by a name.
pub(crate) fn role_of(roles: &[(&'static str, Role)], name: &str) -> Role {
    let role = roles.iter().find(|(role, _)| *role == name);
    role.expect("the role is one of the stage's").1
}

/// Ends this process, in which tests wait on rings themselves, if it goes on for too long; its children end with it.
fn watch() {
    static WATCHED: Once = Once::new();
    WATCHED.call_once(|| {
        thread::spawn(|| {
            let begun = Instant::now();
            // The time only grows.
            loop {
                let time = Duration::from_secs(TIME.load(Ordering::Relaxed));
                match time.saturating_sub(begun.elapsed()) {
                    Duration::ZERO => break,
                    left => thread::sleep(left),
                }
            }
            let _ = writeln!(io::stderr(), "a test of {:?} hangs", env::args().next());
            process::abort();
        });
    });
}

/// So many seconds may all tests of this process take.
static TIME: AtomicU64 = AtomicU64::new(300);

/// Lets the tests of this process take so much longer: one of them was asked to.
pub fn allow_time(time: Duration) {
    TIME.fetch_add(time.as_secs(), Ordering::Relaxed);
}

/// A child's line to its parent. A clone is for another of its threads.
#[derive(Clone, Debug)]
pub struct Parent {
    arguments: Vec<String>,
}

impl Parent {
    pub(crate) fn of_this_process(arguments: Vec<String>) -> Self {
        Self { arguments }
    }

    /// A child must not outlive a test that was ended by force.
    pub(crate) fn ends_with_us() {
        nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).expect("prctl");
    }

    /// What the test gave this child as its argument number `index`.
    ///
    /// # Panics
    ///
    /// If it gave fewer.
    pub fn argument(&self, index: usize) -> &str {
        &self.arguments[index]
    }

    /// The same as a number.
    ///
    /// # Panics
    ///
    /// If it isn't one.
    pub fn number<N: FromStr>(&self, index: usize) -> N {
        let number = self.argument(index).parse();
        number.unwrap_or_else(|_| panic!("{:?} is no number", self.argument(index)))
    }

    /// Says a line.
    ///
    /// # Panics
    ///
    /// If nobody can hear it.
    pub fn tell(&mut self, line: impl ToString) {
        let mut stdout = io::stdout().lock();
        let line = format!("{MARK}{}\n", line.to_string());
        stdout
            .write_all(line.as_bytes())
            .expect("the parent listens");
        stdout.flush().expect("the parent listens");
    }

    /// Waits for a line. Ends the process if the parent has hung up.
    pub fn hear(&mut self) -> String {
        let mut line = String::new();
        match io::stdin().lock().read_line(&mut line) {
            Ok(read) if read > 0 => line.trim_end().to_owned(),
            _ => process::exit(0),
        }
    }
}

/// The name that a process of this test binary goes by: as much of it as the ring has room for.
///
/// # Panics
///
/// If the system does not tell.
pub fn program() -> String {
    let path = env::current_exe().expect("/proc is there");
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.expect("a file with a name in ASCII");
    name[..name.len().min(32)].to_owned()
}

/// Says why a test can't run here. Where everything must run, that is a failure.
///
/// # Panics
///
/// If the environment has `CI`.
pub fn skip(reason: &str) {
    assert!(
        env::var_os("CI").is_none(),
        "must not be skipped in CI: {reason}"
    );
    // Past the harness, which keeps to itself what a passing test prints.
    let _ = writeln!(io::stderr(), "skipped: {reason}");
}
