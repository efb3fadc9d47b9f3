/* SPDX-License-Identifier: Apache-2.0 */
/* The disk reader against real overlays and images: what qemu-io wrote is what it delivers. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "lib/at-test.h"
#include "qemu/disk-reader.h"

enum { BLOCK = 4096, MIB = 1 << 20, SIZE = 48 * MIB, BLOCKS = SIZE / BLOCK, WAIT_MS = 60000 };

/* What a reader gave, laid over the content of the base. */
struct image {
    uint8_t *bytes;
    uint8_t *touched; /* per block */
    uint64_t last_end;
    uint64_t n_extents, data_bytes;
    uint64_t fail_after; /* extents; 0 = never */
    GCancellable *cancel_at_first;
};

typedef struct image image_t;

static struct image *image_new(const uint8_t *base)
{
    struct image *image = g_new0(struct image, 1);
    image->bytes = g_memdup2(base, SIZE);
    image->touched = g_malloc0(BLOCKS);
    return image;
}

static void image_free(struct image *image)
{
    g_free(image->bytes);
    g_free(image->touched);
    g_free(image);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(image_t, image_free)

static bool take(uint64_t offset, uint64_t len, const void *data, void *user, GError **error)
{
    struct image *image = user;
    g_assert_cmpuint(len, >, 0);
    g_assert_cmpuint(offset, >=, image->last_end);
    g_assert_cmpuint(offset + len, <=, SIZE);
    g_assert_true(!data || len <= 2 * MIB);
    image->last_end = offset + len;
    image->n_extents++;
    if (data) {
        image->data_bytes += len;
        memcpy(image->bytes + offset, data, len);
    } else {
        memset(image->bytes + offset, 0, len);
    }
    memset(image->touched + offset / BLOCK, 1, (offset + len + BLOCK - 1) / BLOCK - offset / BLOCK);
    if (image->cancel_at_first)
        g_cancellable_cancel(image->cancel_at_first);
    if (image->fail_after && image->n_extents >= image->fail_after)
        return at_error(error, AT_ERROR_NO_SPACE, "the consumer is full");
    return true;
}

static bool ignore(uint64_t offset, uint64_t len, const void *data, void *user, GError **error)
{
    (void)offset, (void)data, (void)error;
    *(uint64_t *)user += len;
    return true;
}

static void fill_base(uint8_t *base)
{
    for (size_t i = 0; i < SIZE; i++)
        base[i] = (uint8_t)(0x80 | (i / BLOCK % 127));
}

static void create_overlay(const char *path, const char *options, const char *size)
{
    const char *argv[] = {"qemu-img", "create", "-q", "-f", "qcow2",
                          "-o",       options,  path, size, NULL};
    g_assert_cmpint(at_test_run(argv, WAIT_MS, NULL), ==, 0);
}

/* Opens the overlay above the raw base as a running machine does, and runs the commands. */
static void qemu_io(const char *overlay, const char *base, GPtrArray *commands)
{
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    g_autofree char *disk = g_strdup_printf(
        "json:{\"driver\":\"qcow2\",\"discard\":\"unmap\",\"detect-zeroes\":\"unmap\","
        "\"file\":{\"driver\":\"file\",\"filename\":\"%s\",\"discard\":\"unmap\"},"
        "\"backing\":{\"driver\":\"raw\",\"file\":{\"driver\":\"file\",\"filename\":\"%s\"}}}",
        overlay, base);
    g_ptr_array_add(argv, (char *)"qemu-io");
    for (unsigned i = 0; i < commands->len; i++) {
        g_ptr_array_add(argv, (char *)"-c");
        g_ptr_array_add(argv, g_ptr_array_index(commands, i));
    }
    g_ptr_array_add(argv, disk);
    g_ptr_array_add(argv, NULL);
    g_autofree char *output = NULL;
    int status = at_test_run((const char *const *)argv->pdata, WAIT_MS, &output);
    if (status != 0 || strstr(output, "failed"))
        g_test_message("%s", output);
    g_assert_cmpint(status, ==, 0);
    g_assert_null(strstr(output, "failed"));
}

static void random_overlay(const char *options, unsigned cluster_blocks)
{
    if (!at_test_needs_program("qemu-nbd") || !at_test_needs_program("qemu-io"))
        return;
    const char *dir = at_test_dir();
    const char *overlay = at_test_path(dir, "d0-1.qcow2");
    g_autofree uint8_t *model = g_malloc(SIZE);
    g_autofree uint8_t *written = g_malloc0(BLOCKS);
    fill_base(model);
    g_autoptr(image_t) image = image_new(model);
    const char *base = at_test_file_bytes(dir, "base.raw", model, SIZE);
    create_overlay(overlay, options, "48M");

    g_autoptr(GPtrArray) commands = g_ptr_array_new_with_free_func(g_free);
    for (int i = 0; i < 400; i++) {
        unsigned kind = (unsigned)g_test_rand_int_range(0, 4);
        unsigned blocks = (unsigned)g_test_rand_int_range(1, i % 20 == 0 ? 700 : 20);
        unsigned at = (unsigned)g_test_rand_int_range(0, (int)(BLOCKS - blocks));
        uint8_t value = (uint8_t)g_test_rand_int_range(1, 127);
        const char *what = kind == 0 ? "write -z" : "write -z -u";
        if (kind == 3) { /* a discard must cover whole clusters to have an effect for sure */
            at -= at % cluster_blocks;
            blocks = cluster_blocks;
            what = "discard";
        }
        if (kind == 1 || kind == 2)
            g_ptr_array_add(commands,
                            g_strdup_printf("write -q -P %u %uk %uk", value, at * 4, blocks * 4));
        else
            g_ptr_array_add(commands, g_strdup_printf("%s %uk %uk", what, at * 4, blocks * 4));
        memset(model + (size_t)at * BLOCK, kind == 1 || kind == 2 ? value : 0,
               (size_t)blocks * BLOCK);
        memset(written + at, 1, blocks);
    }
    qemu_io(overlay, base, commands);

    g_autoptr(GError) error = NULL;
    uint64_t size = 0;
    g_assert_true(
        at_test_ok(at_disk_read_overlay(overlay, take, image, NULL, &size, &error), &error));
    g_assert_cmpuint(size, ==, SIZE);
    g_assert_cmpint(memcmp(image->bytes, model, SIZE), ==, 0);
    for (unsigned i = 0; i < BLOCKS; i++) { /* nothing of the base comes along */
        if (!image->touched[i])
            continue;
        unsigned start = i - i % cluster_blocks;
        g_assert_nonnull(memchr(written + start, 1, cluster_blocks));
    }
}

static void test_extended(void)
{
    random_overlay("extended_l2=on,cluster_size=128k", 32);
}

static void test_plain(void)
{
    random_overlay("cluster_size=64k", 16);
}

static void test_exact(void)
{
    if (!at_test_needs_program("qemu-nbd") || !at_test_needs_program("qemu-io"))
        return;
    const char *dir = at_test_dir();
    const char *overlay = at_test_path(dir, "d0-1.qcow2");
    g_autofree uint8_t *zeros = g_malloc0(SIZE);
    g_autoptr(image_t) image = image_new(zeros);
    const char *base = at_test_file_bytes(dir, "base.raw", zeros, SIZE);
    create_overlay(overlay, "extended_l2=on,cluster_size=128k", "48M");
    g_autoptr(GPtrArray) commands = g_ptr_array_new();
    g_ptr_array_add(commands, (char *)"write -q -P 7 12k 4k");
    g_ptr_array_add(commands, (char *)"write -z 20k 8k");
    qemu_io(overlay, base, commands);
    g_autoptr(GError) error = NULL;
    g_assert_true(
        at_test_ok(at_disk_read_overlay(overlay, take, image, NULL, NULL, &error), &error));
    for (unsigned i = 0; i < BLOCKS; i++)
        g_assert_cmpint(image->touched[i], ==, i == 3 || i == 5 || i == 6);
    g_assert_cmpuint(image->data_bytes, ==, BLOCK);
}

static void test_held(void)
{
    if (!at_test_needs_program("qemu-nbd") || !at_test_needs_program("qemu-storage-daemon"))
        return;
    const char *dir = at_test_dir();
    const char *overlay = at_test_path(dir, "d0-1.qcow2");
    create_overlay(overlay, "extended_l2=on,cluster_size=128k", "48M");
    g_autofree char *file = g_strdup_printf("driver=file,node-name=f,filename=%s", overlay);
    const char *socket = at_test_path(dir, "nbd");
    g_autofree char *server = g_strdup_printf("addr.type=unix,addr.path=%s", socket);
    const char *argv[] = {"qemu-storage-daemon",
                          "--blockdev",
                          file,
                          "--blockdev",
                          "driver=qcow2,node-name=q,file=f",
                          "--nbd-server",
                          server,
                          "--export",
                          "type=nbd,id=e,node-name=q,name=q,writable=on",
                          NULL};
    at_test_spawn(argv, NULL);
    g_assert_true(at_test_until(access(socket, F_OK) == 0, 10000));
    uint64_t total = 0;
    g_autoptr(GError) error = NULL;
    g_assert_true(
        at_test_ok(at_disk_read_overlay(overlay, ignore, &total, NULL, NULL, &error), &error));
    g_assert_cmpuint(total, ==, 0);
}

static void test_tebibyte(void)
{
    if (!at_test_needs_program("qemu-nbd") || !at_test_needs_program("qemu-io"))
        return;
    const char *dir = at_test_dir();
    const char *overlay = at_test_path(dir, "d0-1.qcow2");
    const char *base = at_test_file(dir, "base.raw", "");
    g_assert_cmpint(truncate(base, 1ll << 40), ==, 0);
    create_overlay(overlay, "extended_l2=on,cluster_size=128k", "1T");
    g_autoptr(GPtrArray) commands = g_ptr_array_new();
    g_ptr_array_add(commands, (char *)"write -q -P 7 0 4k");
    g_ptr_array_add(commands, (char *)"write -q -P 7 500G 64k");
    g_ptr_array_add(commands, (char *)"write -q -P 7 1048575M 1M");
    qemu_io(overlay, base, commands);
    uint64_t total = 0, size = 0;
    g_autoptr(GError) error = NULL;
    gint64 start = g_get_monotonic_time();
    g_assert_true(
        at_test_ok(at_disk_read_overlay(overlay, ignore, &total, NULL, &size, &error), &error));
    g_test_message("1 TiB overlay: %.0f ms", (double)(g_get_monotonic_time() - start) / 1000);
    g_assert_cmpuint(size, ==, 1ull << 40);
    g_assert_cmpuint(total, ==, BLOCK + 65536 + MIB);
}

static void test_image(void)
{
    if (!at_test_needs_program("qemu-nbd"))
        return;
    static const char *const formats[] = {"raw", "qcow2", "vmdk", "vhdx", "vdi"};
    const char *dir = at_test_dir();
    g_autofree uint8_t *content = g_malloc0(SIZE);
    fill_base(content);
    memset(content + 5 * MIB, 0, 20 * MIB);
    g_autofree uint8_t *rubbish = g_malloc(SIZE);
    memset(rubbish, 0xee, SIZE);
    const char *raw = at_test_file_bytes(dir, "content.raw", content, SIZE);
    for (size_t i = 0; i < G_N_ELEMENTS(formats); i++) {
        g_autofree char *name = g_strdup_printf("a, \"b\" %%41 c=d.%s", formats[i]);
        const char *path = at_test_path(dir, name);
        const char *argv[] = {"qemu-img", "convert",  "-q", "-f", "raw",
                              "-O",       formats[i], raw,  path, NULL};
        g_assert_cmpint(at_test_run(argv, WAIT_MS, NULL), ==, 0);
        g_autoptr(image_t) image = image_new(rubbish);
        g_autoptr(GError) error = NULL;
        uint64_t size = 0;
        g_assert_true(at_test_ok(
            at_disk_read_image(path, formats[i], take, image, NULL, &size, &error), &error));
        g_assert_cmpuint(size, ==, SIZE);
        g_assert_cmpint(memcmp(image->bytes, content, SIZE), ==, 0);
        if (strcmp(formats[i], "vhdx") != 0) /* its driver does not tell holes from data */
            g_assert_cmpuint(image->data_bytes, <=, SIZE - 19 * MIB);
    }
}

static void expect_refused(const char *path, const char *format, int code, const char *text)
{
    uint64_t total = 0;
    g_autoptr(GError) error = NULL;
    g_assert_false(at_disk_read_image(path, format, ignore, &total, NULL, NULL, &error));
    g_assert_error(error, AT_ERROR, code);
    g_assert_nonnull(strstr(error->message, text));
    g_assert_cmpuint(total, ==, 0);
}

static void test_references(void)
{
    if (!at_test_needs_program("qemu-nbd"))
        return;
    const char *dir = at_test_dir();
    const char *secret = at_test_file(dir, "secret.raw", "");
    g_assert_cmpint(truncate(secret, MIB), ==, 0);
    const char *backed = at_test_path(dir, "backed.qcow2");
    const char *argv1[] = {"qemu-img", "create", "-q",  "-f",   "qcow2", "-b",
                           secret,     "-F",     "raw", backed, NULL};
    g_assert_cmpint(at_test_run(argv1, WAIT_MS, NULL), ==, 0);
    expect_refused(backed, "qcow2", AT_ERROR_INVALID, "backing file");

    const char *flat = at_test_path(dir, "flat.vmdk");
    const char *argv2[] = {
        "qemu-img", "create", "-q", "-f", "vmdk", "-o", "subformat=monolithicFlat",
        flat,       "1M",     NULL};
    g_assert_cmpint(at_test_run(argv2, WAIT_MS, NULL), ==, 0);
    g_autoptr(GError) error = NULL;
    uint64_t total = 0;
    g_assert_false(at_disk_read_image(flat, "vmdk", ignore, &total, NULL, NULL, &error));
    g_assert_cmpuint(total, ==, 0);

    const char *external = at_test_path(dir, "external.qcow2");
    g_autofree char *data = g_strdup_printf("data_file=%s/data.raw", dir);
    const char *argv3[] = {"qemu-img", "create", "-q",     "-f", "qcow2",
                           "-o",       data,     external, "1M", NULL};
    g_assert_cmpint(at_test_run(argv3, WAIT_MS, NULL), ==, 0);
    g_clear_error(&error);
    g_assert_false(at_disk_read_image(external, "qcow2", ignore, &total, NULL, NULL, &error));
    g_assert_cmpuint(total, ==, 0);
}

static void test_rubbish(void)
{
    if (!at_test_needs_program("qemu-nbd"))
        return;
    const char *dir = at_test_dir();
    const char *path = at_test_file(dir, "x.qcow2", "this is no disk at all");
    expect_refused(path, "qcow2", AT_ERROR_IO, "not in qcow2 format");
    expect_refused(at_test_path(dir, "missing"), "raw", AT_ERROR_NOT_FOUND, "missing");
    expect_refused(dir, "raw", AT_ERROR_INVALID, "not a regular file");
    uint64_t total = 0;
    g_autoptr(GError) error = NULL;
    g_assert_false(at_disk_read_overlay(path, ignore, &total, NULL, NULL, &error));
    g_assert_nonnull(strstr(error->message, "qcow2"));
}

static void test_private(void)
{
    if (!at_test_needs_root() || !at_test_needs_program("qemu-nbd"))
        return;
    const char *dir = at_test_dir();
    const char *path = at_test_path(dir, "d0-1.qcow2");
    create_overlay(path, "extended_l2=on,cluster_size=128k", "48M");
    uint64_t total = 0;
    g_autoptr(GError) error = NULL;
    static const uid_t owners[] = {0, 70001};
    for (size_t i = 0; i < G_N_ELEMENTS(owners); i++) {
        g_assert_cmpint(chown(path, owners[i], owners[i]), ==, 0);
        g_assert_cmpint(chmod(path, 0600), ==, 0);
        g_assert_cmpint(chmod(dir, 0700), ==, 0);
        g_assert_true(
            at_test_ok(at_disk_read_overlay(path, ignore, &total, NULL, NULL, &error), &error));
    }
}

static void test_consumer(void)
{
    if (!at_test_needs_program("qemu-nbd"))
        return;
    const char *dir = at_test_dir();
    g_autofree uint8_t *content = g_malloc(SIZE);
    fill_base(content);
    const char *path = at_test_file_bytes(dir, "a.raw", content, SIZE);
    g_autoptr(image_t) full = image_new(content);
    full->fail_after = 3;
    g_autoptr(GError) error = NULL;
    g_assert_false(at_disk_read_image(path, "raw", take, full, NULL, NULL, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_NO_SPACE);
    g_assert_cmpuint(full->n_extents, ==, 3);

    g_clear_error(&error);
    g_autoptr(GCancellable) cancellable = g_cancellable_new();
    g_autoptr(image_t) cancelled = image_new(content);
    cancelled->cancel_at_first = cancellable;
    g_assert_false(at_disk_read_image(path, "raw", take, cancelled, cancellable, NULL, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_CANCELLED);
    g_assert_cmpuint(cancelled->n_extents, ==, 1);
}

/* Pids of the processes whose parent is us; 0 when there is none. */
static pid_t first_child(void)
{
    g_autofree char *path = g_strdup_printf("/proc/self/task/%d/children", (int)getpid());
    g_autofree char *text = NULL;
    return g_file_get_contents(path, &text, NULL, NULL) ? atoi(text) : 0;
}

static bool kill_server(uint64_t offset, uint64_t len, const void *data, void *user, GError **error)
{
    (void)offset, (void)len, (void)data, (void)error;
    if ((*(unsigned *)user)++ == 0)
        kill(first_child(), SIGKILL);
    return true;
}

static void test_server_dies(void)
{
    if (!at_test_needs_program("qemu-nbd"))
        return;
    const char *dir = at_test_dir();
    g_autofree uint8_t *content = g_malloc(SIZE);
    fill_base(content);
    const char *path = at_test_file_bytes(dir, "a.raw", content, SIZE);
    g_autoptr(GError) error = NULL;
    unsigned n = 0;
    g_assert_cmpint(first_child(), ==, 0);
    g_assert_false(at_disk_read_image(path, "raw", kill_server, &n, NULL, NULL, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_IO);
    g_assert_cmpint(first_child(), ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qemu/disk-reader/gives-back-a-random-overlay-with-subclusters",
                    test_extended);
    g_test_add_func("/qemu/disk-reader/gives-back-a-random-overlay-with-plain-clusters",
                    test_plain);
    g_test_add_func("/qemu/disk-reader/tells-written-zeros-from-what-was-never-written",
                    test_exact);
    g_test_add_func("/qemu/disk-reader/reads-an-overlay-that-qemu-holds-locked", test_held);
    g_test_add_func("/qemu/disk-reader/reads-a-tebibyte-with-three-extents", test_tebibyte);
    g_test_add_func("/qemu/disk-reader/reads-every-foreign-format-and-any-file-name", test_image);
    g_test_add_func("/qemu/disk-reader/refuses-images-that-refer-to-other-files", test_references);
    g_test_add_func("/qemu/disk-reader/refuses-rubbish-with-the-reason", test_rubbish);
    g_test_add_func("/qemu/disk-reader/reads-private-files-of-other-users", test_private);
    g_test_add_func("/qemu/disk-reader/stops-when-the-consumer-fails-or-cancels", test_consumer);
    g_test_add_func("/qemu/disk-reader/reports-a-server-that-dies", test_server_dies);
    return g_test_run();
}
