/* SPDX-License-Identifier: Apache-2.0 */
/* NVIDIA's library as far as discovery calls it. */
#include "library-double.h"

#include <string.h>

#include "base/error.h"

bool at_nvml_fill(struct at_nvml *nvml, struct at_gpu_card *card, GError **error)
{
    nvml->asked++;
    if (!nvml->fill)
        return at_error(error, AT_ERROR_NOT_FOUND, "the library does not see %s", card->address);
    return nvml->fill(card, error);
}

bool at_nvml_answers(struct at_nvml *nvml, GError **error)
{
    return !nvml->silent || at_error(error, AT_ERROR_UNAVAILABLE, "%s", nvml->silent);
}

const char *at_nvml_driver_version(const struct at_nvml *nvml)
{
    return nvml->driver;
}

const char *at_nvml_cuda_version(const struct at_nvml *nvml)
{
    return nvml->cuda;
}

GPtrArray *library_discover(struct gpu_tree *tree, struct at_nvml *nvml)
{
    struct at_gpu_paths paths = {gpu_tree_sys(tree), gpu_tree_dev(tree), gpu_tree_proc(tree)};
    g_autoptr(GError) error = NULL;
    GPtrArray *cards = at_gpu_discover(&paths, nvml, "the library is not installed", &error);
    g_assert_no_error(error);
    g_assert_nonnull(cards);
    return cards;
}

const struct at_gpu_card *library_card_with(struct gpu_tree *tree, struct at_nvml *nvml)
{
    GPtrArray *cards = library_discover(tree, nvml);
    g_test_queue_destroy((GDestroyNotify)g_ptr_array_unref, cards);
    g_assert_cmpuint(cards->len, ==, 1);
    return cards->pdata[0];
}

const struct at_gpu_card *library_card(struct gpu_tree *tree)
{
    return library_card_with(tree, NULL);
}

void library_assert_says(const char *text, const char *part)
{
    if (!text || !strstr(text, part))
        g_error("expected \"%s\" in: %s", part, text ? text : "(nothing)");
}
