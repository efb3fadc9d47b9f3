/* SPDX-License-Identifier: Apache-2.0 */
/* JSON of a stranger: what is taken survives a round trip, and canonical text is a fixed point. */
#include <glib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonNode) node = at_json_parse(data ? (const char *)data : "", (gssize)size, &error);
    if (!node) {
        g_assert_error(error, AT_ERROR, AT_ERROR_INVALID);
        return 0;
    }
    g_assert_no_error(error);
    g_autofree char *text = at_json_text(node);
    g_autoptr(JsonNode) again = at_json_parse(text, -1, &error);
    g_assert_no_error(error);
    g_autofree char *canonical = at_json_canonical(node, NULL);
    if (canonical) {
        g_autoptr(JsonNode) third = at_json_parse(canonical, -1, &error);
        g_assert_no_error(error);
        g_autofree char *fixed = at_json_canonical(third, &error);
        g_assert_no_error(error);
        g_assert_cmpstr(canonical, ==, fixed);
    }
    return 0;
}
