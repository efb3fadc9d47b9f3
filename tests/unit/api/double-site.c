/* SPDX-License-Identifier: Apache-2.0 */
/* The stand-in for core: the site, its vault, images and GPUs. */
#include "base/json.h"
#include "double-internal.h"

static const char image_view[] =
    "{\"name\":\"debian-12\",\"size\":2147483648,\"stored_bytes\":4096,\"root\":\"" DIGEST
    "\",\"format\":\"qcow2\",\"source\":\"/tmp/x.qcow2\",\"created\":" TIME ",\"used_by\":[]}";

/* ---- the site and its vault ---- */

JsonNode *at_core_site_view(struct at_core *core)
{
    return double_parse(
        "{\"id\":\"01234567\",\"version\":\"0.1.0\",\"state_dir\":\"/var/lib/atoll\"}");
}

JsonNode *at_core_node_view(struct at_core *core)
{
    return double_parse(
        "{\"name\":\"host\",\"cpus\":2,\"memory_bytes\":25769803776,"
        "\"memory_available_bytes\":1048576,\"accel\":\"tcg\",\"accel_reason\":null,"
        "\"qemu\":\"7.2.0\",\"image_server\":true,\"cgroup\":\"none\","
        "\"cgroup_reason\":\"no control groups\",\"warnings\":[\"no dnsmasq\"]}");
}

JsonNode *at_core_vault_view(struct at_core *core, GError **error)
{
    return double_parse(
        "{\"chunks\":1,\"plain_bytes\":8192,\"stored_bytes\":4096,\"packs\":1,"
        "\"quarantined\":0,\"verify\":{\"state\":\"waiting\",\"every_days\":30,"
        "\"rate_bytes\":10485760,\"percent\":0,\"began\":null,\"last_finished\":" TIME
        ",\"last_bytes\":8192,\"last_damaged\":0,\"next\":" TIME "}}");
}

JsonNode *at_core_vault_gc(struct at_core *core, const struct at_actor *actor, GError **error)
{
    double_note(actor, "vault_gc");
    return double_job(NULL, error);
}

JsonNode *at_core_vault_verify(struct at_core *core, const struct at_actor *actor, double sample,
                               GError **error)
{
    double_note(actor, "vault_verify %g", sample);
    return double_job(NULL, error);
}

JsonNode *at_core_vault_reindex(struct at_core *core, const struct at_actor *actor, GError **error)
{
    double_note(actor, "vault_reindex");
    return double_job(NULL, error);
}

/* ---- images ---- */

JsonNode *at_core_image_list(struct at_core *core, GError **error)
{
    return double_list(image_view);
}

JsonNode *at_core_image_view(struct at_core *core, const char *name, GError **error)
{
    return double_may(name, error) ? double_parse(image_view) : NULL;
}

JsonNode *at_core_image_import(struct at_core *core, const struct at_actor *actor, const char *name,
                               const char *path, GError **error)
{
    double_note(actor, "image_import %s %s", name, path);
    return double_job(name, error);
}

JsonNode *at_core_image_build(struct at_core *core, const struct at_actor *actor, const char *name,
                              JsonObject *build, GError **error)
{
    double_note(actor, "image_build %s %s", name, at_json_str(build, "suite", "-"));
    return double_job(name, error);
}

JsonNode *at_core_image_export(struct at_core *core, const struct at_actor *actor, const char *name,
                               const char *path, const char *format, GError **error)
{
    double_note(actor, "image_export %s %s %s", name, path, format);
    return double_job(name, error);
}

JsonNode *at_core_image_delete(struct at_core *core, const struct at_actor *actor, const char *name,
                               GError **error)
{
    double_note(actor, "image_delete %s", name);
    return double_job(name, error);
}

/* ---- GPUs ---- */

static JsonNode *gpu(void)
{
    return at_json_parse(
        "{\"id\":\"GPU-1\",\"node\":\"lab\",\"address\":\"0000:41:00.0\",\"name\":\"H100\","
        "\"state\":\"free\",\"holds\":[],"
        "\"nvidia\":{\"driver\":\"580.65.06\",\"cuda\":null,\"unknown\":\"it does not tell it\"},"
        "\"mig\":{\"on\":true,\"instances\":[{\"id\":3,\"name\":\"2g.20gb\",\"start\":0,\"slices\":"
        "2,"
        "\"compute_instances\":1}]},"
        "\"health\":{\"temperature_c\":45,\"rows_pending\":null,\"rows_failed\":false,\"faults\":0}"
        ","
        "\"pci\":{\"vendor\":\"10de\",\"class\":\"030200\"},"
        "\"bars\":[{\"index\":0,\"size\":16777216,\"wide\":true}],"
        "\"vfs\":[{\"address\":\"0000:41:00.4\",\"driver\":null,\"vgpu_type\":null}],"
        "\"vgpu_interface\":\"vendor\",\"cpus\":\"0-31\",\"mdevs\":[]}",
        -1, NULL);
}

static JsonNode *gpus(void)
{
    JsonArray *list = json_array_new();
    json_array_add_element(list, gpu());
    return at_json_take_arr(list);
}

JsonNode *at_core_gpu_list(struct at_core *core, GError **error)
{
    return gpus();
}

JsonNode *at_core_gpu_view(struct at_core *core, const char *name, GError **error)
{
    return double_may(name, error) ? gpu() : NULL;
}

void at_core_gpu_rescan_async(struct at_core *core, GAsyncReadyCallback callback, void *user)
{
    g_autoptr(GTask) task = g_task_new(NULL, NULL, callback, user);
    g_task_return_boolean(task, TRUE);
}

JsonNode *at_core_gpu_rescan_finish(struct at_core *core, GAsyncResult *result, GError **error)
{
    return g_task_propagate_boolean(G_TASK(result), error) ? gpus() : NULL;
}

JsonNode *at_core_gpu_reserve(struct at_core *core, const struct at_actor *actor, const char *name,
                              const char *reason, GError **error)
{
    double_note(actor, "gpu_reserve %s \"%s\"", name, reason ? reason : "");
    return double_may(name, error) ? gpu() : NULL;
}

JsonNode *at_core_gpu_mix(struct at_core *core, const struct at_actor *actor, const char *name,
                          bool on, GError **error)
{
    double_note(actor, "gpu_mix %s %s", name, on ? "on" : "off");
    return double_may(name, error) ? gpu() : NULL;
}

JsonNode *at_core_gpu_release(struct at_core *core, const struct at_actor *actor, const char *name,
                              GError **error)
{
    double_note(actor, "gpu_release %s", name);
    return double_may(name, error) ? gpu() : NULL;
}

JsonNode *at_core_gpu_test(struct at_core *core, const struct at_actor *actor, const char *name,
                           const char *victim, const char *neighbour, GError **error)
{
    double_note(actor, "gpu_test %s %s %s", name, victim ? victim : "-",
                neighbour ? neighbour : "-");
    return double_job(name, error);
}

JsonNode *at_core_gpu_plan(struct at_core *core, JsonNode *definition, char **ret_pointer,
                           GError **error)
{
    return at_json_parse("{\"vdc\":\"team\",\"grants\":[],\"refused\":null}", -1, NULL);
}

char *at_core_metrics(struct at_core *core, GError **error)
{
    return g_strdup("# TYPE atoll_gpu_info gauge\n");
}
