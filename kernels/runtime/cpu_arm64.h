/* Which instruction sets this CPU has, as Linux reports them (AT_HWCAP and AT_HWCAP2). */
#ifndef EDGEC_CPU_H
#define EDGEC_CPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/auxv.h>

typedef struct cpu_feature {
    const char *name;   /* as LLVM spells it */
    unsigned long word; /* AT_HWCAP or AT_HWCAP2 */
    uint32_t bit;
} cpu_feature;

static bool cpu_has(const cpu_feature *f)
{
    return getauxval(f->word) >> f->bit & 1;
}

#endif
