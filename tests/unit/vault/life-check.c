/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a vault: what it promises, and whether that is kept. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "lib/at-test.h"
#include "life-internal.h"
#include "vault/vault-internal.h"

#define CHECK_MS 60000
#define TEXT 2048u

/* ---- Promises ---- */

struct life_promise *life_promise_new(void)
{
    struct life_promise *p = g_new0(struct life_promise, 1);
    p->may = g_new0(GString *, life_n_names);
    p->begun = g_new0(char, life_n_names);
    p->bad = g_ptr_array_new_with_free_func(g_free);
    p->errors = g_ptr_array_new_with_free_func(g_free);
    p->phase = g_strdup("none");
    for (unsigned i = 0; i < life_n_names; i++)
        p->may[i] = g_string_new("-");
    return p;
}

void life_promise_free(struct life_promise *p)
{
    for (unsigned i = 0; i < life_n_names; i++)
        g_string_free(p->may[i], TRUE);
    g_free(p->may);
    g_free(p->begun);
    g_ptr_array_unref(p->bad);
    g_ptr_array_unref(p->errors);
    g_clear_pointer(&p->packs, g_array_unref);
    g_free(p->phase);
    g_free(p);
}

static unsigned index_of(const char *name, size_t len)
{
    for (unsigned i = 0; i < life_n_names; i++) {
        if (strlen(life_names[i]) == len && strncmp(life_names[i], name, len) == 0)
            return i;
    }
    g_error("no root %s in the life of a vault", name);
}

static void set_packs(struct life_promise *p, const char *list)
{
    g_auto(GStrv) ids = g_strsplit(list, ",", -1);
    g_clear_pointer(&p->packs, g_array_unref);
    p->packs = g_array_new(FALSE, FALSE, sizeof(uint32_t));
    for (char **id = ids; *id; id++) {
        uint32_t n = (uint32_t)strtoul(*id, NULL, 10);
        g_array_append_val(p->packs, n);
    }
}

void life_promise_mark(struct life_promise *p, const char *line)
{
    if (line[0] == '~') {
        const char *space = strchr(line, ' ');
        unsigned i = index_of(line + 1, (size_t)(space - line - 1));
        p->begun[i] = space[1];
        if (!strchr(p->may[i]->str, space[1]))
            g_string_append_c(p->may[i], space[1]);
    } else if (line[0] == '=') {
        unsigned i = index_of(line + 1, strlen(line + 1));
        g_string_assign(p->may[i], "");
        g_string_append_c(p->may[i], p->begun[i]);
    } else if (g_str_has_prefix(line, "gc ")) {
        set_packs(p, line + 3);
    } else if (g_str_has_prefix(line, "bad ")) {
        g_ptr_array_add(p->bad, g_strdup(line + 4));
    } else if (strcmp(line, "verify") == 0) {
        g_ptr_array_set_size(p->bad, 0);
    } else if (g_str_has_prefix(line, "err ")) {
        g_ptr_array_add(p->errors, g_strdup(line + 4));
    } else if (g_str_has_prefix(line, "phase ")) {
        g_free(p->phase);
        p->phase = g_strdup(line + 6);
    } else if (strcmp(line, "raised") == 0) {
        p->raised = true;
    } else if (strcmp(line, "end") == 0) {
        p->ended = true;
    } else if (*line) {
        g_error("not a mark: %s", line);
    }
}

const GPtrArray *life_promise_errors(const struct life_promise *p)
{
    return p->errors;
}

const char *life_promise_phase(const struct life_promise *p)
{
    return p->phase;
}

bool life_promise_ended(const struct life_promise *p)
{
    return p->ended;
}

/* ---- The check ---- */

struct check {
    const char *dir;
    const struct life_promise *p;
    char *text; /* TEXT bytes that the parent sees */
};

/* Writes down what is wrong; false. */
static bool G_GNUC_PRINTF(2, 3) wrong(struct check *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(c->text, TEXT, fmt, ap);
    va_end(ap);
    return false;
}

static bool whole(struct check *c, struct at_vault *vault, const char *when)
{
    g_autoptr(GError) error = NULL;
    struct at_verify_report *report;
    if (!at_vault_verify(vault, 100, NULL, NULL, NULL, &report, &error))
        return wrong(c, "%s: verify: %s", when, error->message);
    unsigned n = report->problems->len;
    if (n) {
        struct at_verify_problem *p = g_ptr_array_index(report->problems, 0);
        g_autofree char *roots = g_strjoinv(" ", p->roots);
        wrong(c, "%s: verify finds %u problems: %s (roots: %s)", when, n, p->reason, roots);
    }
    at_verify_report_free(report);
    return n == 0;
}

