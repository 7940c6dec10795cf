/* From reset to main() on a microcontroller that an emulator stands in for: vectors, memory, FPU. An image for a real
 * board has its vendor's startup code instead. */
#include "host.h"

extern uint32_t image_stack_top, image_data_from, image_data, image_data_end, image_bss, image_bss_end;

int main(void);

/* An exception is a crash here: no interrupt is ever enabled. */
__attribute__((noreturn)) static void image_fault(void)
{
    static const char text[] = "fault: the core took an exception\n";
    const int32_t errors = host_open(":tt", 3, OPEN_ERROR);
    (void)host_write(errors, text, sizeof text - 1);
    host_exit(3);
}

__attribute__((noreturn)) static void image_begin(void)
{
    for (uint32_t *to = &image_data, *from = &image_data_from; to < &image_data_end;)
        *to++ = *from++;
    for (uint32_t *to = &image_bss; to < &image_bss_end;)
        *to++ = 0;
    host_exit(main());
}

#include "vectors.h"

/* All that a bundle's library asks for: four words at a time where both sides allow it, as a C library would, and on
 * a few registers, so that no stack is counted that a C library's wouldn't take. */
#if defined(__clang__)
#define PLAIN_LOOP _Pragma("clang loop vectorize(disable) unroll(disable)")
#else
#define PLAIN_LOOP
#endif

void *memcpy(void *restrict to, const void *restrict from, size_t bytes);
void *memset(void *to, int value, size_t bytes);

void *memcpy(void *restrict to, const void *restrict from, size_t bytes)
{
    uint8_t *t = to;
    const uint8_t *f = from;
    if ((((uintptr_t)t | (uintptr_t)f) & 3) == 0) {
        uint32_t *words = (uint32_t *)(void *)t;
        const uint32_t *source = (const uint32_t *)(const void *)f;
        PLAIN_LOOP
        for (; bytes >= 16; bytes -= 16, words += 4, source += 4) {
            const uint32_t a = source[0], b = source[1], c = source[2], d = source[3];
            words[0] = a;
            words[1] = b;
            words[2] = c;
            words[3] = d;
        }
        t = (uint8_t *)words;
        f = (const uint8_t *)source;
    }
    PLAIN_LOOP
    while (bytes-- > 0)
        *t++ = *f++;
    return to;
}

void *memset(void *to, int value, size_t bytes)
{
    uint8_t *t = to;
    if (((uintptr_t)t & 3) == 0) {
        const uint32_t filled = (uint8_t)value * 0x01010101u;
        uint32_t *words = (uint32_t *)(void *)t;
        PLAIN_LOOP
        for (; bytes >= 4; bytes -= 4)
            *words++ = filled;
        t = (uint8_t *)words;
    }
    PLAIN_LOOP
    while (bytes-- > 0)
        *t++ = (uint8_t)value;
    return to;
}
