/* What the bench image asks of its core, a 32-bit RISC-V in machine mode. */
#ifndef EDGEC_CORE_H
#define EDGEC_CORE_H

#include <stdint.h>

/* "RISC-V Semihosting", https://github.com/riscv-non-isa/riscv-semihosting: three instructions that aren't compressed
 * and lie in one page; operations are Arm's. */
static inline int32_t core_semihosting(int32_t operation, const void *arguments)
{
    register int32_t a0 __asm__("a0") = operation;
    register const void *a1 __asm__("a1") = arguments;
    __asm__ volatile(".option push\n\t.option norvc\n\t.balign 16\n\t"
                     "slli zero, zero, 0x1f\n\tebreak\n\tsrai zero, zero, 7\n\t.option pop"
                     : "+r"(a0) : "r"(a1) : "memory");
    return a0;
}

/* Bracket what a plugin of the emulator counts instructions in: hints for custom use (Unprivileged ISA, 2.9). */
static inline void core_mark_begin(void)
{
    __asm__ volatile("slti zero, zero, 112" ::: "memory");
}

static inline void core_mark_end(void)
{
    __asm__ volatile("slti zero, zero, 113" ::: "memory");
}

static inline uint32_t *core_stack_pointer(void)
{
    uint32_t *pointer;
    __asm__ volatile("mv %0, sp" : "=r"(pointer));
    return pointer;
}

static inline void core_start_cycles(void)
{
}

static inline uint32_t core_read_cycles(void)
{
    uint32_t cycles;
    __asm__ volatile(".option push\n\t.option arch, +zicsr\n\tcsrr %0, mcycle\n\t.option pop" : "=r"(cycles));
    return cycles;
}

/* There is no register that resets every core: the start-up code runs again. */
__attribute__((noreturn)) static inline void core_reset(void)
{
    extern void _start(void) __attribute__((noreturn));
    _start();
}

#endif
