/* The rounding mode and what else of a thread's control word changes what float instructions compute: flushing of
 * subnormal numbers, traps. A run puts the default of IEEE 754 and C in its place (nearest even, nothing flushed, no
 * traps) and the caller's back. Exception flags are the caller's or raised besides, as by any arithmetic.
 */
#ifndef EDGEC_FLOAT_MODE_H
#define EDGEC_FLOAT_MODE_H

#include <stdint.h>

typedef uintptr_t float_mode;

#if defined(__x86_64__) /* MXCSR (Intel SDM volume 1, 10.2.3); no kernel uses the x87 unit */
#define FLOAT_MODE_BITS 0xffc0u /* the six below are flags */
#define FLOAT_MODE_DEFAULT 0x1f80u
static inline float_mode float_mode_read(void) { return __builtin_ia32_stmxcsr(); }
static inline void float_mode_write(float_mode mode) { __builtin_ia32_ldmxcsr((uint32_t)mode); }
#elif defined(__aarch64__) /* FPCR; flags have a register of their own */
#define FLOAT_MODE_BITS UINTPTR_MAX
#define FLOAT_MODE_DEFAULT 0u
static inline float_mode float_mode_read(void)
{
    float_mode mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode)::"memory");
    return mode;
}
static inline void float_mode_write(float_mode mode) { __asm__ volatile("msr fpcr, %0" ::"r"(mode) : "memory"); }
#elif defined(__ARM_FP) /* FPSCR: AHP, DN, FZ, RMode and FZ16; the others are flags and Helium's LTPSIZE */
#define FLOAT_MODE_BITS 0x07c80000u
#define FLOAT_MODE_DEFAULT 0u
static inline float_mode float_mode_read(void)
{
    float_mode mode;
    __asm__ volatile("vmrs %0, fpscr" : "=r"(mode)::"memory");
    return mode;
}
static inline void float_mode_write(float_mode mode) { __asm__ volatile("vmsr fpscr, %0" ::"r"(mode) : "memory"); }
#else /* no float instructions */
#define FLOAT_MODE_BITS 0u
#define FLOAT_MODE_DEFAULT 0u
static inline float_mode float_mode_read(void) { return 0; }
static inline void float_mode_write(float_mode mode) { (void)mode; }
#endif

/* Makes the default this thread's; returns what float_mode_leave wants. Writing costs more than reading, and nearly
 * every caller has the default. */
static inline float_mode float_mode_enter(void)
{
    const float_mode mode = float_mode_read();
    if ((mode & FLOAT_MODE_BITS) != FLOAT_MODE_DEFAULT)
        float_mode_write((mode & ~(float_mode)FLOAT_MODE_BITS) | FLOAT_MODE_DEFAULT);
    return mode;
}

/* Puts the caller's back. */
static inline void float_mode_leave(float_mode caller)
{
    if ((caller & FLOAT_MODE_BITS) != FLOAT_MODE_DEFAULT)
        float_mode_write(caller);
}

#endif
