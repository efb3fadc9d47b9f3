/* SPDX-License-Identifier: Apache-2.0 */
/* What a disk can hold after the power was cut. */
#include "power-cut.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/atomic-file.h"
#include "base/cleanup.h"

/* ---- The log ---- */

static void op_free(void *p)
{
    struct cut_op *op = p;
    g_free(op->path);
    g_free(op->other);
    g_free(op->data);
    g_free(op);
}

GPtrArray *cut_log_read(const char *path)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;
    gsize len, at = 0;
    g_file_get_contents(path, &text, &len, &error);
    g_assert_no_error(error);
    GPtrArray *log = g_ptr_array_new_with_free_func(op_free);
    while (at < len) {
        struct io_record r;
        g_assert_cmpuint(len - at, >=, sizeof r);
        memcpy(&r, text + at, sizeof r);
        at += sizeof r;
        g_assert_cmpuint(len - at, >=, (gsize)r.path_len + r.other_len + r.data_len);
        struct cut_op *op = g_new0(struct cut_op, 1);
        op->op = r.op;
        op->ino = r.ino;
        op->offset = r.offset;
        op->len = r.data_len;
        op->path = g_strndup(text + at, r.path_len);
        op->other = g_strndup(text + at + r.path_len, r.other_len);
        op->data = g_malloc(op->len + 1);
        memcpy(op->data, text + at + r.path_len + r.other_len, op->len);
        op->data[op->len] = '\0';
        at += (gsize)r.path_len + r.other_len + r.data_len;
        g_ptr_array_add(log, op);
    }
    return log;
}

/* ---- The disk ---- */

/* A file or a directory. */
struct node {
    bool is_dir;
    GPtrArray *pending;  /* not synced: of a file struct cut_op*, of a directory struct change* */
    GHashTable *certain; /* those of a file that are synced by themselves, but not what is before */
    GByteArray *bytes;   /* file: synced */
    GHashTable *names;   /* directory: name -> struct node*, synced */
    GHashTable *visible; /* directory: the same for who looks now */
};

/* One atomic change of a directory: one name, or two. */
struct change {
    unsigned n;
    char *name[2];
    struct node *node[2]; /* NULL: no such name */
};

struct cut_disk {
    GPtrArray *nodes; /* all that there ever were */
    GHashTable *by_ino;
    struct node *root;
};

static void change_free(void *p)
{
    struct change *c = p;
    for (unsigned i = 0; i < c->n; i++)
        g_free(c->name[i]);
    g_free(c);
}

static void node_free(void *p)
{
    struct node *n = p;
    g_ptr_array_unref(n->pending);
    g_hash_table_unref(n->certain);
    g_clear_pointer(&n->bytes, g_byte_array_unref);
    g_clear_pointer(&n->names, g_hash_table_unref);
    g_clear_pointer(&n->visible, g_hash_table_unref);
    g_free(n);
}

static GHashTable *names_new(void)
{
    return g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
}

static struct node *node_new(struct cut_disk *disk, bool is_dir, uint64_t ino)
{
    struct node *n = g_new0(struct node, 1);
    n->is_dir = is_dir;
    n->pending = g_ptr_array_new_with_free_func(is_dir ? change_free : NULL);
    n->certain = g_hash_table_new(NULL, NULL);
    if (is_dir) {
        n->names = names_new();
        n->visible = names_new();
    } else {
        n->bytes = g_byte_array_new();
    }
    g_ptr_array_add(disk->nodes, n);
    if (ino)
        g_hash_table_insert(disk->by_ino, g_memdup2(&ino, sizeof ino), n);
    return n;
}

struct cut_disk *cut_disk_new(void)
{
    struct cut_disk *disk = g_new0(struct cut_disk, 1);
    disk->nodes = g_ptr_array_new_with_free_func(node_free);
    disk->by_ino = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    disk->root = node_new(disk, true, 0);
    return disk;
}

void cut_disk_free(struct cut_disk *disk)
{
    g_hash_table_unref(disk->by_ino);
    g_ptr_array_unref(disk->nodes);
    g_free(disk);
}

/* What is at @path now; *ret_parent, *ret_name: where its name is. */
static struct node *look_up(struct cut_disk *disk, const char *path, struct node **ret_parent,
                            char **ret_name)
{
    g_auto(GStrv) parts = g_strsplit(path, "/", -1);
    struct node *parent = NULL, *n = disk->root;
    const char *name = "";
    for (char **part = parts; *part; part++) {
        if (**part == '\0')
            continue;
        g_assert_true(n && n->is_dir);
        parent = n;
        name = *part;
        n = g_hash_table_lookup(n->visible, name);
    }
    if (ret_parent) {
        *ret_parent = parent;
        *ret_name = g_strdup(name);
    }
    return n;
}

static void set_name(GHashTable *names, const char *name, struct node *node)
{
    if (node)
        g_hash_table_insert(names, g_strdup(name), node);
    else
        g_hash_table_remove(names, name);
}

