/* Semihosting, by which a program without an operating system asks its debugger or emulator for files, a command
 * line and an end. Only the bench image uses it; a bundle's library never does.
 * Specification: "Semihosting for AArch32 and AArch64", https://github.com/ARM-software/abi-aa, which RISC-V's follows. */
#ifndef EDGEC_SEMIHOSTING_H
#define EDGEC_SEMIHOSTING_H

#include <stddef.h>
#include <stdint.h>

#include "core.h"

enum {
    SYS_OPEN = 0x01,
    SYS_CLOSE = 0x02,
    SYS_WRITE = 0x05,
    SYS_READ = 0x06,
    SYS_FLEN = 0x0c,
    SYS_GET_CMDLINE = 0x15,
    SYS_EXIT_EXTENDED = 0x20,
};

enum { OPEN_READ = 1, OPEN_WRITE = 5, OPEN_ERROR = 9 }; /* fopen's "rb", "wb", "ab"; ":tt" is stdout, or stderr by "ab" */
enum { STOPPED_BY_EXIT = 0x20026 };

/* A handle, or -1. `length` is that of the path. */
static inline int32_t host_open(const char *path, size_t length, int32_t mode)
{
    const struct { const char *path; int32_t mode; size_t length; } arguments = { path, mode, length };
    return core_semihosting(SYS_OPEN, &arguments);
}

static inline void host_close(int32_t handle)
{
    (void)core_semihosting(SYS_CLOSE, &handle);
}

/* The number of bytes that were not read. */
static inline int32_t host_read(int32_t handle, void *to, size_t bytes)
{
    const struct { int32_t handle; void *to; size_t bytes; } arguments = { handle, to, bytes };
    return core_semihosting(SYS_READ, &arguments);
}

/* The number of bytes that were not written. */
static inline int32_t host_write(int32_t handle, const void *from, size_t bytes)
{
    const struct { int32_t handle; const void *from; size_t bytes; } arguments = { handle, from, bytes };
    return core_semihosting(SYS_WRITE, &arguments);
}

/* Of a file, in bytes. */
static inline int32_t host_length(int32_t handle)
{
    return core_semihosting(SYS_FLEN, &handle);
}

/* 0 if the command line, words with spaces between, fits into `bytes`. */
static inline int32_t host_command_line(char *to, size_t bytes)
{
    const struct { char *to; size_t bytes; } arguments = { to, bytes };
    return core_semihosting(SYS_GET_CMDLINE, &arguments);
}

__attribute__((noreturn)) static inline void host_exit(int32_t code)
{
    const struct { int32_t reason, code; } arguments = { STOPPED_BY_EXIT, code };
    for (;;)
        (void)core_semihosting(SYS_EXIT_EXTENDED, &arguments);
}

#endif
