/* SPDX-License-Identifier: Apache-2.0 */
/* What a card is called for good, when NVML gives it no UUID. */
#include "gpu/card-internal.h"

static char *of_serial(const struct at_gpu_card *card)
{
    return card->pci_serial;
}

static char *of_driver(const struct at_gpu_card *card)
{
    return card->unique_id;
}

static bool same_kind(const struct at_gpu_card *a, const struct at_gpu_card *b)
{
    return a->vendor == b->vendor && a->device == b->device;
}

/* How many cards of this kind say so. */
static unsigned times(const GPtrArray *cards, const struct at_gpu_card *card,
                      char *(*get)(const struct at_gpu_card *))
{
    unsigned n = 0;
    for (unsigned i = 0; i < cards->len; i++) {
        const struct at_gpu_card *other = cards->pdata[i];
        n += same_kind(card, other) && g_strcmp0(get(card), get(other)) == 0;
    }
    return n;
}

static char *mark(char *number, bool shared)
{
    if (!number || !shared)
        return number;
    g_free(number);
    return g_strdup(AT_GPU_NUMBER_SHARED);
}

/* Makers that give all boards one number, and boards with several chips: it names none of them. */
static void mark_shared(const GPtrArray *cards)
{
    g_autofree bool *serial = g_new(bool, cards->len);
    g_autofree bool *unique = g_new(bool, cards->len);
    for (unsigned i = 0; i < cards->len; i++) {
        serial[i] = times(cards, cards->pdata[i], of_serial) > 1;
        unique[i] = times(cards, cards->pdata[i], of_driver) > 1;
    }
    for (unsigned i = 0; i < cards->len; i++) {
        struct at_gpu_card *card = cards->pdata[i];
        card->pci_serial = mark(card->pci_serial, serial[i]);
        card->unique_id = mark(card->unique_id, unique[i]);
    }
}

static bool counts(const char *number)
{
    return number && !g_str_equal(number, AT_GPU_NUMBER_SHARED);
}

/* The serial number first: it can be read whatever driver has the card. */
static void name_card(struct at_gpu_card *card)
{
    bool serial = counts(card->pci_serial);
    const char *number = serial                    ? card->pci_serial
                         : counts(card->unique_id) ? card->unique_id
                                                   : card->address;
    g_free(card->id);
    card->id =
        g_strdup_printf("%s-%04x-%04x-%s", !serial && counts(card->unique_id) ? "UID" : "PCI",
                        card->vendor, card->device, number);
}

void at_gpu_cards_name(const GPtrArray *cards)
{
    mark_shared(cards);
    for (unsigned i = 0; i < cards->len; i++) {
        struct at_gpu_card *card = cards->pdata[i];
        if (!card->id)
            name_card(card);
    }
    /* Nothing that should be twice; but then each is a card all the same. */
    for (unsigned i = 0; i < cards->len; i++) {
        struct at_gpu_card *card = cards->pdata[i];
        for (unsigned k = 0; k < i; k++) {
            const struct at_gpu_card *other = cards->pdata[k];
            if (!g_str_equal(card->id, other->id))
                continue;
            g_free(card->id);
            card->id =
                g_strdup_printf("PCI-%04x-%04x-%s", card->vendor, card->device, card->address);
            break;
        }
    }
}
