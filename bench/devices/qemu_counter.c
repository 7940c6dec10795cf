/* A QEMU TCG plugin that counts executed A64, Thumb or RISC-V instructions exactly, region by region.
 *
 *     qemu-aarch64 -plugin qemu_counter.so,out=counts.txt PROGRAM
 *     qemu-system-arm -M mps2-an386 -plugin qemu_counter.so,out=counts.txt -kernel IMAGE
 *
 * A region lies between the hints #112 (begin) and #113 (end), which are no-ops on every processor, on RISC-V
 * `slti zero, zero` of these numbers; the markers themselves aren't counted. Regions follow one another, on one thread. The output:
 *
 *     count REGION BLOCK EXECUTIONS     a block that ran in that region
 *     block BLOCK ENCODING...           its instructions, in hexadecimal; wide Thumb with its first half on top
 *     end REGIONS                       nothing is missing
 */
#include "qemu_plugin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* By QEMU's name of the architecture. */
typedef struct {
    const char *name;
    uint32_t begin, end;
    int halves; /* a wide instruction has its first half on top, as Thumb */
} architecture;

static const architecture architectures[] = {
    { "aarch64", 0xd5032e1fu, 0xd5032e3fu, 0 },
    { "arm", 0xf3af8070u, 0xf3af8071u, 1 },
    { "riscv32", 0x07002013u, 0x07102013u, 0 },
};

/* Instructions that are always executed together, and how often they were. */
typedef struct block {
    uint64_t executions;
    uint64_t executions_at_begin; /* of the region that is open */
    size_t id;
    size_t size; /* instructions */
    struct block *next;
    uint32_t encodings[];
} block;

static block *blocks;
static size_t block_count;
static size_t region_count;
static int region_open;
static const architecture *arch;
static FILE *output;

PLUGIN_EXPORT int qemu_plugin_version = QEMU_PLUGIN_INTERFACE;

static uint32_t encoding_of(const struct qemu_plugin_insn *instruction)
{
    uint16_t half[2] = { 0, 0 };
    size_t bytes = qemu_plugin_insn_size(instruction);
    if (bytes > sizeof half) /* at the end of a page QEMU 7.2 has read the next instruction of Thumb as well */
        bytes = sizeof half;
#if QEMU_PLUGIN_INTERFACE >= 3
    qemu_plugin_insn_data(instruction, half, bytes);
#else
    memcpy(half, qemu_plugin_insn_data(instruction), bytes);
#endif
    if (!arch->halves)
        return (uint32_t)half[1] << 16 | half[0];
    return half[0] >> 11 < 0x1d ? half[0] : (uint32_t)half[0] << 16 | half[1];
}

static int is_begin(uint32_t encoding)
{
    return encoding == arch->begin;
}

static int is_end(uint32_t encoding)
{
    return encoding == arch->end;
}

static block *new_block(size_t size)
{
    block *b = calloc(1, sizeof *b + size * sizeof b->encodings[0]);
    if (b == NULL)
        abort();
    b->id = block_count++;
    b->size = size;
    b->next = blocks;
    blocks = b;
    return b;
}

static void on_execute(unsigned int cpu, void *user)
{
    (void)cpu;
    ((block *)user)->executions++;
}

static void on_begin(unsigned int cpu, void *user)
{
    (void)cpu;
    (void)user;
    region_open = 1;
    for (block *b = blocks; b != NULL; b = b->next)
        b->executions_at_begin = b->executions;
}

static void on_end(unsigned int cpu, void *user)
{
    (void)cpu;
    (void)user;
    if (!region_open)
        return;
    region_open = 0;
    for (block *b = blocks; b != NULL; b = b->next)
        if (b->executions != b->executions_at_begin)
            fprintf(output, "count %zu %zu %llu\n", region_count, b->id,
                    (unsigned long long)(b->executions - b->executions_at_begin));
    region_count++;
}

/* A block with a marker in it is counted instruction by instruction, so that a region begins and ends
 * exactly at its markers; every other block is counted as a whole. */
static void on_translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    (void)id;
    size_t size = qemu_plugin_tb_n_insns(tb);
    block *whole = new_block(size);
    int marked = 0;
    for (size_t i = 0; i < size; i++) {
        whole->encodings[i] = encoding_of(qemu_plugin_tb_get_insn(tb, i));
        marked |= is_begin(whole->encodings[i]) || is_end(whole->encodings[i]);
    }
    if (!marked) {
        qemu_plugin_register_vcpu_tb_exec_cb(tb, on_execute, QEMU_PLUGIN_CB_NO_REGS, whole);
        return;
    }
    for (size_t i = 0; i < size; i++) {
        struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(tb, i);
        if (is_begin(whole->encodings[i])) {
            qemu_plugin_register_vcpu_insn_exec_cb(instruction, on_begin, QEMU_PLUGIN_CB_NO_REGS, NULL);
        } else if (is_end(whole->encodings[i])) {
            qemu_plugin_register_vcpu_insn_exec_cb(instruction, on_end, QEMU_PLUGIN_CB_NO_REGS, NULL);
        } else {
            block *single = new_block(1);
            single->encodings[0] = whole->encodings[i];
            qemu_plugin_register_vcpu_insn_exec_cb(instruction, on_execute, QEMU_PLUGIN_CB_NO_REGS, single);
        }
    }
}

static void on_finish(qemu_plugin_id_t id, void *user)
{
    (void)id;
    (void)user;
    for (block *b = blocks; b != NULL; b = b->next) {
        fprintf(output, "block %zu", b->id);
        for (size_t i = 0; i < b->size; i++)
            fprintf(output, " %08x", (unsigned int)b->encodings[i]);
        fputc('\n', output);
    }
    fprintf(output, "end %zu\n", region_count);
    fclose(output);
}

PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
    for (size_t i = 0; i < sizeof architectures / sizeof architectures[0]; i++)
        if (strcmp(info->target_name, architectures[i].name) == 0)
            arch = &architectures[i];
    if (arch == NULL) {
        fprintf(stderr, "qemu_counter: knows no marks of %s\n", info->target_name);
        return 1;
    }
    if (argc != 1 || strncmp(argv[0], "out=", 4) != 0) {
        fputs("qemu_counter: usage: -plugin qemu_counter.so,out=FILE\n", stderr);
        return 1;
    }
    output = fopen(argv[0] + 4, "w");
    if (output == NULL) {
        perror("qemu_counter");
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate);
    qemu_plugin_register_atexit_cb(id, on_finish, NULL);
    return 0;
}
