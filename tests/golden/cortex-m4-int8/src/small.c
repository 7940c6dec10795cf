/* small, compiled by edgec for cortex-m4-int8: 6 steps over one arena.
 *
 * The kernels are object code in the library; this file is the whole program around them.
 */
#include "small.h"

#include "float_mode.h"

/* Weights, tables and parameters: 616 bytes, each array at a multiple of 8. They have the
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
    uint32_t magic; /* READY, RUNNING, or anything else */
    int32_t level;
    float_mode mode; /* the caller's, during a run */
    size_t arena_bytes;
    const struct step_code *code; /* of every step, on that level */
    frame frame;
} state;

_Static_assert(sizeof(state) <= sizeof(small_context), "the context's storage is too small");

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
    s->magic = to;
    return 1;
}

/* A step's buffers: arrays of constants lie in `weights`, tensors in the arena or with the caller. */
static inline void *constant(size_t offset) { return (void *)(small_weights + offset); }

/* ---- Kernels ------------------------------------------------------------------------------------------- */

#define KERNEL extern __attribute__((visibility("hidden"))) int32_t
KERNEL small_edgec_quantize_key1(void *, void *, void *, void *, int32_t, int32_t);
KERNEL small_edgec_rearrange_key2(void *, void *, void *, int32_t, int32_t);
KERNEL small_edgec_conv2d_dsp_key3(void *, void *, void *, void *, void *, void *, int32_t, int32_t);
KERNEL small_edgec_mean_key4(void *, void *, void *, void *, int32_t, int32_t);
KERNEL small_edgec_conv2d_dsp_key5(void *, void *, void *, void *, void *, int32_t, int32_t);
KERNEL small_edgec_dequantize_key6(void *, void *, void *, void *, int32_t, int32_t);

/* ---- Steps --------------------------------------------------------------------------------------------- */

/* image_quantize (quantize) */
static void step_0(const frame *f, uint8_t *scratch, int32_t begin, int32_t end)
{
    (void)small_edgec_quantize_key1(
        (void *)f->in.image, /* image: float32 [1, 3, 8, 8] */
        constant(0), /* image_quantize.0: int32 [2] */
        f->arena + 0, /* image_quantize: int8 [1, 3, 8, 8] */
        scratch, begin, end);
}

/* conv_layout (rearrange) */
static void step_1(const frame *f, uint8_t *scratch, int32_t begin, int32_t end)
{
    (void)small_edgec_rearrange_key2(
        f->arena + 0, /* image_quantize: int8 [1, 3, 8, 8] */
        f->arena + 512, /* conv_layout: int8 [1, 8, 8, 3] */
        scratch, begin, end);
}

/* conv (conv2d_dsp, 13824 MAC) */
static void step_2(const frame *f, uint8_t *scratch, int32_t begin, int32_t end)
{
    (void)small_edgec_conv2d_dsp_key3(
        f->arena + 512, /* conv_layout: int8 [1, 8, 8, 3] */
        constant(8), /* conv.0: int32 [4, 20] */
        constant(328), /* conv.1: int32 [22] */
        constant(416), /* conv.2: int32 [3] */
        f->arena + 0, /* c: int8 [1, 8, 8, 8] */
        scratch, begin, end);
}

/* pool (mean) */
static void step_3(const frame *f, uint8_t *scratch, int32_t begin, int32_t end)
{
    (void)small_edgec_mean_key4(
        f->arena + 0, /* c: int8 [1, 8, 8, 8] */
        constant(432), /* pool.0: int32 [5] */
        f->arena + 512, /* p: int8 [1, 1, 1, 8] */
        scratch, begin, end);
}

/* dense (conv2d_dsp, 32 MAC) */
static void step_4(const frame *f, uint8_t *scratch, int32_t begin, int32_t end)
{
    (void)small_edgec_conv2d_dsp_key5(
        f->arena + 512, /* p: int8 [1, 1, 1, 8] */
        constant(456), /* dense.0: int32 [1, 16] */
        constant(520), /* dense.1: int32 [22] */
        f->arena + 16, /* scores_float: int8 [1, 4] */
        scratch, begin, end);
}

/* scores_dequantize (dequantize) */
static void step_5(const frame *f, uint8_t *scratch, int32_t begin, int32_t end)
{
    (void)small_edgec_dequantize_key6(
        f->arena + 16, /* scores_float: int8 [1, 4] */
        constant(608), /* scores_dequantize.0: int32 [2] */
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
    { 1, 0 },
    { 2, 704 },
    { 3, 0 },
    { 4, 0 },
    { 5, 0 },
    { 6, 0 },
};

/* Apart, so that a program that doesn't ask for them needn't link them. */
static const char *const step_names[] = {
    "image_quantize",
    "conv_layout",
    "conv",
    "pool",
    "dense",
    "scores_dequantize",
};

/* ---- Levels -------------------------------------------------------------------------------------------- */

typedef struct step_code {
    void (*run)(const frame *f, uint8_t *scratch, int32_t begin, int32_t end);
    int32_t tiles;
} step_code;

static const step_code code_cortex_m4[] = {
    { step_0, 1 },
    { step_1, 1 },
    { step_2, 1 },
    { step_3, 1 },
    { step_4, 1 },
    { step_5, 1 },
    { NULL, 0 },
};

/* The best first. */
static const struct {
    const char *name;
    const step_code *code;
} levels[] = {
    { "cortex-m4", code_cortex_m4 },
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
    { -1, 1, 0, 192, 192 }, /* image_quantize */
    { -1, 1, 512, 192, 192 }, /* conv_layout */
    { -1, 1, 0, 512, 512 }, /* c */
    { -1, 1, 512, 8, 8 }, /* p */
    { -1, 1, 16, 4, 4 }, /* scores_float */
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
    (void)thread;
    return s->frame.arena + steps[index].scratch;
}

static void run_tiles(void *user, int thread, int32_t index, int32_t begin, int32_t end)
{
    const state *s = user;
    s->code[index].run(&s->frame, scratch_of(s, thread, index), begin, end);
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
    s->magic = READY;
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
    s->level = level;
    s->code = levels[level].code;
    s->arena_bytes = arena_bytes;
    s->frame.arena = arena;
    s->magic = READY;
    return SMALL_OK;
}

void small_close(small_context *context)
{
    state *s = (state *)context;
    if (readiness(s) != SMALL_OK || !leave_ready(s, 0))
        return;
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
    (void)level;
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
        *threads = 1;
    }
    return ready;
}
