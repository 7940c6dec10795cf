/* Self-test of small: golden inputs, and what every step must compute from them. */
#include "small.h"

#include <stdbool.h>

/* The inputs one after another, each at a multiple of 8. */
extern const uint8_t small_golden[] __attribute__((visibility("hidden")));

__attribute__((visibility("hidden"))) small_status small_arena(const small_context *context, uint8_t **arena,
    size_t *bytes, int *threads);

typedef struct {
    bool checked; /* a float step's outputs are compared one by one instead */
    uint32_t crc;
} golden_step;

static const golden_step golden_steps[] = {
    { true, 0x4137fc44u }, /* image_quantize */
    { true, 0xb0705c98u }, /* conv_layout */
    { true, 0xe6ab78a6u }, /* conv */
    { true, 0x82a2fe84u }, /* pool */
    { true, 0xf903a417u }, /* dense */
    { true, 0xc3edb84fu }, /* scores_dequantize */
    { false, 0 },
};

/* CRC-32 (IEEE 802.3, the one of zlib), four bits at a time: 64 bytes of table. */
static uint32_t crc32_update(uint32_t crc, const uint8_t *data, size_t bytes)
{
    static const uint32_t table[16] = {
        0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
        0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
    };
    crc = ~crc;
    for (size_t i = 0; i < bytes; i++) {
        crc ^= data[i];
        crc = crc >> 4 ^ table[crc & 15];
        crc = crc >> 4 ^ table[crc & 15];
    }
    return ~crc;
}

/* Index of the first byte that isn't `paint`, or `bytes`. */
static size_t first_touched(const uint8_t *memory, size_t bytes, uint8_t paint)
{
    size_t i = 0;
    while (i < bytes && memory[i] == paint)
        i++;
    return i;
}

/* One past the last byte that isn't `paint`. */
static size_t end_of_touched(const uint8_t *memory, size_t bytes, uint8_t paint)
{
    while (bytes > 0 && memory[bytes - 1] == paint)
        bytes--;
    return bytes;
}

/* One painted run. */
typedef struct {
    const small_context *context;
    small_selftest_result *result;
    const uint8_t *beyond; /* what of the arena no step may touch */
    size_t beyond_bytes;
    uint8_t paint;
    bool overrun;
} probe;

static bool outputs_overrun(const probe *p)
{
    const uint8_t *guard = p->result->outputs;
    if (first_touched(guard, SMALL_OUTPUT_GUARD_BYTES, p->paint) != SMALL_OUTPUT_GUARD_BYTES)
        return true;
    guard += SMALL_OUTPUT_GUARD_BYTES + 16; /* scores */
    return first_touched(guard, SMALL_OUTPUT_GUARD_BYTES, p->paint) != SMALL_OUTPUT_GUARD_BYTES;
}

static void check_step(void *user, int step, small_phase phase)
{
    probe *p = user;
    if (phase == SMALL_BEFORE_STEP || p->result->step >= 0)
        return;
    bool same = true, compared = golden_steps[step].checked;
    p->overrun = first_touched(p->beyond, p->beyond_bytes, p->paint) != p->beyond_bytes || outputs_overrun(p);
    if (compared) {
        size_t bytes;
        const uint8_t *output;
        uint32_t crc = 0;
        for (int i = 0; (output = small_step_output(p->context, step, i, &bytes)) != NULL; i++)
            crc = crc32_update(crc, output, bytes);
        p->result->expected = golden_steps[step].crc;
        p->result->computed = crc;
        same = crc == golden_steps[step].crc;
    }
    p->result->steps_checked += compared;
    if (same && !p->overrun) {
        p->result->expected = p->result->computed = 0;
        return;
    }
    p->result->step = step;
    p->result->layer = small_step_name(step);
}

small_status small_golden_inputs(small_inputs *inputs)
{
    if (inputs == NULL)
        return SMALL_ERROR_ARGUMENT;
    inputs->image = (const float *)(small_golden + 0);
    return SMALL_OK;
}

small_status small_selftest(small_context *context, small_selftest_result *result)
{
    /* A byte that a step writes differs from one of the two, whatever its value. */
    static const uint8_t paints[] = { 0xa5, 0x5a };
    size_t arena_bytes;
    int threads;
    uint8_t *arena;
    if (result == NULL)
        return SMALL_ERROR_ARGUMENT;
    const small_status open = small_arena(context, &arena, &arena_bytes, &threads);
    if (open != SMALL_OK)
        return open;
    const size_t planned = SMALL_ARENA_BYTES_FOR(threads);

    small_inputs in;
    small_outputs out;
    (void)small_golden_inputs(&in);
    uint8_t *place = result->outputs + SMALL_OUTPUT_GUARD_BYTES;
    out.scores = (float *)place;
    place += 16 + SMALL_OUTPUT_GUARD_BYTES;
    (void)place;

    result->arena_bytes_touched = 0;
    for (size_t i = 0; i < sizeof paints; i++) {
        probe p = { context, result, arena + planned, arena_bytes - planned, paints[i], false };
        __builtin_memset(arena, p.paint, arena_bytes); /* <string.h> is no freestanding header */
        __builtin_memset(result->outputs, p.paint, sizeof result->outputs);
        result->step = -1;
        result->layer = NULL;
        result->expected = result->computed = 0;
        result->steps_checked = 0;
        const small_status status = small_run_observed(context, &in, &out, check_step, &p);
        if (status != SMALL_OK)
            return status;
        const size_t touched = end_of_touched(arena, arena_bytes, p.paint);
        if (touched > result->arena_bytes_touched)
            result->arena_bytes_touched = touched;
        if (p.overrun)
            return SMALL_ERROR_OVERRUN;
        if (result->step >= 0)
            return SMALL_ERROR_SELFTEST;
    }
    return SMALL_OK;
}
