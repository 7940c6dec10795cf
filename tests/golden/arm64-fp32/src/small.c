/* small, compiled by edgec for arm64-fp32: 4 steps over one arena.
 *
 * The kernels are object code in the library; this file is the whole program around them.
 */
#include "small.h"

#include "cpu.h"
#include "float_mode.h"
#include "pool.h"

/* Weights, tables and parameters: 1152 bytes, each array at a multiple of 64. They have the
 * section .rodata.small_weights to themselves, so that a linker script can say where they go. */
extern const uint8_t small_weights[] __attribute__((visibility("hidden")));

/* Where one run's buffers are. */
typedef struct {
    small_inputs in;
    small_outputs out;
    uint8_t *arena;
} frame;

/* What small_context's storage holds. */
typedef struct __attribute__((may_alias)) {
    _Atomic uint32_t magic; /* READY, RUNNING, or anything else */
    int32_t threads;
    int32_t level;
    float_mode mode; /* the caller's, during a run */
    size_t arena_bytes;
    const struct step_code *code; /* of every step, on that level */
    frame frame;
    pool pool; /* last, and started only for two threads and more */
} state;

_Static_assert(sizeof(state) <= sizeof(small_context), "the context's storage is too small");
_Static_assert(SMALL_MAX_THREADS == POOL_MAX_THREADS, "the header and the pool disagree");

/* What an initialized context starts with; a zeroed or closed one doesn't. */
#define READY 0x65646763u
#define RUNNING (READY + 1) /* a run is under way */

static inline small_status readiness(const state *s)
{
    const uint32_t magic = s != NULL ? s->magic : 0;
    return magic == READY ? SMALL_OK : magic == RUNNING ? SMALL_ERROR_BUSY : SMALL_ERROR_ARGUMENT;
}

static inline int is_open(const state *s)
{
    return readiness(s) != SMALL_ERROR_ARGUMENT;
}

/* From READY to `to`; false where the context isn't ready (any more). */
static inline int leave_ready(state *s, uint32_t to)
{
    uint32_t ready = READY;
    return atomic_compare_exchange_strong(&s->magic, &ready, to);
}

/* A step's buffers: arrays of constants lie in `weights`, tensors in the arena or with the caller. */
static inline void *constant(size_t offset) { return (void *)(small_weights + offset); }

/* ---- Kernels ------------------------------------------------------------------------------------------- */

#define KERNEL extern __attribute__((visibility("hidden"))) int32_t
KERNEL small_arm64_dotprod_edgec_rearrange_key1(void *, void *, void *, int32_t, int32_t);
KERNEL small_arm64_dotprod_edgec_float_conv2d_neon_key2(void *, void *, void *, void *, void *, int32_t, int32_t);
KERNEL small_arm64_dotprod_edgec_float_mean_key3(void *, void *, void *, int32_t, int32_t);
KERNEL small_arm64_dotprod_edgec_float_conv2d_neon_key4(void *, void *, void *, void *, void *, int32_t, int32_t);
KERNEL small_edgec_rearrange_key1(void *, void *, void *, int32_t, int32_t);
KERNEL small_edgec_float_conv2d_neon_key2(void *, void *, void *, void *, void *, int32_t, int32_t);
KERNEL small_edgec_float_mean_key3(void *, void *, void *, int32_t, int32_t);
KERNEL small_edgec_float_conv2d_neon_key4(void *, void *, void *, void *, void *, int32_t, int32_t);

/* ---- Steps --------------------------------------------------------------------------------------------- */

/* conv_layout (rearrange) */
static void step_0_arm64_i8mm(const frame *f, uint8_t *scratch, int32_t begin, int32_t end)
{
    (void)small_arm64_dotprod_edgec_rearrange_key1(
        (void *)f->in.image, /* image: float32 [1, 3, 8, 8] */
        f->arena + 2048, /* conv_layout: float32 [1, 8, 8, 3] */
        scratch, begin, end);
}

/* conv (float_conv2d_neon, 13824 MAC) */
static void step_1_arm64_i8mm(const frame *f, uint8_t *scratch, int32_t begin, int32_t end)
{
    (void)small_arm64_dotprod_edgec_float_conv2d_neon_key2(
        f->arena + 2048, /* conv_layout: float32 [1, 8, 8, 3] */
        constant(0), /* conv.0: float32 [216] */
        constant(896), /* conv.1: float32 [16] */
        f->arena + 0, /* c: float32 [1, 8, 8, 8] */
        scratch, begin, end);
}

/* pool (float_mean) */
static void step_2_arm64_i8mm(const frame *f, uint8_t *scratch, int32_t begin, int32_t end)
{
    (void)small_arm64_dotprod_edgec_float_mean_key3(
        f->arena + 0, /* c: float32 [1, 8, 8, 8] */
        f->arena + 2048, /* p: float32 [1, 1, 1, 8] */
        scratch, begin, end);
}

