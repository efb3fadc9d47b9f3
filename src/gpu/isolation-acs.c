/* SPDX-License-Identifier: Apache-2.0 */
/* ACS (Access Control Services) of the bridges above a card: what makes a bridge send everything up
 * to the IOMMU in place of passing it on to a neighbour. The kernel's groups follow from it, unless
 * the kernel was told to believe in it where it is not. */
#include <stdlib.h>
#include <string.h>

#include "gpu/attribute.h"
#include "gpu/function.h"
#include "gpu/isolation-test.h"
#include "gpu/text-list.h"

enum {
    CONFIG_LEGACY = 0x100, /* all that a conventional bridge has */
    CONFIG_SIZE = 4096,
    CAPABILITIES = 0x34,
    CAPABILITY_EXPRESS = 0x10,
    PORT_ROOT = 4, /* kinds of ports, as the PCI Express capability numbers them */
    PORT_UPSTREAM = 5,
    PORT_DOWNSTREAM = 6,
    EXTENDED_ACS = 0x000d,
    /* Source validation, request and completion redirect, upstream forwarding: what the kernel asks
     * for (REQ_ACS_FLAGS in its drivers/iommu/iommu.c). */
    ACS_WANTED = 0x001d,
};

enum acs { ACS_UNKNOWN, ACS_ON, ACS_OFF, ACS_NONE };

static unsigned word(const uint8_t *config, size_t at)
{
    return config[at] | (unsigned)config[at + 1] << 8;
}

/* The kind of port of a PCI Express function; -1: it is of conventional PCI. */
static int port_of(const uint8_t *config)
{
    size_t at = config[CAPABILITIES] & 0xfc;
    for (unsigned n = 0; n < CONFIG_LEGACY / 4 && at >= 0x40; n++) {
        if (config[at] == CAPABILITY_EXPRESS)
            return (int)(word(config, at + 2) >> 4 & 0xf);
        at = config[at + 1] & 0xfc;
    }
    return -1;
}

/* As pci_acs_enabled() of the kernel has it: what a port cannot do, it need not do. The port of a
 * switch towards the host has nothing to keep apart. */
static enum acs acs_of(const char *dir)
{
    uint8_t config[CONFIG_SIZE] = {0};
    size_t len = at_gpu_attr_bytes(dir, "config", config, sizeof config);
    if (len < CONFIG_LEGACY)
        return ACS_UNKNOWN;
    int port = port_of(config);
    if (port == PORT_UPSTREAM)
        return ACS_ON;
    if (port != PORT_ROOT && port != PORT_DOWNSTREAM)
        return ACS_NONE;
    if (len < CONFIG_SIZE)
        return ACS_UNKNOWN;
    size_t at = at_pci_config_extended(config, EXTENDED_ACS);
    if (at == 0)
        return ACS_NONE;
    unsigned wanted = ACS_WANTED & word(config, at + 4);
    return (word(config, at + 6) & wanted) == wanted ? ACS_ON : ACS_OFF;
}

/* Lists by what became of them. */
struct bridges {
    GString *unknown, *lacking;
    unsigned n;
};

static void add_bridge(struct bridges *out, const struct at_gpu_paths *paths, const char *address)
{
    g_autofree char *dir = at_pci_function_dir(paths, address);
    enum acs acs = acs_of(dir);
    out->n++;
    if (acs == ACS_UNKNOWN)
        at_gpu_list_add(out->unknown, "%s", address);
    else if (acs != ACS_ON)
        at_gpu_list_add(out->lacking, "%s %s", address,
                        acs == ACS_NONE ? "has no ACS" : "has ACS, but not switched on");
}

/* The way to a card stands in the name of its directory: each bridge is in the one above it. */
static void walk(struct bridges *out, const struct at_gpu_paths *paths, const char *address)
{
    g_autofree char *dir = at_pci_function_dir(paths, address);
    char *real = realpath(dir, NULL);
    g_auto(GStrv) part = g_strsplit(real ? real : "", "/", -1);
    for (unsigned i = 0; part[i]; i++) {
        if (at_pci_address_valid(part[i]) && !g_str_equal(part[i], address))
            add_bridge(out, paths, part[i]);
    }
    free(real);
}

/* The word of the kernel's command line that switches its judgement off; NULL: none. */
static char *override_of(const char *cmdline)
{
    g_auto(GStrv) words = g_strsplit_set(cmdline, " \t\n", -1);
    for (unsigned i = 0; words[i]; i++) {
        if (g_str_has_prefix(words[i], "pcie_acs_override="))
            return g_strdup(words[i]);
    }
    return NULL;
}

static char *bridges_text(const struct bridges *b)
{
    if (b->lacking->len)
        return g_strdup_printf("%s: the groups of the kernel alone say what is kept apart, and "
                               "what is plugged in below would share the card's",
                               b->lacking->str);
    if (b->unknown->len)
        return g_strdup_printf("the configuration space of %s cannot be read", b->unknown->str);
    if (b->n == 0)
        return g_strdup("there is no bridge above the card");
    return g_strdup_printf("%u bridge%s above the card, ACS switched on", b->n,
                           b->n == 1 ? "" : "s");
}

void at_gpu_check_acs(GPtrArray *checks, const struct at_gpu_host *host,
                      const struct at_gpu_card *card)
{
    g_autoptr(GString) unknown = g_string_new(NULL), lacking = g_string_new(NULL);
    struct bridges bridges = {unknown, lacking, 0};
    g_autofree char *cmdline = at_gpu_attr_text(host->paths.proc, "cmdline");
    g_autofree char *override = cmdline ? override_of(cmdline) : NULL;
    walk(&bridges, &host->paths, card->address);
    g_autofree char *text = bridges_text(&bridges);
    if (override)
        at_gpu_check_add(checks, "acs", AT_GPU_FAILED,
                         g_strdup_printf("the kernel was booted with %s: groups look apart that "
                                         "are not; take it off the command line (%s)",
                                         override, text));
    else if (!cmdline)
        at_gpu_check_add(checks, "acs", AT_GPU_NOT_TESTED,
                         g_strdup_printf("the kernel's command line cannot be read; %s", text));
    else
        at_gpu_check_add(checks, "acs",
                         lacking->len || unknown->len ? AT_GPU_NOT_TESTED : AT_GPU_PASSED,
                         g_steal_pointer(&text));
}
