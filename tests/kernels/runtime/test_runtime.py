"""The thread pool and the CPU check by themselves, in small C programs."""

import dataclasses
import subprocess
from pathlib import Path

import pytest

from edgec.compiler.native import cpu, toolchain
from edgec.targets import loader
from edgec.targets.detect import host_arch

HOST = loader.load("x86-64-int8" if host_arch() == "x86-64" else "arm64-int8")
RUNTIME = Path(__file__).parents[3] / "kernels" / "runtime"
STRICT = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror")


def build(folder: Path, text: str) -> Path:
    (folder / "main.c").write_text(text)
    include = f"-I{RUNTIME}"
    toolchain.zig(
        folder, "cc", "-target", HOST.c_target, *STRICT, include, "main.c", "-pthread", "-o", "main"
    )
    return folder / "main"


STRESS = r"""
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "pool.h"

enum { TILES = 97 };
static _Atomic int runs[TILES];
static _Atomic int wrong;
static int32_t expected_step;

static void work(void *user, int thread, int32_t step, int32_t begin, int32_t end)
{
    if (user != (void *)runs || thread < 0 || thread >= 8 || step != expected_step || begin >= end)
        atomic_fetch_add(&wrong, 1);
    for (int32_t i = begin; i < end; i++)
        atomic_fetch_add(&runs[i], 1);
}

int main(int argc, char **argv)
{
    static pool p;
    const int threads = atoi(argv[1]), jobs = atoi(argv[2]), pause = atoi(argv[3]);
    if (argc != 4 || !pool_start(&p, threads, work, (void *)runs))
        return 2;
    for (int job = 0; job < jobs; job++) {
        const int32_t tiles = 1 + job * 31 % TILES;
        expected_step = job & 0xffff;
        memset((void *)runs, 0, sizeof runs);
        if (pause != 0)
            usleep((useconds_t)(job % 3 * pause)); /* asleep, half asleep, awake */
        pool_run(&p, expected_step, tiles);
        for (int32_t i = 0; i < TILES; i++)
            if (atomic_load(&runs[i]) != (i < tiles))
                return 1;
    }
    pool_stop(&p, threads - 1);
    return atomic_load(&wrong) != 0;
}
"""


@pytest.fixture(scope="module")
def stress(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("pool"), STRESS)


@pytest.mark.parametrize(
    ("threads", "jobs", "pause"), [(2, 20000, 0), (8, 2000, 0), (2, 600, 200), (5, 300, 200)]
)
def test_every_tile_runs_once(stress: Path, threads: int, jobs: int, pause: int) -> None:
    """With more threads than cores too, and with threads that sleep, spin or are just falling asleep."""
    subprocess.run([str(stress), str(threads), str(jobs), str(pause)], check=True, timeout=60)


IDLE = r"""
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>
#include "pool.h"

static void work(void *user, int thread, int32_t step, int32_t begin, int32_t end)
{
    (void)user, (void)thread, (void)step, (void)begin, (void)end;
}

int main(void)
{
    static pool p;
    struct rusage before, after;
    if (!pool_start(&p, 4, work, NULL))
        return 2;
    pool_run(&p, 0, 100);
    usleep(50000);
    getrusage(RUSAGE_SELF, &before);
    usleep(300000);
    getrusage(RUSAGE_SELF, &after);
    pool_stop(&p, 3);
    const long seconds = after.ru_utime.tv_sec - before.ru_utime.tv_sec;
    printf("%ld\n", seconds * 1000000 + after.ru_utime.tv_usec - before.ru_utime.tv_usec);
    return 0;
}
"""


def test_idle_threads_sleep(tmp_path: Path) -> None:
    told = subprocess.run(
        [str(build(tmp_path, IDLE))], check=True, capture_output=True, text=True, timeout=30
    )
    assert int(told.stdout) < 5000  # microseconds of 3 threads in 300 ms


MODES = r"""
#include "pool.h"

static _Atomic int wrong, others;

static void work(void *user, int thread, int32_t step, int32_t begin, int32_t end)
{
    (void)user, (void)step, (void)begin, (void)end;
    if (thread == 0)
        return;
    atomic_fetch_add(&others, 1);
    if ((float_mode_read() & FLOAT_MODE_BITS) != FLOAT_MODE_DEFAULT)
        atomic_fetch_add(&wrong, 1);
}

int main(void)
{
    static pool p;
    float_mode_write(MODE);
    if (!pool_start(&p, 4, work, NULL))
        return 2;
    while (atomic_load(&others) == 0)
        pool_run(&p, 0, 1000);
    pool_stop(&p, 3);
    return atomic_load(&wrong) != 0;
}
"""
"""MODE is anything but the default."""


def test_threads_dont_take_over_the_float_mode_of_who_starts_them(tmp_path: Path) -> None:
    upward = "0x5f80" if HOST.arch == "x86-64" else "1u << 22"
    program = build(tmp_path, MODES.replace("MODE)", f"{upward})"))
    subprocess.run([str(program)], check=True, timeout=30)


def test_a_refused_thread_leaves_none_running(tmp_path: Path) -> None:
    """`pool_start` under a limit on threads fails, joins what it had started, and can be called again."""
    text = r"""
    #define _GNU_SOURCE
    #include <pthread.h>
    static int allowed;
    static int limited(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *x)
    {
        return allowed-- > 0 ? pthread_create(t, a, f, x) : 11;
    }
    """
    text += "#define pthread_create limited\n" + (RUNTIME / "pool.h").read_text()
    text += r"""
    static void work(void *user, int thread, int32_t step, int32_t begin, int32_t end)
    {
        (void)user, (void)thread, (void)step, (void)begin, (void)end;
    }
    int main(void)
    {
        static pool p;
        allowed = 2;
        if (pool_start(&p, 4, work, NULL))
            return 1;
        allowed = 3;
        if (!pool_start(&p, 4, work, NULL))
            return 2;
        pool_run(&p, 0, 10);
        pool_stop(&p, 3);
        return 0;
    }
    """
    subprocess.run([str(build(tmp_path, text))], check=True, timeout=30)


def test_the_cpu_check_agrees_with_the_kernel(tmp_path: Path) -> None:
    """Every feature that edgec knows, asked of this CPU, against the flags in /proc/cpuinfo."""
    rows = cpu.table(dataclasses.replace(HOST, features=frozenset(HOST.architecture.features)))
    text = f'#include <stdio.h>\n#include "{HOST.architecture.cpu_header}"\n'
    text += f"static const cpu_feature all[] = {{ {', '.join(rows)} }};\n"
    text += "int main(void) { for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)"
    text += ' printf("%s %d\\n", all[i].name, cpu_has(&all[i])); return 0; }\n'
    told = subprocess.run([str(build(tmp_path, text))], check=True, capture_output=True, text=True).stdout
    heading = {"x86-64": "flags", "arm64": "Features"}[HOST.arch]
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    found = [line for line in lines if line.startswith(heading)]
    if not found:
        pytest.skip("this CPU is emulated, and /proc/cpuinfo is another's")
    flags = found[0].split(":")[1].split()
    expected = {name: flag in flags for name, flag in HOST.architecture.features.items()}
    assert {line.split()[0]: line.split()[1] == "1" for line in told.splitlines()} == expected
