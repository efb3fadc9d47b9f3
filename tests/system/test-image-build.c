/* SPDX-License-Identifier: Apache-2.0 */
/* Builds a Debian image from the network, boots it with a seed, and waits until cloud-init says
 * that it has done what the seed asked. Needs a configured Debian mirror and some minutes without
 * KVM. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/atomic-file.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/process.h"
#include "image/image.h"

enum { BOOT_TIMEOUT_MS = 400 * 1000 };
#define OVMF "/usr/share/OVMF/OVMF_"

static char *dir;
static char *image;

static void on_progress(double percent, const char *what, void *user)
{
    double *last = user;
    g_assert_cmpfloat(percent, >=, *last);
    g_assert_cmpfloat(percent, <=, 100);
    *last = percent;
    g_test_message("%3.0f %% %s", percent, what);
}

static void test_build(void)
{
    const char *include[] = {"openssh-server", NULL};
    g_autofree char *cache = g_build_filename(dir, "cache", NULL);
    struct at_image_build build = {
        .suite = "bookworm", .include = include, .cache_dir = cache, .tmp_dir = dir};
    double last = 0;
    g_autoptr(GError) error = NULL;
    at_image_build_debian(&build, image, on_progress, &last, NULL, &error);
    g_assert_no_error(error);
    g_assert_cmpfloat(last, ==, 100);
    struct stat st;
    g_assert_cmpint(stat(image, &st), ==, 0);
    g_assert_cmpint(st.st_size, ==, (goffset)4 << 30);
    g_assert_cmpint(st.st_blocks * 512, <, (goffset)1 << 30);
    struct at_image_info info;
    at_image_probe(image, NULL, &info, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(info.format, ==, "raw");
}

struct canceller {
    GCancellable *cancellable;
};

static void cancel_in_install(double percent, const char *what, void *user)
{
    struct canceller *c = user;
    if (percent >= 30)
        g_cancellable_cancel(c->cancellable);
}

static unsigned count_entries(const char *path)
{
    g_autoptr(GDir) d = g_dir_open(path, 0, NULL);
    unsigned n = 0;
    while (d && g_dir_read_name(d))
        n++;
    return n;
}

static void test_cancel(void)
{
    g_autofree char *tmp = g_build_filename(dir, "cancelled", NULL);
    g_autofree char *out = g_build_filename(tmp, "out.raw", NULL);
    g_autofree char *cache = g_build_filename(dir, "cache", NULL);
    g_assert_true(at_mkdirs(tmp, 0755, NULL));
    struct canceller c = {g_cancellable_new()};
    struct at_image_build build = {.suite = "bookworm", .cache_dir = cache, .tmp_dir = tmp};
    g_autoptr(GError) error = NULL;
    g_assert_false(
        at_image_build_debian(&build, out, cancel_in_install, &c, c.cancellable, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_CANCELLED);
    g_assert_cmpuint(count_entries(tmp), ==, 0);
    g_autofree char *mounts = NULL;
    g_assert_true(g_file_get_contents("/proc/self/mounts", &mounts, NULL, NULL));
    g_assert_null(strstr(mounts, tmp));
    g_object_unref(c.cancellable);
}

/* Waits for @text in the console log; true with the time it took. */
static bool wait_for(const char *log, const char *text, const struct at_process *qemu)
{
    int64_t deadline = at_deadline_ms(BOOT_TIMEOUT_MS);
    while (at_deadline_left_ms(deadline) > 0) {
        g_autofree char *console = NULL;
        if (g_file_get_contents(log, &console, NULL, NULL) && strstr(console, text))
            return true;
        if (!at_process_alive(qemu))
            return false;
        g_usleep(100000);
    }
    return false;
}

/* Code and variables of OVMF, as it looks for a system when nothing was set up. */
static void add_firmware(GPtrArray *argv)
{
    g_autofree char *vars = g_build_filename(dir, "vars.fd", NULL);
    const char *const copy[] = {"cp", OVMF "VARS_4M.fd", vars, NULL};
    g_assert_true(at_run(copy, NULL, 30000, NULL, NULL, NULL));
    g_ptr_array_add(argv, g_strdup("-drive"));
    g_ptr_array_add(argv, g_strdup("if=pflash,format=raw,readonly=on,file=" OVMF "CODE_4M.fd"));
    g_ptr_array_add(argv, g_strdup("-drive"));
    g_ptr_array_add(argv, g_strdup_printf("if=pflash,format=raw,file=%s", vars));
}