static bool roots_as_promised(struct check *c, struct at_vault *vault, const char *when)
{
    for (unsigned i = 0; i < life_n_names; i++) {
        g_autoptr(GError) error = NULL;
        struct at_root *root;
        char what = LIFE_NONE;
        if (at_vault_root_get(vault, life_names[i], &root, &error)) {
            what = life_what(vault, root, &error);
            at_root_free(root);
            if (!what)
                return wrong(c, "%s: root %s: %s", when, life_names[i], error->message);
        } else if (error->code != AT_ERROR_NOT_FOUND) {
            return wrong(c, "%s: root %s: %s", when, life_names[i], error->message);
        }
        if (!strchr(c->p->may[i]->str, what))
            return wrong(c, "%s: root %s is %c, which is not one of %s", when, life_names[i], what,
                         c->p->may[i]->str);
    }
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) all = at_vault_root_list(vault, NULL, &error);
    return all || wrong(c, "%s: list of roots: %s", when, error->message);
}

/* What gc has removed is not there again. */
static bool packs_as_promised(struct check *c)
{
    uint32_t last = 0;
    for (unsigned k = 0; c->p->packs && k < c->p->packs->len; k++)
        last = MAX(last, g_array_index(c->p->packs, uint32_t, k));
    g_autoptr(GArray) ids = life_packs(c->dir);
    for (unsigned i = 0; ids && i < ids->len; i++) {
        uint32_t id = g_array_index(ids, uint32_t, i);
        bool there = id > last;
        for (unsigned k = 0; !there && k < c->p->packs->len; k++)
            there = id == g_array_index(c->p->packs, uint32_t, k);
        if (!there)
            return wrong(c, "pack %u is back, which gc has removed", id);
    }
    return true;
}

static bool notes_as_promised(struct check *c, struct at_vault *vault)
{
    for (unsigned i = 0; i < c->p->bad->len; i++) {
        struct at_digest digest;
        at_digest_from_hex(g_ptr_array_index(c->p->bad, i), &digest, NULL);
        if (!at_store_distrusts(vault->store, &digest))
            return wrong(c, "a note of damage is lost");
    }
    return true;
}

/* A disk more, and a collection. */
static bool works_on(struct check *c, struct at_vault *vault)
{
    g_autoptr(GError) error = NULL;
    struct at_digest digest;
    struct at_root root = {.kind = AT_ROOT_TREE};
    struct at_vault_session *session = at_vault_session_begin(vault, &error);
    bool ok = life_put(session, 5, NULL, 0, &digest, &error) &&
              at_vault_root_set(vault, "works/on", AT_ROOT_TREE, &digest, &error);
    at_vault_session_end(session);
    ok = ok && at_vault_gc(vault, NULL, NULL, NULL, NULL, &error);
    root.digest = digest;
    if (!ok || life_what(vault, &root, &error) != '5')
        return wrong(c, "working on: %s", error ? error->message : "another content");
    return whole(c, vault, "after working on") && roots_as_promised(c, vault, "after working on");
}

static uint64_t index_of_vault(const char *dir)
{
    g_autofree char *path = g_build_filename(dir, "index", "data.mdb", NULL);
    struct stat st;
    return stat(path, &st) == 0 ? st.st_ino : 0;
}

static bool format_as_promised(struct check *c)
{
    g_autofree char *path = g_build_filename(c->dir, "format", NULL);
    g_autofree char *newest = g_strdup_printf("atoll-vault %u\n", AT_VAULT_FORMAT);
    g_autofree char *text = NULL;
    return !c->p->raised ||
           (g_file_get_contents(path, &text, NULL, NULL) && strcmp(text, newest) == 0) ||
           wrong(c, "the format is of an older Atoll again");
}

static struct at_vault *open_vault(struct check *c)
{
    g_autoptr(GError) error = NULL;
    struct at_vault *vault =
        at_vault_open(c->dir, AT_VAULT_WRITE | AT_VAULT_CREATE, (gid_t)-1, &error);
    if (!vault)
        wrong(c, "does not open: %s", error->message);
    return vault;
}

static void body(void *data)
{
    struct check *c = data;
    strcpy(c->text, "the check has died");
    struct at_vault *vault = format_as_promised(c) ? open_vault(c) : NULL;
    if (!vault)
        return;
    uint64_t index = index_of_vault(c->dir);
    at_vault_close(vault);
    vault = open_vault(c);
    if (!vault)
        return;
    /* What was set right once is right: the index of a large vault takes long to build. */
    bool ok = index_of_vault(c->dir) == index || wrong(c, "builds its index at each opening");
    ok = ok && packs_as_promised(c) && roots_as_promised(c, vault, "at first") &&
         notes_as_promised(c, vault) && whole(c, vault, "at first") && works_on(c, vault);
    at_vault_close(vault);
    if (ok)
        *c->text = '\0';
}

char *life_check(const char *dir, const struct life_promise *p)
{
    void *shared = mmap(NULL, TEXT, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    g_assert_true(shared != MAP_FAILED);
    for (unsigned k = 0; k < LIFE_CONTENTS; k++)
        life_content(k); /* once, for all checks */
    struct check c = {dir, p, shared};
    int status = at_test_in_child(body, &c, CHECK_MS);
    char *text = *c.text ? g_strdup(c.text) : NULL;
    if (status != 0 && !text)
        text = g_strdup_printf("the check has ended with status %d", status);
    munmap(shared, TEXT);
    return text;
}
