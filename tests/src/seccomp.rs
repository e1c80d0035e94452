//! System calls that fail, or that end the process: BPF filters (`seccomp(2)`), for this thread and for good.
#![allow(unsafe_code, reason = "prctl has no safe wrapper for filters")]

use std::io;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xC000_00B7;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;

/// From now on every system call but `exit_group` kills the process by SIGSYS.
///
/// # Panics
///
/// If the system takes no filter.
pub fn forbid_all() {
    install(
        libc::SYS_exit_group,
        libc::SECCOMP_RET_ALLOW,
        libc::SECCOMP_RET_KILL_PROCESS,
    );
}

/// From now on this system call of this thread fails with `errno`.
///
/// # Panics
///
/// If the system takes no filter.
pub fn refuse(call: libc::c_long, errno: i32) {
    install(
        call,
        libc::SECCOMP_RET_ERRNO | errno as u32,
        libc::SECCOMP_RET_ALLOW,
    );
}

/// Ends the process without any other system call.
pub fn leave(status: i32) -> ! {
    // SAFETY: it does not return, and touches no memory.
    unsafe { libc::_exit(status) }
}

/// `named` is what becomes of `call`, `others` what becomes of all others.
fn install(call: libc::c_long, named: u32, others: u32) {
    let load = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    let equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let answer = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut program = [
        step(load, 0, 0, ARCH),
        step(equal, 1, 0, ARCHITECTURE),
        step(answer, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
        step(load, 0, 0, NUMBER),
        step(equal, 0, 1, call as u32),
        step(answer, 0, 0, named),
        step(answer, 0, 0, others),
    ];
    let filter = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: takes integers only.
    let promised = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(promised, 0, "no_new_privs: {}", io::Error::last_os_error());
    // SAFETY: the filter is a valid program, which the kernel copies.
    let installed = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const filter,
        )
    };
    assert_eq!(installed, 0, "seccomp: {}", io::Error::last_os_error());
}
