/* SPDX-License-Identifier: Apache-2.0 */
/* The isolation test: group, ACS, interrupts, reset, device nodes, what the card can be cut into.
 */
#include "gpu/isolation-test.h"

#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "gpu/attribute.h"
#include "gpu/function.h"
#include "gpu/text-list.h"

const char *at_gpu_verdict_name(enum at_gpu_verdict verdict)
{
    static const char *const names[] = {"passed", "failed", "not tested"};
    return names[verdict];
}

static void check_free(void *p)
{
    struct at_gpu_check *check = p;
    g_free(check->detail);
    g_free(check);
}

GPtrArray *at_gpu_checks_new(void)
{
    return g_ptr_array_new_with_free_func(check_free);
}

void at_gpu_check_add(GPtrArray *checks, const char *name, enum at_gpu_verdict verdict,
                      char *detail)
{
    struct at_gpu_check *check = g_new(struct at_gpu_check, 1);
    *check = (struct at_gpu_check){name, verdict, detail};
    g_ptr_array_add(checks, check);
}

/* The kernel puts into one group what can reach each other behind the IOMMU's back: where a bridge
 * lacks ACS, everything below it. */
static void check_group(GPtrArray *checks, const struct at_gpu_card *card)
{
    g_autoptr(GString) others = g_string_new(NULL);
    if (card->iommu_group < 0) {
        at_gpu_check_add(
            checks, "iommu group", AT_GPU_FAILED,
            g_strdup("there is no IOMMU: the card can write into any memory of this host"));
        return;
    }
    for (unsigned i = 0; i < card->neighbours->len; i++) {
        const struct at_gpu_neighbour *n = card->neighbours->pdata[i];
        if (!n->bridge && !n->same_card)
            at_gpu_list_add(others, "%s (%s)", n->address, n->name ? n->name : "unknown");
    }
    if (others->len)
        at_gpu_check_add(
            checks, "iommu group", AT_GPU_FAILED,
            g_strdup_printf("group %d also has %s: a bridge above has no ACS, so that they reach "
                            "each other past the IOMMU",
                            card->iommu_group, others->str));
    else
        at_gpu_check_add(checks, "iommu group", AT_GPU_PASSED,
                         g_strdup_printf("group %d has nothing but this card", card->iommu_group));
}

/* Without remapping of interrupts a guest can send any of the host's. */
static void check_interrupts(GPtrArray *checks, const struct at_gpu_host *host)
{
    g_autofree char *text = at_gpu_attr_line(
        host->paths.sys, "module/vfio_iommu_type1/parameters/allow_unsafe_interrupts");
    if (!text)
        at_gpu_check_add(checks, "interrupt remapping", AT_GPU_NOT_TESTED,
                         g_strdup("the module vfio_iommu_type1 is not loaded"));
    else if (text[0] == 'Y')
        at_gpu_check_add(
            checks, "interrupt remapping", AT_GPU_FAILED,
            g_strdup("vfio_iommu_type1.allow_unsafe_interrupts is on: guests can raise any "
                     "interrupt of this host"));
    else
        at_gpu_check_add(checks, "interrupt remapping", AT_GPU_PASSED,
                         g_strdup("VFIO refuses devices without it"));
}

/* Why it is not tried now, or NULL. */
static char *reset_not_tried(const struct at_gpu_host *host, const struct at_gpu_card *card,
                             bool held)
{
    g_autofree char *opener = at_gpu_opened_by(&host->paths, card->address, NULL);
    if (opener)
        return g_strdup_printf("not tried, because it is open in %s", opener);
    if (held || card->processes->len)
        return g_strdup("not tried, because it is in use");
    if (card->driver && strcmp(card->driver, "vfio-pci") != 0)
        return g_strdup_printf("not tried under the driver %s", card->driver);
    return NULL;
}

static void try_reset(GPtrArray *checks, const struct at_gpu_host *host,
                      const struct at_gpu_card *card, const char *methods)
{
    g_autoptr(GError) error = NULL;
    bool bus;
    if (at_gpu_reset(host, card->address, &bus, &error))
        at_gpu_check_add(
            checks, "reset", AT_GPU_PASSED,
            bus ? g_strdup("reset with all on its bus (VFIO's hot reset) and read back")
                : g_strdup_printf("reset by %s and read back", methods));
    else if (g_error_matches(error, AT_ERROR, AT_ERROR_CONFLICT)) /* somebody is in the way now */
        at_gpu_check_add(checks, "reset", AT_GPU_NOT_TESTED, g_strdup(error->message));
    else
        at_gpu_check_add(checks, "reset", AT_GPU_FAILED, g_strdup(error->message));
}

