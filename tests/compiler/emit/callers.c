/* What callers do to a bundle called `net`, on any hosted target: tests/compiler/emit/test_callers.py builds and runs it.
 * Every check that fails prints a line; the exit code is then 1. */
#define _GNU_SOURCE
#include "float_mode.h"
#include "net.h"

#include <fenv.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int failed;

#define EXPECT(condition) \
    do { \
        if (!(condition)) \
            failed = 1, printf("%s:%d: %s (threads %d, mode %d)\n", __func__, __LINE__, #condition, threads, mode_number); \
    } while (0)

static uint8_t arena[NET_ARENA_BYTES_FOR(4)] __attribute__((aligned(NET_ARENA_ALIGNMENT)));
static net_context context;
static net_selftest_result selftest;
static float expected[NET_LOGITS_SIZE], logits[NET_LOGITS_SIZE], image[NET_IMAGE_SIZE];
static net_inputs inputs;
static net_outputs outputs = { logits };
static int threads, mode_number;

/* ---- Rounding modes, flushing, traps ------------------------------------------------------------------------ */

#if defined(__x86_64__)
enum { MODES = 4 * 2 * 2 * 2 };
static float_mode mode_of(int number) /* rounding, FTZ, DAZ, all traps but that of inexact results */
{
    const float_mode traps = number & 16 ? 0 : 0x0f80;
    return 0x1000 | traps | (float_mode)(number & 3) << 13 | (number & 4 ? 0x8000 : 0) | (number & 8 ? 0x40 : 0);
}
#else
enum { MODES = 4 * 2 * 2 * 2 };
static float_mode mode_of(int number) /* rounding, FZ, default NaNs, traps (which many cores lack) */
{
    return (float_mode)(number & 3) << 22 | (number & 4 ? 1u << 24 : 0) | (number & 8 ? 1u << 25 : 0)
        | (number & 16 ? 0x700 : 0);
}
#endif

static float_mode control(void) { return float_mode_read() & FLOAT_MODE_BITS; }

static void run_in_every_mode(void)
{
    for (mode_number = 0; mode_number < MODES; mode_number++)
        for (int before_init = 0; before_init < 2; before_init++) {
            const float_mode usual = float_mode_read();
            if (before_init)
                float_mode_write(mode_of(mode_number));
            const net_status opened = net_init(&context, arena, sizeof arena, threads);
            if (!before_init)
                float_mode_write(mode_of(mode_number));
            const float_mode own = control();
            const net_status ran = net_run(&context, &inputs, &outputs);
            const net_status tested = net_selftest(&context, &selftest);
            const float_mode after = control();
            net_close(&context);
            float_mode_write(usual);
            EXPECT(opened == NET_OK && ran == NET_OK && tested == NET_OK);
            EXPECT(memcmp(logits, expected, sizeof logits) == 0);
            EXPECT(after == own);
        }
    mode_number = 0;
}

/* ---- fork --------------------------------------------------------------------------------------------------- */

static void in_a_child(int sleep_before, int runs)
{
    EXPECT(net_init(&context, arena, sizeof arena, threads) == NET_OK);
    EXPECT(net_run(&context, &inputs, &outputs) == NET_OK);
    if (sleep_before)
        usleep(5000); /* the pool's threads fall asleep */
    const pid_t child = fork();
    if (child == 0) {
        alarm(20); /* instead of hanging */
        for (int i = 0; i < runs; i++) {
            memset(logits, 0, sizeof logits);
            EXPECT(net_run(&context, &inputs, &outputs) == NET_OK);
            EXPECT(memcmp(logits, expected, sizeof logits) == 0);
        }
        EXPECT(runs == 0 || net_selftest(&context, &selftest) == NET_OK);
        net_close(&context);
        EXPECT(net_run(&context, &inputs, &outputs) == NET_ERROR_ARGUMENT);
        EXPECT(net_init(&context, arena, sizeof arena, threads) == NET_OK); /* threads of its own */
        EXPECT(net_run(&context, &inputs, &outputs) == NET_OK);
        EXPECT(memcmp(logits, expected, sizeof logits) == 0);
        net_close(&context);
        fflush(stdout);
        _exit(failed);
    }
    int status;
    EXPECT(net_run(&context, &inputs, &outputs) == NET_OK);
    EXPECT(waitpid(child, &status, 0) == child && status == 0);
    EXPECT(net_run(&context, &inputs, &outputs) == NET_OK);
    EXPECT(memcmp(logits, expected, sizeof logits) == 0);
    net_close(&context);
}

static pid_t forked = -1;

static void fork_in_a_step(void *user, int step, net_phase phase)
{
    (void)user;
    if (step == NET_STEPS / 2 && phase == NET_AFTER_STEP)
        forked = fork();
    if (forked == 0)
        alarm(20);
}

/* The child goes on with the run that it was born in. */
static void in_a_child_of_a_run(void)
{
    int status;
    EXPECT(net_init(&context, arena, sizeof arena, threads) == NET_OK);
    EXPECT(net_run_observed(&context, &inputs, &outputs, fork_in_a_step, NULL) == NET_OK);
    EXPECT(memcmp(logits, expected, sizeof logits) == 0);
    net_close(&context);
    if (forked == 0) {
        fflush(stdout);
        _exit(failed);
    }
    EXPECT(waitpid(forked, &status, 0) == forked && status == 0);
}

/* ---- Mistakes ----------------------------------------------------------------------------------------------- */

static int refused;

static void meddle(void *user, int step, net_phase phase)
{
    (void)user, (void)step, (void)phase;
    refused += net_run(&context, &inputs, &outputs) == NET_ERROR_BUSY;
    refused += net_selftest(&context, &selftest) == NET_ERROR_BUSY;
    net_close(&context);
}

static void mistakes(void)
{
    net_outputs none = { NULL };
    const net_inputs nothing = { NULL };
    EXPECT(net_golden_inputs(NULL) == NET_ERROR_ARGUMENT);
    EXPECT(net_run(NULL, &inputs, &outputs) == NET_ERROR_ARGUMENT);
    EXPECT(net_init(NULL, arena, sizeof arena, threads) == NET_ERROR_ARGUMENT);
    EXPECT(net_init(&context, arena, sizeof arena, threads) == NET_OK);
    EXPECT(net_run(&context, NULL, &outputs) == NET_ERROR_ARGUMENT);
    EXPECT(net_run(&context, &inputs, NULL) == NET_ERROR_ARGUMENT);
    EXPECT(net_run(&context, &nothing, &outputs) == NET_ERROR_ARGUMENT);
    EXPECT(net_run(&context, &inputs, &none) == NET_ERROR_ARGUMENT);
    EXPECT(net_run_observed(&context, &inputs, &outputs, NULL, NULL) == NET_ERROR_ARGUMENT);
    EXPECT(net_selftest(&context, NULL) == NET_ERROR_ARGUMENT);
    EXPECT(net_selftest(NULL, &selftest) == NET_ERROR_ARGUMENT);
    EXPECT(net_run_observed(&context, &inputs, &outputs, meddle, NULL) == NET_OK);
    EXPECT(refused == 2 * 2 * NET_STEPS);
    EXPECT(memcmp(logits, expected, sizeof logits) == 0);
    refused = 0;

    /* The last byte of one is the first of another. */
    uint8_t *const last = arena + NET_ARENA_BYTES_FOR(threads) - 1;
    net_outputs in_input = { image }, in_arena = { (float *)(void *)arena }, at_end = { (float *)(void *)last };
    const net_inputs own = { image }, of_arena = { (const float *)(void *)arena };
    EXPECT(net_run(&context, &own, &in_input) == NET_ERROR_ARGUMENT);
    in_input.logits = image + NET_IMAGE_SIZE - 1;
    EXPECT(net_run(&context, &own, &in_input) == NET_ERROR_ARGUMENT);
    EXPECT(net_run(&context, &own, &in_arena) == NET_ERROR_ARGUMENT);
    EXPECT(net_run(&context, &own, &at_end) == NET_ERROR_ARGUMENT);
    EXPECT(net_run(&context, &of_arena, &outputs) == NET_ERROR_ARGUMENT);
    static float joined[NET_IMAGE_SIZE + NET_LOGITS_SIZE]; /* side by side is apart */
    memcpy(joined, inputs.image, sizeof(float) * NET_IMAGE_SIZE);
    const net_inputs left = { joined };
    net_outputs right = { joined + NET_IMAGE_SIZE };
    EXPECT(net_run(&context, &left, &right) == NET_OK);
    EXPECT(memcmp(right.logits, expected, sizeof logits) == 0);

    /* At odd addresses. */
    static uint8_t odd_in[sizeof image + 1], odd_out[sizeof logits + 1];
    memcpy(odd_in + 1, inputs.image, sizeof image);
    const net_inputs odd = { (const float *)(void *)(odd_in + 1) };
    net_outputs odder = { (float *)(void *)(odd_out + 1) };
    EXPECT(net_run(&context, &odd, &odder) == NET_OK);
    EXPECT(memcmp(odd_out + 1, expected, sizeof logits) == 0);

    net_close(&context);
    net_close(&context);
    net_close(NULL);
    memset(&context, 0xa5, sizeof context);
    net_close(&context);
    EXPECT(net_run(&context, &inputs, &outputs) == NET_ERROR_ARGUMENT);
    EXPECT(net_level(&context) == -1);
}

/* Values that overflow, and none, with every trap on. */
static void extremes(void)
{
    static const float values[] = { 3e38f, -3e38f, 1e-40f, -0.0f, __builtin_inff(), -__builtin_inff(), __builtin_nanf("") };
    const net_inputs own = { image };
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        float again[NET_LOGITS_SIZE];
        for (size_t k = 0; k < NET_IMAGE_SIZE; k++)
            image[k] = values[i];
        EXPECT(net_init(&context, arena, sizeof arena, threads) == NET_OK);
        EXPECT(net_run(&context, &own, &outputs) == NET_OK);
        memcpy(again, logits, sizeof logits);
        feenableexcept(FE_ALL_EXCEPT); /* does nothing on cores that have no traps */
        const net_status status = net_run(&context, &own, &outputs);
        fedisableexcept(FE_ALL_EXCEPT);
        EXPECT(status == NET_OK && memcmp(again, logits, sizeof logits) == 0);
        net_close(&context);
    }
}

int main(int argc, char **argv)
{
    const int times = argc > 1 ? atoi(argv[1]) : 20;
    int counts[] = { 1, 4 };
    net_golden_inputs(&inputs);
    threads = 1;
    EXPECT(net_init(&context, arena, sizeof arena, 1) == NET_OK);
    EXPECT(net_run(&context, &inputs, &outputs) == NET_OK);
    memcpy(expected, logits, sizeof logits);
    net_close(&context);
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        threads = counts[i];
        mistakes();
        extremes();
        run_in_every_mode();
        for (int n = 0; n < times; n++) {
            in_a_child(0, 0);
            in_a_child(0, 2);
            in_a_child(1, 0);
            in_a_child(1, 2);
            in_a_child_of_a_run();
        }
    }
    return failed;
}
