/* SPDX-License-Identifier: Apache-2.0 */
/* The LMDB environment below the index: opened once for all, kept within bounds, closed. */
#include "vault/index-env.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "vault/index-guard.h"

/* Address space only: the file is as large as its content. */
#define MAP_SIZE (UINT64_C(256) << 30)
#define TRIM_FROM (UINT64_C(64) << 20) /* smaller files may stay resident */

static const char *const table_names[AT_INDEX_TABLES] = {"object", "pack", "bad", "meta"};

static GMutex envs_lock; /* guards envs and their refs */
static GPtrArray *envs;
static char *reader_mark; /* set before readers open */

/* What LMDB says of a file that holds what cannot be. One of another LMDB is built again, too. */
static bool is_of_damage(int rc)
{
    switch (rc) {
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_CURSOR_FULL:
    case MDB_PAGE_FULL:
    case MDB_VERSION_MISMATCH:
    case MDB_INCOMPATIBLE:
    case MDB_BAD_TXN:
    case MDB_BAD_VALSIZE:
    case MDB_BAD_DBI:
    case MDB_MAP_RESIZED: /* the map is larger than any index */
    case EINVAL:          /* the kernel, of a page number that no file can have */
    case EFAULT:
    case EFBIG:
        return true;
    default:
        return false;
    }
}

bool at_index_fail(GError **error, int rc, const char *what)
{
    if (rc > 0 && !is_of_damage(rc))
        return at_error_errno(error, rc, "index: %s", what);
    /* After a failed write of its head LMDB does nothing more with the file. */
    if (rc == MDB_PANIC)
        return at_error(error, AT_ERROR_IO,
                        "index: %s: it could not be written; open the vault again", what);
    enum at_error_code code = rc == MDB_MAP_FULL ? AT_ERROR_NO_SPACE
                              : is_of_damage(rc) ? AT_ERROR_CORRUPT
                                                 : AT_ERROR_IO;
    return at_error(error, code, "index: %s: %s", what, mdb_strerror(rc));
}

void at_index_hold_signals(sigset_t *ret_before)
{
    static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS};
    sigset_t all;
    sigfillset(&all);
    for (unsigned i = 0; i < G_N_ELEMENTS(own); i++)
        sigdelset(&all, own[i]);
    pthread_sigmask(SIG_BLOCK, &all, ret_before);
}

void at_index_release_signals(const sigset_t *before)
{
    pthread_sigmask(SIG_SETMASK, before, NULL);
}

void at_index_env_suspect(struct at_index_env *env)
{
    if (g_atomic_int_compare_and_exchange(&env->suspect, 0, 1) && env->mark)
        at_index_guard_mark(env->mark, false);
}

void at_index_report_to(const char *path)
{
    g_mutex_lock(&envs_lock);
    g_free(reader_mark);
    reader_mark = g_strdup(path);
    g_mutex_unlock(&envs_lock);
}

/* Of a writer: beside the directory of the index, which a reindex replaces. */
static char *mark_of(const char *dir, bool writer)
{
    if (!writer)
        return g_strdup(reader_mark);
    g_autofree char *vault = g_path_get_dirname(dir);
    return g_build_filename(vault, AT_INDEX_SUSPECT, NULL);
}

static void env_free(struct at_index_env *env)
{
    at_index_guard_enter(env->mark);
    for (unsigned i = 0; i < env->pool->len; i++)
        mdb_txn_abort(g_ptr_array_index(env->pool, i));
    if (env->env)
        mdb_env_close(env->env);
    at_index_guard_leave();
    g_ptr_array_unref(env->pool);
    g_mutex_clear(&env->pool_lock);
    g_free(env->mark);
    g_free(env);
}

void at_index_env_unref(struct at_index_env *env)
{
    if (!env)
        return;
    g_mutex_lock(&envs_lock);
    if (--env->refs > 0) {
        g_mutex_unlock(&envs_lock);
        return;
    }
    g_ptr_array_remove_fast(envs, env);
    env_free(env);
    g_mutex_unlock(&envs_lock);
}

