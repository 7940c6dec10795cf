/* Calls kernels on a microcontroller's board, in the emulator: what driver.c is where there is an operating system.

   It reads `input.bin` and writes `output.bin`, in driver.c's format, by the emulator's semihosting (Arm,
   "Semihosting for AArch32 and AArch64"). There is no memory that can't be touched: what a kernel writes beside its
   buffers shows in the canaries around them. Exits with an error and a line on stderr where it does, or where it
   writes to a buffer that it may only read.

   `kernels` ends with a row without a function. Linked in front: the vector table. */

#include <stddef.h>
#include <stdint.h>

enum { ARGUMENTS = 24, CANARY = 0xA5, GUARD = 64 };
enum { OPEN = 0x01, WRITE0 = 0x04, WRITE = 0x05, READ = 0x06, EXIT_EXTENDED = 0x20, EXIT_NORMALLY = 0x20026 };
enum { MODE_READ = 1, MODE_WRITE = 5 };

/* Every pointer and int32 is a 32-bit word, in registers and then on the stack, and the caller clears the stack. */
typedef int32_t kernel_function(int32_t, int32_t, int32_t, int32_t, int32_t, int32_t, int32_t, int32_t, int32_t,
                                int32_t, int32_t, int32_t, int32_t, int32_t, int32_t, int32_t, int32_t, int32_t,
                                int32_t, int32_t, int32_t, int32_t, int32_t, int32_t);
typedef struct {
    int64_t number;
    kernel_function *function;
} row;
typedef struct {
    uint8_t *data, *room; /* with a guard in front, and another behind */
    size_t bytes;
    uint32_t sum; /* of the content, where it may only be read */
} buffer;

extern const row kernels[];
extern uint8_t memory_begin[], memory_end[];
static int32_t in, out;
static uint8_t *next;

void *memset(void *to, int value, size_t bytes) {
    for (volatile uint8_t *p = to; bytes--; p++) *p = (uint8_t)value;
    return to;
}

void *memcpy(void *restrict to, const void *restrict from, size_t bytes) {
    const uint8_t *q = from;
    for (volatile uint8_t *p = to; bytes--; p++) *p = *q++;
    return to;
}

#ifdef __riscv
static int32_t host(uint32_t operation, const void *arguments) {
    register uint32_t a0 __asm__("a0") = operation;
    register const void *a1 __asm__("a1") = arguments;
    __asm__ volatile(".option push\n\t.option norvc\n\t.balign 16\n\tslli zero, zero, 0x1f\n\tebreak\n\t"
                     "srai zero, zero, 7\n\t.option pop"
                     : "+r"(a0) : "r"(a1) : "memory");
    return (int32_t)a0;
}
#else
static int32_t host(uint32_t operation, const void *arguments) {
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = arguments;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return (int32_t)r0;
}
#endif

static _Noreturn void finish(uint32_t code) {
    const uint32_t arguments[2] = {EXIT_NORMALLY, code};
    for (;;) host(EXIT_EXTENDED, arguments);
}

static _Noreturn void fail(const char *what) {
    host(WRITE0, what);
    finish(3);
}

__attribute__((used, aligned(4))) static _Noreturn void fault(void) {
    fail("faults, by an address or an instruction that the core doesn't have\n");
}

static int32_t opened(const char *name, size_t length, uint32_t mode) {
    const uint32_t arguments[3] = {(uint32_t)name, mode, length};
    int32_t file = host(OPEN, arguments);
    if (file < 0) fail("can't open its files\n");
    return file;
}

static void get(void *to, size_t bytes) {
    const uint32_t arguments[3] = {(uint32_t)in, (uint32_t)to, bytes};
    if (bytes && host(READ, arguments) != 0) fail("input is cut off\n");
}

static int64_t number(void) {
    int64_t value;
    get(&value, sizeof value);
    return value;
}

static buffer make(size_t bytes, int at_end) {
    buffer made = {.bytes = bytes, .room = next};
    size_t rounded = (bytes + GUARD - 1) / GUARD * GUARD;
    if (rounded + 2 * GUARD > (size_t)(memory_end - next)) fail("out of memory\n");
    next += rounded + 2 * GUARD;
    memset(made.room, CANARY, rounded + 2 * GUARD);
    made.data = made.room + GUARD + (at_end ? rounded - bytes : 0);
    return made;
}

