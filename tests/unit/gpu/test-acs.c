/* SPDX-License-Identifier: Apache-2.0 */
/* What the isolation test says of the bridges above a card, and of a kernel that was told to take
 * them for better than they are. */
#include <glib/gstdio.h>
#include <string.h>

#include "gpu/isolation-test.h"
#include "lib/at-test.h"
#include "library-double.h"

#define CARD "0000:41:00.0"

enum { ROOT = 4, UPSTREAM = 5, DOWNSTREAM = 6, TO_PCI = 7, CONVENTIONAL = 0 };

struct bridge {
    const char *address;
    unsigned port;
    size_t len;       /* of its configuration space that can be read */
    bool has;         /* the capability ACS, behind another one */
    unsigned can, on; /* its bits */
};

static void put(uint8_t *config, size_t at, uint32_t value)
{
    value = GUINT32_TO_LE(value);
    memcpy(config + at, &value, sizeof value);
}

static void add_bridge(struct gpu_tree *tree, const struct bridge *b)
{
    uint8_t config[4096] = {0x86, 0x80};
    g_autofree char *relative = g_build_filename("sys/bus/pci/devices", b->address, "config", NULL);
    gpu_tree_function(tree, b->address, 0x8086, 0x1901, 0x060400, 1, "pcieport");
    config[0x34] = b->port == CONVENTIONAL ? 0 : 0x40;
    put(config, 0x40, 0x5001);                        /* power management, then */
    put(config, 0x50, 0x0010u | b->port << (16 + 4)); /* PCI Express */
    put(config, 0x100, 0x10000001u | (b->has ? 0x148u << 20 : 0));
    if (b->has) {
        put(config, 0x148, 0x0001000d);
        put(config, 0x14c, b->can | b->on << 16);
    }
    gpu_tree_write_bytes(tree, relative, config, b->len);
}

/* Moves the card's directory below those of the bridges, as sysfs has it. */
static void put_below(struct gpu_tree *tree, const struct bridge *bridges)
{
    g_autofree char *link = g_build_filename("sys/bus/pci/devices", CARD, NULL);
    g_autofree char *link_path = gpu_tree_path(tree, link);
    g_autofree char *link_dir = g_path_get_dirname(link_path);
    g_autofree char *points_to = g_file_read_link(link_path, NULL);
    g_autofree char *real = g_canonicalize_filename(points_to, link_dir);
    g_autoptr(GString) below = g_string_new("sys/devices/pci0000:40");
    for (unsigned i = 0; bridges[i].address; i++)
        g_string_append_printf(below, "/%s", bridges[i].address);
    g_autofree char *dir = gpu_tree_path(tree, below->str);
    g_autofree char *target = g_build_filename(dir, CARD, NULL);
    g_assert_cmpint(g_mkdir_with_parents(dir, 0755), ==, 0);
    g_assert_cmpint(g_rename(real, target), ==, 0);
    gpu_tree_remove(tree, link);
    gpu_tree_link(tree, link, target);
}

static char *acs_of(struct gpu_tree *tree)
{
    struct at_gpu_host host = {
        .paths = {gpu_tree_sys(tree), gpu_tree_dev(tree), gpu_tree_proc(tree)}};
    struct at_gpu_card *card = at_gpu_card_new(CARD);
    g_autoptr(GPtrArray) checks = at_gpu_checks_new();
    at_gpu_check_acs(checks, &host, card);
    at_gpu_card_free(card);
    g_assert_cmpuint(checks->len, ==, 1);
    const struct at_gpu_check *check = checks->pdata[0];
    g_assert_cmpstr(check->name, ==, "acs");
    return g_strdup_printf("%s: %s", at_gpu_verdict_name(check->verdict), check->detail);
}

struct row {
    const char *name, *cmdline;
    struct bridge bridges[4];
    const char *says[3];
};

#define GOOD(address, port)                                                                        \
    {                                                                                              \
        address, port, 4096, true, 0x1f, 0x1d                                                      \
    }
