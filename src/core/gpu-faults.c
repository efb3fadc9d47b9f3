/* SPDX-License-Identifier: Apache-2.0 */
/* Errors that were heard of cards, counted by what they were. The kinds are a fixed set, so that
 * whoever collects the counts never has more of them than that. */
#include "core/gpu.h"

#define OTHER_XID "xid-other"

static bool is_known_xid(unsigned xid)
{
    for (unsigned n = 0; at_nvml_xid_nth(n); n++) {
        if (at_nvml_xid_nth(n) == xid)
            return true;
    }
    return false;
}

char *at_gpu_fault_kind_of_xid(unsigned xid)
{
    return is_known_xid(xid) ? g_strdup_printf("xid-%u", xid) : g_strdup(OTHER_XID);
}

GStrv at_gpu_fault_kinds(uint16_t vendor)
{
    g_autoptr(GStrvBuilder) kinds = g_strv_builder_new();
    g_strv_builder_add(kinds, AT_GPU_FAULT_LOST);
    if (vendor == AT_GPU_VENDOR_AMD)
        g_strv_builder_add(kinds, AT_GPU_FAULT_MEMORY);
    for (unsigned n = 0; vendor == AT_GPU_VENDOR_NVIDIA && at_nvml_xid_nth(n); n++) {
        g_autofree char *kind = at_gpu_fault_kind_of_xid(at_nvml_xid_nth(n));
        g_strv_builder_add(kinds, kind);
    }
    if (vendor == AT_GPU_VENDOR_NVIDIA)
        g_strv_builder_add(kinds, OTHER_XID);
    return g_strv_builder_end(kinds);
}

GHashTable *at_gpu_faults_new(void)
{
    return g_hash_table_new_full(g_str_hash, g_str_equal, g_free,
                                 (GDestroyNotify)g_hash_table_unref);
}

void at_gpu_faults_count(GHashTable *faults, const char *id, const char *kind)
{
    GHashTable *kinds = g_hash_table_lookup(faults, id);
    if (!kinds) {
        kinds = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
        g_hash_table_insert(faults, g_strdup(id), kinds);
    }
    uint64_t *n = g_hash_table_lookup(kinds, kind);
    if (!n) {
        n = g_new0(uint64_t, 1);
        g_hash_table_insert(kinds, g_strdup(kind), n);
    }
    (*n)++;
}

uint64_t at_gpu_faults_heard(GHashTable *faults, const char *id, const char *kind)
{
    GHashTable *kinds = faults ? g_hash_table_lookup(faults, id) : NULL;
    GHashTableIter iter;
    void *key, *value;
    uint64_t sum = 0;
    if (!kinds)
        return 0;
    g_hash_table_iter_init(&iter, kinds);
    while (g_hash_table_iter_next(&iter, &key, &value))
        sum += !kind || g_str_equal(key, kind) ? *(const uint64_t *)value : 0;
    return sum;
}
