/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of QEMU for a workstation: what it says, and what is refused before. */
#include <string.h>

#include "base/error.h"
#include "lib/at-test.h"
#include "machine-config.h"
#include "qemu/machine-internal.h"

static const char root_hex[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

static void test_argv(void)
{
    static const unsigned gens[] = {3, 5};
    const struct at_machine_disk disks[] = {
        {.index = 0, .base_root = root_hex, .gens = gens, .n_gens = 2},
        {.index = 4, .base_root = root_hex, .readonly = true, .serial = "weights"}};
    const struct at_machine_nic nic = {0, "52:54:00:00:00:01", 9};
    struct at_machine_config c = config_in("/s/m/a", disks, 2);
    c.nbd_socket = "/s/nbd.sock";
    c.nics = &nic;
    c.n_nics = 1;
    c.name = "team,with/comma";
    c.seed_path = "/s/m/a/seed.iso";
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) argv = at_machine_argv(&c, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(after(argv, "-name", "guest="), ==, "guest=team,,with/comma,debug-threads=on");
    g_assert_nonnull(after(argv, "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny"));
    g_assert_cmpstr(after(argv, "-netdev", "tap"), ==, "tap,id=net0,fd=9,vhost=off");
    const char *disk = after(argv, "-device", "virtio-blk-pci,id=disk0,");
    g_assert_nonnull(strstr(disk, "drive=d0-5,"));
    g_assert_nonnull(strstr(disk, "bootindex=0"));
    g_assert_nonnull(strstr(disk, "werror=stop,rerror=stop"));
    disk = after(argv, "-device", "virtio-blk-pci,id=disk4,");
    g_assert_nonnull(strstr(disk, "serial=weights"));
    g_assert_null(strstr(disk, "bootindex"));
    g_assert_nonnull(after(argv, "-device", "virtio-blk-pci,id=seed0,"));
    g_assert_cmpstr(after(argv, "-object", "rng"), ==, "rng-random,id=rng0,filename=/dev/urandom");
    g_assert_nonnull(after(argv, "-device", "virtio-rng-pci,rng=rng0,"));
    g_assert_cmpstr(after(argv, "-vnc", ""), ==, "unix:/s/m/a/u/vnc.sock");
}

/* The serial number of a virtio disk has 20 bytes, a name up to 63. */
static void test_long_names(void)
{
    static const struct {
        const char *name, *serial;
    } cases[] = {{"twenty-letters-long0", "serial=twenty-letters-long0,"},
                 {"twenty-one-letters-00", "serial=twenty-one--fd83763e,"},
                 {"twenty-one-letters-01", "serial=twenty-one--15fca1a1,"}};
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct at_machine_disk disk = empty_disk(0);
        struct at_machine_config c = config_in("/s/m/a", &disk, 1);
        g_autoptr(GError) error = NULL;
        disk.serial = cases[i].name;
        g_auto(GStrv) argv = at_machine_argv(&c, &error);
        g_assert_no_error(error);
        const char *device = after(argv, "-device", "virtio-blk-pci,id=disk0,");
        if (!strstr(device, cases[i].serial))
            g_error("%s lacks %s", device, cases[i].serial);
    }
}

static void spoil_accel(struct at_machine_config *c, struct at_machine_disk *d)
{
    c->accel = AT_ACCEL_AUTO;
}

static void spoil_memory(struct at_machine_config *c, struct at_machine_disk *d)
{
    c->memory += 4096;
}

static void spoil_uuid(struct at_machine_config *c, struct at_machine_disk *d)
{
    c->uuid = "1,2";
}

static void spoil_serial(struct at_machine_config *c, struct at_machine_disk *d)
{
    d->serial = "a,drive=x";
}

static void spoil_root(struct at_machine_config *c, struct at_machine_disk *d)
{
    d->base_root = "abc";
}

static void spoil_server(struct at_machine_config *c, struct at_machine_disk *d)
{
    d->base_root = root_hex;
}

static void spoil_gens(struct at_machine_config *c, struct at_machine_disk *d)
{
    d->n_gens = 0;
}

static void spoil_cpus(struct at_machine_config *c, struct at_machine_disk *d)
{
    c->cpus = 0;
}