/* dense (float_conv2d_neon, 32 MAC) */
static void step_3_arm64_i8mm(const frame *f, uint8_t *scratch, int32_t begin, int32_t end)
{
    (void)small_arm64_dotprod_edgec_float_conv2d_neon_key4(
        f->arena + 2048, /* p: float32 [1, 1, 1, 8] */
        constant(960), /* dense.0: float32 [32] */
        constant(1088), /* dense.1: float32 [16] */
        f->out.scores, /* scores: float32 [1, 4] */
        scratch, begin, end);
}

/* conv_layout (rearrange) */
static void step_0_arm64(const frame *f, uint8_t *scratch, int32_t begin, int32_t end)
{
    (void)small_edgec_rearrange_key1(
        (void *)f->in.image, /* image: float32 [1, 3, 8, 8] */
        f->arena + 2048, /* conv_layout: float32 [1, 8, 8, 3] */
        scratch, begin, end);
}

/* conv (float_conv2d_neon, 13824 MAC) */
static void step_1_arm64(const frame *f, uint8_t *scratch, int32_t begin, int32_t end)
{
    (void)small_edgec_float_conv2d_neon_key2(
        f->arena + 2048, /* conv_layout: float32 [1, 8, 8, 3] */
        constant(0), /* conv.0: float32 [216] */
        constant(896), /* conv.1: float32 [16] */
        f->arena + 0, /* c: float32 [1, 8, 8, 8] */
        scratch, begin, end);
}

/* pool (float_mean) */
static void step_2_arm64(const frame *f, uint8_t *scratch, int32_t begin, int32_t end)
{
    (void)small_edgec_float_mean_key3(
        f->arena + 0, /* c: float32 [1, 8, 8, 8] */
        f->arena + 2048, /* p: float32 [1, 1, 1, 8] */
        scratch, begin, end);
}

/* dense (float_conv2d_neon, 32 MAC) */
static void step_3_arm64(const frame *f, uint8_t *scratch, int32_t begin, int32_t end)
{
    (void)small_edgec_float_conv2d_neon_key4(
        f->arena + 2048, /* p: float32 [1, 1, 1, 8] */
        constant(960), /* dense.0: float32 [32] */
        constant(1088), /* dense.1: float32 [16] */
        f->out.scores, /* scores: float32 [1, 4] */
        scratch, begin, end);
}

/* What is the same on every level. */
typedef struct {
    int32_t first_output; /* in step_outputs; the next step's is the end */
    size_t scratch;       /* of thread 0, from the start of the arena */
} step;

static const step steps[] = {
    { 0, 0 },
    { 1, 2816 },
    { 2, 0 },
    { 3, 0 },
    { 4, 0 },
};

/* Apart, so that a program that doesn't ask for them needn't link them. */
static const char *const step_names[] = {
    "conv_layout",
    "conv",
    "pool",
    "dense",
};

/* ---- Levels -------------------------------------------------------------------------------------------- */

typedef struct step_code {
    void (*run)(const frame *f, uint8_t *scratch, int32_t begin, int32_t end);
    int32_t tiles;
    int32_t shared; /* whether the tiles are worth handing over to other threads */
} step_code;

static const step_code code_arm64_i8mm[] = {
    { step_0_arm64_i8mm, 1, 0 },
    { step_1_arm64_i8mm, 4, 0 },
    { step_2_arm64_i8mm, 1, 0 },
    { step_3_arm64_i8mm, 1, 0 },
    { NULL, 0, 0 },
};

static const step_code code_arm64_dotprod[] = {
    { step_0_arm64_i8mm, 1, 0 },
    { step_1_arm64_i8mm, 4, 0 },
    { step_2_arm64_i8mm, 1, 0 },
    { step_3_arm64_i8mm, 1, 0 },
    { NULL, 0, 0 },
};

static const step_code code_arm64[] = {
    { step_0_arm64, 1, 0 },
    { step_1_arm64, 4, 0 },
    { step_2_arm64, 1, 0 },
    { step_3_arm64, 1, 0 },
    { NULL, 0, 0 },
};

/* What arm64-i8mm needs beyond the architecture's baseline. */
static const cpu_feature features_arm64_i8mm[] = {
    { "dotprod", AT_HWCAP, 20 },
    { "i8mm", AT_HWCAP2, 13 },
};

/* What arm64-dotprod needs beyond the architecture's baseline. */
static const cpu_feature features_arm64_dotprod[] = {
    { "dotprod", AT_HWCAP, 20 },
};

