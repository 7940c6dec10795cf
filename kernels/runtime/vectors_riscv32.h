/* Where a RISC-V core begins: a part of startup.c. */

__attribute__((used, aligned(4))) static void fault(void)
{
    image_fault();
}

__attribute__((noreturn, used)) static void reset(void)
{
    image_begin();
}

/* Machine mode, exceptions to fault(), the stack. */
__asm__(".pushsection .vectors, \"ax\", %progbits\n"
        ".globl image_vectors, _start\n"
        "image_vectors:\n"
        "_start:\n"
        "    .option push\n"
        "    .option arch, +zicsr\n"
        "    lla sp, image_stack_top\n"
        "    lla t0, fault\n"
        "    csrw mtvec, t0\n"
        "    .option pop\n"
        "    tail reset\n"
        ".popsection\n");
