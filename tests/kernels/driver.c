/* Calls the kernels of a shared library on buffers that lie against pages which can't be touched.

     driver LIBRARY INPUT OUTPUT

   LIBRARY defines kernel_0, kernel_1, ... INPUT holds int64 numbers and bytes:

     number of calls, then for each call:
       kernel, number of buffers, number of ranges, tile boundaries (one more than ranges)
       for each buffer, scratch last: bytes, alias, content, at_end; `bytes` bytes if `content`

   `alias` is the buffer whose memory this one takes over, or -1. A buffer with content is read-only unless
   one aliases it; one without starts as garbage. The ranges run last first, each with garbage in the scratch.
   OUTPUT gets the bytes of every call's output, the buffer before the scratch. Exits with 3 and a line on
   stderr when a kernel touches what isn't its own. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ARGUMENTS = 24, CANARY = 0xA5 };

/* Both ABIs pass every pointer and int32 as one 64-bit word, in registers and then on the stack, and the
   caller clears the stack: one type that is long enough calls any kernel. */
typedef int32_t kernel_function(int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t,
                                int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t,
                                int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t);

typedef struct {
    uint8_t *data, *pages; /* `pages` are this buffer's own; one more on either side can't be touched */
    size_t bytes, room;
} buffer;

static volatile int64_t call;
static size_t page;

static void fail(const char *what) {
    char line[160];
    int length = snprintf(line, sizeof line, "call %lld: %s\n", (long long)call, what);
    if (write(2, line, (size_t)length) < 0) _exit(4);
    _exit(3);
}

static void fault(int number) {
    (void)number;
    fail("touches memory outside its buffers, or writes to a read-only one");
}

static int64_t number(FILE *file) {
    int64_t value;
    if (fread(&value, sizeof value, 1, file) != 1) fail("input is cut off");
    return value;
}

static buffer make(size_t bytes, int at_end) {
    buffer made = {.bytes = bytes, .room = (bytes + page - 1) / page * page};
    uint8_t *all = mmap(NULL, made.room + 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED) fail("out of memory");
    made.pages = all + page;
    made.data = made.pages + (at_end ? made.room - bytes : 0);
    memset(made.pages, CANARY, made.room);
    mprotect(all, page, PROT_NONE);
    mprotect(made.pages + made.room, page, PROT_NONE);
    return made;
}

static void garbage(buffer to, int seed) {
    for (size_t i = 0; i < to.bytes; i++) to.data[i] = (uint8_t)((i + (size_t)seed) * 197 + 91);
}

static void check_canary(buffer of) {
    for (uint8_t *p = of.pages; p < of.pages + of.room; p++)
        if ((p < of.data || p >= of.data + of.bytes) && *p != CANARY) fail("writes beside a buffer");
}

static void run(void *library, FILE *in, FILE *out) {
    int64_t kernel = number(in), count = number(in), ranges = number(in), bounds[8];
    buffer buffers[ARGUMENTS];
    int shared[ARGUMENTS] = {0}, content[ARGUMENTS];
    size_t sizes[ARGUMENTS];
    int64_t words[ARGUMENTS] = {0};
    char symbol[32];
    snprintf(symbol, sizeof symbol, "kernel_%lld", (long long)kernel);
    kernel_function *f = (kernel_function *)dlsym(library, symbol);
    if (!f) fail(dlerror());
    if (count + 2 > ARGUMENTS || ranges > 7) fail("too many buffers or ranges");
    for (int64_t i = 0; i <= ranges; i++) bounds[i] = number(in);
    for (int64_t i = 0; i < count; i++) {
        size_t bytes = (size_t)number(in);
        int64_t alias = number(in);
        content[i] = (int)number(in);
        int at_end = (int)number(in);
        sizes[i] = bytes; /* an output may be smaller than the input whose place it takes */
        shared[i] = alias >= 0;
        if (shared[i]) shared[alias] = 1;
        buffers[i] = shared[i] ? buffers[alias] : make(bytes, at_end);
        if (content[i] && fread(buffers[i].data, 1, bytes, in) != bytes) fail("input is cut off");
        if (!content[i] && !shared[i]) garbage(buffers[i], 0);
        words[i] = (int64_t)(intptr_t)buffers[i].data;
    }
    for (int64_t i = 0; i < count; i++)
        if (content[i] && !shared[i]) mprotect(buffers[i].pages, buffers[i].room, PROT_READ);
    for (int64_t i = ranges - 1; i >= 0; i--) {
        int64_t *w = words;
        garbage(buffers[count - 1], (int)i + 1);
        w[count] = bounds[i];
        w[count + 1] = bounds[i + 1];
        if (f(w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7], w[8], w[9], w[10], w[11], w[12], w[13], w[14], w[15],
              w[16], w[17], w[18], w[19], w[20], w[21], w[22], w[23]))
            fail("does not return 0");
    }
    fwrite(buffers[count - 2].data, 1, sizes[count - 2], out);
    for (int64_t i = 0; i < count; i++) check_canary(buffers[i]);
    for (int64_t i = 0; i < count; i++)
        munmap(buffers[i].pages - page, buffers[i].room + 2 * page); /* twice for aliases: harmless */
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    page = (size_t)sysconf(_SC_PAGESIZE);
    signal(SIGSEGV, fault);
    signal(SIGBUS, fault);
    void *library = dlopen(argv[1], RTLD_NOW);
    if (!library) fail(dlerror());
    FILE *in = fopen(argv[2], "rb"), *out = fopen(argv[3], "wb");
    if (!in || !out) fail("can't open its files");
    int64_t calls = number(in);
    for (call = 0; call < calls; call++) run(library, in, out);
    return fclose(out) ? 4 : 0;
}
