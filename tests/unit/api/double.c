/* SPDX-License-Identifier: Apache-2.0 */
/* A stand-in for core behind the true header. */
#include "double.h"
#include "double-internal.h"

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

JsonNode *double_parse(const char *text)
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
    return double_parse(text);
}

JsonNode *double_list(const char *view)
{
    g_autofree char *text = g_strdup_printf("[%s]", view);
    return double_parse(text);
}

/* ---- calls ---- */

void double_note(const struct at_actor *actor, const char *fmt, ...)
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
bool double_may(const char *name, GError **error)
{
    int code = name ? at_error_code_from_name(name) : -1;
    return code < 0 || at_error(error, (enum at_error_code)code, "%s: as asked", name);
}

JsonNode *double_job(const char *name, GError **error)
{
    return double_may(name, error) ? double_parse(job_view) : NULL;
}

static char *join(const char *const *names)
{
    return names ? g_strjoinv(",", (char **)names) : g_strdup("all");
}

JsonNode *at_core_vdc_list(struct at_core *core, GError **error)
{
    JsonArray *array = json_array_new();
    json_array_add_element(array, vdc_view("rag-team"));
    return at_json_take_arr(array);
}

JsonNode *at_core_vdc_view(struct at_core *core, const char *vdc, GError **error)
{
    return double_may(vdc, error) ? vdc_view(vdc) : NULL;
}

JsonNode *at_core_vdc_plan(struct at_core *core, JsonNode *definition, char **ret_pointer,
                           GError **error)
{
    double_note(NULL, "vdc_plan");
    return double_parse("{\"changes\":[{\"action\":\"change\",\"what\":\"workstation retrieval\","
                        "\"detail\":\"memory 1 GiB -> 2 GiB\"}]}");
}

JsonNode *at_core_vdc_apply(struct at_core *core, const struct at_actor *actor,
                            JsonNode *definition, bool start, char **ret_pointer, GError **error)
{
    JsonObject *obj = json_node_get_object(definition);
    const char *name = at_json_str(obj, "vdc", NULL);
    double_note(actor, "vdc_apply %s %s", name, start ? "start" : "no-start");
    if (!name) {
        *ret_pointer = g_strdup("/vdc");
        at_error(error, AT_ERROR_INVALID, "vdc is missing");
        return NULL;
    }
    return double_job(name, error);
}

JsonNode *at_core_vdc_delete(struct at_core *core, const struct at_actor *actor, const char *vdc,
                             bool with_snapshots, GError **error)
{
    double_note(actor, "vdc_delete %s%s", vdc, with_snapshots ? " with snapshots" : "");
    return double_job(vdc, error);
}

JsonNode *at_core_vdc_start(struct at_core *core, const struct at_actor *actor, const char *vdc,
                            const char *const *workstations, GError **error)
{
    g_autofree char *names = join(workstations);
    double_note(actor, "vdc_start %s [%s]", vdc, names);
    return double_job(vdc, error);
}

JsonNode *at_core_vdc_stop(struct at_core *core, const struct at_actor *actor, const char *vdc,
                           const char *const *workstations, unsigned timeout_s, bool force,
                           GError **error)
{
    g_autofree char *names = join(workstations);
    double_note(actor, "vdc_stop %s [%s] %u%s", vdc, names, timeout_s, force ? " force" : "");
    return double_job(vdc, error);
}

JsonNode *at_core_vdc_restart(struct at_core *core, const struct at_actor *actor, const char *vdc,
                              const char *const *workstations, GError **error)
{
    g_autofree char *names = join(workstations);
    double_note(actor, "vdc_restart %s [%s]", vdc, names);
    return double_job(vdc, error);
}

JsonNode *at_core_vdc_undo(struct at_core *core, const struct at_actor *actor, const char *vdc,
                           GError **error)
{
    double_note(actor, "vdc_undo %s", vdc);
    return double_job(vdc, error);
}

JsonNode *at_core_workstation_view(struct at_core *core, const char *vdc, const char *ws,
                                   GError **error)
{
    return double_may(ws, error) ? double_parse(workstation_view) : NULL;
}

char *at_core_snapshot_manifest(struct at_core *core, const char *vdc, const char *snap,
                                GError **error)
{
    double_note(NULL, "snapshot_manifest %s %s", vdc, snap);
    return double_may(snap, error) ? g_strdup("{\"disks\":[{\"root\":\"" DIGEST
                                              "\"}],\"format\":\"atoll-manifest\",\"version\":1}")
                                   : NULL;
}

