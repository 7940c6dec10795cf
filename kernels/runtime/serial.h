/* Files and a command line over a serial line, for `--device serial:PATH` of edgec's commands: what semihosting.h does
 * without a debugger. The board asks, the computer answers; all numbers are little-endian.
 *
 *   computer   'S'                                  begin: sent again and again until the board asks
 *   board      0x1b 'e' operation, uint8 number, int32 first, uint32 second, uint32 bytes, bytes of content
 *   computer   'R', uint32 number, int32 result, uint32 bytes, bytes of content
 *
 * Questions are numbered 0, 1 ... 255, 1 ... from reset on. One that is still open is asked again at an 'S', as it may
 * have been lost on the way; the computer does nothing twice, and the board ignores answers to what it asked before.
 *
 * Operations, with what they send: O open (path; first: mode), C close (first: handle), R read (first: handle, second:
 * bytes), W write (first: handle; content), L length of a file (first: handle), A command line (second: bytes that
 * there is room for), X exit (first: code). After X the core resets and waits for the next 'S'.
 */
#ifndef EDGEC_SERIAL_H
#define EDGEC_SERIAL_H

#include <stddef.h>
#include <stdint.h>

#include "core.h"

/* What a board's firmware defines: both return when all bytes have gone through. */
void board_write(const void *data, size_t bytes);
void board_read(void *data, size_t bytes);

enum { OPEN_READ = 1, OPEN_WRITE = 5, OPEN_ERROR = 9 }; /* as semihosting numbers them */

/* Questions that were answered since the core was reset. */
__attribute__((weak)) uint8_t serial_number;

static inline void serial_discard(uint32_t bytes)
{
    uint8_t byte;
    for (; bytes > 0; bytes--)
        board_read(&byte, 1);
}

/* The result; content of the answer goes to `to`, its size to *received. */
static inline int32_t serial_ask(char operation, int32_t first, uint32_t second, const void *content, uint32_t bytes,
    void *to, uint32_t *received)
{
    const struct { char mark[2], operation; uint8_t number; int32_t first; uint32_t second, bytes; } question = {
        { 0x1b, 'e' }, operation, serial_number, first, second, bytes,
    };
    struct { uint32_t number; int32_t result; uint32_t bytes; } answer;
    uint8_t byte = serial_number > 0 ? 'S' : 0; /* the first waits for the computer */
    for (;; board_read(&byte, 1)) {
        if (byte == 'S') {
            board_write(&question, sizeof question);
            board_write(content, bytes);
        }
        if (byte != 'R')
            continue;
        board_read(&answer, sizeof answer);
        if (answer.number == question.number)
            break;
        serial_discard(answer.bytes);
    }
    board_read(to, answer.bytes);
    serial_number = serial_number < 255 ? serial_number + 1 : 1;
    if (received != NULL)
        *received = answer.bytes;
    return answer.result;
}

static inline int32_t host_open(const char *path, size_t length, int32_t mode)
{
    return serial_ask('O', mode, 0, path, (uint32_t)length, NULL, NULL);
}

static inline void host_close(int32_t handle)
{
    (void)serial_ask('C', handle, 0, NULL, 0, NULL, NULL);
}

static inline int32_t host_read(int32_t handle, void *to, size_t bytes)
{
    uint32_t received;
    (void)serial_ask('R', handle, (uint32_t)bytes, NULL, 0, to, &received);
    return (int32_t)(bytes - received);
}

static inline int32_t host_write(int32_t handle, const void *from, size_t bytes)
{
    return serial_ask('W', handle, 0, from, (uint32_t)bytes, NULL, NULL);
}

static inline int32_t host_length(int32_t handle)
{
    return serial_ask('L', handle, 0, NULL, 0, NULL, NULL);
}

static inline int32_t host_command_line(char *to, size_t bytes)
{
    uint32_t received;
    const int32_t result = serial_ask('A', 0, (uint32_t)bytes - 1, NULL, 0, to, &received);
    to[received] = '\0';
    return result;
}

__attribute__((noreturn)) static inline void host_exit(int32_t code)
{
    (void)serial_ask('X', code, 0, NULL, 0, NULL, NULL);
    core_reset();
}

#endif
