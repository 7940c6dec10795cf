/* A pool of threads that shares out the tiles of one step at a time.
 *
 * All state lives in the `pool` that the caller owns; nothing is allocated after pool_start. Every thread has a
 * share of a step's tiles, one 64-bit word (step, end, next tile) in a cache line of its own: it claims tiles from
 * its share by compare-and-swap, half of what is left at a time, and then from those of others, so that fast cores
 * take over from slow ones. A word is all there is to a claim, so a thread that comes late can't mix two steps up.
 * A step's hand-over costs what one cache line takes to a core and back.
 * Waiting threads spin for SPIN_NANOSECONDS, then sleep.
 *
 * A process that was forked off has the pool's memory but none of its threads. There the caller runs every tile, as it
 * does where the others are late, and neither wakes nor joins anybody.
 */
#ifndef EDGEC_POOL_H
#define EDGEC_POOL_H

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#include "float_mode.h"

enum {
    POOL_MAX_THREADS = 32,
    /* Longer than the serial steps between two parallel ones, far shorter than a scheduler's time slice. */
    SPIN_NANOSECONDS = 50000,
    /* Looks at the share between two looks at the clock, or between two offers of the core to others. */
    SPINS_PER_LOOK = 64,
};

/* Runs the tiles [begin, end) of `step` as thread number `thread` (0 is the caller of pool_run). */
typedef void (*pool_work)(void *user, int thread, int32_t step, int32_t begin, int32_t end);

typedef struct pool_thread {
    _Atomic uint64_t share;
    _Atomic uint32_t finished; /* tiles of all steps, modulo 2**32; of thread 0: what the others should have */
    int32_t index;
    struct pool *pool;
    pthread_t handle;
    char line[64 - 16 - sizeof(struct pool *) - sizeof(pthread_t)];
} pool_thread;

typedef struct pool {
    char line[64]; /* what lies before is read by all threads, and what follows is written at every step */
    pool_thread all[POOL_MAX_THREADS]; /* thread 0 is the caller */
    /* Written when threads fall asleep, or at the end. */
    _Atomic int32_t sleeping;
    _Atomic int32_t stop;
    int32_t threads;
    pid_t process; /* that the threads live in */
    pool_work work;
    void *user;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
} pool;

/* step: 16 bits, end: 24 bits, next tile: 24 bits. The compiler refuses programs that don't fit. */
static inline uint64_t pool_share(int32_t step, int32_t next, int32_t end)
{
    return (uint64_t)(uint32_t)step << 48 | (uint64_t)(uint32_t)end << 24 | (uint64_t)(uint32_t)next;
}
static inline int32_t pool_step(uint64_t share) { return (int32_t)(share >> 48); }
static inline int32_t pool_next(uint64_t share) { return (int32_t)(share & 0xffffff); }
static inline int32_t pool_left(uint64_t share) { return (int32_t)(share >> 24 & 0xffffff) - pool_next(share); }

static inline void pool_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb"); /* `yield` is a no-op on Cortex-A; this waits some tens of cycles, like `pause` */
#endif
}

static inline int64_t pool_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Claims and runs tiles of the current step until none is left in any share; returns how many. */
static uint32_t pool_help(pool *p, int thread)
{
    uint32_t count = 0;
    for (int i = 0; i < p->threads; i++) {
        const int owner = thread + i < p->threads ? thread + i : thread + i - p->threads;
        uint64_t share = atomic_load_explicit(&p->all[owner].share, memory_order_acquire);
        while (pool_left(share) > 0) {
            const int32_t begin = pool_next(share), size = (pool_left(share) + 1) / 2;
            if (!atomic_compare_exchange_weak_explicit(&p->all[owner].share, &share, share + (uint64_t)size,
                                                       memory_order_acq_rel, memory_order_acquire))
                continue;
            p->work(p->user, thread, pool_step(share), begin, begin + size);
            count += (uint32_t)size;
            share = atomic_load_explicit(&p->all[owner].share, memory_order_acquire);
        }
    }
    return count;
}

static inline bool pool_needs(pool_thread *self)
{
    return pool_left(atomic_load_explicit(&self->share, memory_order_acquire)) > 0
        || atomic_load_explicit(&self->pool->stop, memory_order_acquire);
}