char *at_core_workstation_log(struct at_core *core, const char *vdc, const char *ws, size_t tail,
                              GError **error)
{
    double_note(NULL, "workstation_log %s %s %zu", vdc, ws, tail);
    return double_may(ws, error) ? g_strdup("login: \xff\xfe\n") : NULL;
}

int at_core_console_open(struct at_core *core, const char *vdc, const char *ws, GError **error)
{
    int fds[2];
    if (!double_may(ws, error))
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
    double_note(NULL, "snapshot_list %s", vdc ? vdc : "of all");
    return double_may(vdc, error) ? double_list(snapshot_view) : NULL;
}

JsonNode *at_core_snapshot_view(struct at_core *core, const char *vdc, const char *snap,
                                GError **error)
{
    return double_may(snap, error) ? double_parse(snapshot_view) : NULL;
}

JsonNode *at_core_snapshot_create(struct at_core *core, const struct at_actor *actor,
                                  const char *vdc, const char *name, bool quiesce,
                                  const char *description, GError **error)
{
    double_note(actor, "snapshot_create %s %s%s \"%s\"", vdc, name ? name : "(unnamed)",
                quiesce ? " quiesce" : "", description);
    return double_job(vdc, error);
}

JsonNode *at_core_snapshot_verify(struct at_core *core, const struct at_actor *actor,
                                  const char *vdc, const char *snap, GError **error)
{
    double_note(actor, "snapshot_verify %s %s", vdc, snap);
    return double_job(snap, error);
}

JsonNode *at_core_snapshot_delete(struct at_core *core, const struct at_actor *actor,
                                  const char *vdc, const char *snap, GError **error)
{
    double_note(actor, "snapshot_delete %s %s", vdc, snap);
    return double_job(snap, error);
}

JsonNode *at_core_snapshot_clone(struct at_core *core, const struct at_actor *actor,
                                 const char *vdc, const char *snap, const char *new_name,
                                 const struct at_clone_options *o, GError **error)
{
    double_note(actor, "snapshot_clone %s %s %s%s %s%s%s", vdc, snap, new_name,
                o->fresh_identity ? " fresh" : " keep", o->gpu, o->isolated ? " isolated" : "",
                o->start ? " start" : "");
    return double_job(snap, error);
}

JsonNode *at_core_snapshot_restore(struct at_core *core, const struct at_actor *actor,
                                   const char *vdc, const char *snap, GError **error)
{
    double_note(actor, "snapshot_restore %s %s", vdc, snap);
    return double_job(snap, error);
}

void at_core_diff_async(struct at_core *core, const char *vdc_a, const char *snap_a,
                        const char *vdc_b, const char *snap_b, GAsyncReadyCallback callback,
                        void *user)
{
    double_note(NULL, "diff %s %s %s %s", vdc_a, snap_a, vdc_b, snap_b);
    g_autoptr(GTask) task = g_task_new(NULL, NULL, callback, user);
    GError *error = NULL;
    if (double_may(snap_a, &error))
        g_task_return_pointer(
            task,
            double_parse("{\"disks\":[{\"workstation\":\"retrieval\",\"name\":\"root\","
                         "\"changed_bytes\":4096,\"size\":1048576}]}"),
            (GDestroyNotify)json_node_unref);
    else
        g_task_return_error(task, error);
}

JsonNode *at_core_diff_finish(GAsyncResult *result, GError **error)
{
    return g_task_propagate_pointer(G_TASK(result), error);
}

/* ---- jobs ---- */

JsonNode *at_core_job_list(struct at_core *core, const char *state, const char *vdc, GError **error)
{
    double_note(NULL, "job_list %s %s", state ? state : "-", vdc ? vdc : "-");
    return double_list(job_view);
}

JsonNode *at_core_job_view(struct at_core *core, const char *id, GError **error)
{
    return double_job(id, error);
}

JsonNode *at_core_job_cancel(struct at_core *core, const struct at_actor *actor, const char *id,
                             GError **error)
{
    double_note(actor, "job_cancel %s", id);
    return double_job(id, error);
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
    JsonNode *event = double_parse(text);
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
