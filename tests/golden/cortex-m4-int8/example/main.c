/* The least firmware around small: one inference on zeros. Start-up code, clocks and the FPU, which must
 * be on, are your board's.
 *
 *     arm-none-eabi-gcc -mthumb -mcpu=cortex-m4 -mfloat-abi=hard -Iinclude example/main.c lib/libsmall.a -T board.ld
 */
#include "small.h"

static uint8_t arena[SMALL_ARENA_BYTES] __attribute__((aligned(SMALL_ARENA_ALIGNMENT)));
static small_context context;
static float image[SMALL_IMAGE_SIZE];
static float scores[SMALL_SCORES_SIZE];

int main(void)
{
    const small_inputs in = { .image = image };
    small_outputs out = { .scores = scores };

    if (small_init(&context, arena, sizeof arena, 1) != SMALL_OK)
        return 1;
    /* Here: fill the inputs. In a loop: fill, run, use the outputs. */
    if (small_run(&context, &in, &out) != SMALL_OK)
        return 2;
    small_close(&context);
    return 0;
}
