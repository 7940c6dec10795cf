/* The two functions by which a board of yours runs `edgec verify` and `edgec run` of small with
 * --device serial:/dev/ttyACM0. Here they drive the UART of Arm's CMSDK, which the boards in QEMU have: put your board's
 * in their place, and link with your start-up code:
 *
 *     arm-none-eabi-gcc -mthumb -mcpu=cortex-m4 -mfloat-abi=hard -DEDGEC_SERIAL -Iinclude -Isrc example/serial.c src/small_bench.c \
 *         lib/libsmall.a -T board.ld
 */
#include "serial.h"

#ifndef UART
#define UART 0x40004000 /* UART0 of mps2-an385, an386 and an500 */
#endif

static volatile uint32_t *const uart = (uint32_t *)UART; /* data, state, control, interrupts, baud rate divider */
enum { DATA, STATE, CONTROL, BAUD_DIVIDER = 4 };
enum { TRANSMIT_FULL = 1, RECEIVE_FULL = 2, ENABLE_BOTH = 3 };

static void start(void)
{
    if (uart[CONTROL] == ENABLE_BOTH)
        return;
    uart[BAUD_DIVIDER] = 217; /* 115200 baud of 25 MHz */
    uart[CONTROL] = ENABLE_BOTH;
}

void board_write(const void *data, size_t bytes)
{
    start();
    for (const uint8_t *from = data; bytes > 0; bytes--) {
        while (uart[STATE] & TRANSMIT_FULL)
            continue;
        uart[DATA] = *from++;
    }
}

void board_read(void *data, size_t bytes)
{
    start();
    for (uint8_t *to = data; bytes > 0; bytes--) {
        while (!(uart[STATE] & RECEIVE_FULL))
            continue;
        *to++ = (uint8_t)uart[DATA];
    }
}
