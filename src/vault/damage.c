/* SPDX-License-Identifier: Apache-2.0 */
/* Damage that reads have found: noted by the writer, reported to it by readers through a file of
 * digests in hex, one a line. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "vault/index-guard.h"
#include "vault/maintenance.h"
#include "vault/vault-internal.h"

#define LINE_LEN (AT_DIGEST_HEX + 1)
#define REPORT_MAX (1000 * LINE_LEN)

static bool write_down(struct at_vault *vault, const struct at_digest *digests, unsigned n,
                       bool add, GError **error)
{
    struct at_index_txn *txn = at_index_begin(vault->index, error);
    if (!txn)
        return false;
    for (unsigned i = 0; i < n; i++) {
        if (!at_index_quarantine(txn, &digests[i], add, error)) {
            at_index_abort(txn);
            return false;
        }
    }
    return at_index_commit(txn, error);
}

bool at_vault_note_damage(struct at_vault *vault, const struct at_digest *digests, unsigned n,
                          GError **error)
{
    if (n == 0)
        return true;
    for (unsigned i = 0; i < n; i++)
        at_store_distrust(vault->store, &digests[i]);
    g_mutex_lock(&vault->damage_lock);
    bool ok = write_down(vault, digests, n, true, error);
    g_mutex_unlock(&vault->damage_lock);
    return ok;
}

bool at_vault_forget_damage(struct at_vault *vault, const struct at_digest *digests, unsigned n,
                            GError **error)
{
    if (n == 0)
        return true;
    g_mutex_lock(&vault->damage_lock);
    bool ok = write_down(vault, digests, n, false, error);
    g_mutex_unlock(&vault->damage_lock);
    for (unsigned i = 0; ok && i < n; i++)
        at_store_trust(vault->store, &digests[i]);
    return ok;
}

void at_vault_found_damage(struct at_vault *vault, const struct at_digest *digest)
{
    if (vault->on_damage)
        vault->on_damage(digest, vault->on_damage_user);
    /* When it cannot be written down it is known at least until we end. */
    if (vault->store && !at_store_distrusts(vault->store, digest))
        at_vault_note_damage(vault, digest, 1, NULL);
}

void at_vault_on_damage(struct at_vault *vault, at_damage_func func, void *user)
{
    vault->on_damage = func;
    vault->on_damage_user = user;
}

/* What is in the file, NUL-terminated; NULL when it cannot be read. */
static char *read_report(int fd, size_t *ret_len)
{
    g_autofree char *text = g_malloc(REPORT_MAX + 1);
    ssize_t n = pread(fd, text, REPORT_MAX, 0);
    if (n < 0)
        return NULL;
    text[n] = '\0';
    *ret_len = (size_t)n;
    return g_steal_pointer(&text);
}

void at_damage_report(const char *path, const struct at_digest *digest)
{
    char line[LINE_LEN + 1];
    size_t len;
    at_digest_to_hex(digest, line);
    at_autofd fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 || flock(fd, LOCK_EX) != 0)
        return;
    g_autofree char *text = read_report(fd, &len);
    if (!text || strstr(text, line) || len + LINE_LEN > REPORT_MAX)
        return;
    line[AT_DIGEST_HEX] = '\n';
    (void)!write(fd, line, LINE_LEN);
}

/* Reads and empties the file, which somebody else may write; *ret_text NULL when there is none, or
 * when it is being written just now. */
static bool take_report(const char *path, char **ret_text, GError **error)
{
    *ret_text = NULL;
    at_autofd fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat st;
    size_t len;
    if (fd < 0 && errno == ENOENT)
        return true;
    if (fd < 0 || fstat(fd, &st) != 0)
        return at_error_errno(error, errno, "open %s", path);
    if (!S_ISREG(st.st_mode) || st.st_nlink != 1)
        return at_error(error, AT_ERROR_INVALID, "%s is not a file of its own", path);
    if (st.st_size == 0 || flock(fd, LOCK_EX | LOCK_NB) != 0)
        return true;
    g_autofree char *text = read_report(fd, &len);
    if (!text || ftruncate(fd, 0) != 0)
        return at_error_errno(error, errno, "read and empty %s", path);
    *ret_text = g_steal_pointer(&text);
    return true;
}

bool at_vault_take_damage(struct at_vault *vault, const char *path,
                          struct at_verify_report **ret_report, GError **error)
{
    g_autofree char *text = NULL;
    struct at_verify_report *report = NULL;
    if (!take_report(path, &text, error))
        return false;
    g_auto(GStrv) lines = g_strsplit(text ? text : "", "\n", -1);
    g_autoptr(GArray) fresh = g_array_new(FALSE, FALSE, sizeof(struct at_digest));
    for (char **line = lines; *line; line++) {
        struct at_digest digest;
        if (g_str_equal(*line, AT_INDEX_MET) || g_str_equal(*line, AT_INDEX_DIED))
            g_atomic_int_set(&vault->reader_suspects, 1);
        if (at_digest_from_hex(*line, &digest, NULL) && !at_store_distrusts(vault->store, &digest))
            g_array_append_val(fresh, digest);
    }
    if (fresh->len && !at_vault_verify_objects(vault, (struct at_digest *)(void *)fresh->data,
                                               fresh->len, &report, error))
        return false;
    if (report && !report->problems->len)
        g_clear_pointer(&report, at_verify_report_free);
    *ret_report = report;
    return true;
}

void at_vault_report_index_to(const char *path)
{
    at_index_report_to(path);
}

bool at_vault_index_suspect(struct at_vault *vault)
{
    return g_atomic_int_get(&vault->reader_suspects) || at_index_suspect(vault->index);
}

const char *at_vault_index_rebuilt(const struct at_vault *vault)
{
    return vault->rebuilt;
}