/* The best first. */
static const struct {
    const char *name;
    const step_code *code;
    const cpu_feature *features;
    size_t features_count;
} levels[] = {
    { "arm64-i8mm", code_arm64_i8mm, features_arm64_i8mm, 2 },
    { "arm64-dotprod", code_arm64_dotprod, features_arm64_dotprod, 1 },
    { "arm64", code_arm64, NULL, 0 },
};

/* An output lies at `offset` in the arena or in output number `model_output` of the model. What is part of a wider
 * tensor lies there in several pieces. */
typedef struct {
    int32_t model_output; /* -1: in the arena */
    int32_t pieces;
    size_t offset;
    size_t bytes; /* of a piece */
    size_t pitch; /* from one piece to the next */
} step_output;

static const step_output step_outputs[] = {
    { -1, 1, 2048, 768, 768 }, /* conv_layout */
    { -1, 1, 0, 2048, 2048 }, /* c */
    { -1, 1, 2048, 32, 32 }, /* p */
    { 0, 1, 0, 16, 16 }, /* scores */
};

static const void *model_output(const frame *f, int32_t index)
{
    switch (index) {
    case 0: return f->out.scores;
    default: return NULL;
    }
}

/* ---- Running ------------------------------------------------------------------------------------------- */

static uint8_t *scratch_of(const state *s, int thread, int32_t index)
{
    if (thread > 0)
        return s->frame.arena + SMALL_ARENA_BYTES_FOR(thread);
    return s->frame.arena + steps[index].scratch;
}

static void run_tiles(void *user, int thread, int32_t index, int32_t begin, int32_t end)
{
    const state *s = user;
    s->code[index].run(&s->frame, scratch_of(s, thread, index), begin, end);
}

/* Whether anything that a run writes lies in something else that it uses. */
static int overlap(const state *s, const small_inputs *inputs, const small_outputs *outputs)
{
    const struct { const void *at; size_t bytes; } used[] = {
        { s->frame.arena, SMALL_ARENA_BYTES_FOR(s->threads) },
        { outputs->scores, 16 },
        { inputs->image, 768 },
    };
    for (size_t i = 0; i < 1 + 1; i++)
        for (size_t j = i + 1; j < sizeof used / sizeof used[0]; j++) {
            const uintptr_t a = (uintptr_t)used[i].at, b = (uintptr_t)used[j].at;
            if (a < b ? b - a < used[i].bytes && used[j].bytes > 0 : a - b < used[j].bytes && used[i].bytes > 0)
                return 1;
        }
    return 0;
}

static small_status begin(state *s, const small_inputs *inputs, const small_outputs *outputs)
{
    const small_status ready = readiness(s);
    if (ready != SMALL_OK)
        return ready;
    if (inputs == NULL || outputs == NULL)
        return SMALL_ERROR_ARGUMENT;
    if (inputs->image == NULL)
        return SMALL_ERROR_ARGUMENT;
    if (outputs->scores == NULL)
        return SMALL_ERROR_ARGUMENT;
    if (overlap(s, inputs, outputs))
        return SMALL_ERROR_ARGUMENT;
    if (!leave_ready(s, RUNNING))
        return SMALL_ERROR_BUSY;
    s->mode = float_mode_enter();
    s->frame.in = *inputs;
    s->frame.out = *outputs;
    return SMALL_OK;
}

/* A function of its own: inlined, it would take registers, and so stack, while the kernels run. */
__attribute__((noinline)) static void end(state *s)
{
    float_mode_leave(s->mode);
    atomic_store_explicit(&s->magic, READY, memory_order_release);
}

static small_status run(small_context *context, const small_inputs *inputs, small_outputs *outputs,
    small_observer observer, void *user)
{
    state *s = (state *)context;
    const small_status begun = begin(s, inputs, outputs);
    if (begun != SMALL_OK)
        return begun;
    for (int32_t i = 0; i < SMALL_STEPS; i++) {
        if (observer != NULL)
            observer(user, i, SMALL_BEFORE_STEP);
        const int32_t tiles = s->code[i].tiles;
        if (s->threads > 1 && s->code[i].shared)
            pool_run(&s->pool, i, tiles);
        else
            run_tiles(s, 0, i, 0, tiles);
        if (observer != NULL)
            observer(user, i, SMALL_AFTER_STEP);
    }
    end(s);
    return SMALL_OK;
}

small_status small_run(small_context *context, const small_inputs *inputs, small_outputs *outputs)
{
    return run(context, inputs, outputs, NULL, NULL);
}

small_status small_run_observed(small_context *context, const small_inputs *inputs,
    small_outputs *outputs, small_observer observer, void *user)
{
    return observer == NULL ? SMALL_ERROR_ARGUMENT : run(context, inputs, outputs, observer, user);
}

