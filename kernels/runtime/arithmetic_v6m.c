/* What Armv6-M has no instructions for and compilers call by name (Run-time ABI for the Arm Architecture, 4.2 and
 * 4.3), or by GNU's names of the same, so that a bundle needs no compiler's library. Weak: a firmware's own come first.
 * All is done on words, as an operation on 64 bits would be a call of these very functions. */
#include <stdint.h>

uint64_t __aeabi_lmul(uint64_t a, uint64_t b);
uint64_t __aeabi_lasr(uint64_t a, uint32_t by);
uint64_t __aeabi_llsr(uint64_t a, uint32_t by);
uint64_t __aeabi_llsl(uint64_t a, uint32_t by);
uint64_t __aeabi_uidivmod(uint32_t dividend, uint32_t divisor);
uint32_t __aeabi_uidiv(uint32_t dividend, uint32_t divisor);
int32_t __aeabi_idiv(int32_t dividend, int32_t divisor);
uint64_t __aeabi_idivmod(int32_t dividend, int32_t divisor);

static uint32_t low(uint64_t value)
{
    return (uint32_t)value;
}

static uint32_t high(uint64_t value)
{
    return (uint32_t)(value >> 32);
}

static uint64_t joined(uint32_t upper, uint32_t lower)
{
    return (uint64_t)upper << 32 | lower;
}

/* The lower 64 bits of the product. */
__attribute__((weak)) uint64_t __aeabi_lmul(uint64_t a, uint64_t b)
{
    const uint32_t x = low(a), y = low(b);
    const uint32_t x0 = x & 0xffff, x1 = x >> 16, y0 = y & 0xffff, y1 = y >> 16;
    const uint32_t least = x0 * y0, one = x1 * y0, two = x0 * y1;
    const uint32_t middle = (least >> 16) + (one & 0xffff) + (two & 0xffff);
    const uint32_t upper = x1 * y1 + (one >> 16) + (two >> 16) + (middle >> 16);
    return joined(upper + x * high(b) + high(a) * y, middle << 16 | (least & 0xffff));
}

__attribute__((weak)) uint64_t __aeabi_lasr(uint64_t a, uint32_t by)
{
    const int32_t upper = (int32_t)high(a);
    if (by >= 32)
        return joined((uint32_t)(upper >> 31), (uint32_t)(upper >> (by - 32)));
    return by == 0 ? a : joined((uint32_t)(upper >> by), low(a) >> by | (uint32_t)upper << (32 - by));
}

__attribute__((weak)) uint64_t __aeabi_llsr(uint64_t a, uint32_t by)
{
    if (by >= 32)
        return joined(0, high(a) >> (by - 32));
    return by == 0 ? a : joined(high(a) >> by, low(a) >> by | high(a) << (32 - by));
}

__attribute__((weak)) uint64_t __aeabi_llsl(uint64_t a, uint32_t by)
{
    if (by >= 32)
        return joined(low(a) << (by - 32), 0);
    return by == 0 ? a : joined(high(a) << by | low(a) >> (32 - by), low(a) << by);
}

/* The quotient in the lower word (r0), the remainder in the upper (r1); 0 and the dividend for a division by 0. */
__attribute__((weak)) uint64_t __aeabi_uidivmod(uint32_t dividend, uint32_t divisor)
{
    uint32_t quotient = 0, rest = dividend;
    if (divisor == 0)
        return joined(dividend, 0);
    int shift = 0;
    while (shift < 31 && divisor << shift >> shift == divisor && divisor << shift <= rest >> 1)
        shift++;
    for (; shift >= 0; shift--) {
        const uint32_t part = divisor << shift;
        quotient <<= 1;
        if (part >> shift == divisor && part <= rest) {
            rest -= part;
            quotient |= 1;
        }
    }
    return joined(rest, quotient);
}

__attribute__((weak)) uint32_t __aeabi_uidiv(uint32_t dividend, uint32_t divisor)
{
    return low(__aeabi_uidivmod(dividend, divisor));
}

__attribute__((weak)) int32_t __aeabi_idiv(int32_t dividend, int32_t divisor)
{
    const uint32_t a = dividend < 0 ? 0u - (uint32_t)dividend : (uint32_t)dividend;
    const uint32_t b = divisor < 0 ? 0u - (uint32_t)divisor : (uint32_t)divisor;
    const uint32_t quotient = __aeabi_uidiv(a, b);
    return (int32_t)((dividend ^ divisor) < 0 ? 0u - quotient : quotient);
}

__attribute__((weak)) uint64_t __aeabi_idivmod(int32_t dividend, int32_t divisor)
{
    const int32_t quotient = __aeabi_idiv(dividend, divisor);
    return joined((uint32_t)(dividend - quotient * divisor), (uint32_t)quotient);
}

#define ALSO(name) __attribute__((weak, alias(name)))

uint64_t __muldi3(uint64_t a, uint64_t b) ALSO("__aeabi_lmul");
uint64_t __ashrdi3(uint64_t a, uint32_t by) ALSO("__aeabi_lasr");
uint64_t __lshrdi3(uint64_t a, uint32_t by) ALSO("__aeabi_llsr");
uint64_t __ashldi3(uint64_t a, uint32_t by) ALSO("__aeabi_llsl");
uint32_t __udivsi3(uint32_t dividend, uint32_t divisor) ALSO("__aeabi_uidiv");
int32_t __divsi3(int32_t dividend, int32_t divisor) ALSO("__aeabi_idiv");
uint32_t __umodsi3(uint32_t dividend, uint32_t divisor);
int32_t __modsi3(int32_t dividend, int32_t divisor);
int32_t __clzsi2(uint32_t value);

__attribute__((weak)) uint32_t __umodsi3(uint32_t dividend, uint32_t divisor)
{
    return high(__aeabi_uidivmod(dividend, divisor));
}

/* Zeros above the highest one. By halves: compilers know what a loop over bits does, and call this very function. */
__attribute__((weak)) int32_t __clzsi2(uint32_t value)
{
    int32_t zeros = value == 0;
    for (int32_t half = 16; half > 0; half >>= 1)
        if (value >> (32 - half) == 0) {
            zeros += half;
            value <<= half;
        }
    return zeros;
}

__attribute__((weak)) int32_t __modsi3(int32_t dividend, int32_t divisor)
{
    return dividend - __aeabi_idiv(dividend, divisor) * divisor;
}