static void spoil_twice(struct at_machine_config *c, struct at_machine_disk *d)
{
    d[1].index = d[0].index;
}

static void spoil_mac(struct at_machine_config *c, struct at_machine_disk *d)
{
    static const struct at_machine_nic nic = {0, "52:54:00:00:00,x", 9};
    c->nics = &nic;
    c->n_nics = 1;
}

static void test_argv_refuses(void)
{
    static void (*const spoils[])(struct at_machine_config *, struct at_machine_disk *) = {
        spoil_accel,  spoil_memory, spoil_uuid, spoil_serial, spoil_root,
        spoil_server, spoil_gens,   spoil_cpus, spoil_twice,  spoil_mac};
    for (size_t i = 0; i < G_N_ELEMENTS(spoils); i++) {
        struct at_machine_disk disks[] = {empty_disk(0), empty_disk(1)};
        struct at_machine_config c = config_in("/s/m/a", disks, 2);
        g_autoptr(GError) error = NULL;
        spoils[i](&c, disks);
        g_auto(GStrv) argv = at_machine_argv(&c, &error);
        g_assert_error(error, AT_ERROR, AT_ERROR_INVALID);
        g_assert_null(argv);
    }
}

/* Ports after those of the disks, whole slots together, memory near the card and no swapping. */
static void test_gpus(void)
{
    static const char *const card[] = {"0000:41:00.0", "0000:41:00.1", NULL};
    static const char *const vf[] = {"0000:3d:00.4", NULL};
    const struct at_machine_disk disk = empty_disk(0);
    struct at_machine_gpu gpus[] = {
        {.hosts = card, .window = (UINT64_C(128) << 30) + (UINT64_C(32) << 20)},
        {.hosts = vf},
        {.sysfsdev = "/sys/bus/mdev/devices/0a7c1e52-3f44-4d1b-9b4f-27e8a1a3b1aa"}};
    struct at_machine_config c = config_in("/s/m/a", &disk, 1);
    c.gpus = gpus;
    c.n_gpus = G_N_ELEMENTS(gpus);
    c.numa_node = 1;
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) argv = at_machine_argv(&c, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(after(argv, "-device", "vfio-pci,id=gpu0,"), ==,
                    "vfio-pci,id=gpu0,host=0000:41:00.0,bus=pg0,addr=0x0.0x0,multifunction=on");
    g_assert_cmpstr(after(argv, "-device", "vfio-pci,id=gpu0-1,"), ==,
                    "vfio-pci,id=gpu0-1,host=0000:41:00.1,bus=pg0,addr=0x0.0x1");
    g_assert_cmpstr(after(argv, "-device", "vfio-pci,id=gpu1,"), ==,
                    "vfio-pci,id=gpu1,host=0000:3d:00.4,bus=pg1,addr=0x0.0x0");
    g_assert_nonnull(strstr(after(argv, "-device", "vfio-pci,id=gpu2,"), "sysfsdev=/sys/bus/mdev"));
    g_assert_nonnull(after(argv, "-device", "pcie-root-port,id=pg2,bus=pcie.0,addr=0x8.0x2"));
    g_assert_nonnull(after(argv, "-global", "q35-pcihost.pci-hole64-size=512G"));
    g_assert_nonnull(after(argv, "-fw_cfg", "name=opt/ovmf/X-PciMmio64Mb,string=524288"));
    g_assert_nonnull(strstr(after(argv, "-object", "memory-backend-ram,id=ram0"),
                            "host-nodes=1,policy=preferred"));
    c.numa_node = -1;
    gpus[0].window = 16 << 20;
    g_auto(GStrv) small = at_machine_argv(&c, &error);
    g_assert_null(after(small, "-global", "q35-pcihost"));
    g_assert_null(strstr(after(small, "-object", "memory-backend-ram,id=ram0"), "host-nodes"));
}

static unsigned open_files(void)
{
    g_autoptr(GDir) dir = g_dir_open("/proc/self/fd", 0, NULL);
    unsigned n = 0;
    while (g_dir_read_name(dir))
        n++;
    return n;
}

/* One GPU goes as descriptors, if there is a node for each of its functions; no node is left open
 * when one cannot be opened. */