small_status small_init(small_context *context, void *arena, size_t arena_bytes, int threads)
{
    int level = 0;
    while (level < SMALL_LEVELS - 1 && small_level_missing_feature(level) != NULL)
        level++;
    return small_init_level(context, arena, arena_bytes, threads, level);
}

small_status small_init_level(small_context *context, void *arena, size_t arena_bytes, int threads, int level)
{
    state *s = (state *)context;
    if (s == NULL || arena == NULL || small_level_name(level) == NULL)
        return SMALL_ERROR_ARGUMENT;
    s->magic = 0;
    if (small_level_missing_feature(level) != NULL)
        return SMALL_ERROR_CPU_FEATURE;
    if (threads < 1 || threads > SMALL_MAX_THREADS)
        return SMALL_ERROR_THREADS;
    if ((uintptr_t)arena % SMALL_ARENA_ALIGNMENT != 0)
        return SMALL_ERROR_ARENA_ALIGNMENT;
    if (arena_bytes < SMALL_ARENA_BYTES_FOR(threads))
        return SMALL_ERROR_ARENA_TOO_SMALL;
    s->threads = threads;
    s->level = level;
    s->code = levels[level].code;
    s->arena_bytes = arena_bytes;
    s->frame.arena = arena;
    if (threads > 1 && !pool_start(&s->pool, threads, run_tiles, s))
        return SMALL_ERROR_THREADS;
    s->magic = READY;
    return SMALL_OK;
}

void small_close(small_context *context)
{
    state *s = (state *)context;
    if (readiness(s) != SMALL_OK || !leave_ready(s, 0))
        return;
    if (s->threads > 1)
        pool_stop(&s->pool, s->threads - 1);
}

/* ---- Answers ------------------------------------------------------------------------------------------- */

const char *small_status_text(small_status status)
{
    switch (status) {
    case SMALL_OK: return "no error";
    case SMALL_ERROR_ARGUMENT: return "a pointer is NULL or not the one it must be, buffers overlap, or the context isn't initialized";
    case SMALL_ERROR_CPU_FEATURE: return "this CPU lacks a feature that the kernels need";
    case SMALL_ERROR_THREADS: return "the number of threads is out of range, or one can't be started";
    case SMALL_ERROR_ARENA_TOO_SMALL: return "the arena is smaller than the macro ARENA_BYTES_FOR(threads) says";
    case SMALL_ERROR_ARENA_ALIGNMENT: return "the arena isn't aligned to the macro ARENA_ALIGNMENT";
    case SMALL_ERROR_SELFTEST: return "a step computed something else than the golden run";
    case SMALL_ERROR_OVERRUN: return "a step wrote outside its buffers";
    case SMALL_ERROR_BUSY: return "the context is running already";
    default: return "unknown status";
    }
}

const char *small_missing_feature(void)
{
    return small_level_missing_feature(SMALL_LEVELS - 1); /* which needs the least */
}

const char *small_level_name(int level)
{
    return level < 0 || level >= SMALL_LEVELS ? NULL : levels[level].name;
}

const char *small_level_missing_feature(int level)
{
    if (small_level_name(level) == NULL)
        return NULL;
    for (size_t i = 0; i < levels[level].features_count; i++)
        if (!cpu_has(&levels[level].features[i]))
            return levels[level].features[i].name;
    return NULL;
}

int small_level(const small_context *context)
{
    const state *s = (const state *)context;
    return is_open(s) ? s->level : -1;
}

const char *small_step_name(int index)
{
    return index < 0 || index >= SMALL_STEPS ? NULL : step_names[index];
}

const void *small_step_output(const small_context *context, int index, int piece, size_t *bytes)
{
    const state *s = (const state *)context;
    if (!is_open(s) || bytes == NULL || index < 0 || index >= SMALL_STEPS || piece < 0)
        return NULL;
    for (int32_t i = steps[index].first_output; i < steps[index + 1].first_output; i++) {
        const step_output *o = &step_outputs[i];
        if (piece < o->pieces) {
            const uint8_t *base = o->model_output < 0 ? s->frame.arena : model_output(&s->frame, o->model_output);
            *bytes = o->bytes;
            return base + o->offset + (size_t)piece * o->pitch;
        }
        piece -= o->pieces;
    }
    return NULL;
}

/* For the self-test, which lies in an object of its own. */
__attribute__((visibility("hidden"))) small_status small_arena(const small_context *context, uint8_t **arena,
    size_t *bytes, int *threads);

small_status small_arena(const small_context *context, uint8_t **arena, size_t *bytes, int *threads)
{
    const state *s = (const state *)context;
    const small_status ready = readiness(s);
    if (ready == SMALL_OK) {
        *arena = s->frame.arena;
        *bytes = s->arena_bytes;
        *threads = s->threads;
    }
    return ready;
}
