/* The least firmware around small: one inference on zeros. Start-up code, clocks and the FPU, which must
 * be on, are your board's.
 *
 *     riscv64-unknown-elf-gcc -march=rv32imac -mabi=ilp32 -Iinclude example/main.c lib/libsmall.a -T board.ld
 */
#include "small.h"

static uint8_t arena[SMALL_ARENA_BYTES] __attribute__((aligned(SMALL_ARENA_ALIGNMENT)));
static small_context context;
static int8_t image[SMALL_IMAGE_SIZE]; /* real = SMALL_IMAGE_SCALE * (q - SMALL_IMAGE_ZERO_POINT) */
static int8_t scores[SMALL_SCORES_SIZE]; /* real = SMALL_SCORES_SCALE * (q - SMALL_SCORES_ZERO_POINT) */

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
