/* SPDX-License-Identifier: Apache-2.0 */
/* A manifest of a stranger (a replica, a forged blob): its list of disks is read whole or refused,
 * and a refusal is INVALID (no JSON) or CORRUPT. */
#include <glib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "fuzz/fuzz.h"
#include "vault/walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) bytes = g_bytes_new(data, size);
    g_autoptr(GArray) disks = g_array_new(FALSE, FALSE, sizeof(struct at_digest));
    if (!at_manifest_disks(bytes, disks, &error)) {
        g_assert_true(g_error_matches(error, AT_ERROR, AT_ERROR_INVALID) ||
                      g_error_matches(error, AT_ERROR, AT_ERROR_CORRUPT));
        return 0;
    }
    g_autoptr(JsonNode) node = at_json_parse(data ? (const char *)data : "", (gssize)size, &error);
    g_assert_no_error(error);
    JsonArray *list =
        JSON_NODE_HOLDS_OBJECT(node) ? at_json_arr(json_node_get_object(node), "disks") : NULL;
    g_assert_cmpuint(disks->len, ==, list ? json_array_get_length(list) : 0);
    for (unsigned i = 0; i < disks->len; i++) {
        g_autofree char *hex = at_digest_dup_hex(&g_array_index(disks, struct at_digest, i));
        JsonObject *disk = json_array_get_object_element(list, i);
        g_assert_true(g_ascii_strcasecmp(hex, at_json_str(disk, "root", "")) == 0);
    }
    return 0;
}
