/* small, compiled by edgec for arm64-fp32.
 *
 * A model is a function over memory that the caller owns:
 *
 *     static uint8_t arena[SMALL_ARENA_BYTES] __attribute__((aligned(SMALL_ARENA_ALIGNMENT)));
 *     static small_context context;
 *
 *     small_status status = small_init(&context, arena, sizeof arena, 1);
 *     if (status == SMALL_OK)
 *         status = small_run(&context, &inputs, &outputs);
 *     small_close(&context);
 *
 * Nothing is allocated after small_init and there are no global variables: one context per thread of yours may
 * run at the same time, each with an arena of its own.
 *
 * Results don't depend on the caller's rounding mode, nor on whether it flushes subnormal numbers or traps float
 * exceptions: a run works with the defaults of IEEE 754 and puts the caller's back. Exception flags may be raised.
 */
#ifndef EDGEC_SMALL_H
#define EDGEC_SMALL_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define SMALL_API __attribute__((visibility("default")))
#else
#define SMALL_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes of working memory: for one thread, what each further one adds, and for a given number. */
#define SMALL_ARENA_BYTES 3584
#define SMALL_THREAD_SCRATCH_BYTES 768
#define SMALL_ARENA_BYTES_FOR(threads) \
    ((size_t)SMALL_ARENA_BYTES + ((size_t)(threads) - 1) * SMALL_THREAD_SCRATCH_BYTES)
#define SMALL_ARENA_ALIGNMENT 64
#define SMALL_MAX_THREADS 32
#define SMALL_STEPS 4
#define SMALL_LEVELS 3

#define SMALL_IMAGE_SIZE 192 /* elements: [1, 3, 8, 8] */
#define SMALL_SCORES_SIZE 4 /* elements: [1, 4] */

typedef enum {
    SMALL_OK = 0, /* no error */
    SMALL_ERROR_ARGUMENT, /* a pointer is NULL or not the one it must be, buffers overlap, or the context isn't initialized */
    SMALL_ERROR_CPU_FEATURE, /* this CPU lacks a feature that the kernels need */
    SMALL_ERROR_THREADS, /* the number of threads is out of range, or one can't be started */
    SMALL_ERROR_ARENA_TOO_SMALL, /* the arena is smaller than the macro ARENA_BYTES_FOR(threads) says */
    SMALL_ERROR_ARENA_ALIGNMENT, /* the arena isn't aligned to the macro ARENA_ALIGNMENT */
    SMALL_ERROR_SELFTEST, /* a step computed something else than the golden run */
    SMALL_ERROR_OVERRUN, /* a step wrote outside its buffers */
    SMALL_ERROR_BUSY, /* the context is running already */
    SMALL_STATUS_WIDTH = 0x7fffffff, /* as wide as an int, whatever the compiler's options */
    SMALL_STATUSES = 9 /* their number; no status */
} small_status;

/* Dense row-major arrays in the order of their shapes; no alignment is needed. An output may overlap neither an input
 * nor another output, and none of them the arena. */
typedef struct {
    const float *image; /* image: float32 [1, 3, 8, 8] */
} small_inputs;

typedef struct {
    float *scores; /* scores: float32 [1, 4] */
} small_outputs;

/* Complete so that you can own one; its contents are private. Between init and close it must not move, and not be
 * initialized again. */
typedef struct small_context {
    uint64_t storage[288];
} small_context;

/* Checks the CPU, the arena and the number of threads, and starts threads - 1 threads. Of the instruction sets that
 * there are kernels for, the best that this CPU has is taken.
 * A process that is forked off then has the context and none of the threads: it may run, alone, and close. */
SMALL_API small_status small_init(small_context *context, void *arena, size_t arena_bytes, int threads);

/* One inference. The arena's contents before don't matter and are garbage after.
 * A second one of the same context meanwhile is refused with SMALL_ERROR_BUSY. */
SMALL_API small_status small_run(small_context *context, const small_inputs *inputs,
    small_outputs *outputs);

/* Joins the threads that init started. Does nothing for a context that isn't initialized, or while it runs. */
SMALL_API void small_close(small_context *context);

/* One line of English. */
SMALL_API const char *small_status_text(small_status status);

/* The first CPU feature that the kernels need and this CPU lacks, or NULL. */
SMALL_API const char *small_missing_feature(void);

/* ---- Levels: instruction sets that there are kernels for, numbered from 0, the best ---------------------
 *   0  arm64-i8mm
 *   1  arm64-dotprod
 *   2  arm64
 */

/* Its name, or NULL outside [0, SMALL_LEVELS). */
SMALL_API const char *small_level_name(int level);

/* The first CPU feature that it needs and this CPU lacks, or NULL. */
SMALL_API const char *small_level_missing_feature(int level);

/* As init, but on this very level. All levels compute the same. */
SMALL_API small_status small_init_level(small_context *context, void *arena, size_t arena_bytes, int threads,
    int level);

/* The one that init chose, or -1 for a context that isn't initialized. */
SMALL_API int small_level(const small_context *context);

/* ---- For tools: a look at every step ------------------------------------------------------------------- */

typedef enum { SMALL_BEFORE_STEP, SMALL_AFTER_STEP, SMALL_PHASE_WIDTH = 0x7fffffff } small_phase;

/* Called on the thread that called run_observed, around each step, with the default rounding mode. It must return. */
typedef void (*small_observer)(void *user, int step, small_phase phase);

SMALL_API small_status small_run_observed(small_context *context, const small_inputs *inputs,
    small_outputs *outputs, small_observer observer, void *user);

/* The layer's name, or NULL outside [0, SMALL_STEPS). */
SMALL_API const char *small_step_name(int step);

/* Piece number `piece` of what `step` computed, its bytes in *bytes, or NULL if there is none. One after another the
 * pieces are the outputs, in order; one that is part of a wider tensor has several. For observers, after the step: the
 * memory is used again by later steps. */
SMALL_API const void *small_step_output(const small_context *context, int step, int piece,
    size_t *bytes);

/* ---- Self-test; a program that doesn't call these doesn't link the golden vectors ---------------------- */

/* Points `inputs` at the golden inputs that the compiler computed every step with. */
SMALL_API small_status small_golden_inputs(small_inputs *inputs);

#define SMALL_OUTPUT_BYTES 16
#define SMALL_OUTPUT_GUARD_BYTES 64

typedef struct {
    int step;                   /* the first that differs or wrote outside its buffers, or -1 */
    const char *layer;          /* its name, or NULL */
    uint32_t expected;          /* checksums (CRC-32) of that step's outputs; of a float step, the first bytes of */
    uint32_t computed;          /* the first element that isn't near enough */
    int steps_checked;          /* all but those inside of float islands */
    size_t arena_bytes_touched; /* up to the last byte of the arena that was written */
    uint8_t outputs[SMALL_OUTPUT_BYTES + 2 * SMALL_OUTPUT_GUARD_BYTES]; /* work space */
} small_selftest_result;

/* Runs the golden inputs twice, on an arena painted with two different bytes, and compares every step's outputs: bit
 * for bit, but for float steps, which have a tolerance of 0.001.
 * Bytes that you gave init beyond SMALL_ARENA_BYTES_FOR(threads) are checked to stay untouched. */
SMALL_API small_status small_selftest(small_context *context, small_selftest_result *result);

#ifdef __cplusplus
}
#endif

#endif
