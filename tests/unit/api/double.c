/* SPDX-License-Identifier: Apache-2.0 */
/* A stand-in for core behind the true header. */
#include "double.h"

#include <inttypes.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/api.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/json.h"
#include "core/core.h"

struct watch {
    unsigned id;
    at_event_func func;
    void *user;
};

static struct {
    GMutex lock; /* guards what follows */
    char *last;
    int console; /* the workstation's end */
    GMainContext *context;
    GMainLoop *loop;
    GThread *thread;
    struct at_api *api;
    char *path;
    /* The API's thread only: */
    GPtrArray *watches;
    GPtrArray *events; /* JsonNode*, id = index + 1 */
    unsigned last_watch;
} d = {.console = -1};

/* ---- views ---- */

#define DIGEST "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define TIME "\"2026-11-23T19:02:11.123Z\""

static const char job_view[] =
    "{\"id\":\"00000007\",\"kind\":\"snapshot-create\",\"target\":\"rag-team@monday\",\"actor\":"
    "{\"user\":\"root\",\"uid\":0,\"from\":\"unix socket, pid 1\"},\"state\":\"running\",\"step\":"
    "\"seal\",\"steps\":[{\"name\":\"cut\",\"state\":\"done\",\"started\":" TIME
    ",\"finished\":" TIME "},{\"name\":\"seal\",\"state\":\"running\",\"started\":" TIME
    ",\"finished\":null}],\"percent\":"
    "12.5,\"bytes_done\":1,\"bytes_total\":8,\"rate\":100,\"eta_s\":null,\"error\":null,\"result\":"
    "{},"
    "\"created\":" TIME ",\"started\":" TIME ",\"finished\":null}";

static const char workstation_view[] =
    "{\"name\":\"retrieval\",\"id\":\"aabbccdd\",\"state\":\"running\",\"pid\":4711,\"addresses\":"
    "[\"10.20.0.10\"],\"health\":\"healthy\",\"accel\":\"tcg\",\"restarts\":0}";

static const char snapshot_view[] =
    "{\"name\":\"monday\",\"vdc\":\"rag-team\",\"digest\":\"" DIGEST "\",\"state\":\"sealed\","
    "\"consistency\":{\"retrieval\":{\"class\":\"crash\",\"reason\":null}},\"pause_ms\":11.5,"
    "\"skew_ms\":1,\"stored_bytes\":4096,\"changed_bytes\":8192,\"created\":" TIME
    ",\"actor\":\"root\",\"description\":\"\",\"disks\":[{\"workstation\":\"retrieval\",\"name\":"
    "\"root\",\"size\":1048576,\"root\":\"" DIGEST "\"}],\"safety\":false}";

static const char image_view[] =
    "{\"name\":\"debian-12\",\"size\":2147483648,\"stored_bytes\":4096,\"root\":\"" DIGEST
    "\",\"format\":\"qcow2\",\"source\":\"/tmp/x.qcow2\",\"created\":" TIME ",\"used_by\":[]}";

static JsonNode *parse(const char *text)
{
    GError *error = NULL;
    JsonNode *node = at_json_parse(text, -1, &error);
    g_assert_no_error(error);
    return node;
}

static JsonNode *vdc_view(const char *name)
{
    g_autofree char *text = g_strdup_printf(
        "{\"name\":\"%s\",\"id\":\"11223344\",\"owner\":\"root\",\"state\":\"running\","
        "\"definition\":{\"vdc\":\"%s\"},\"revision\":42,\"isolated\":false,\"uplink_address\":"
        "\"100.64.0.2\",\"ports\":[{\"host\":18000,\"guest\":8000,\"workstation\":\"retrieval\","
        "\"protocol\":\"tcp\"}],\"workstations\":[%s],\"snapshots\":1,\"cloned_from\":null}",
        name, name, workstation_view);
    return parse(text);
}

static JsonNode *list(const char *view)
{
    g_autofree char *text = g_strdup_printf("[%s]", view);
    return parse(text);
}

/* ---- calls ---- */