/* Returns when the thread has a share, or when the pool stops. */
static void pool_wait(pool_thread *self)
{
    pool *p = self->pool;
    const int64_t start = pool_now();
    do {
        for (int i = 0; i < SPINS_PER_LOOK; i++) {
            if (pool_needs(self))
                return;
            pool_relax();
        }
    } while (pool_now() - start < SPIN_NANOSECONDS);
    pthread_mutex_lock(&p->mutex);
    atomic_fetch_add(&p->sleeping, 1);
    if (!pool_needs(self))
        pthread_cond_wait(&p->wake, &p->mutex); /* woken for nothing is harmless: the thread spins again */
    atomic_fetch_sub(&p->sleeping, 1);
    pthread_mutex_unlock(&p->mutex);
}

static void *pool_main(void *argument)
{
    pool_thread *self = argument;
    (void)float_mode_enter(); /* it was inherited from the thread that called init */
    for (;;) {
        pool_wait(self);
        if (atomic_load(&self->pool->stop))
            return NULL;
        const uint32_t count = pool_help(self->pool, self->index);
        /* After its last tile of the step: thread 0 doesn't begin another before it has counted all. */
        atomic_fetch_add_explicit(&self->finished, count, memory_order_release);
    }
}

/* Whether this is a child of the process that the threads live in: its mutex may be locked for ever. */
static bool pool_is_a_copy(const pool *p)
{
    return getpid() != p->process;
}

static void pool_wake_all(pool *p)
{
    if (pool_is_a_copy(p))
        return;
    pthread_mutex_lock(&p->mutex);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->mutex);
}

static uint32_t pool_finished(pool *p)
{
    uint32_t count = 0;
    for (int i = 1; i < p->threads; i++)
        count += atomic_load_explicit(&p->all[i].finished, memory_order_acquire);
    return count;
}

/* Runs all tiles of one step on the caller and the pool; returns when every tile is done. */
static void pool_run(pool *p, int32_t step, int32_t tiles)
{
    for (int i = p->threads - 1, end = tiles; i >= 0; i--) { /* what is uneven goes to those with a start */
        const int32_t begin = (int32_t)(((int64_t)tiles * i + p->threads - 1) / p->threads);
        atomic_store_explicit(&p->all[i].share, pool_share(step, begin, end), memory_order_release);
        end = begin;
    }
    /* Whoever is just falling asleep may be missed. Then the others run its share, and it is woken at the next
     * step: nothing waits for it, and so no fence is needed here. */
    if (atomic_load_explicit(&p->sleeping, memory_order_relaxed) > 0)
        pool_wake_all(p);
    const uint32_t others = (uint32_t)tiles - pool_help(p, 0);
    const uint32_t expected = atomic_load_explicit(&p->all[0].finished, memory_order_relaxed) + others;
    atomic_store_explicit(&p->all[0].finished, expected, memory_order_relaxed);
    for (uint32_t spins = 1; pool_finished(p) != expected; spins++) {
        pool_relax();
        if (spins % SPINS_PER_LOOK == 0)
            sched_yield(); /* with fewer cores than threads, the last tiles wait for this core */
    }
}

/* Joins the threads numbered 1 to `started`. */
static void pool_stop(pool *p, int started)
{
    if (pool_is_a_copy(p))
        return;
    atomic_store(&p->stop, 1);
    pool_wake_all(p);
    for (int i = 1; i <= started; i++)
        pthread_join(p->all[i].handle, NULL);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->mutex);
}

/* Starts threads - 1 threads; returns false, with none left running, if the system refuses one. */
static bool pool_start(pool *p, int threads, pool_work work, void *user)
{
    atomic_init(&p->sleeping, 0);
    atomic_init(&p->stop, 0);
    for (int i = 0; i < threads; i++) {
        atomic_init(&p->all[i].share, 0);
        atomic_init(&p->all[i].finished, 0);
        p->all[i].index = i;
        p->all[i].pool = p;
    }
    p->threads = threads;
    p->process = getpid();
    p->work = work;
    p->user = user;
    if (pthread_mutex_init(&p->mutex, NULL) != 0)
        return false;
    if (pthread_cond_init(&p->wake, NULL) != 0) {
        pthread_mutex_destroy(&p->mutex);
        return false;
    }
    for (int i = 1; i < threads; i++)
        if (pthread_create(&p->all[i].handle, NULL, pool_main, &p->all[i]) != 0) {
            pool_stop(p, i - 1);
            return false;
        }
    return true;
}

#endif
