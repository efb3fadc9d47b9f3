/* SPDX-License-Identifier: Apache-2.0 */
/* The definition of a VDC from a stranger, as JSON: a refusal is INVALID and has a place; what is
 * taken is a fixed point when it is written out and read again. */
#include <glib.h>

#include "base/error.h"
#include "base/json.h"
#include "fuzz/fuzz.h"
#include "wire/definition.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonNode) node = at_json_parse(data ? (const char *)data : "", (gssize)size, NULL);
    if (!node)
        return 0;
    g_autofree char *pointer = NULL;
    g_autoptr(at_definition) def = at_definition_parse(node, &pointer, &error);
    if (!def) {
        g_assert_error(error, AT_ERROR, AT_ERROR_INVALID);
        g_assert_nonnull(pointer);
        return 0;
    }
    g_autoptr(JsonNode) full = at_definition_to_json(def);
    g_autoptr(at_definition) again = at_definition_parse(full, NULL, &error);
    g_assert_no_error(error);
    g_autoptr(JsonNode) second = at_definition_to_json(again);
    g_autofree char *a = at_json_canonical(full, &error);
    g_assert_no_error(error);
    g_autofree char *b = at_json_canonical(second, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(a, ==, b);
    return 0;
}