static void change_do(GHashTable *names, const struct change *c)
{
    for (unsigned i = 0; i < c->n; i++)
        set_name(names, c->name[i], c->node[i]);
}

/* The name at @path becomes that of @node. */
static void change_one(struct cut_disk *disk, const char *path, struct node *node)
{
    struct node *parent;
    struct change *c = g_new0(struct change, 1);
    c->n = 1;
    c->node[0] = node;
    look_up(disk, path, &parent, &c->name[0]);
    change_do(parent->visible, c);
    g_ptr_array_add(parent->pending, c);
}

static void change_two(struct cut_disk *disk, const struct cut_op *op)
{
    struct node *parent, *other_parent;
    struct change *c = g_new0(struct change, 1);
    c->n = 2;
    struct node *from = look_up(disk, op->path, &parent, &c->name[1]);
    struct node *to = look_up(disk, op->other, &other_parent, &c->name[0]);
    g_assert_nonnull(from);
    g_assert_true(parent == other_parent); /* the vault moves nothing between directories */
    c->node[0] = from;
    c->node[1] = op->op == IO_EXCHANGE ? to : NULL;
    change_do(parent->visible, c);
    g_ptr_array_add(parent->pending, c);
}

static void resize(GByteArray *bytes, size_t size)
{
    size_t old = bytes->len;
    g_byte_array_set_size(bytes, (guint)size);
    if (size > old)
        memset(bytes->data + old, 0, size - old);
}

/* Bytes [from, to) of a write, counted from the beginning of the file. */
static void put_bytes(GByteArray *bytes, const struct cut_op *op, uint64_t from, uint64_t to)
{
    if (bytes->len < to)
        resize(bytes, (size_t)to);
    memcpy(bytes->data + from, op->data + (from - op->offset), (size_t)(to - from));
}

static void put_whole(GByteArray *bytes, const struct cut_op *op)
{
    if (op->op == IO_WRITE)
        put_bytes(bytes, op, op->offset, op->offset + op->len);
    else if (op->op == IO_SIZE || op->offset > bytes->len)
        resize(bytes, (size_t)op->offset);
}

static void sync_node(struct node *n)
{
    for (unsigned i = 0; i < n->pending->len; i++) {
        if (n->is_dir)
            change_do(n->names, g_ptr_array_index(n->pending, i));
        else
            put_whole(n->bytes, g_ptr_array_index(n->pending, i));
    }
    g_ptr_array_set_size(n->pending, 0);
    g_hash_table_remove_all(n->certain);
}

/* What an O_DSYNC descriptor has written is on disk, and nothing else is for that. */
static void sync_last(struct node *n)
{
    g_hash_table_add(n->certain, g_ptr_array_index(n->pending, n->pending->len - 1));
}

void cut_disk_apply(struct cut_disk *disk, const struct cut_op *op, bool lost)
{
    struct node *n = g_hash_table_lookup(disk->by_ino, &op->ino);
    switch (op->op) {
    case IO_CREATE:
    case IO_MKDIR:
        change_one(disk, op->path, node_new(disk, op->op == IO_MKDIR, op->ino));
        break;
    case IO_WRITE:
    case IO_SIZE:
    case IO_ALLOCATE:
        g_assert_nonnull(n);
        g_ptr_array_add(n->pending, (void *)op);
        break;
    case IO_SYNC:
        if (*op->path == '\0')
            n = disk->root;
        g_assert_nonnull(n);
        if (!lost && op->offset == IO_SYNC_LAST)
            sync_last(n);
        else if (!lost)
            sync_node(n);
        break;
    case IO_RENAME:
    case IO_EXCHANGE:
        change_two(disk, op);
        break;
    case IO_LINK:
        change_one(disk, op->other, look_up(disk, op->path, NULL, NULL));
        break;
    case IO_UNLINK:
        change_one(disk, op->path, NULL);
        break;
    case IO_MARK:
        break;
    }
}

/* ---- What is found ---- */

struct finding {
    enum cut_choice choice;
    const struct node *without; /* the directory of CUT_DIR */
    GRand *rand;
    XXH3_state_t *sum;
};

static bool coin(struct finding *f)
{
    return g_rand_int_range(f->rand, 0, 2) == 0;
}

/* How many of @n in a row are there, and whether each one of them is asked for. */
static unsigned how_many(struct finding *f, unsigned n, bool *ret_each)
{
    int way = g_rand_int_range(f->rand, 0, 4);
    *ret_each = way == 3;
    return way == 0 ? 0 : way == 1 ? (unsigned)g_rand_int_range(f->rand, 0, (gint32)n + 1) : n;
}

static void tear(struct finding *f, GByteArray *bytes, const struct cut_op *op)
{
    uint64_t sector = coin(f) ? 512 : 4096, end = op->offset + op->len;
    for (uint64_t at = op->offset; at < end;) {
        uint64_t next = MIN(end, (at / sector + 1) * sector);
        if (coin(f))
            put_bytes(bytes, op, at, next);
        at = next;
    }
    if (coin(f) && bytes->len < end)
        resize(bytes, (size_t)end);
}

