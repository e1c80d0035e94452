//! What an instruction of x86-64 costs others: told by its own bytes, of which operands are no part.

/// Kinds of instruction that are counted, and the rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Loads, stores, arithmetic, jumps.
    Plain,
    /// Atomic: has the prefix LOCK, or is an exchange with memory, which needs none.
    ReadModifyWrite,
    /// A fence, also the one that is a locked OR of nothing to the stack.
    Fence,
    /// Enters the kernel.
    SystemCall,
}

const LOCK: u8 = 0xF0;

impl Kind {
    /// Of the instruction that `code` begins with. What lies behind it does not matter.
    pub fn of(code: &[u8]) -> Self {
        let (prefixes, opcode) = code.split_at(prefixes(code));
        let locked = prefixes.contains(&LOCK);
        // These choose among instructions that have the opcode of a fence.
        let chooses = |prefix: &u8| matches!(prefix, 0x66 | 0xF2 | 0xF3);
        match *opcode {
            [0x0F, 0x05 | 0x34, ..] | [0xCD, 0x80, ..] => Self::SystemCall,
            // lfence, mfence, sfence
            [0x0F, 0xAE, 0xE8..=0xFF, ..] if !prefixes.iter().any(chooses) => Self::Fence,
            // or dword ptr [rsp], 0, or some bytes beside it
            [0x83, 0x0C, 0x24, 0, ..] | [0x83, 0x4C, 0x24, _, 0, ..] if locked => Self::Fence,
            [0x86 | 0x87, operands, ..] if is_in_memory(operands) => Self::ReadModifyWrite,
            _ if locked => Self::ReadModifyWrite,
            _ => Self::Plain,
        }
    }
}

/// How many prefixes `code` begins with: legacy ones in any order, then REX.
fn prefixes(code: &[u8]) -> usize {
    let is_legacy = |byte: &u8| {
        matches!(
            *byte,
            0x26 | 0x2E | 0x36 | 0x3E | 0x64..=0x67 | LOCK | 0xF2 | 0xF3
        )
    };
    let legacy = code.iter().take_while(|byte| is_legacy(byte)).count();
    let rex = matches!(code.get(legacy), Some(0x40..=0x4F));
    legacy + usize::from(rex)
}

/// Whether one of the operands that a ModRM byte tells of is in memory.
fn is_in_memory(operands: u8) -> bool {
    operands >> 6 != 0b11
}

#[cfg(test)]
mod tests {
    use super::Kind::{self, *};

    fn expect(kind: Kind, instructions: &[(&[u8], &str)]) {
        for (code, text) in instructions {
            assert_eq!(Kind::of(code), kind, "{text}");
            // Whatever follows, even if it looks like a prefix.
            for next in [0x00, 0xF0, 0x87] {
                let code = [code, &[next; 4][..]].concat();
                assert_eq!(Kind::of(&code), kind, "{text}; {next:#x}");
            }
        }
    }

    #[test]
    fn locked_instructions_and_exchanges_with_memory_are_read_modify_writes() {
        expect(
            ReadModifyWrite,
            &[
                (&[0xF0, 0x48, 0x0F, 0xB1, 0x0F], "lock cmpxchg [rdi], rcx"),
                (&[0xF0, 0x4D, 0x0F, 0xB1, 0x08], "lock cmpxchg [r8], r9"),
                (&[0xF0, 0x48, 0x0F, 0xC7, 0x0F], "lock cmpxchg16b [rdi]"),
                (&[0xF0, 0x0F, 0xC1, 0x07], "lock xadd [rdi], eax"),
                (&[0xF0, 0x48, 0xFF, 0x07], "lock inc qword ptr [rdi]"),
                (&[0xF0, 0x48, 0x0F, 0xBA, 0x2F, 0x05], "lock bts [rdi], 5"),
                (&[0x66, 0xF0, 0x0F, 0xB1, 0x0F], "lock cmpxchg [rdi], cx"),
                (&[0xF0, 0x66, 0x0F, 0xB1, 0x0F], "lock cmpxchg [rdi], cx"),
                (&[0x64, 0xF0, 0xFF, 0x00], "lock inc dword ptr fs:[rax]"),
                (&[0xF3, 0xF0, 0xFF, 0x07], "xrelease lock inc [rdi]"),
                (
                    &[0xF0, 0x83, 0x0F, 0x00],
                    "lock or dword ptr [rdi], 0: not the stack",
                ),
                (
                    &[0xF0, 0x83, 0x4C, 0x24, 0x08, 0x05],
                    "lock or dword ptr [rsp + 8], 5: not nothing",
                ),
                (&[0x48, 0x87, 0x07], "xchg [rdi], rax"),
                (&[0x86, 0x07], "xchg [rdi], al"),
                (&[0x44, 0x87, 0x44, 0x24, 0x08], "xchg [rsp + 8], r8d"),
                (&[0x48, 0x87, 0x85, 0xF0, 0, 0, 0], "xchg [rbp + 240], rax"),
            ],
        );
    }

