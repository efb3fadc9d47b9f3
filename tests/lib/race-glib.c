/* SPDX-License-Identifier: Apache-2.0 */
/* Tells ThreadSanitizer what GLib's locks, conditions, threads and pools order. GLib makes them of
 * futexes and is not built for the sanitizer, which would take everything that they guard for a
 * race. Linked into the tests of a build with -Db_sanitize=thread only: our calls come here, and go
 * on to GLib's. */
#include <dlfcn.h>
#include <glib.h>

void __tsan_acquire(void *address);
void __tsan_release(void *address);

/* Calls are resolved once; the first may come from any thread, and all find the same. */
#define REAL(name)                                                                                 \
    ({                                                                                             \
        static __typeof__(&(name)) found_;                                                         \
        __typeof__(&(name)) real_ = __atomic_load_n(&found_, __ATOMIC_ACQUIRE);                    \
        if (!real_) {                                                                              \
            real_ = (__typeof__(&(name)))dlsym(RTLD_NEXT, #name);                                  \
            __atomic_store_n(&found_, real_, __ATOMIC_RELEASE);                                    \
        }                                                                                          \
        real_;                                                                                     \
    })

/* ---- Locks ---- */

#undef g_mutex_lock
void g_mutex_lock(GMutex *mutex)
{
    REAL(g_mutex_lock)(mutex);
    __tsan_acquire(mutex);
}

#undef g_mutex_unlock
void g_mutex_unlock(GMutex *mutex)
{
    __tsan_release(mutex);
    REAL(g_mutex_unlock)(mutex);
}

#undef g_mutex_trylock
gboolean g_mutex_trylock(GMutex *mutex)
{
    gboolean got = REAL(g_mutex_trylock)(mutex);
    if (got)
        __tsan_acquire(mutex);
    return got;
}

void g_cond_wait(GCond *cond, GMutex *mutex)
{
    __tsan_release(mutex);
    REAL(g_cond_wait)(cond, mutex);
    __tsan_acquire(mutex);
}

gboolean g_cond_wait_until(GCond *cond, GMutex *mutex, gint64 end_time)
{
    __tsan_release(mutex);
    gboolean met = REAL(g_cond_wait_until)(cond, mutex, end_time);
    __tsan_acquire(mutex);
    return met;
}

/* Readers are ordered among each other as well, which hides races between them: what a reader
 * changes is guarded by a lock of its own here. */
void g_rw_lock_writer_lock(GRWLock *lock)
{
    REAL(g_rw_lock_writer_lock)(lock);
    __tsan_acquire(lock);
}

void g_rw_lock_writer_unlock(GRWLock *lock)
{
    __tsan_release(lock);
    REAL(g_rw_lock_writer_unlock)(lock);
}

void g_rw_lock_reader_lock(GRWLock *lock)
{
    REAL(g_rw_lock_reader_lock)(lock);
    __tsan_acquire(lock);
}

void g_rw_lock_reader_unlock(GRWLock *lock)
{
    __tsan_release(lock);
    REAL(g_rw_lock_reader_unlock)(lock);
}

gboolean(g_once_init_enter)(volatile void *location)
{
    gboolean first = REAL(g_once_init_enter)(location);
    if (!first)
        __tsan_acquire((void *)location);
    return first;
}

void(g_once_init_leave)(volatile void *location, gsize result)
{
    __tsan_release((void *)location);
    REAL(g_once_init_leave)(location, result);
}

/* ---- Threads and pools ---- */

struct start {
    GThreadFunc func;
    gpointer data;
};

static gpointer run(gpointer user)
{
    struct start *start = user;
    __tsan_acquire(start);
    gpointer result = start->func(start->data);
    __tsan_release(g_thread_self());
    g_free(start);
    return result;
}

GThread *g_thread_new(const gchar *name, GThreadFunc func, gpointer data)
{
    struct start *start = g_new(struct start, 1);
    *start = (struct start){func, data};
    __tsan_release(start);
    return REAL(g_thread_new)(name, run, start);
}

gpointer g_thread_join(GThread *thread)
{
    gpointer result = REAL(g_thread_join)(thread);
    __tsan_acquire(thread);
    return result;
}

struct pool {
    GFunc func;
    gpointer user;
};

static void run_one(gpointer data, gpointer user)
{
    struct pool *pool = user;
    __tsan_acquire(data);
    pool->func(data, pool->user);
    __tsan_release(pool);
}

/* Pools are few and live long: what belongs to one is not freed. */
GThreadPool *g_thread_pool_new(GFunc func, gpointer user, gint max_threads, gboolean exclusive,
                               GError **error)
{
    struct pool *pool = g_new(struct pool, 1);
    *pool = (struct pool){func, user};
    return REAL(g_thread_pool_new)(run_one, pool, max_threads, exclusive, error);
}

gboolean g_thread_pool_push(GThreadPool *pool, gpointer data, GError **error)
{
    __tsan_release(data);
    return REAL(g_thread_pool_push)(pool, data, error);
}

/* GLib's last thread frees what is read here, after us. */
__attribute__((no_sanitize("thread"))) static gpointer own_part(const GThreadPool *pool)
{
    return pool->user_data;
}

void g_thread_pool_free(GThreadPool *pool, gboolean immediate, gboolean wait)
{
    gpointer own = own_part(pool);
    REAL(g_thread_pool_free)(pool, immediate, wait);
    if (wait)
        __tsan_acquire(own);
}