static GByteArray *find_bytes(struct finding *f, const struct node *n)
{
    GByteArray *bytes = g_byte_array_sized_new(n->bytes->len);
    g_byte_array_append(bytes, n->bytes->data, n->bytes->len);
    bool each = false;
    unsigned count = f->choice == CUT_RANDOM ? how_many(f, n->pending->len, &each)
                     : f->choice == CUT_ALL || f->choice == CUT_BYTES ? 0
                                                                      : n->pending->len;
    for (unsigned i = 0; i < n->pending->len; i++) {
        const struct cut_op *op = g_ptr_array_index(n->pending, i);
        if (f->choice == CUT_ZEROS && op->op == IO_WRITE)
            resize(bytes, MAX(bytes->len, (size_t)(op->offset + op->len)));
        if (g_hash_table_contains(n->certain, op))
            put_whole(bytes, op);
        else if (f->choice == CUT_ZEROS && op->op == IO_WRITE)
            continue;
        else if (i < count && (!each || coin(f)))
            put_whole(bytes, op);
        else if (i < count && op->op == IO_WRITE && coin(f))
            tear(f, bytes, op);
    }
    return bytes;
}

static GHashTable *find_names(struct finding *f, const struct node *n)
{
    GHashTable *names = names_new();
    GHashTableIter it;
    gpointer name, node;
    g_hash_table_iter_init(&it, n->names);
    while (g_hash_table_iter_next(&it, &name, &node))
        g_hash_table_insert(names, g_strdup(name), node);
    bool each = false;
    unsigned count = f->choice == CUT_RANDOM ? how_many(f, n->pending->len, &each)
                     : f->choice == CUT_ALL || f->choice == CUT_NAMES || f->without == n
                         ? 0
                         : n->pending->len;
    for (unsigned i = 0; i < count; i++) {
        if (!each || coin(f))
            change_do(names, g_ptr_array_index(n->pending, i));
    }
    return names;
}

static void write_node(struct finding *f, const struct node *n, const char *path);

static int by_name(gconstpointer a, gconstpointer b)
{
    return strcmp(a, b);
}

static void write_dir(struct finding *f, const struct node *n, const char *path)
{
    g_assert_cmpint(mkdir(path, 0755), ==, 0);
    g_autoptr(GHashTable) names = find_names(f, n);
    GList *sorted = g_list_sort(g_hash_table_get_keys(names), by_name);
    for (GList *l = sorted; l; l = l->next) {
        g_autofree char *below = g_build_filename(path, l->data, NULL);
        XXH3_64bits_update(f->sum, l->data, strlen(l->data) + 1);
        write_node(f, g_hash_table_lookup(names, l->data), below);
    }
    XXH3_64bits_update(f->sum, "/", 1);
    g_list_free(sorted);
}

static void write_node(struct finding *f, const struct node *n, const char *path)
{
    if (n->is_dir) {
        write_dir(f, n, path);
        return;
    }
    g_autoptr(GByteArray) bytes = find_bytes(f, n);
    at_autofd fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
    g_assert_cmpint(fd, >=, 0);
    XXH3_64bits_update(f->sum, &bytes->len, sizeof bytes->len);
    /* What has no byte but zeros is not worth the space: it is kept back for other things. */
    bool zeros = true;
    for (guint i = 0; i < bytes->len && zeros; i++)
        zeros = bytes->data[i] == 0;
    if (zeros) {
        g_assert_cmpint(ftruncate(fd, (off_t)bytes->len), ==, 0);
        return;
    }
    XXH3_64bits_update(f->sum, bytes->data, bytes->len);
    g_assert_true(at_write_all(fd, bytes->data, bytes->len, NULL));
}

unsigned cut_disk_open_dirs(const struct cut_disk *disk)
{
    unsigned n = 0;
    for (unsigned i = 0; i < disk->nodes->len; i++) {
        const struct node *node = g_ptr_array_index(disk->nodes, i);
        n += node->is_dir && node->pending->len > 0;
    }
    return n;
}

static const struct node *open_dir(const struct cut_disk *disk, unsigned number)
{
    for (unsigned i = 0; i < disk->nodes->len; i++) {
        const struct node *node = g_ptr_array_index(disk->nodes, i);
        if (node->is_dir && node->pending->len > 0 && number-- == 0)
            return node;
    }
    return NULL;
}

uint64_t cut_disk_write(const struct cut_disk *disk, enum cut_choice choice, unsigned number,
                        const char *dir)
{
    struct finding f = {.choice = choice};
    f.without = choice == CUT_DIR ? open_dir(disk, number) : NULL;
    f.rand = g_rand_new_with_seed(number);
    f.sum = XXH3_createState();
    XXH3_64bits_reset(f.sum);
    write_dir(&f, disk->root, dir);
    uint64_t sum = XXH3_64bits_digest(f.sum);
    XXH3_freeState(f.sum);
    g_rand_free(f.rand);
    return sum;
}
