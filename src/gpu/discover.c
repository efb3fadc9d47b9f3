/* SPDX-License-Identifier: Apache-2.0 */
/* Finding the GPUs of this host. */
#include "gpu/discover.h"

#include <errno.h>

#include "base/error.h"
#include "gpu/attribute.h"
#include "gpu/card-internal.h"
#include "gpu/function.h"

static int compare_addresses(const void *a, const void *b)
{
    return at_pci_address_compare(*(char *const *)a, *(char *const *)b);
}

/* A host without PCI has <sys>/bus all the same, and no cards. */
static GPtrArray *list_functions(const struct at_gpu_paths *paths, GError **error)
{
    g_autofree char *dir = at_pci_function_dir(paths, NULL);
    GPtrArray *names = at_gpu_attr_list(dir, AT_GPU_FUNCTIONS_MAX, at_pci_address_valid);
    int err = errno;
    if (!names && err == ENOENT && !at_gpu_attr_exists(paths->sys, "bus/pci") &&
        at_gpu_attr_exists(paths->sys, "bus"))
        return g_ptr_array_new_with_free_func(g_free);
    if (names)
        g_ptr_array_sort(names, compare_addresses);
    else
        at_error(error, AT_ERROR_IO, "cannot look for GPUs in %s: %s", dir, g_strerror(err));
    return names;
}

static GPtrArray *find_cards(const struct at_gpu_paths *paths, const GPtrArray *functions)
{
    GPtrArray *cards = g_ptr_array_new_with_free_func((GDestroyNotify)at_gpu_card_free);
    g_autoptr(at_pci_names_auto) names = at_pci_names_open(NULL);
    for (unsigned i = 0; i < functions->len; i++) {
        const char *address = functions->pdata[i];
        g_autofree char *dir = at_pci_function_dir(paths, address);
        uint32_t class;
        if (!at_pci_function_class(dir, &class) || !at_pci_class_is_gpu(class) ||
            at_pci_function_is_vf(dir))
            continue;
        struct at_gpu_card *card = at_gpu_card_new(address);
        at_gpu_card_read_pci(card, paths, names);
        g_ptr_array_add(cards, card);
    }
    return cards;
}

/* Asks NVIDIA's library of its cards, or says why it was not asked or has not answered. */
static void ask_library(struct at_gpu_card *card, struct at_nvml *nvml, const char *why)
{
    g_autoptr(GError) error = NULL;
    if (card->vendor != AT_GPU_VENDOR_NVIDIA)
        return;
    if (card->health.lost) {
        card->unknown = g_strdup("the card does not answer");
    } else if (!card->driver) {
        card->unknown = g_strdup("no driver is bound: NVIDIA's driver is not asked");
    } else if (!g_str_equal(card->driver, "nvidia")) {
        card->unknown = g_strdup_printf("bound to %s: NVIDIA's driver is not asked", card->driver);
    } else if (!nvml) {
        card->unknown = g_strdup(why ? why : "NVIDIA's library is not open");
    } else if (!at_nvml_fill(nvml, card, &error)) {
        card->unknown = g_strdup(error ? error->message : "NVIDIA's library gave no reason");
    }
}

/* Also for cards that its driver does not have at present: it is what they go back to. */
static void read_versions(struct at_gpu_card *card, struct at_nvml *nvml, const char *why)
{
    g_autoptr(GError) error = NULL;
    if (card->vendor != AT_GPU_VENDOR_NVIDIA)
        return;
    if (!nvml) {
        card->version_unknown = g_strdup(why ? why : "NVIDIA's library is not open");
    } else if (!at_nvml_answers(nvml, &error)) {
        card->version_unknown = g_strdup(error->message);
    } else {
        card->driver_version = g_strdup(at_nvml_driver_version(nvml));
        card->cuda_version = g_strdup(at_nvml_cuda_version(nvml));
        if (!card->driver_version || !card->cuda_version)
            card->version_unknown = g_strdup("NVIDIA's library does not tell it");
    }
}

static void name_processes(struct at_gpu_card *card, const struct at_gpu_paths *paths)
{
    for (unsigned i = 0; i < card->processes->len; i++) {
        struct at_gpu_process *process = card->processes->pdata[i];
        if (!process->name)
            process->name = at_gpu_process_name(paths->proc, process->pid);
    }
}

GPtrArray *at_gpu_discover(const struct at_gpu_paths *paths, struct at_nvml *nvml, const char *why,
                           GError **error)
{
    g_autoptr(GPtrArray) functions = list_functions(paths, error);
    if (!functions)
        return NULL;
    GPtrArray *cards = find_cards(paths, functions);
    at_gpu_mdevs_read(paths, cards);
    for (unsigned i = 0; i < cards->len; i++) {
        struct at_gpu_card *card = cards->pdata[i];
        ask_library(card, nvml, why);
        at_gpu_card_read_driver(card, paths);
        read_versions(card, nvml, why);
        name_processes(card, paths);
        g_autofree char *left_out = at_gpu_card_read_vgpu(card, paths);
        at_gpu_card_add_profiles(card);
        at_gpu_card_judge(card, left_out);
    }
    at_gpu_cards_name(cards);
    return cards;
}
