/* Which instruction sets this CPU has and the operating system has switched on (CPUID and XGETBV). */
#ifndef EDGEC_CPU_H
#define EDGEC_CPU_H

#include <cpuid.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct cpu_feature {
    const char *name; /* as LLVM spells it */
    uint32_t leaf; /* of CPUID */
    uint32_t subleaf;
    uint32_t register_index; /* 0 to 3: EAX, EBX, ECX, EDX */
    uint32_t bit;
    uint32_t state; /* XCR0 bits that the operating system must save, or its registers fault */
} cpu_feature;

static bool cpu_os_saves(uint32_t state)
{
    uint32_t a, b, c, d, low, high;
    if (state == 0)
        return true;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & 1u << 27)) /* OSXSAVE: without it, xgetbv faults */
        return false;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    (void)high;
    return (low & state) == state;
}

static bool cpu_has(const cpu_feature *f)
{
    uint32_t r[4];
    if (!__get_cpuid_count(f->leaf, f->subleaf, &r[0], &r[1], &r[2], &r[3]))
        return false;
    return (r[f->register_index] >> f->bit & 1) && cpu_os_saves(f->state);
}

#endif