static const struct row rows[] = {
    {"on-at-each-bridge",
     "quiet intel_iommu=on\n",
     {GOOD("0000:40:01.0", ROOT), GOOD("0000:42:02.0", DOWNSTREAM)},
     {"passed: 2 bridges above the card"}},
    {"what-a-port-cannot-it-need-not",
     "quiet\n",
     {{"0000:40:01.0", ROOT, 4096, true, 0x0f, 0x0d}},
     {"passed: 1 bridge above"}},
    {"the-switch-towards-the-host-needs-none",
     "quiet\n",
     {GOOD("0000:40:01.0", ROOT), {"0000:42:00.0", UPSTREAM, 4096, false, 0, 0}},
     {"passed: 2 bridges"}},
    {"no-bridge", "quiet\n", {{0}}, {"passed: there is no bridge"}},
    {"an-override-fails-whatever-the-bridges-say",
     "quiet pcie_acs_override=downstream,multifunction x\n",
     {GOOD("0000:40:01.0", ROOT)},
     {"failed: ", "pcie_acs_override=downstream,multifunction:", "ACS switched on"}},
    {"a-word-that-ends-so-is-none",
     "nopcie_acs_override=downstream\n",
     {GOOD("0000:40:01.0", ROOT)},
     {"passed: "}},
    {"a-port-without",
     "quiet\n",
     {GOOD("0000:40:01.0", ROOT), {"0000:42:02.0", DOWNSTREAM, 4096, false, 0, 0}},
     {"not tested: 0000:42:02.0 has no ACS: "}},
    {"a-port-that-has-it-off",
     "quiet\n",
     {{"0000:40:01.0", ROOT, 4096, true, 0x1f, 0x01}},
     {"not tested: 0000:40:01.0 has ACS, but not switched on"}},
    {"a-bridge-to-conventional-pci",
     "quiet\n",
     {GOOD("0000:40:01.0", ROOT), {"0000:42:00.0", TO_PCI, 4096, true, 0x1f, 0x1f}},
     {"not tested: 0000:42:00.0 has no ACS"}},
    {"a-conventional-bridge",
     "quiet\n",
     {{"0000:40:1e.0", CONVENTIONAL, 256, false, 0, 0}},
     {"not tested: 0000:40:1e.0 has no ACS"}},
    {"what-only-root-may-read",
     "quiet\n",
     {{"0000:40:01.0", ROOT, 64, true, 0x1f, 0x1d}},
     {"not tested: the configuration space of 0000:40:01.0 cannot be read"}},
    {"what-is-cut-off",
     "quiet\n",
     {{"0000:40:01.0", ROOT, 256, true, 0x1f, 0x1d}},
     {"not tested: the configuration space of 0000:40:01.0"}},
    {"no-command-line",
     NULL,
     {GOOD("0000:40:01.0", ROOT)},
     {"not tested: the kernel's command line cannot be read", "ACS switched on"}},
};

static void test_row(const void *data)
{
    const struct row *r = data;
    struct gpu_tree *tree = gpu_tree_new();
    gpu_tree_add(tree, "l40s", CARD, NULL);
    for (unsigned i = 0; r->bridges[i].address; i++)
        add_bridge(tree, &r->bridges[i]);
    put_below(tree, r->bridges);
    if (r->cmdline)
        gpu_tree_write(tree, "proc/cmdline", r->cmdline);
    g_autofree char *said = acs_of(tree);
    for (unsigned i = 0; i < G_N_ELEMENTS(r->says) && r->says[i]; i++)
        library_assert_says(said, r->says[i]);
}

/* Capabilities that lead into a circle, or out of what is there. */
static void test_circle(void)
{
    static const struct bridge bridges[] = {GOOD("0000:40:01.0", ROOT), {0}};
    struct gpu_tree *tree = gpu_tree_new();
    uint8_t config[4096];
    gpu_tree_add(tree, "l40s", CARD, NULL);
    add_bridge(tree, &bridges[0]);
    put_below(tree, bridges);
    gpu_tree_write(tree, "proc/cmdline", "quiet\n");
    for (unsigned fill = 0; fill < 256; fill++) {
        memset(config, (int)fill, sizeof config);
        gpu_tree_write_bytes(tree, "sys/bus/pci/devices/0000:40:01.0/config", config,
                             sizeof config);
        g_autofree char *said = acs_of(tree);
        g_assert_nonnull(said);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *name = g_strdup_printf("/gpu/acs/%s", rows[i].name);
        g_test_add_data_func(name, &rows[i], test_row);
    }
    g_test_add_func("/gpu/acs/survives-any-configuration-space", test_circle);
    return g_test_run();
}