/* Bytes that the file must have: LMDB maps it, and a page behind its end would kill us.  When the
 * last pages of a transaction are free again when it commits, LMDB does not write them. */
static bool size_of(struct at_index_env *env, int *ret_fd, uint64_t *ret_needed,
                    uint64_t *ret_actual, GError **error)
{
    MDB_envinfo info;
    MDB_stat stat;
    struct stat st;
    int rc = mdb_env_info(env->env, &info);
    if (!rc)
        rc = mdb_env_stat(env->env, &stat);
    if (!rc)
        rc = mdb_env_get_fd(env->env, ret_fd);
    if (rc)
        return at_index_fail(error, rc, "look at the file");
    if (fstat(*ret_fd, &st) != 0)
        return at_error_errno(error, errno, "index: look at the file");
    *ret_needed = ((uint64_t)info.me_last_pgno + 1) * stat.ms_psize;
    *ret_actual = (uint64_t)st.st_size;
    return true;
}

static bool check_size(struct at_index_env *env, GError **error)
{
    int fd;
    uint64_t needed, actual;
    if (!size_of(env, &fd, &needed, &actual, error))
        return false;
    return actual >= needed || at_error(error, AT_ERROR_CORRUPT, "index: data.mdb has been cut");
}

/* So that check_size() can tell.  Another transaction may be growing the file at the same time:
 * this neither shortens it nor touches what is there. */
void at_index_env_keep_size(struct at_index_env *env)
{
    int fd;
    uint64_t needed, actual;
    if (size_of(env, &fd, &needed, &actual, NULL) && actual < needed)
        (void)!fallocate(fd, 0, (off_t)needed - 1, 1);
}

/* LMDB does not tell where it has mapped the file. */
static void find_map(struct at_index_env *env)
{
    int fd;
    struct stat st;
    g_autofree char *maps = NULL;
    if (mdb_env_get_fd(env->env, &fd) || fstat(fd, &st) != 0 ||
        !g_file_get_contents("/proc/self/maps", &maps, NULL, NULL))
        return;
    g_auto(GStrv) lines = g_strsplit(maps, "\n", -1);
    for (char **line = lines; *line; line++) {
        unsigned long from, to, inode;
        unsigned long long offset;
        if (sscanf(*line, "%lx-%lx %*s %llx %*x:%*x %lu", &from, &to, &offset, &inode) == 4 &&
            inode == st.st_ino && offset == 0 && to - from == MAP_SIZE)
            env->map = (void *)from;
    }
}

void at_index_env_trim(struct at_index_env *env)
{
    MDB_envinfo info;
    MDB_stat stat;
    if (!env->map || mdb_env_info(env->env, &info) || mdb_env_stat(env->env, &stat))
        return;
    uint64_t len = ((uint64_t)info.me_last_pgno + 1) * stat.ms_psize;
    /* The mapping is of a file and never written through, so nothing can be lost. */
    if (len > TRIM_FROM)
        madvise(env->map, len, MADV_DONTNEED);
}

static bool open_tables(struct at_index_env *env, GError **error)
{
    MDB_txn *txn;
    unsigned create = env->writer ? MDB_CREATE : 0;
    int rc = mdb_txn_begin(env->env, NULL, env->writer ? 0 : MDB_RDONLY, &txn);
    if (rc)
        return at_index_fail(error, rc, "begin");
    for (unsigned i = 0; i < AT_INDEX_TABLES && !rc; i++)
        rc = mdb_dbi_open(txn, table_names[i], create, &env->t[i]);
    if (rc) {
        mdb_txn_abort(txn);
        if (rc == MDB_NOTFOUND)
            return at_error(error, AT_ERROR_NOT_FOUND, "index: has no tables yet");
        return at_index_fail(error, rc, "open tables");
    }
    rc = mdb_txn_commit(txn);
    return rc ? at_index_fail(error, rc, "open tables") : true;
}

