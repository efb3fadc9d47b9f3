/* SPDX-License-Identifier: Apache-2.0 */
/* Good and bad image files, made by qemu-img, and what the probe says of them. */
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/atomic-file.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/process.h"
#include "image/image.h"

enum { MIB = 1 << 20 };

struct fixture {
    char *dir;
};

static void setup(struct fixture *f, gconstpointer data)
{
    f->dir = g_dir_make_tmp("atoll-probe-XXXXXX", NULL);
}

static void teardown(struct fixture *f, gconstpointer data)
{
    g_assert_true(at_remove_tree(f->dir, NULL));
    g_free(f->dir);
}

static char *in(struct fixture *f, const char *name)
{
    return g_build_filename(f->dir, name, NULL);
}

static void put(const char *path, const void *data, size_t len)
{
    g_assert_true(g_file_set_contents(path, data, (gssize)len, NULL));
}

static void shell(struct fixture *f, const char *script)
{
    g_autofree char *full = g_strdup_printf("cd %s && %s", f->dir, script);
    const char *argv[] = {"sh", "-ec", full, NULL};
    g_autoptr(GError) error = NULL;
    at_run(argv, NULL, 60000, NULL, NULL, &error);
    g_assert_no_error(error);
}

static void expect_good(struct fixture *f, const char *name, const char *format, uint64_t size)
{
    g_autofree char *path = in(f, name);
    struct at_image_info info;
    g_autoptr(GError) error = NULL;
    at_image_probe(path, NULL, &info, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(info.format, ==, format);
    g_assert_cmpuint(info.size, ==, size);
}

static void expect_bad(struct fixture *f, const char *name, const char *reason)
{
    g_autofree char *path = in(f, name);
    struct at_image_info info;
    g_autoptr(GError) error = NULL;
    if (at_image_probe(path, NULL, &info, &error))
        g_error("%s passed as %s", name, info.format);
    g_test_message("%s", error->message);
    g_assert_error(error, AT_ERROR, AT_ERROR_INVALID);
    if (!strstr(error->message, reason))
        g_error("%s: \"%s\" does not say \"%s\"", name, error->message, reason);
}

static void test_good(struct fixture *f, gconstpointer data)
{
    shell(f,
          "head -c 3M /dev/urandom >base.raw; truncate -s 8M base.raw;"
          "for i in qcow2 vmdk vhdx vdi vpc; do qemu-img convert -f raw -O $i base.raw good.$i;"
          "done;"
          "qemu-img convert -c -f raw -O qcow2 base.raw compressed.qcow2;"
          "qemu-img convert -f raw -O qcow2 -o extended_l2=on,cluster_size=128k base.raw e.qcow2;"
          "qemu-img convert -f raw -O vmdk -o subformat=streamOptimized base.raw stream.vmdk;"
          "qemu-img convert -f raw -O vpc -o subformat=fixed,force_size base.raw fixed.vpc;"
          "qemu-img create -q -f qcow2 empty.qcow2 1T");
    expect_good(f, "base.raw", "raw", 8 * MIB);
    expect_good(f, "good.qcow2", "qcow2", 8 * MIB);
    expect_good(f, "compressed.qcow2", "qcow2", 8 * MIB);
    expect_good(f, "e.qcow2", "qcow2", 8 * MIB);
    expect_good(f, "good.vmdk", "vmdk", 8 * MIB);
    expect_good(f, "stream.vmdk", "vmdk", 8 * MIB);
    expect_good(f, "good.vhdx", "vhdx", 8 * MIB);
    expect_good(f, "good.vdi", "vdi", 8 * MIB);
    expect_good(f, "fixed.vpc", "vpc", 8 * MIB);
    expect_good(f, "empty.qcow2", "qcow2", UINT64_C(1) << 40);
}

/* There is nothing in it to look at, and starting a program costs more than a small import. */
static void test_raw(struct fixture *f, gconstpointer data)
{
    shell(f, "head -c 1M /dev/urandom >large.raw; truncate -s 2T large.raw");
    struct rusage before, after;
    struct at_image_info info;
    g_autofree char *path = in(f, "large.raw");
    g_autoptr(GError) error = NULL;
    getrusage(RUSAGE_CHILDREN, &before);
    at_image_probe(path, NULL, &info, &error);
    getrusage(RUSAGE_CHILDREN, &after);
    g_assert_no_error(error);
    g_assert_cmpuint(info.size, ==, UINT64_C(2) << 40);
    g_assert_cmpuint(info.disk_use, >=, MIB);
    g_assert_cmpuint(info.disk_use, <, 64 * MIB);
    g_assert_cmpint(after.ru_minflt, ==, before.ru_minflt); /* of children that have ended */
}

/* qemu-img runs with less than our rights, and still reads what only the owner of a file may. */
static void test_private(struct fixture *f, gconstpointer data)
{
    shell(f, "qemu-img create -q -f qcow2 mine.qcow2 8M; chmod 600 mine.qcow2;"
             "cp mine.qcow2 theirs.qcow2; chmod 400 theirs.qcow2");
    expect_good(f, "mine.qcow2", "qcow2", 8 * MIB);
    g_autofree char *path = in(f, "theirs.qcow2");
    if (chown(path, 12345, 12345) == 0)
        expect_good(f, "theirs.qcow2", "qcow2", 8 * MIB);
}

static void test_references(struct fixture *f, gconstpointer data)
{
    shell(f, "truncate -s 1M base.raw;"
             "qemu-img create -q -f qcow2 -b base.raw -F raw backed.qcow2;"
             "qemu-img create -q -f qcow2 -u -b /etc/shadow -F raw shadow.qcow2 1M;"
             "qemu-img create -q -f qcow2 -o data_file=outside.raw,data_file_raw=on data.qcow2 1M;"
             "qemu-img create -q -f vmdk -o subformat=monolithicFlat flat.vmdk 1M;"
             "qemu-img create -q -f vmdk base.vmdk 1M;"
             "qemu-img create -q -f vmdk -b base.vmdk -F vmdk child.vmdk;"
             "qemu-img create -q -f qcow2 luks.qcow2 1M;" /* method 2 in its header: LUKS */
             "printf '\\000\\000\\000\\002' | "
             "dd of=luks.qcow2 bs=1 seek=32 conv=notrunc status=none");
    expect_bad(f, "backed.qcow2", "backing file \"base.raw\"");
    expect_bad(f, "shadow.qcow2", "backing file \"/etc/shadow\"");
    expect_bad(f, "data.qcow2", "another file");
    expect_bad(f, "flat.vmdk", "flat-flat.vmdk");
    expect_bad(f, "child.vmdk", "parent");
    expect_bad(f, "luks.qcow2", "encrypted");
}

static void test_truncated(struct fixture *f, gconstpointer data)
{
    shell(f, "head -c 4M /dev/urandom >base.raw;"
             "for i in qcow2 vmdk vhdx vdi; do qemu-img convert -f raw -O $i base.raw cut.$i;"
             "truncate -s -1M cut.$i; done;"
             "head -c 100 /dev/urandom >odd.raw; qemu-img convert -f raw -O vpc base.raw cut.vpc;"
             "truncate -s -512 cut.vpc;"
             "qemu-img convert -f raw -O qcow2 base.raw head.qcow2; truncate -s 512 head.qcow2");
    expect_bad(f, "cut.qcow2", "");
    expect_bad(f, "cut.vmdk", "");
    expect_bad(f, "cut.vhdx", "");
    expect_bad(f, "cut.vdi", "truncated");
    expect_bad(f, "cut.vpc", "truncated");
    expect_bad(f, "head.qcow2", "");
    expect_bad(f, "odd.raw", "whole sectors");
}

static void test_not_images(struct fixture *f, gconstpointer data)
{
    shell(f, "truncate -s 1M zero; gzip -k zero; : >empty; mkdir dir;"
             "printf 'hello, this is no disk\\n%.0s' $(seq 1 64) >text;"
             "tar cf archive.ova text; cp /bin/true program; mkfifo pipe");
    expect_bad(f, "zero.gz", "gzip");
    expect_bad(f, "empty", "empty");
    expect_bad(f, "dir", "directory");
    expect_bad(f, "text", "text");
    expect_bad(f, "archive.ova", "tar archive");
    expect_bad(f, "program", "a program");
    expect_bad(f, "pipe", "special file");
    g_autofree char *path = in(f, "missing");
    struct at_image_info info;
    g_autoptr(GError) error = NULL;
    g_assert_false(at_image_probe(path, NULL, &info, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_NOT_FOUND);
}

/* A raw disk whose first sector a guest wrote must stay raw only by what it says itself: a header
 * that asks for other files is refused, it is not followed. */
static void test_hostile_headers(struct fixture *f, gconstpointer data)
{
    static const char descriptor[] = "# Disk DescriptorFile\nversion=1\ncreateType=\"vmfs\"\n"
                                     "RW 2048 FLAT \"/etc/shadow\" 0\n";
    g_autofree char *text = in(f, "descriptor.vmdk");
    put(text, descriptor, sizeof descriptor);
    expect_bad(f, "descriptor.vmdk", "/etc/shadow");

    g_autofree uint8_t *sparse = g_malloc0(MIB);
    memcpy(sparse, "KDMV", 4);
    sparse[4] = 1;
    sparse[28] = 1; /* descriptor at sector 1, capacity 0: extents would be followed */
    sparse[36] = 2;
    memcpy(sparse + 512, descriptor, sizeof descriptor);
    g_autofree char *embedded = in(f, "embedded.vmdk");
    put(embedded, sparse, MIB);
    expect_bad(f, "embedded.vmdk", "/etc/shadow");

    shell(f, "qemu-img create -q -f qcow2 huge.qcow2 1M;"
             "printf '\\177\\377\\377\\377\\377\\377\\376\\000' | "
             "dd of=huge.qcow2 bs=1 seek=24 conv=notrunc status=none;"
             "qemu-img create -q -f qcow2 l1.qcow2 64M;" /* L1 table far outside of the file */
             "printf '\\000\\177\\377\\377\\377\\377\\000\\000' | "
             "dd of=l1.qcow2 bs=1 seek=40 conv=notrunc status=none");
    expect_bad(f, "huge.qcow2", "");
    expect_bad(f, "l1.qcow2", "");
}

/* The name of a feature that QEMU does not know comes out of the file into the error. */
static void test_hostile_names(struct fixture *f, gconstpointer data)
{
    static const char name[] = "\033[2J\xff\xc2\x9b\xe2\x82";
    shell(f, "qemu-img create -q -f qcow2 names.qcow2 1M");
    g_autofree char *path = in(f, "names.qcow2");
    g_autofree char *bytes = NULL;
    gsize len;
    g_assert_true(g_file_get_contents(path, &bytes, &len, NULL));
    char *dirty = memmem(bytes, len, "dirty bit", strlen("dirty bit"));
    g_assert_nonnull(dirty);
    dirty[-1] = 40; /* the number of the incompatible feature that has this name */
    memcpy(dirty, name, sizeof name);
    bytes[72 + 2] = 1; /* which the file needs */
    put(path, bytes, len);
    struct at_image_info info;
    g_autoptr(GError) error = NULL;
    g_assert_false(at_image_probe(path, NULL, &info, &error));
    g_test_message("%s", error->message);
    g_assert_error(error, AT_ERROR, AT_ERROR_INVALID);
    g_assert_nonnull(strstr(error->message, "Unsupported qcow2 feature"));
    g_assert_true(g_utf8_validate(error->message, -1, NULL));
    for (const char *p = error->message; *p; p = g_utf8_next_char(p))
        g_assert_false(g_unichar_iscntrl(g_utf8_get_char(p)));
}

static void test_mutations(struct fixture *f, gconstpointer data)
{
    shell(f,
          "head -c 256K /dev/urandom >base.raw; truncate -s 1M base.raw;"
          "for i in qcow2 vmdk vhdx vdi; do qemu-img convert -f raw -O $i base.raw seed.$i; done");
    const char *const names[] = {"seed.qcow2", "seed.vmdk", "seed.vhdx", "seed.vdi"};
    g_autofree char *mutated = in(f, "mutated");
    unsigned refused = 0;
    for (unsigned i = 0; i < 24; i++) {
        g_autofree char *from = in(f, names[i % 4]);
        g_autofree char *bytes = NULL;
        gsize len;
        g_assert_true(g_file_get_contents(from, &bytes, &len, NULL));
        for (int n = 0; n < 4; n++)
            bytes[g_test_rand_int_range(0, (gint32)MIN(len, 4096))] =
                (char)g_test_rand_int_range(0, 256);
        put(mutated, bytes, len);
        struct at_image_info info;
        g_autoptr(GError) error = NULL;
        if (at_image_probe(mutated, NULL, &info, &error)) {
            g_assert_cmpuint(info.size, <=, UINT64_C(1) << 50);
        } else {
            g_assert_error(error, AT_ERROR, AT_ERROR_INVALID);
            refused++;
        }
    }
    g_test_message("%u of 24 refused", refused);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_autofree char *program = at_find_program("qemu-img", NULL, NULL);
    if (!program) {
        g_print("1..0 # SKIP qemu-img is not installed\n");
        return 0;
    }
#define ADD(name, func) g_test_add(name, struct fixture, NULL, setup, func, teardown)
    ADD("/image/probe/knows-every-format-that-can-be-imported", test_good);
    ADD("/image/probe/asks-no-other-program-about-a-raw-disk", test_raw);
    ADD("/image/probe/reads-what-only-its-owner-may", test_private);
    ADD("/image/probe/refuses-what-needs-another-file-and-names-it", test_references);
    ADD("/image/probe/refuses-truncated-files", test_truncated);
    ADD("/image/probe/refuses-what-is-not-a-disk-and-says-what-it-is", test_not_images);
    ADD("/image/probe/does-not-follow-hostile-headers", test_hostile_headers);
    ADD("/image/probe/tells-hostile-names-as-plain-text", test_hostile_names);
    ADD("/image/probe/survives-mutated-headers", test_mutations);
    return g_test_run();
}