    #[test]
    fn a_lock_among_operands_is_none() {
        expect(
            Plain,
            &[
                (&[0xB8, 0xF0, 0, 0, 0], "mov eax, 0xf0"),
                (&[0xB0, 0xF0], "mov al, 0xf0"),
                (&[0x8B, 0x47, 0xF0], "mov eax, [rdi - 16]"),
                (
                    &[0x48, 0x8B, 0x87, 0xF0, 0xF0, 0xF0, 0xF0],
                    "mov rax, [rdi - …]",
                ),
                (
                    &[0xC7, 0x47, 0xF0, 0xF0, 0xF0, 0xF0, 0xF0],
                    "mov dword ptr [rdi - 16], …",
                ),
                (&[0x83, 0xF0, 0x01], "xor eax, 1"),
                (&[0x49, 0x89, 0xF0], "mov r8, rsi"),
                (&[0x48, 0x0F, 0xB1, 0xF0], "cmpxchg rax, rsi"),
                (&[0xEB, 0xF0], "jmp"),
                (&[0xE8, 0xF0, 0xF0, 0xF0, 0xF0], "call"),
                (&[0x62, 0xF1, 0x7C, 0x48, 0x10, 0x07], "vmovups zmm0, [rdi]"),
                (&[0xC5, 0xF0, 0x58, 0xC1], "vaddps xmm0, xmm1, xmm1"),
            ],
        );
    }

    #[test]
    fn what_is_not_atomic_is_plain() {
        expect(
            Plain,
            &[
                (&[0x48, 0x0F, 0xB1, 0x0F], "cmpxchg [rdi], rcx"),
                (&[0x48, 0xFF, 0x07], "inc qword ptr [rdi]"),
                (&[0x83, 0x0C, 0x24, 0x00], "or dword ptr [rsp], 0"),
                (&[0x87, 0xC8], "xchg eax, ecx"),
                (&[0x4D, 0x87, 0xC8], "xchg r8, r9"),
                (&[0x86, 0xC4], "xchg ah, al"),
                (&[0x48, 0x91], "xchg rax, rcx"),
                (&[0x90], "nop"),
                (&[0xF3, 0x90], "pause"),
                (&[0x0F, 0x87, 0x07, 0, 0, 0], "ja"),
                (&[0x0F, 0x0D, 0x0F], "prefetchw [rdi]"),
                (&[0x0F, 0x31], "rdtsc"),
                (&[0x48, 0x89, 0x07], "mov [rdi], rax"),
                (&[0xCC], "int3"),
            ],
        );
        assert_eq!(Kind::of(&[]), Plain);
        assert_eq!(Kind::of(&[0x48]), Plain);
    }

    #[test]
    fn fences_are_told_from_what_shares_their_opcode() {
        expect(
            Fence,
            &[
                (&[0x0F, 0xAE, 0xE8], "lfence"),
                (&[0x0F, 0xAE, 0xF0], "mfence"),
                (&[0x0F, 0xAE, 0xF8], "sfence"),
                (
                    &[0xF0, 0x83, 0x0C, 0x24, 0x00],
                    "lock or dword ptr [rsp], 0",
                ),
                (
                    &[0xF0, 0x48, 0x83, 0x0C, 0x24, 0x00],
                    "lock or qword ptr [rsp], 0",
                ),
                (
                    &[0xF0, 0x83, 0x4C, 0x24, 0xC0, 0x00],
                    "lock or dword ptr [rsp - 64], 0",
                ),
            ],
        );
        expect(
            Plain,
            &[
                (&[0x0F, 0xAE, 0x38], "clflush [rax]"),
                (&[0x0F, 0xAE, 0x18], "stmxcsr [rax]"),
                (&[0x66, 0x0F, 0xAE, 0xF0], "tpause eax"),
                (&[0xF3, 0x0F, 0xAE, 0xF0], "umonitor rax"),
                (&[0xF3, 0x0F, 0xAE, 0xE8], "incsspd eax"),
            ],
        );
    }

    #[test]
    fn every_way_into_the_kernel_is_a_system_call() {
        expect(
            SystemCall,
            &[
                (&[0x0F, 0x05], "syscall"),
                (&[0x0F, 0x34], "sysenter"),
                (&[0xCD, 0x80], "int 0x80"),
            ],
        );
        expect(
            Plain,
            &[
                (&[0xCD, 0x29], "int 0x29"),
                (&[0x05, 0x0F, 0x05, 0, 0], "add eax, 0x50f"),
            ],
        );
    }
}