static void boot(bool uefi)
{
    g_autofree char *seed_path = g_build_filename(dir, uefi ? "seed-u.iso" : "seed.iso", NULL);
    g_autofree char *log = g_build_filename(dir, uefi ? "uefi.log" : "bios.log", NULL);
    g_autofree char *overlay = g_build_filename(dir, uefi ? "uefi.qcow2" : "bios.qcow2", NULL);
    struct at_seed seed = {.instance_id = "i-1",
                           .hostname = "boots",
                           .user_data = "#cloud-config\nruncmd:\n"
                                        " - 'echo said $(hostname) $(df -BG --output=size / | "
                                        "tail -1) $(ls /etc/ssh/*_key | wc -l) "
                                        "$([ -d /sys/firmware/efi ] && echo uefi || echo bios) "
                                        ">/dev/console'\n"};
    g_autoptr(GError) error = NULL;
    at_seed_write(&seed, seed_path, &error);
    g_assert_no_error(error);
    const char *create[] = {"qemu-img", "create", "-q",  "-f",    "qcow2", "-b",
                            image,      "-F",     "raw", overlay, "6G",    NULL};
    g_assert_true(at_run(create, NULL, 30000, NULL, NULL, NULL));
    g_autofree char *disk = g_strdup_printf("if=virtio,format=qcow2,cache=unsafe,file=%s", overlay);
    g_autofree char *cd = g_strdup_printf("if=virtio,format=raw,readonly=on,file=%s", seed_path);
    g_autofree char *serial = g_strdup_printf("file:%s", log);
    g_autofree char *program = at_find_program("qemu-system-x86_64", NULL, NULL);
    const char *argv[] = {program,   "-accel",
                          "tcg",     "-machine",
                          "q35",     "-cpu",
                          "max",     "-m",
                          "512",     "-display",
                          "none",    "-nodefaults",
                          "-drive",  disk,
                          "-drive",  cd,
                          "-netdev", "user,id=n",
                          "-device", "virtio-net-pci,netdev=n,romfile=",
                          "-device", "virtio-rng-pci",
                          "-serial", serial,
                          NULL};
    g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func(g_free);
    for (unsigned i = 0; argv[i]; i++)
        g_ptr_array_add(all, g_strdup(argv[i]));
    if (uefi)
        add_firmware(all);
    g_ptr_array_add(all, NULL);
    struct at_spawn spawn = {.argv = (const char *const *)all->pdata};
    struct at_process qemu;
    int64_t start = at_clock_us();
    at_spawn(&spawn, &qemu, &error);
    g_assert_no_error(error);
    bool said = wait_for(log, "said boots 6G ", &qemu);
    bool done = said && wait_for(log, uefi ? " uefi" : " bios", &qemu) &&
                (uefi || wait_for(log, "finished at", &qemu));
    g_test_message("cloud-init was done after %.1f s", (double)(at_clock_us() - start) / 1e6);
    g_assert_true(at_process_stop(&qemu, 0, NULL));
    if (!done) {
        g_autofree char *console = NULL;
        g_file_get_contents(log, &console, NULL, NULL);
        g_test_message("console: %s", console ? console : "(nothing)");
    }
    g_assert_true(said);
    g_assert_true(done);
}

static void test_bios(void)
{
    if (access(image, R_OK) != 0)
        g_test_skip("no image was built");
    else
        boot(false);
}

static void test_uefi(void)
{
    if (access(image, R_OK) != 0)
        g_test_skip("no image was built");
    else if (access(OVMF "CODE_4M.fd", R_OK) != 0)
        g_test_skip("OVMF is not installed");
    else
        boot(true);
}

static bool has_mirror(void)
{
    const char *argv[] = {"sh", "-c",
                          "u=$(apt-get indextargets --format '$(ORIGIN) $(RELEASE) $(REPO_URI)' | "
                          "awk '$1 == \"Debian\" && $2 == \"bookworm\" {print $3; exit}'); "
                          "d=$(mktemp -d); trap 'rm -rf $d' EXIT; [ \"$u\" ] && "
                          "/usr/lib/apt/apt-helper -o Acquire::Retries=0 download-file "
                          "\"${u}dists/bookworm/Release\" $d/Release",
                          NULL};
    return at_run(argv, NULL, 60000, NULL, NULL, NULL);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_auto(GStrv) missing = at_image_requirements();
    const char *why = NULL;
    if (missing[0])
        why = missing[0];
    else if (getuid() != 0)
        why = "needs root";
    else if (!has_mirror())
        why = "no Debian mirror answers";
    if (why) {
        g_print("1..0 # SKIP %s\n", why);
        return 0;
    }
    dir = g_dir_make_tmp("atoll-build-XXXXXX", NULL);
    g_assert_cmpint(chmod(dir, 0755), ==, 0);
    image = g_build_filename(dir, "debian.raw", NULL);
    g_test_add_func("/image/build/makes-a-sparse-disk-from-packages", test_build);
    g_test_add_func("/image/build/boots-by-bios-and-does-what-the-seed-says", test_bios);
    g_test_add_func("/image/build/boots-by-uefi-where-nothing-was-set-up", test_uefi);
    g_test_add_func("/image/build/leaves-nothing-behind-when-cancelled", test_cancel);
    int rc = g_test_run();
    at_remove_tree(dir, NULL);
    return rc;
}
