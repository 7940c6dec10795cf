/* A caller on a microcontroller's board who changes FPSCR: tests/compiler/emit/test_callers.py links it with a bundle called
 * `net` and its start-up code. Exits with the number of the first check that fails. */
#include "float_mode.h"
#include "net.h"

static uint8_t arena[NET_ARENA_BYTES] __attribute__((aligned(NET_ARENA_ALIGNMENT)));
static net_context context;
static net_selftest_result selftest;
static int refused;

static void meddle(void *user, int step, net_phase phase)
{
    (void)step, (void)phase;
    refused += net_run(&context, user, user) == NET_ERROR_BUSY;
    refused += net_selftest(&context, &selftest) == NET_ERROR_BUSY;
    net_close(&context);
}

int main(void)
{
    net_inputs in;
    net_outputs out;
    static uint8_t results[NET_OUTPUT_BYTES] __attribute__((aligned(8)));
    out.logits = (void *)results;
    if (net_init(&context, arena, sizeof arena, 1) != NET_OK || net_selftest(&context, &selftest) != NET_OK)
        return 1;
    for (float_mode mode = 0; mode < 32; mode++) { /* rounding, FZ, DN, AHP */
        const float_mode usual = float_mode_read();
        float_mode_write((usual & ~(float_mode)FLOAT_MODE_BITS) | mode << 22);
        const net_status status = net_selftest(&context, &selftest);
        const float_mode after = float_mode_read() & FLOAT_MODE_BITS;
        float_mode_write(usual);
        if (status != NET_OK)
            return 2;
        if (after != mode << 22)
            return 3;
    }
    if (net_golden_inputs(NULL) != NET_ERROR_ARGUMENT || net_golden_inputs(&in) != NET_OK)
        return 4;
    if (net_run_observed(&context, &in, &out, meddle, &in) != NET_OK || refused != 4 * NET_STEPS)
        return 5;
    net_close(&context);
    net_close(&context);
    return net_run(&context, &in, &out) == NET_ERROR_ARGUMENT ? 0 : 6;
}
