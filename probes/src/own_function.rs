//! A system call's own functions: those that stand in the kernel's tables of system calls.
//!
//! They cannot be there and not be called, and they see what the call refuses by itself: their layer is the system call.
//! From 4.17 on there is one for 64-bit programs and one for 32-bit ones, whose only argument is the registers.

use crate::abi::Slot;
use crate::release::Version;
use crate::way::{Fails, Function};

/// d5a00528b58c "syscalls/core, syscalls/x86: Rename struct `pt_regs`-based `sys_*()` to `__x64_sys_*()`"
const BY_REGISTERS: (Version, &str) = (Version(4, 17), "d5a00528b58c");

/// The ways to see a system call by its own functions, for [`Counter::ways`](crate::Counter::ways):
/// `own_functions!("fsync", &[slot::FSYNC])`, or for a call of later kernels
/// `own_functions!("fsopen", &[slot::FSOPEN], Version(5, 2), "24dcb3d90a1f")`. The macro `system_call` of `probe.h` makes their programs.
///
/// Not for a call without arguments, whose two functions are one, nor for one that 32-bit programs make by a function of
/// another name: such rows have to be written out.
#[macro_export]
macro_rules! own_functions {
    // Of a call that came later than these names, with this kernel and by this commit.
    ($name:literal, $slots:expr, $since:expr, $commit:expr) => {
        &[$crate::Way::Functions(&[
            $crate::Function::by_registers(concat!("__x64_sys_", $name), $slots).since($since, $commit),
            $crate::Function::by_registers(concat!("__ia32_sys_", $name), $slots)
                .of_32_bit_calls()
                .since($since, $commit),
        ])]
    };
    ($name:literal, $slots:expr) => {
        &[
            $crate::Way::Functions(&[
                $crate::Function::by_registers(concat!("__x64_sys_", $name), $slots),
                $crate::Function::by_registers(concat!("__ia32_sys_", $name), $slots).of_32_bit_calls(),
            ]),
            $crate::Way::Functions(&[$crate::Function::by_arguments(
                concat!("sys_", $name),
                concat!("__x64_sys_", $name),
                $slots,
            )]),
        ]
    };
}

impl Function {
    /// A system call's own function that takes the registers.
    pub const fn by_registers(symbol: &'static str, slots: &'static [Slot]) -> Self {
        Self::new(symbol, 1, Fails::Status, slots).since(BY_REGISTERS.0, BY_REGISTERS.1)
    }

    /// One of older kernels, which took the call's arguments, from 64-bit and from 32-bit programs alike; with the
    /// programs of the one that came after it.
    pub const fn by_arguments(symbol: &'static str, program: &'static str, slots: &'static [Slot]) -> Self {
        let function = Self::new(symbol, 1, Fails::Status, slots).program(program).by_breakpoint();
        function.until(BY_REGISTERS.0, BY_REGISTERS.1)
    }
}
