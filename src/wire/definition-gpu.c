/* SPDX-License-Identifier: Apache-2.0 */
/* Requests for GPUs in a definition, and the VDC's policy about them. */
#include <string.h>

#include "wire/definition-internal.h"

enum {
    MAX_COUNT = 16, /* slots for GPUs of the board that workstations have */
    MAX_QUOTA = 4096,
    MAX_PROFILE = 80, /* bytes of a profile's or a model's name */
};
static const uint64_t min_gpu_memory = UINT64_C(1) << 20, max_gpu_memory = UINT64_C(64) << 40;

static const char *const isolations[] = {"any", "shared", "hardware", "exclusive", NULL};

void at_def_gpu_free(void *data)
{
    struct at_def_gpu *gpu = data;
    g_free(gpu->profile);
    g_free(gpu->model);
    g_free(gpu->isolation);
    g_free(gpu);
}

JsonObject *at_def_gpu_json(const void *item)
{
    const struct at_def_gpu *gpu = item;
    JsonObject *obj = json_object_new();
    if (gpu->profile)
        json_object_set_string_member(obj, "profile", gpu->profile);
    if (gpu->model)
        json_object_set_string_member(obj, "model", gpu->model);
    if (gpu->memory)
        json_object_set_int_member(obj, "memory", (int64_t)gpu->memory);
    json_object_set_string_member(obj, "isolation", gpu->isolation);
    json_object_set_int_member(obj, "count", gpu->count);
    json_object_set_boolean_member(obj, "hold", gpu->hold);
    return obj;
}

JsonObject *at_def_gpu_policy_json(const struct at_def_gpu_policy *policy)
{
    bool quota = policy->gpus || policy->slices || policy->memory;
    if (strcmp(policy->isolation, "any") == 0 && strcmp(policy->on_failure, "leave") == 0 && !quota)
        return NULL;
    JsonObject *obj = json_object_new();
    json_object_set_string_member(obj, "isolation", policy->isolation);
    json_object_set_string_member(obj, "on_failure", policy->on_failure);
    if (!quota)
        return obj;
    JsonObject *limits = json_object_new();
    if (policy->gpus)
        json_object_set_int_member(limits, "gpus", policy->gpus);
    if (policy->slices)
        json_object_set_int_member(limits, "slices", policy->slices);
    if (policy->memory)
        json_object_set_int_member(limits, "memory", (int64_t)policy->memory);
    json_object_set_object_member(obj, "quota", limits);
    return obj;
}

char *at_gpu_request_text(const struct at_def_gpu *gpu)
{
    g_autoptr(GString) text = g_string_new(NULL);
    g_autofree char *memory = gpu->memory ? at_size_format(gpu->memory) : NULL;
    if (gpu->count > 1)
        g_string_append_printf(text, "%u x ", gpu->count);
    g_string_append(text, gpu->profile ? gpu->profile : "any profile");
    if (gpu->model)
        g_string_append_printf(text, " of %s", gpu->model);
    if (memory)
        g_string_append_printf(text, ", >= %s", memory);
    if (strcmp(gpu->isolation, "any") != 0)
        g_string_append_printf(text, ", isolation %s", gpu->isolation);
    if (gpu->hold)
        g_string_append(text, ", held when stopped");
    return g_string_free(g_steal_pointer(&text), FALSE);
}

char *at_gpus_text(const struct at_def_workstation *ws)
{
    g_autoptr(GString) text = g_string_new(ws->gpus->len ? NULL : "none");
    for (unsigned i = 0; i < ws->gpus->len; i++) {
        g_autofree char *one = at_gpu_request_text(ws->gpus->pdata[i]);
        g_string_append_printf(text, "%s%s", i ? "; " : "", one);
    }
    return g_string_free(g_steal_pointer(&text), FALSE);
}

char *at_gpu_policy_text(const struct at_def_gpu_policy *policy)
{
    g_autoptr(GString) text = g_string_new(NULL);
    g_string_append_printf(text, "isolation %s, a failed card: %s", policy->isolation,
                           policy->on_failure);
    if (policy->gpus)
        g_string_append_printf(text, ", at most %u GPUs", policy->gpus);
    if (policy->slices)
        g_string_append_printf(text, ", at most %u slices", policy->slices);
    if (policy->memory) {
        g_autofree char *memory = at_size_format(policy->memory);
        g_string_append_printf(text, ", at most %s of GPU memory", memory);
    }
    return g_string_free(g_steal_pointer(&text), FALSE);
}

/* Names that drivers give: also with spaces, as in "RTX Pro 6000 Blackwell DC-1-24Q". */
static bool read_label(struct at_reader *r, const struct at_place *at, JsonObject *obj,
                       const char *name, const char *example, char **ret)
{
    const char *text = NULL;
    if (!at_read_str(&r->check, at, obj, name, false, &text))
        return false;
    bool good = !text || (strlen(text) <= MAX_PROFILE && *text != ' ');
    for (const char *p = text; good && p && *p; p++)
        good = g_ascii_isprint(*p);
    if (!good)
        return at_place_fail(&r->check, AT_KEY(at, name),
                             "found \"%s\", allowed are names such as %s of at most %d characters",
                             text, example, MAX_PROFILE);
    *ret = g_strdup(text);
    return true;
}

