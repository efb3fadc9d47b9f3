/* SPDX-License-Identifier: Apache-2.0 */
/* What catalog.c and watch.c share: the catalog itself and the records it hands out. */
#pragma once
#include "catalog/catalog.h"
#include "catalog/store.h"

struct at_catalog {
    GMutex lock; /* guards everything here */
    struct at_store *store;
    GPtrArray *watches; /* struct watch* */
    unsigned last_watch;
};

/* A record with a value of its own; CORRUPT when the text is not a JSON object. */
struct at_record *at_record_from_version(const struct at_version *version, GError **error);

/* Queues @version for every watch that it concerns. Under the lock; calls nobody. */
void at_watches_offer(struct at_catalog *catalog, const struct at_version *version);
/* Ends all watches. Under the lock. */
void at_watches_end(struct at_catalog *catalog);

/* Empty, or a start of keys; INVALID otherwise. */
bool at_catalog_check_prefix(const char *prefix, GError **error);