static void check_reset(GPtrArray *checks, const struct at_gpu_host *host,
                        const struct at_gpu_card *card, bool held)
{
    g_autofree char *methods =
        card->reset_methods ? g_strjoinv(" ", card->reset_methods) : g_strdup("");
    g_autofree char *why = reset_not_tried(host, card, held);
    if (!*methods)
        at_gpu_check_add(
            checks, "reset", AT_GPU_FAILED,
            g_strdup("it cannot be reset: what one holder leaves in it, the next one finds"));
    else if (why)
        at_gpu_check_add(checks, "reset", AT_GPU_NOT_TESTED,
                         g_strdup_printf("by %s; %s", methods, why));
    else
        try_reset(checks, host, card, methods);
}

static void check_node(GString *open_nodes, unsigned *seen, const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return;
    (*seen)++;
    if (st.st_mode & S_IRWXO)
        at_gpu_list_add(open_nodes, "%s (mode %04o)", path, (unsigned)(st.st_mode & 07777));
}

/* Of the group, and of the device itself where the kernel has such nodes. */
static void check_function(GString *wide, unsigned *seen, const struct at_gpu_host *host,
                           const char *address, int group)
{
    g_autofree char *node = g_strdup_printf("%s/vfio/%d", host->paths.dev, group);
    g_autofree char *dir = at_pci_function_dir(&host->paths, address);
    g_autofree char *known = g_build_filename(dir, "vfio-dev", NULL);
    g_autoptr(GPtrArray) names = at_gpu_attr_list(known, 1, NULL);
    if (group >= 0)
        check_node(wide, seen, node);
    if (names && names->len > 0) {
        g_autofree char *cdev =
            g_build_filename(host->paths.dev, "vfio", "devices", names->pdata[0], NULL);
        check_node(wide, seen, cdev);
    }
}

/* Everybody who may open a node of VFIO drives the card. */
static void check_nodes(GPtrArray *checks, const struct at_gpu_host *host,
                        const struct at_gpu_card *card)
{
    g_autoptr(GString) wide = g_string_new(NULL);
    unsigned seen = 0;
    check_function(wide, &seen, host, card->address, card->iommu_group);
    for (unsigned i = 0; i < card->vfs->len; i++) {
        const struct at_gpu_vf *vf = card->vfs->pdata[i];
        check_function(wide, &seen, host, vf->address, vf->iommu_group);
    }
    if (wide->len)
        at_gpu_check_add(checks, "device nodes", AT_GPU_FAILED,
                         g_strdup_printf("others may open %s", wide->str));
    else if (seen)
        at_gpu_check_add(checks, "device nodes", AT_GPU_PASSED,
                         g_strdup_printf("%u, closed to others", seen));
    else
        at_gpu_check_add(checks, "device nodes", AT_GPU_NOT_TESTED,
                         g_strdup("it is not with VFIO now: there is no node"));
}

static void check_parts(GPtrArray *checks, const struct at_gpu_card *card)
{
    g_autoptr(GString) text = g_string_new(NULL);
    for (unsigned k = 0; k < AT_GPU_N_KINDS; k++) {
        if (!card->obstacle[k])
            at_gpu_list_add(text, "%s", at_gpu_kind_name((enum at_gpu_kind)k));
    }
    if (text->len)
        at_gpu_check_add(checks, "can be given as", AT_GPU_PASSED, g_strdup(text->str));
    else
        at_gpu_check_add(checks, "can be given as", AT_GPU_FAILED,
                         g_strdup(card->obstacle[AT_GPU_PASSTHROUGH]
                                      ? card->obstacle[AT_GPU_PASSTHROUGH]
                                      : "nothing"));
}

GPtrArray *at_gpu_test_isolation(const struct at_gpu_host *host, const struct at_gpu_card *card,
                                 bool held)
{
    GPtrArray *checks = at_gpu_checks_new();
    check_group(checks, card);
    at_gpu_check_acs(checks, host, card);
    check_interrupts(checks, host);
    check_reset(checks, host, card, held);
    check_nodes(checks, host, card);
    check_parts(checks, card);
    return checks;
}
