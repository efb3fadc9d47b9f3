/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a vault: what the process that lives it and the check share. */
#pragma once
#include "life.h"

#define LIFE_CONTENTS 6u
#define LIFE_SIZE (640u << 10)

#define LIFE_NONE '-'
#define LIFE_MANIFEST 'm'

/* All roots that there can be. */
extern const char *const life_names[];
extern const unsigned life_n_names;

/* Content @k, LIFE_SIZE bytes, made once. */
const uint8_t *life_content(unsigned k);

/* What is behind a root: the number of a content, LIFE_MANIFEST, or 0 with @error when its bytes
 * are none of these or cannot be read. */
char life_what(struct at_vault *vault, const struct at_root *root, GError **error);

/* Puts content @k as a change of @base (NULL: of nothing). */
bool life_put(struct at_vault_session *session, unsigned k, const struct at_digest *base,
              unsigned base_k, struct at_digest *ret_root, GError **error);

struct life_promise {
    GString **may;  /* for each name: all that it can be */
    char *begun;    /* for each name: what it was last begun to be set to */
    GPtrArray *bad; /* char*, hex */
    GArray *packs;  /* uint32_t: there after gc; NULL before one */
    GPtrArray *errors;
    char *phase;
    bool raised, ended;
};

/* Ids of the packs in @vault_dir. */
GArray *life_packs(const char *vault_dir);