static void test_iommufd(void)
{
    static const char *const card[] = {"0000:41:00.0", "0000:41:00.1", NULL};
    static const char *const cdevs[] = {"/dev/null", "/dev/zero", NULL};
    static const char *const gone[] = {"/dev/null", "/dev/none", NULL};
    const struct at_machine_disk disk = empty_disk(0);
    struct at_machine_gpu gpus[] = {{.hosts = card, .cdevs = cdevs}, {.hosts = card}};
    struct at_machine_config c = config_in("/s/m/a", &disk, 1);
    struct at_iommufd fds;
    g_autoptr(GError) error = NULL;
    c.gpus = gpus;
    c.n_gpus = 1;
    at_machine_iommu_node = "/dev/none";
    g_assert_false(at_machine_can_iommufd(&c, "9.2.0"));
    at_machine_iommu_node = "/dev/null";
    g_assert_true(at_machine_can_iommufd(&c, "9.2.0"));
    g_assert_true(at_machine_can_iommufd(&c, "10.0.2"));
    g_assert_false(at_machine_can_iommufd(&c, "8.2.1"));
    g_assert_false(at_machine_can_iommufd(&c, NULL));
    c.n_gpus = 2;
    g_assert_false(at_machine_can_iommufd(&c, "9.2.0"));
    c.n_gpus = 1;
    c.iommufd = true;
    g_auto(GStrv) argv = at_machine_argv(&c, &error);
    g_assert_no_error(error);
    g_assert_nonnull(after(argv, "-object", "iommufd,id=iommufd0,fd=8"));
    g_assert_cmpstr(after(argv, "-device", "vfio-pci,id=gpu0,"), ==,
                    "vfio-pci,id=gpu0,iommufd=iommufd0,fd=9,bus=pg0,addr=0x0.0x0,multifunction=on");
    g_assert_cmpstr(after(argv, "-device", "vfio-pci,id=gpu0-1,"), ==,
                    "vfio-pci,id=gpu0-1,iommufd=iommufd0,fd=10,bus=pg0,addr=0x0.0x1");
    unsigned before = open_files();
    g_assert_true(at_test_ok(at_iommufd_open(&c, &fds, &error), &error));
    g_assert_cmpuint(fds.n, ==, 2);
    g_assert_cmpuint(open_files(), ==, before + 3);
    at_iommufd_close(&fds);
    gpus[0].cdevs = gone;
    g_assert_false(at_iommufd_open(&c, &fds, &error));
    g_assert_nonnull(strstr(error->message, "/dev/none"));
    g_assert_cmpint(fds.iommu, ==, -1);
    g_assert_cmpuint(open_files(), ==, before);
    gpus[0].cdevs = cdevs + 1;
    g_clear_error(&error);
    g_assert_null(at_machine_argv(&c, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_INVALID);
    at_machine_iommu_node = "/dev/iommu";
}

static void test_bad_gpus(void)
{
    static const char *const bad[] = {"41:00.0,x=y", NULL}, *const none[] = {NULL};
    static const char *const good[] = {"0000:41:00.0", NULL};
    const struct at_machine_gpu cases[] = {
        {.hosts = bad},
        {.hosts = none},
        {.hosts = good, .sysfsdev = "/sys/x"},
        {.sysfsdev = "/sys/x,host=1"},
        {.hosts = good, .window = UINT64_MAX},
    };
    const struct at_machine_disk disk = empty_disk(0);
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        struct at_machine_config c = config_in("/s/m/a", &disk, 1);
        c.gpus = &cases[i];
        c.n_gpus = 1;
        g_assert_null(at_machine_argv(&c, &error));
        g_assert_error(error, AT_ERROR, AT_ERROR_INVALID);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qemu/command-line/gpus-get-ports-a-window-and-memory-near-them", test_gpus);
    g_test_add_func("/qemu/command-line/refuses-gpus-that-mean-nothing", test_bad_gpus);
    g_test_add_func("/qemu/command-line/hands-one-gpu-over-as-descriptors", test_iommufd);
    g_test_add_func("/qemu/command-line/command-line-names-every-part", test_argv);
    g_test_add_func("/qemu/command-line/disk-with-a-long-name-has-a-serial-of-its-own",
                    test_long_names);
    g_test_add_func("/qemu/command-line/wrong-definitions-are-refused-before-anything-starts",
                    test_argv_refuses);
    return g_test_run();
}