/* ">= 20 GiB", "20 GiB" or bytes: the least that is enough. */
static bool read_memory(struct at_reader *r, const struct at_place *at, JsonObject *obj,
                        uint64_t *ret)
{
    JsonNode *node = json_object_get_member(obj, "memory");
    if (node && JSON_NODE_HOLDS_VALUE(node) && json_node_get_value_type(node) == G_TYPE_STRING) {
        const char *text = json_node_get_string(node);
        text += strspn(text, " ");
        if (!g_str_has_prefix(text, ">="))
            return at_read_size(&r->check, at, obj, "memory", min_gpu_memory, max_gpu_memory, ret);
        g_autoptr(JsonObject) bare = json_object_new();
        json_object_set_string_member(bare, "memory", text + 2 + strspn(text + 2, " "));
        return at_read_size(&r->check, at, bare, "memory", min_gpu_memory, max_gpu_memory, ret);
    }
    return at_read_size(&r->check, at, obj, "memory", min_gpu_memory, max_gpu_memory, ret);
}

bool at_reader_gpu(struct at_reader *r, struct at_def_workstation *ws, const struct at_place *at,
                   JsonNode *node)
{
    static const char *const keys[] = {"profile", "model", "memory", "isolation",
                                       "count",   "hold",  NULL};
    JsonObject *obj;
    const char *isolation = "any";
    int64_t count = 1;
    if (!at_read_object(&r->check, at, node, keys, &obj))
        return false;
    struct at_def_gpu *gpu = g_new0(struct at_def_gpu, 1);
    g_ptr_array_add(ws->gpus, gpu);
    if (!read_label(r, at, obj, "profile", "passthrough or H100-2-20C", &gpu->profile) ||
        !read_label(r, at, obj, "model", "\"H100*\"", &gpu->model) ||
        !read_memory(r, at, obj, &gpu->memory) ||
        !at_read_choice(&r->check, at, obj, "isolation", isolations, &isolation) ||
        !at_read_int(&r->check, at, obj, "count", false, 1, MAX_COUNT, &count) ||
        !at_read_bool(&r->check, at, obj, "hold", &gpu->hold))
        return false;
    gpu->isolation = g_strdup(isolation);
    gpu->count = (unsigned)count;
    if (!gpu->profile && !gpu->memory && !gpu->model && strcmp(isolation, "any") == 0)
        return at_place_fail(
            &r->check, at,
            "says nothing of what is needed; give it a profile, or a memory and an "
            "isolation");
    unsigned all = 0;
    for (unsigned i = 0; i < ws->gpus->len; i++)
        all += ((struct at_def_gpu *)ws->gpus->pdata[i])->count;
    return all <= MAX_COUNT ||
           at_place_fail(&r->check, at, "workstation %s asks for %u GPUs, allowed are at most %d",
                         ws->name, all, MAX_COUNT);
}

static bool read_quota(struct at_reader *r, const struct at_place *at, JsonNode *node)
{
    static const char *const keys[] = {"gpus", "slices", "memory", NULL};
    struct at_def_gpu_policy *policy = &r->def->gpu_policy;
    JsonObject *obj;
    int64_t gpus = 0, slices = 0;
    if (!node)
        return true;
    if (!at_read_object(&r->check, at, node, keys, &obj) ||
        !at_read_int(&r->check, at, obj, "gpus", false, 1, MAX_QUOTA, &gpus) ||
        !at_read_int(&r->check, at, obj, "slices", false, 1, MAX_QUOTA, &slices) ||
        !at_read_size(&r->check, at, obj, "memory", min_gpu_memory, max_gpu_memory,
                      &policy->memory))
        return false;
    policy->gpus = (unsigned)gpus;
    policy->slices = (unsigned)slices;
    return true;
}

bool at_reader_gpu_policy(struct at_reader *r, const struct at_place *at, JsonNode *node)
{
    static const char *const keys[] = {"isolation", "on_failure", "quota", NULL};
    static const char *const failures[] = {"leave", "move", NULL};
    JsonObject *obj;
    const char *isolation = "any", *on_failure = "leave";
    if (node && (!at_read_object(&r->check, at, node, keys, &obj) ||
                 !at_read_choice(&r->check, at, obj, "isolation", isolations, &isolation) ||
                 !at_read_choice(&r->check, at, obj, "on_failure", failures, &on_failure) ||
                 !read_quota(r, AT_KEY(at, "quota"), json_object_get_member(obj, "quota"))))
        return false;
    r->def->gpu_policy.isolation = g_strdup(isolation);
    r->def->gpu_policy.on_failure = g_strdup(on_failure);
    return true;
}
