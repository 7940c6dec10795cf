/* The two functions by which a board of yours runs `edgec verify` and `edgec run` of small with
 * --device serial:/dev/ttyACM0. Here they drive a 16550, which QEMU's board `virt` has: put your board's UART in its
 * place, and link with your start-up code, which begins at `_start`:
 *
 *     riscv64-unknown-elf-gcc -march=rv32imac -mabi=ilp32 -DEDGEC_SERIAL -Iinclude -Isrc example/serial.c src/small_bench.c \
 *         lib/libsmall.a -T board.ld
 */
#include "serial.h"

static volatile uint8_t *const uart = (uint8_t *)0x10000000; /* data, interrupts, ..., line status */
enum { DATA, LINE_STATUS = 5 };
enum { RECEIVED = 1, TRANSMITTER_EMPTY = 0x20 };

void board_write(const void *data, size_t bytes)
{
    for (const uint8_t *from = data; bytes > 0; bytes--) {
        while (!(uart[LINE_STATUS] & TRANSMITTER_EMPTY))
            continue;
        uart[DATA] = *from++;
    }
}

void board_read(void *data, size_t bytes)
{
    for (uint8_t *to = data; bytes > 0; bytes--) {
        while (!(uart[LINE_STATUS] & RECEIVED))
            continue;
        *to++ = uart[DATA];
    }
}