static void note(const struct at_actor *actor, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
static void note(const struct at_actor *actor, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    g_autofree char *text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    g_mutex_lock(&d.lock);
    g_free(d.last);
    d.last = actor ? g_strdup_printf("%s by %s", text, actor->user) : g_strdup(text);
    g_mutex_unlock(&d.lock);
}

/* A thing named like an error code fails with it. */
static bool may(const char *name, GError **error)
{
    int code = name ? at_error_code_from_name(name) : -1;
    return code < 0 || at_error(error, (enum at_error_code)code, "%s: as asked", name);
}

static JsonNode *job(const char *name, GError **error)
{
    return may(name, error) ? parse(job_view) : NULL;
}

static char *join(const char *const *names)
{
    return names ? g_strjoinv(",", (char **)names) : g_strdup("all");
}

JsonNode *at_core_site_view(struct at_core *core)
{
    return parse("{\"id\":\"01234567\",\"version\":\"0.1.0\",\"state_dir\":\"/var/lib/atoll\"}");
}

JsonNode *at_core_node_view(struct at_core *core)
{
    return parse("{\"name\":\"host\",\"cpus\":2,\"memory_bytes\":25769803776,"
                 "\"memory_available_bytes\":1048576,\"accel\":\"tcg\",\"accel_reason\":null,"
                 "\"qemu\":\"7.2.0\",\"image_server\":true,\"cgroup\":\"none\","
                 "\"cgroup_reason\":\"no control groups\",\"warnings\":[\"no dnsmasq\"]}");
}

JsonNode *at_core_vault_view(struct at_core *core, GError **error)
{
    return parse("{\"chunks\":1,\"plain_bytes\":8192,\"stored_bytes\":4096,\"packs\":1,"
                 "\"quarantined\":0,\"verify\":{\"state\":\"waiting\",\"every_days\":30,"
                 "\"rate_bytes\":10485760,\"percent\":0,\"began\":null,\"last_finished\":" TIME
                 ",\"last_bytes\":8192,\"last_damaged\":0,\"next\":" TIME "}}");
}

JsonNode *at_core_vault_gc(struct at_core *core, const struct at_actor *actor, GError **error)
{
    note(actor, "vault_gc");
    return job(NULL, error);
}

JsonNode *at_core_vault_verify(struct at_core *core, const struct at_actor *actor, double sample,
                               GError **error)
{
    note(actor, "vault_verify %g", sample);
    return job(NULL, error);
}

JsonNode *at_core_vault_reindex(struct at_core *core, const struct at_actor *actor, GError **error)
{
    note(actor, "vault_reindex");
    return job(NULL, error);
}

JsonNode *at_core_vdc_list(struct at_core *core, GError **error)
{
    JsonArray *array = json_array_new();
    json_array_add_element(array, vdc_view("rag-team"));
    return at_json_take_arr(array);
}

JsonNode *at_core_vdc_view(struct at_core *core, const char *vdc, GError **error)
{
    return may(vdc, error) ? vdc_view(vdc) : NULL;
}

JsonNode *at_core_vdc_plan(struct at_core *core, JsonNode *definition, char **ret_pointer,
                           GError **error)
{
    note(NULL, "vdc_plan");
    return parse("{\"changes\":[{\"action\":\"change\",\"what\":\"workstation retrieval\","
                 "\"detail\":\"memory 1 GiB -> 2 GiB\"}]}");
}

JsonNode *at_core_vdc_apply(struct at_core *core, const struct at_actor *actor,
                            JsonNode *definition, bool start, char **ret_pointer, GError **error)
{
    JsonObject *obj = json_node_get_object(definition);
    const char *name = at_json_str(obj, "vdc", NULL);
    note(actor, "vdc_apply %s %s", name, start ? "start" : "no-start");
    if (!name) {
        *ret_pointer = g_strdup("/vdc");
        at_error(error, AT_ERROR_INVALID, "vdc is missing");
        return NULL;
    }
    return job(name, error);
}

JsonNode *at_core_vdc_delete(struct at_core *core, const struct at_actor *actor, const char *vdc,
                             bool with_snapshots, GError **error)
{
    note(actor, "vdc_delete %s%s", vdc, with_snapshots ? " with snapshots" : "");
    return job(vdc, error);
}

JsonNode *at_core_vdc_start(struct at_core *core, const struct at_actor *actor, const char *vdc,
                            const char *const *workstations, GError **error)
{
    g_autofree char *names = join(workstations);
    note(actor, "vdc_start %s [%s]", vdc, names);
    return job(vdc, error);
}

JsonNode *at_core_vdc_stop(struct at_core *core, const struct at_actor *actor, const char *vdc,
                           const char *const *workstations, unsigned timeout_s, bool force,
                           GError **error)
{
    g_autofree char *names = join(workstations);
    note(actor, "vdc_stop %s [%s] %u%s", vdc, names, timeout_s, force ? " force" : "");
    return job(vdc, error);
}

JsonNode *at_core_vdc_restart(struct at_core *core, const struct at_actor *actor, const char *vdc,
                              const char *const *workstations, GError **error)
{
    g_autofree char *names = join(workstations);
    note(actor, "vdc_restart %s [%s]", vdc, names);
    return job(vdc, error);
}

JsonNode *at_core_vdc_undo(struct at_core *core, const struct at_actor *actor, const char *vdc,
                           GError **error)
{
    note(actor, "vdc_undo %s", vdc);
    return job(vdc, error);
}

JsonNode *at_core_workstation_view(struct at_core *core, const char *vdc, const char *ws,
                                   GError **error)
{
    return may(ws, error) ? parse(workstation_view) : NULL;
}

char *at_core_snapshot_manifest(struct at_core *core, const char *vdc, const char *snap,
                                GError **error)
{
    note(NULL, "snapshot_manifest %s %s", vdc, snap);
    return may(snap, error) ? g_strdup("{\"disks\":[{\"root\":\"" DIGEST
                                       "\"}],\"format\":\"atoll-manifest\",\"version\":1}")
                            : NULL;
}

char *at_core_workstation_log(struct at_core *core, const char *vdc, const char *ws, size_t tail,
                              GError **error)
{
    note(NULL, "workstation_log %s %s %zu", vdc, ws, tail);
    return may(ws, error) ? g_strdup("login: \xff\xfe\n") : NULL;
}

int at_core_console_open(struct at_core *core, const char *vdc, const char *ws, GError **error)
{
    int fds[2];
    if (!may(ws, error))
        return -1;
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
    g_mutex_lock(&d.lock);
    at_close_fd(&d.console);
    d.console = fds[1];
    g_mutex_unlock(&d.lock);
    return fds[0];
}

JsonNode *at_core_snapshot_list(struct at_core *core, const char *vdc, GError **error)
{
    note(NULL, "snapshot_list %s", vdc ? vdc : "of all");
    return may(vdc, error) ? list(snapshot_view) : NULL;
}

JsonNode *at_core_snapshot_view(struct at_core *core, const char *vdc, const char *snap,
                                GError **error)
{
    return may(snap, error) ? parse(snapshot_view) : NULL;
}

JsonNode *at_core_snapshot_create(struct at_core *core, const struct at_actor *actor,
                                  const char *vdc, const char *name, bool quiesce,
                                  const char *description, GError **error)
{
    note(actor, "snapshot_create %s %s%s \"%s\"", vdc, name ? name : "(unnamed)",
         quiesce ? " quiesce" : "", description);
    return job(vdc, error);
}

JsonNode *at_core_snapshot_verify(struct at_core *core, const struct at_actor *actor,
                                  const char *vdc, const char *snap, GError **error)
{
    note(actor, "snapshot_verify %s %s", vdc, snap);
    return job(snap, error);
}

JsonNode *at_core_snapshot_delete(struct at_core *core, const struct at_actor *actor,
                                  const char *vdc, const char *snap, GError **error)
{
    note(actor, "snapshot_delete %s %s", vdc, snap);
    return job(snap, error);
}

JsonNode *at_core_snapshot_clone(struct at_core *core, const struct at_actor *actor,
                                 const char *vdc, const char *snap, const char *new_name,
                                 const struct at_clone_options *o, GError **error)
{
    note(actor, "snapshot_clone %s %s %s%s %s%s%s", vdc, snap, new_name,
         o->fresh_identity ? " fresh" : " keep", o->gpu, o->isolated ? " isolated" : "",
         o->start ? " start" : "");
    return job(snap, error);
}

JsonNode *at_core_snapshot_restore(struct at_core *core, const struct at_actor *actor,
                                   const char *vdc, const char *snap, GError **error)
{
    note(actor, "snapshot_restore %s %s", vdc, snap);
    return job(snap, error);
}

void at_core_diff_async(struct at_core *core, const char *vdc_a, const char *snap_a,
                        const char *vdc_b, const char *snap_b, GAsyncReadyCallback callback,
                        void *user)
{
    note(NULL, "diff %s %s %s %s", vdc_a, snap_a, vdc_b, snap_b);
    g_autoptr(GTask) task = g_task_new(NULL, NULL, callback, user);
    GError *error = NULL;
    if (may(snap_a, &error))
        g_task_return_pointer(task,
                              parse("{\"disks\":[{\"workstation\":\"retrieval\",\"name\":\"root\","
                                    "\"changed_bytes\":4096,\"size\":1048576}]}"),
                              (GDestroyNotify)json_node_unref);
    else
        g_task_return_error(task, error);
}

JsonNode *at_core_diff_finish(GAsyncResult *result, GError **error)
{
    return g_task_propagate_pointer(G_TASK(result), error);
}

JsonNode *at_core_image_list(struct at_core *core, GError **error)
{
    return list(image_view);
}

JsonNode *at_core_image_view(struct at_core *core, const char *name, GError **error)
{
    return may(name, error) ? parse(image_view) : NULL;
}

JsonNode *at_core_image_import(struct at_core *core, const struct at_actor *actor, const char *name,
                               const char *path, GError **error)
{
    note(actor, "image_import %s %s", name, path);
    return job(name, error);
}

JsonNode *at_core_image_build(struct at_core *core, const struct at_actor *actor, const char *name,
                              JsonObject *build, GError **error)
{
    note(actor, "image_build %s %s", name, at_json_str(build, "suite", "-"));
    return job(name, error);
}

JsonNode *at_core_image_export(struct at_core *core, const struct at_actor *actor, const char *name,
                               const char *path, const char *format, GError **error)
{
    note(actor, "image_export %s %s %s", name, path, format);
    return job(name, error);
}

JsonNode *at_core_image_delete(struct at_core *core, const struct at_actor *actor, const char *name,
                               GError **error)
{
    note(actor, "image_delete %s", name);
    return job(name, error);
}

/* ---- GPUs ---- */

static JsonNode *gpu(void)
{
    return at_json_parse(
        "{\"id\":\"GPU-1\",\"node\":\"lab\",\"address\":\"0000:41:00.0\",\"name\":\"H100\","
        "\"state\":\"free\",\"holds\":[]}",
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
    return may(name, error) ? gpu() : NULL;
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
    note(actor, "gpu_reserve %s \"%s\"", name, reason ? reason : "");
    return may(name, error) ? gpu() : NULL;
}

JsonNode *at_core_gpu_mix(struct at_core *core, const struct at_actor *actor, const char *name,
                          bool on, GError **error)
{
    note(actor, "gpu_mix %s %s", name, on ? "on" : "off");
    return may(name, error) ? gpu() : NULL;
}

JsonNode *at_core_gpu_release(struct at_core *core, const struct at_actor *actor, const char *name,
                              GError **error)
{
    note(actor, "gpu_release %s", name);
    return may(name, error) ? gpu() : NULL;
}

JsonNode *at_core_gpu_test(struct at_core *core, const struct at_actor *actor, const char *name,
                           const char *victim, const char *neighbour, GError **error)
{
    note(actor, "gpu_test %s %s %s", name, victim ? victim : "-", neighbour ? neighbour : "-");
    return job(name, error);
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

/* ---- jobs ---- */

JsonNode *at_core_job_list(struct at_core *core, const char *state, const char *vdc, GError **error)
{
    note(NULL, "job_list %s %s", state ? state : "-", vdc ? vdc : "-");
    return list(job_view);
}

JsonNode *at_core_job_view(struct at_core *core, const char *id, GError **error)
{
    return job(id, error);
}

JsonNode *at_core_job_cancel(struct at_core *core, const struct at_actor *actor, const char *id,
                             GError **error)
{
    note(actor, "job_cancel %s", id);
    return job(id, error);
}

/* ---- events ---- */

unsigned at_core_events_watch(struct at_core *core, uint64_t since, at_event_func func, void *user)
{
    for (uint64_t id = since + 1; since > 0 && id <= d.events->len; id++)
        func(id, d.events->pdata[id - 1], user);
    struct watch *w = g_new0(struct watch, 1);
    w->func = func;
    w->user = user;
    g_mutex_lock(&d.lock);
    w->id = ++d.last_watch;
    g_ptr_array_add(d.watches, w);
    g_mutex_unlock(&d.lock);
    return w->id;
}

void at_core_events_unwatch(struct at_core *core, unsigned watch)
{
    g_mutex_lock(&d.lock);
    for (unsigned i = 0; i < d.watches->len; i++) {
        if (((struct watch *)d.watches->pdata[i])->id == watch) {
            g_ptr_array_remove_index(d.watches, i);
            break;
        }
    }
    g_mutex_unlock(&d.lock);
}

struct emission {
    GMutex lock;
    GCond done;
    const char *type;
    size_t padding;
    uint64_t id;
};

static gboolean emit(gpointer data)
{
    struct emission *e = data;
    g_autofree char *padding = g_strnfill(e->padding, 'x');
    uint64_t id = d.events->len + 1;
    g_autofree char *text = g_strdup_printf("{\"id\":%" PRIu64 ",\"time\":" TIME
                                            ",\"type\":\"%s\",\"subject\":\"rag-team\",\"actor\":"
                                            "null,\"data\":{\"padding\":\"%s\"}}",
                                            id, e->type, padding);
    JsonNode *event = parse(text);
    g_ptr_array_add(d.events, event);
    g_autoptr(GPtrArray) now = g_ptr_array_new();
    for (unsigned i = 0; i < d.watches->len; i++)
        g_ptr_array_add(now, g_memdup2(d.watches->pdata[i], sizeof(struct watch)));
    for (unsigned i = 0; i < now->len; i++) {
        struct watch *w = now->pdata[i];
        w->func(id, event, w->user);
        g_free(w);
    }
    g_mutex_lock(&e->lock);
    e->id = id;
    g_cond_signal(&e->done);
    g_mutex_unlock(&e->lock);
    return G_SOURCE_REMOVE;
}

uint64_t double_emit(const char *type, size_t padding)
{
    struct emission e = {.type = type, .padding = padding};
    g_mutex_init(&e.lock);
    g_cond_init(&e.done);
    g_main_context_invoke(d.context, emit, &e);
    g_mutex_lock(&e.lock);
    while (e.id == 0)
        g_cond_wait(&e.done, &e.lock);
    g_mutex_unlock(&e.lock);
    g_mutex_clear(&e.lock);
    g_cond_clear(&e.done);
    return e.id;
}

unsigned double_watchers(void)
{
    g_mutex_lock(&d.lock);
    unsigned n = d.watches->len;
    g_mutex_unlock(&d.lock);
    return n;
}

char *double_last_call(void)
{
    g_mutex_lock(&d.lock);
    char *last = g_strdup(d.last);
    g_mutex_unlock(&d.lock);
    return last;
}

int double_take_console(void)
{
    g_mutex_lock(&d.lock);
    int fd = at_steal_fd(&d.console);
    g_mutex_unlock(&d.lock);
    return fd;
}

/* ---- the thread ---- */

static gpointer serve(gpointer ready)
{
    g_main_context_push_thread_default(d.context);
    GError *error = NULL;
    d.api = at_api_new(NULL, d.path, &error);
    g_assert_no_error(error);
    g_async_queue_push(ready, d.path);
    g_main_loop_run(d.loop);
    at_api_free(d.api);
    while (g_main_context_iteration(d.context, FALSE))
        ;
    g_main_context_pop_thread_default(d.context);
    return NULL;
}

const char *double_start(const char *dir)
{
    g_autoptr(GAsyncQueue) ready = g_async_queue_new();
    d.path = g_build_filename(dir, "api.sock", NULL);
    d.watches = g_ptr_array_new_with_free_func(g_free);
    d.events = g_ptr_array_new_with_free_func((GDestroyNotify)json_node_unref);
    d.context = g_main_context_new();
    d.loop = g_main_loop_new(d.context, FALSE);
    d.thread = g_thread_new("api", serve, ready);
    return g_async_queue_pop(ready);
}

static gboolean quit(gpointer unused)
{
    g_main_loop_quit(d.loop);
    return G_SOURCE_REMOVE;
}

void double_stop(void)
{
    g_main_context_invoke(d.context, quit, NULL);
    g_thread_join(d.thread);
    g_main_loop_unref(d.loop);
    g_main_context_unref(d.context);
    g_assert_cmpuint(d.watches->len, ==, 0);
    g_ptr_array_unref(d.watches);
    g_ptr_array_unref(d.events);
    g_clear_pointer(&d.last, g_free);
    g_clear_pointer(&d.path, g_free);
    at_close_fd(&d.console);
}