/* Group access that does not depend on the umask; readers register in the lock file. */
static bool set_modes(const char *dir, gid_t gid, GError **error)
{
    static const struct {
        const char *name;
        mode_t mode;
    } files[] = {{"data.mdb", 0640}, {"lock.mdb", 0660}};
    for (unsigned i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autofree char *path = g_build_filename(dir, files[i].name, NULL);
        if (gid != (gid_t)-1 && chown(path, (uid_t)-1, gid) != 0)
            return at_error_errno(error, errno, "set group of %s", path);
        if (chmod(path, files[i].mode) != 0)
            return at_error_errno(error, errno, "set mode of %s", path);
    }
    return true;
}

static struct at_index_env *env_make(const char *dir, bool writer, gid_t gid, GError **error)
{
    struct at_index_env *env = g_new0(struct at_index_env, 1);
    env->refs = 1;
    env->writer = writer;
    env->pool = g_ptr_array_new();
    g_mutex_init(&env->pool_lock);
    env->mark = mark_of(dir, writer);
    at_index_guard_install();
    at_index_guard_enter(env->mark);
    int rc = mdb_env_create(&env->env);
    if (!rc)
        rc = mdb_env_set_mapsize(env->env, MAP_SIZE);
    if (!rc)
        rc = mdb_env_set_maxdbs(env->env, 4);
    if (!rc)
        rc = mdb_env_set_maxreaders(env->env, 1024);
    /* Transactions are pooled, so they are not bound to threads; lookups jump about. */
    if (!rc)
        rc = mdb_env_open(env->env, dir, MDB_NOTLS | MDB_NORDAHEAD | (writer ? 0 : MDB_RDONLY),
                          0660);
    if (rc == ENOMEM) { /* how much is mapped stands in the file, too */
        at_error(error, AT_ERROR_CORRUPT, "index: it cannot be mapped: %s", g_strerror(rc));
    } else if (rc) {
        at_index_fail(error, rc, "open");
    } else if (writer && !set_modes(dir, gid, error)) {
        rc = -1;
    } else if ((writer && !check_size(env, error)) || !open_tables(env, error)) {
        rc = -1;
    }
    if (rc) {
        env_free(env);
        return NULL;
    }
    find_map(env);
    int dead;
    mdb_reader_check(env->env, &dead); /* slots of readers that were killed hold pages back */
    at_index_guard_leave();
    g_ptr_array_add(envs, env);
    return env;
}

/* LMDB takes a short read for a file that is none of its own: before an index is built again, and
 * what only it knows is forgotten, it is looked at twice. */
static struct at_index_env *env_make_for_certain(const char *dir, bool writer, gid_t gid,
                                                 GError **error)
{
    g_autoptr(GError) local = NULL;
    struct at_index_env *env = env_make(dir, writer, gid, &local);
    if (!env && local->code == AT_ERROR_CORRUPT)
        return env_make(dir, writer, gid, error);
    if (!env)
        g_propagate_error(error, g_steal_pointer(&local));
    return env;
}

struct at_index_env *at_index_env_get(const char *dir, bool writer, gid_t gid, GError **error)
{
    g_autofree char *path = g_build_filename(dir, "data.mdb", NULL);
    struct stat st;
    bool there = stat(path, &st) == 0;
    if (!there && !writer) {
        at_error_errno(error, errno, "index %s", path);
        return NULL;
    }
    g_mutex_lock(&envs_lock);
    if (!envs)
        envs = g_ptr_array_new();
    struct at_index_env *env = NULL;
    for (unsigned i = 0; there && i < envs->len && !env; i++) {
        struct at_index_env *e = g_ptr_array_index(envs, i);
        if (e->dev == st.st_dev && e->ino == st.st_ino)
            env = e;
    }
    if (env && writer && !env->writer) {
        at_error(error, AT_ERROR_CONFLICT, "index: this process has it open for reading");
        env = NULL;
    } else if (env) {
        env->refs++;
    } else {
        sigset_t before;
        at_index_hold_signals(&before);
        env = env_make_for_certain(dir, writer, gid, error);
        at_index_release_signals(&before);
        if (env && stat(path, &st) == 0) {
            env->dev = st.st_dev;
            env->ino = st.st_ino;
        }
    }
    g_mutex_unlock(&envs_lock);
    return env;
}
