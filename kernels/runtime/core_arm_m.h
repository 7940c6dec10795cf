/* What the bench image asks of its core, an Arm Cortex-M. */
#ifndef EDGEC_CORE_H
#define EDGEC_CORE_H

#include <stdint.h>

/* "Semihosting for AArch32 and AArch64", M-profile. */
static inline int32_t core_semihosting(int32_t operation, const void *arguments)
{
    register int32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = arguments;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory", "cc");
    return r0;
}

/* Bracket what a plugin of the emulator counts instructions in: hint.w #112 and #113, which the assembler of a core
 * without wide hints doesn't know. */
static inline void core_mark_begin(void)
{
    __asm__ volatile(".inst.n 0xf3af, 0x8070" ::: "memory");
}

static inline void core_mark_end(void)
{
    __asm__ volatile(".inst.n 0xf3af, 0x8071" ::: "memory");
}

static inline uint32_t *core_stack_pointer(void)
{
    uint32_t *pointer;
    __asm__ volatile("mov %0, sp" : "=r"(pointer));
    return pointer;
}

/* The data watchpoint unit's cycle counter, of all cores from Cortex-M3 on (Armv7-M and Armv8-M, C1.8). */
static inline void core_start_cycles(void)
{
#if __ARM_ARCH >= 7
    *(volatile uint32_t *)0xe000edfc |= 1u << 24; /* DEMCR.TRCENA */
    *(volatile uint32_t *)0xe0001000 |= 1u;       /* DWT_CTRL.CYCCNTENA */
#endif
}

/* 0 where there is no counter. */
static inline uint32_t core_read_cycles(void)
{
#if __ARM_ARCH >= 7
    return *(volatile uint32_t *)0xe0001004; /* DWT_CYCCNT */
#else
    return 0;
#endif
}

__attribute__((noreturn)) static inline void core_reset(void)
{
    *(volatile uint32_t *)0xe000ed0c = 0x05fa0004; /* AIRCR: VECTKEY, SYSRESETREQ */
    for (;;)
        continue;
}

#endif
