/* SPDX-License-Identifier: Apache-2.0 */
/* Words for refusals: requests, cards, lists that end in time. */
#include <string.h>

#include "gpu/placement-internal.h"
#include "gpu/text-list.h"

char *at_gpu_text_clip(const char *text, size_t most)
{
    size_t len = strlen(text);
    if (len <= most)
        return g_strdup(text);
    len = most - 3;
    while (len && (text[len] & 0xc0) == 0x80)
        len--; /* not in the middle of a character */
    return g_strdup_printf("%.*s...", (int)len, text);
}

char *at_gpu_text_request(const struct at_gpu_request *request)
{
    GString *text = g_string_new(NULL);
    if (request->count > 1)
        g_string_append_printf(text, "%u x ", request->count);
    if (request->profile)
        g_string_append(text, request->profile);
    else
        g_string_append(text, request->count > 1 ? "GPU" : "a GPU");
    if (request->model)
        g_string_append_printf(text, " of %s", request->model);
    if (request->memory)
        g_string_append_printf(text, " with %" G_GUINT64_FORMAT " GiB",
                               at_gpu_gib(request->memory));
    if (request->isolation != AT_GPU_ANY)
        g_string_append_printf(text, "%s isolation %s", request->memory ? " and" : " with",
                               at_gpu_isolation_name(request->isolation));
    g_autofree char *whole = g_string_free(text, FALSE);
    return at_gpu_text_clip(whole, 100);
}

char *at_gpu_text_card(const struct at_gpu_card *card, const char *node)
{
    g_autofree char *model = at_gpu_text_clip(at_gpu_card_model(card), 40);
    return g_strdup_printf("GPU %s (%s) on node %s", card->address, model, node);
}

char *at_gpu_text_list(const GPtrArray *names, unsigned most)
{
    GString *text = g_string_new(NULL);
    for (unsigned i = 0; i < names->len && i < most; i++) {
        g_autofree char *name = at_gpu_text_clip(names->pdata[i], 60);
        at_gpu_list_add(text, "%s", name);
    }
    at_gpu_list_more(text, names->len > most ? names->len - most : 0);
    return g_string_free(text, FALSE);
}
