/* Where a Cortex-M begins: a part of startup.c. */

static void fault(void)
{
    image_fault();
}

__attribute__((noreturn, used)) static void reset(void)
{
#if __ARM_FP
    volatile uint32_t *const coprocessors = (uint32_t *)0xe000ed88; /* CPACR: full access to CP10 and CP11, the FPU */
    *coprocessors |= 0xfu << 20;
    __asm__ volatile("dsb\n\tisb" ::: "memory");
#endif
    image_begin();
}

/* Stack, reset, and the exceptions that every M-profile core has. */
extern const struct vectors {
    uint32_t *stack;
    void (*handlers[15])(void);
} image_vectors;

__attribute__((section(".vectors"), used)) const struct vectors image_vectors = {
    &image_stack_top,
    { reset, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault },
};