static void garbage(buffer to, int seed) {
    for (size_t i = 0; i < to.bytes; i++) to.data[i] = (uint8_t)((i + (size_t)seed) * 197 + 91);
}

static uint32_t sum(buffer of) {
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < of.bytes; i++) hash = (hash ^ of.data[i]) * 16777619u;
    return hash;
}

static void check_canary(buffer of) {
    uint8_t *end = of.room + (of.bytes + GUARD - 1) / GUARD * GUARD + 2 * GUARD;
    for (uint8_t *p = of.room; p < end; p++)
        if ((p < of.data || p >= of.data + of.bytes) && *p != CANARY) fail("writes beside a buffer\n");
}

static void run(void) {
    int64_t kernel = number(), count = number(), ranges = number(), bounds[8];
    buffer buffers[ARGUMENTS];
    int shared[ARGUMENTS], content[ARGUMENTS];
    size_t sizes[ARGUMENTS];
    int32_t w[ARGUMENTS];
    const row *found = kernels;
    while (found->function && found->number != kernel) found++;
    if (!found->function || count + 2 > ARGUMENTS || ranges > 7) fail("no such kernel, or too much for it\n");
    memset(shared, 0, sizeof shared);
    memset(w, 0, sizeof w);
    next = memory_begin;
    for (int64_t i = 0; i <= ranges; i++) bounds[i] = number();
    for (int64_t i = 0; i < count; i++) {
        size_t bytes = (size_t)number();
        int64_t alias = number();
        content[i] = (int)number();
        int at_end = (int)number();
        sizes[i] = bytes; /* an output may be smaller than the input whose place it takes */
        shared[i] = alias >= 0;
        if (shared[i]) shared[alias] = 1;
        buffers[i] = shared[i] ? buffers[alias] : make(bytes, at_end);
        if (content[i]) get(buffers[i].data, bytes);
        else if (!shared[i]) garbage(buffers[i], 0);
        w[i] = (int32_t)buffers[i].data;
    }
    for (int64_t i = 0; i < count; i++) buffers[i].sum = sum(buffers[i]);
    for (int64_t i = ranges - 1; i >= 0; i--) {
        garbage(buffers[count - 1], (int)i + 1);
        w[count] = (int32_t)bounds[i];
        w[count + 1] = (int32_t)bounds[i + 1];
        if (found->function(w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7], w[8], w[9], w[10], w[11], w[12], w[13],
                            w[14], w[15], w[16], w[17], w[18], w[19], w[20], w[21], w[22], w[23]))
            fail("does not return 0\n");
    }
    const size_t length = sizes[count - 2];
    const uint32_t arguments[3] = {(uint32_t)out, (uint32_t)buffers[count - 2].data, length};
    if (length && host(WRITE, arguments) != 0) fail("can't write its output\n");
    for (int64_t i = 0; i < count; i++) {
        check_canary(buffers[i]);
        if (content[i] && !shared[i] && buffers[i].sum != sum(buffers[i])) fail("writes to a read-only buffer\n");
    }
}

__attribute__((used)) static void start(void) {
#ifndef __riscv
    *(volatile uint32_t *)0xE000ED88 |= 0xFu << 20; /* CPACR: the FPU, and Helium with it, where there is one */
    __asm__ volatile("dsb\n\tisb");
#endif
    in = opened("input.bin", sizeof "input.bin" - 1, MODE_READ);
    out = opened("output.bin", sizeof "output.bin" - 1, MODE_WRITE);
    for (int64_t calls = number(); calls > 0; calls--) run();
    finish(0);
}

#ifdef __riscv
__asm__(".pushsection .vectors, \"ax\", %progbits\n\t.option push\n\t.option arch, +zicsr\n\t"
        "lla sp, memory_begin\n\tlla t0, fault\n\tcsrw mtvec, t0\n\ttail start\n\t.option pop\n.popsection");
#else
__attribute__((section(".vectors"), used)) static const void *const vectors[16] = {
    memory_begin, (void *)start, (void *)fault, (void *)fault, (void *)fault, (void *)fault, (void *)fault};
#endif
