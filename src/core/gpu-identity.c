/* SPDX-License-Identifier: Apache-2.0 */
/* Which record is a card's. Cards are known by what is lasting of them: NVML's UUID, else the
 * number that their driver calls them by (amdgpu), else the PCIe Device Serial Number. The
 * strongest that both sides have decides; where they have none in common, or a number of which
 * there are two, the address does. */
#include "core/gpu-identity.h"

#include <string.h>

enum { SUFFIX_MAX = 1000 };
enum same { NOT_KNOWN, SAME, OTHER };

static bool is_uuid(const char *id)
{
    return g_str_has_prefix(id, "GPU-");
}

static bool counts(const char *number)
{
    return number && !g_str_equal(number, AT_GPU_NUMBER_SHARED);
}

static enum same compare_numbers(const char *a, const char *b)
{
    if (!counts(a) || !counts(b))
        return NOT_KNOWN;
    return g_str_equal(a, b) ? SAME : OTHER;
}

static enum same compare(const at_gpu_rec *rec, const struct at_gpu_card *card)
{
    if (is_uuid(rec->id) && is_uuid(card->id))
        return g_str_equal(rec->id, card->id) ? SAME : OTHER;
    if (rec->vendor != card->vendor || rec->device != card->device)
        return OTHER;
    enum same by_driver = compare_numbers(rec->unique_id, card->unique_id);
    return by_driver != NOT_KNOWN ? by_driver : compare_numbers(rec->pci_serial, card->pci_serial);
}

/* The one of its name first, then one that was there at the last scan. */
static unsigned worth(const at_gpu_rec *rec, const struct at_gpu_card *card)
{
    return (g_str_equal(rec->id, card->id) ? 2u : 0u) + (rec->present ? 1u : 0u);
}

/* The best record that nobody has yet of those that compare as @wanted; NULL: none. */
static at_gpu_rec *best(const GPtrArray *recs, const struct at_gpu_card *card, enum same wanted,
                        const char *node, GHashTable *taken)
{
    at_gpu_rec *found = NULL;
    for (unsigned i = 0; i < recs->len; i++) {
        at_gpu_rec *rec = recs->pdata[i];
        bool here = g_str_equal(rec->address, card->address) && g_str_equal(rec->node, node);
        if (g_hash_table_contains(taken, rec) || compare(rec, card) != wanted ||
            (wanted != SAME && !here))
            continue;
        if (!found || worth(rec, card) > worth(found, card))
            found = rec;
    }
    return found;
}

/* Addresses count only when all numbers have been looked at: a card that another one's slot is
 * known for must not have its record when that other one is found elsewhere. */
GHashTable *at_gpu_identify(const GPtrArray *recs, const GPtrArray *cards, const char *node)
{
    static const enum same rounds[] = {SAME, NOT_KNOWN};
    GHashTable *found = g_hash_table_new(NULL, NULL);
    g_autoptr(GHashTable) taken = g_hash_table_new(NULL, NULL);
    for (unsigned r = 0; r < G_N_ELEMENTS(rounds); r++) {
        for (unsigned i = 0; i < cards->len; i++) {
            struct at_gpu_card *card = cards->pdata[i];
            at_gpu_rec *rec = g_hash_table_contains(found, card)
                                  ? NULL
                                  : best(recs, card, rounds[r], node, taken);
            if (!rec)
                continue;
            g_hash_table_insert(found, card, rec);
            g_hash_table_add(taken, rec);
        }
    }
    return found;
}

static bool learn_number(char **known, const char *now)
{
    if (!now || g_strcmp0(*known, AT_GPU_NUMBER_SHARED) == 0 || g_strcmp0(*known, now) == 0)
        return false;
    g_free(*known);
    *known = g_strdup(now);
    return true;
}

bool at_gpu_learn_identity(at_gpu_rec *rec, const struct at_gpu_card *card)
{
    bool unique = learn_number(&rec->unique_id, card->unique_id);
    return learn_number(&rec->pci_serial, card->pci_serial) || unique;
}

/* ---- names ---- */

/* An address in it is no name of the card's own. */
static unsigned rank(const char *id)
{
    return is_uuid(id) ? 2 : strchr(id, ':') ? 0 : 1;
}

bool at_gpu_id_is_better(const char *id, const char *than)
{
    return rank(id) > rank(than);
}

char *at_gpu_id_choose(const struct at_gpu_card *card, GHashTable *used)
{
    if (at_gpu_id_valid(card->id) && !g_hash_table_contains(used, card->id))
        return g_strdup(card->id);
    g_autofree char *place =
        g_strdup_printf("PCI-%04x-%04x-%s", card->vendor, card->device, card->address);
    if (!g_hash_table_contains(used, place))
        return g_steal_pointer(&place);
    for (unsigned n = 2; n < SUFFIX_MAX; n++) {
        g_autofree char *id = g_strdup_printf("%s-%u", place, n);
        if (!g_hash_table_contains(used, id))
            return g_steal_pointer(&id);
    }
    return g_steal_pointer(&place); /* the commit is refused, and says so */
}
