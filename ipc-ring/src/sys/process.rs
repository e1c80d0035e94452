//! What a process says about itself, for people to read. Nothing is decided by it but how long to wait for the kernel's word.

use std::fs;
use std::os::unix::fs::MetadataExt;

/// Whether the process with this id, as this pid namespace counts, is not or no more the one that started then, or is on its way
/// out. It says nothing about a process of another pid namespace; and one whose first thread has ended seems to be on its way
/// out, though others of its threads live.
pub(crate) fn is_gone(pid: u32, start_time: u64) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut fields = after_name.split_ascii_whitespace();
    let is_ending = matches!(fields.next(), None | Some("Z" | "X" | "x"));
    is_ending || fields.nth(18).and_then(|field| field.parse().ok()) != Some(start_time)
}

/// Which pid namespace this process is in: `st_ino` of `/proc/self/ns/pid`; 0 if unknown.
pub(crate) fn pid_namespace() -> u64 {
    fs::metadata("/proc/self/ns/pid").map_or(0, |namespace| namespace.ino())
}

/// Clock ticks between boot and the start of this process, the 22nd field of `/proc/self/stat`; 0 if unknown.
pub(crate) fn start_time() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field is a name in parentheses that may itself hold spaces and parentheses.
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let field = after_name.split_ascii_whitespace().nth(19);
    field.and_then(|field| field.parse().ok()).unwrap_or(0)
}

/// The file name of this program, cut to `N` bytes and padded with zeros.
pub(crate) fn program<const N: usize>() -> [u8; N] {
    let path = std::env::current_exe().unwrap_or_default();
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    let mut bytes = [0; N];
    let len = name.len().min(N);
    bytes[..len].copy_from_slice(&name[..len]);
    bytes
}
