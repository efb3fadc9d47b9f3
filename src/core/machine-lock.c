/* SPDX-License-Identifier: Apache-2.0 */
/* The lock of each machine: made when somebody asks for it, gone when nobody holds or awaits it, so
 * that machines that come and go leave nothing behind. */
#include "core/supervisor.h"

struct machine_lock {
    GMutex mutex;
    unsigned users; /* who hold it or wait for it; guarded by the table's lock */
};

struct at_machine_locks {
    GMutex lock;       /* guards the table */
    GHashTable *table; /* machine id -> struct machine_lock* */
};

static void machine_lock_free(void *p)
{
    struct machine_lock *l = p;
    g_mutex_clear(&l->mutex);
    g_free(l);
}

struct at_machine_locks *at_machine_locks_new(void)
{
    struct at_machine_locks *locks = g_new0(struct at_machine_locks, 1);
    g_mutex_init(&locks->lock);
    locks->table = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, machine_lock_free);
    return locks;
}

void at_machine_locks_free(struct at_machine_locks *locks)
{
    if (!locks)
        return;
    g_hash_table_unref(locks->table);
    g_mutex_clear(&locks->lock);
    g_free(locks);
}

void at_machine_lock(struct at_core *core, const char *id)
{
    struct at_machine_locks *locks = core->machine_locks;
    g_mutex_lock(&locks->lock);
    struct machine_lock *l = g_hash_table_lookup(locks->table, id);
    if (!l) {
        l = g_new0(struct machine_lock, 1);
        g_mutex_init(&l->mutex);
        g_hash_table_insert(locks->table, g_strdup(id), l);
    }
    l->users++;
    g_mutex_unlock(&locks->lock);
    g_mutex_lock(&l->mutex);
}

void at_machine_unlock(struct at_core *core, const char *id)
{
    struct at_machine_locks *locks = core->machine_locks;
    g_mutex_lock(&locks->lock);
    struct machine_lock *l = g_hash_table_lookup(locks->table, id);
    g_mutex_unlock(&l->mutex);
    if (--l->users == 0)
        g_hash_table_remove(locks->table, id);
    g_mutex_unlock(&locks->lock);
}
