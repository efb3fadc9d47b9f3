/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a JSON document strictly: where we are in it, and typed members that complain with the
 * place, what was found and what is allowed. Private to the wire room. */
#pragma once
#include <glib.h>
#include <json-glib/json-glib.h>
#include <stdbool.h>
#include <stdint.h>

/* One step on the way from the root; lives on the stack of the reader. */
struct at_place {
    const struct at_place *up;
    const char *key; /* NULL: an index */
    unsigned index;
};

struct at_check {
    char **ret_pointer; /* may be NULL */
    GError **error;
};

#define AT_ROOT ((const struct at_place *)NULL)
#define AT_KEY(up, name) (&(const struct at_place){(up), (name), 0})
#define AT_INDEX(up, i) (&(const struct at_place){(up), NULL, (i)})

/* Sets INVALID "<dotted path>: <text>" and the JSON pointer; always false. */
bool at_place_fail(struct at_check *check, const struct at_place *place, const char *fmt, ...)
    G_GNUC_PRINTF(3, 4);
/* The same with the text of an error that is taken. */
bool at_place_take(struct at_check *check, const struct at_place *place, GError *inner);

/* "\"1 GB\"", "12", "true", "nothing", "a list", "a mapping"; newly allocated. */
char *at_found_text(JsonNode *node);

/* The place is a mapping that has only members of @allowed (NULL-terminated). */
bool at_read_object(struct at_check *check, const struct at_place *place, JsonNode *node,
                    const char *const *allowed, JsonObject **ret_obj);

/* Members; a missing one leaves @ret as it is, and fails when @required. Strings are borrowed. */
bool at_read_str(struct at_check *check, const struct at_place *place, JsonObject *obj,
                 const char *name, bool required, const char **ret);
bool at_read_name(struct at_check *check, const struct at_place *place, JsonObject *obj,
                  const char *name, const char *what, bool required, const char **ret);
bool at_read_choice(struct at_check *check, const struct at_place *place, JsonObject *obj,
                    const char *name, const char *const *allowed, const char **ret);
bool at_read_bool(struct at_check *check, const struct at_place *place, JsonObject *obj,
                  const char *name, bool *ret);
bool at_read_int(struct at_check *check, const struct at_place *place, JsonObject *obj,
                 const char *name, bool required, int64_t min, int64_t max, int64_t *ret);
/* Bytes in [min, max], a multiple of 1 MiB. */
bool at_read_size(struct at_check *check, const struct at_place *place, JsonObject *obj,
                  const char *name, uint64_t min, uint64_t max, uint64_t *ret);
bool at_read_seconds(struct at_check *check, const struct at_place *place, JsonObject *obj,
                     const char *name, unsigned min, unsigned max, unsigned *ret);
/* A list of at most @max entries; NULL when missing. */
bool at_read_list(struct at_check *check, const struct at_place *place, JsonObject *obj,
                  const char *name, unsigned max, JsonArray **ret);
