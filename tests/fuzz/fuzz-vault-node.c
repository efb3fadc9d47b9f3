/* SPDX-License-Identifier: Apache-2.0 */
/* Trees of a stranger: what passes as a node or a disk is within its limits, can be walked to its
 * end, and is written back as the same bytes. The first byte of the input says which of them it is.
 */
#include <glib.h>
#include <string.h>

#include "fuzz/fuzz.h"
#include "vault/node.h"

static void node(const uint8_t *data, size_t len)
{
    uint8_t back[AT_NODE_MAX];
    for (unsigned level = 0; level < AT_NODE_LEVELS; level++) {
        if (!at_node_valid(data, len, level, NULL, NULL))
            continue;
        unsigned n = at_node_count(data);
        uint64_t end = 0;
        struct at_entry entries[AT_NODE_MAX_ENTRIES];
        g_assert_true(n > 0 && n <= AT_NODE_MAX_ENTRIES && at_node_level(data) == level);
        for (unsigned i = 0; i < n; i++) {
            at_node_entry(data, i, &entries[i]);
            g_assert_cmpuint(entries[i].offset, >=, end); /* ascending, not overlapping */
            g_assert_cmpuint(at_entry_end(&entries[i]), >, entries[i].offset);
            end = at_entry_end(&entries[i]);
            g_assert_cmpuint(at_node_find(data, entries[i].offset), ==, i);
        }
        g_assert_cmpuint(at_node_find(data, end), ==, n);
        g_assert_cmpuint(at_node_encode(back, level, entries, n), ==, len);
        g_assert_true(memcmp(data, back, len) == 0);
    }
}

static void disk(const uint8_t *data, size_t len)
{
    struct at_disk d;
    uint8_t back[AT_DISK_LEN];
    if (!at_disk_decode(data, len, &d, NULL))
        return;
    g_assert_cmpuint(d.size, <=, AT_DISK_MAX);
    g_assert_cmpuint(d.height, <=, AT_NODE_LEVELS);
    at_disk_encode(&d, back);
    g_assert_true(len == AT_DISK_LEN && memcmp(data, back, len) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const parts[])(const uint8_t *data, size_t len) = {node, disk};
    if (size > 0)
        parts[data[0] % G_N_ELEMENTS(parts)](data + 1, size - 1);
    return 0;
}
