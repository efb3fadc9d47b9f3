/* SPDX-License-Identifier: Apache-2.0 */
/* NVIDIA's library as far as discovery calls it: what it says of a card is what a test lets it say.
 */
#pragma once
#include "gpu/discover.h"
#include "lib/gpu-tree.h"

struct at_nvml {
    /* Like at_nvml_fill(); NULL: it does not know the card. */
    bool (*fill)(struct at_gpu_card *card, GError **error);
    unsigned asked;                     /* how often */
    const char *driver, *cuda, *silent; /* versions; why it does not answer at all, or NULL */
};

/* All cards of a tree; aborts the test on an error. @nvml may be NULL. */
GPtrArray *library_discover(struct gpu_tree *tree, struct at_nvml *nvml);
/* The only card of a tree, discovered without a library; freed with the test. */
const struct at_gpu_card *library_card(struct gpu_tree *tree);
const struct at_gpu_card *library_card_with(struct gpu_tree *tree, struct at_nvml *nvml);
/* Asserts that @text has @part in it, and says what it is otherwise. */
void library_assert_says(const char *text, const char *part);
