/* A pool of threads that shares out the tiles of one step at a time.
 *
 * All state lives in the `pool` that the caller owns; nothing is allocated after pool_start. One 64-bit word
 * holds the whole job (step, tiles, next tile), so that a claim is one compare-and-swap and a thread that comes
 * late can't mix two jobs up. Waiting threads spin for SPIN_NANOSECONDS, then sleep.
 */
#ifndef EDGEC_POOL_H
#define EDGEC_POOL_H

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

enum {
    POOL_MAX_THREADS = 32,
    /* Longer than the serial steps between two parallel ones, far shorter than a scheduler's time slice. */
    SPIN_NANOSECONDS = 50000,
    /* Looks at the job between two looks at the clock, or between two offers of the core to others. */
    SPINS_PER_LOOK = 64,
    /* Chunks per thread: enough to even out cores of unequal speed, few enough to claim cheaply. */
    CHUNKS_PER_THREAD = 4,
};

/* Runs the tiles [begin, end) of `step` as thread number `thread` (0 is the caller of pool_run). */
typedef void (*pool_work)(void *user, int thread, int32_t step, int32_t begin, int32_t end);

typedef struct pool_thread {
    pthread_t handle;
    struct pool *pool;
    int index;
} pool_thread;

typedef struct pool {
    _Atomic uint64_t job;
    char job_line[56]; /* `job` and `done` are written by all threads: a cache line each */
    _Atomic int32_t done;
    char done_line[60];
    _Atomic int32_t sleeping;
    _Atomic int32_t stop;
    int32_t threads;
    pool_work work;
    void *user;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    pool_thread others[POOL_MAX_THREADS - 1];
} pool;

/* step: 16 bits, tiles: 24 bits, next tile: 24 bits. The compiler refuses programs that don't fit. */
static inline uint64_t pool_job(int32_t step, int32_t tiles)
{
    return (uint64_t)(uint32_t)step << 48 | (uint64_t)(uint32_t)tiles << 24;
}
static inline int32_t pool_job_step(uint64_t job) { return (int32_t)(job >> 48); }
static inline int32_t pool_job_tiles(uint64_t job) { return (int32_t)(job >> 24 & 0xffffff); }
static inline int32_t pool_job_next(uint64_t job) { return (int32_t)(job & 0xffffff); }

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

static inline bool pool_has_work(pool *p)
{
    const uint64_t job = atomic_load(&p->job);
    return pool_job_next(job) < pool_job_tiles(job);
}

/* Claims and runs chunks of the current job until none is left. */
static void pool_help(pool *p, int thread)
{
    uint64_t job = atomic_load_explicit(&p->job, memory_order_acquire);
    for (;;) {
        const int32_t tiles = pool_job_tiles(job), begin = pool_job_next(job);
        if (begin >= tiles)
            return;
        int32_t size = tiles / (p->threads * CHUNKS_PER_THREAD);
        if (size < 1)
            size = 1;
        if (size > tiles - begin)
            size = tiles - begin;
        if (!atomic_compare_exchange_weak_explicit(&p->job, &job, job + (uint64_t)size, memory_order_acq_rel,
                                                   memory_order_acquire))
            continue;
        p->work(p->user, thread, pool_job_step(job), begin, begin + size);
        atomic_fetch_add_explicit(&p->done, size, memory_order_release);
        job = atomic_load_explicit(&p->job, memory_order_acquire);
    }
}

/* Returns when there may be work, or when the pool stops. */
static void pool_wait(pool *p)
{
    const int64_t start = pool_now();
    do {
        for (int i = 0; i < SPINS_PER_LOOK; i++) {
            if (pool_has_work(p) || atomic_load(&p->stop))
                return;
            pool_relax();
        }
    } while (pool_now() - start < SPIN_NANOSECONDS);
    pthread_mutex_lock(&p->mutex);
    /* Sequentially consistent on both sides: either pool_run sees this sleeper, or the sleeper sees its job. */
    atomic_fetch_add(&p->sleeping, 1);
    if (!pool_has_work(p) && !atomic_load(&p->stop))
        pthread_cond_wait(&p->wake, &p->mutex); /* woken for nothing is harmless: the caller spins again */
    atomic_fetch_sub(&p->sleeping, 1);
    pthread_mutex_unlock(&p->mutex);
}

static void *pool_main(void *argument)
{
    const pool_thread *self = argument;
    pool *p = self->pool;
    while (!atomic_load(&p->stop)) {
        pool_help(p, self->index);
        pool_wait(p);
    }
    return NULL;
}

static void pool_wake_all(pool *p)
{
    if (atomic_load(&p->sleeping) == 0)
        return;
    pthread_mutex_lock(&p->mutex);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->mutex);
}

/* Runs all tiles of one step on the caller and the pool; returns when every tile is done. */
static void pool_run(pool *p, int32_t step, int32_t tiles)
{
    atomic_store_explicit(&p->done, 0, memory_order_relaxed);
    atomic_store(&p->job, pool_job(step, tiles));
    pool_wake_all(p);
    pool_help(p, 0);
    for (uint32_t spins = 1; atomic_load_explicit(&p->done, memory_order_acquire) < tiles; spins++) {
        pool_relax();
        if (spins % SPINS_PER_LOOK == 0)
            sched_yield(); /* with fewer cores than threads, the last chunk waits for this core */
    }
}

/* Joins the threads numbered 1 to `started`. */
static void pool_stop(pool *p, int started)
{
    atomic_store(&p->stop, 1);
    pool_wake_all(p);
    for (int i = 0; i < started; i++)
        pthread_join(p->others[i].handle, NULL);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->mutex);
}

/* Starts threads - 1 threads; returns false, with none left running, if the system refuses one. */
static bool pool_start(pool *p, int threads, pool_work work, void *user)
{
    atomic_init(&p->job, 0);
    atomic_init(&p->done, 0);
    atomic_init(&p->sleeping, 0);
    atomic_init(&p->stop, 0);
    p->threads = threads;
    p->work = work;
    p->user = user;
    if (pthread_mutex_init(&p->mutex, NULL) != 0)
        return false;
    if (pthread_cond_init(&p->wake, NULL) != 0) {
        pthread_mutex_destroy(&p->mutex);
        return false;
    }
    for (int i = 0; i < threads - 1; i++) {
        p->others[i].pool = p;
        p->others[i].index = i + 1;
        if (pthread_create(&p->others[i].handle, NULL, pool_main, &p->others[i]) != 0) {
            pool_stop(p, i);
            return false;
        }
    }
    return true;
}

#endif
