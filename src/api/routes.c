/* SPDX-License-Identifier: Apache-2.0 */
/* The table of all routes, and how a path finds its own. */
#include <string.h>

#include "api/handlers.h"
#include "base/error.h"

#define END                                                                                        \
    {                                                                                              \
        NULL                                                                                       \
    }
#define TEXT(name, least, most)                                                                    \
    {                                                                                              \
        name, AT_PARAM_STRING, false, least, most                                                  \
    }
#define REQUIRED_TEXT(name, most)                                                                  \
    {                                                                                              \
        name, AT_PARAM_STRING, true, 1, most                                                       \
    }
#define FLAG(name)                                                                                 \
    {                                                                                              \
        name, AT_PARAM_BOOL, false, 0, 0                                                           \
    }
#define NUMBER(name, least, most)                                                                  \
    {                                                                                              \
        name, AT_PARAM_INT, false, least, most                                                     \
    }

enum { NAME_MAX_LEN = 63, PATH_MAX_LEN = 4095 };

static const struct at_param none[] = {END};

static const struct at_param events_query[] = {NUMBER("since", 0, INT64_MAX), END};
static const struct at_param put_query[] = {FLAG("dry_run"), FLAG("start"), END};
static const struct at_param delete_query[] = {FLAG("snapshots"), END};
static const struct at_param diff_query[] = {REQUIRED_TEXT("a", 127), REQUIRED_TEXT("b", 127), END};
static const struct at_param log_query[] = {NUMBER("tail", 1, AT_LOG_TAIL_MAX), END};
static const struct at_param jobs_query[] = {TEXT("state", 1, 32), TEXT("vdc", 1, NAME_MAX_LEN),
                                             END};

static const struct at_param some_workstations[] = {{"workstations", AT_PARAM_STRINGS, false, 0, 0},
                                                    END};
static const struct at_param stop_body[] = {{"workstations", AT_PARAM_STRINGS, false, 0, 0},
                                            NUMBER("timeout_s", 0, 86400),
                                            FLAG("force"),
                                            END};
static const struct at_param one_stop_body[] = {NUMBER("timeout_s", 0, 86400), FLAG("force"), END};
static const struct at_param snapshot_body[] = {TEXT("name", 1, NAME_MAX_LEN), FLAG("quiesce"),
                                                TEXT("description", 0, 4096), END};
static const struct at_param clone_body[] = {REQUIRED_TEXT("name", NAME_MAX_LEN),
                                             TEXT("identity", 1, 16),
                                             TEXT("gpu", 1, 16),
                                             FLAG("isolated"),
                                             FLAG("start"),
                                             END};
static const struct at_param restore_body[] = {FLAG("safety"), END};
static const struct at_param image_body[] = {REQUIRED_TEXT("name", NAME_MAX_LEN),
                                             TEXT("path", 1, PATH_MAX_LEN),
                                             {"build", AT_PARAM_OBJECT, false, 0, 0},
                                             END};
static const struct at_param export_body[] = {REQUIRED_TEXT("path", PATH_MAX_LEN),
                                              TEXT("format", 1, 16), END};
static const struct at_param reserve_body[] = {TEXT("reason", 1, 800), END};
static const struct at_param mix_body[] = {FLAG("on"), END};
static const struct at_param test_body[] = {TEXT("victim", 3, 127), TEXT("neighbour", 3, 127), END};
static const struct at_param verify_body[] = {{"sample_percent", AT_PARAM_NUMBER, false, 0, 100},
                                              END};

#define VDC "/v1/vdcs/{vdc}"
#define SNAPSHOT VDC "/snapshots/{snapshot}"
#define WORKSTATION VDC "/workstations/{workstation}"

const struct at_route at_routes[] = {
    /* method, path, answer, handler, query, body */
    {"GET", "/v1/site", AT_ANSWER_JSON, at_handle_site},
    {"GET", "/v1/node", AT_ANSWER_JSON, at_handle_node},
    {"GET", "/v1/openapi.json", AT_ANSWER_OWN, at_handle_openapi},
    {"GET", "/v1/events", AT_ANSWER_OWN, at_handle_events, events_query},

    {"GET", "/v1/vdcs", AT_ANSWER_JSON, at_handle_vdc_list},
    {"GET", VDC, AT_ANSWER_JSON, at_handle_vdc_show},
    {"PUT", VDC, AT_ANSWER_OWN, at_handle_vdc_put, put_query, NULL, true, AT_API_BODY_MAX},
    {"DELETE", VDC, AT_ANSWER_JOB, at_handle_vdc_delete, delete_query},
    {"POST", VDC "/start", AT_ANSWER_JOB, at_handle_vdc_start, NULL, some_workstations},
    {"POST", VDC "/stop", AT_ANSWER_JOB, at_handle_vdc_stop, NULL, stop_body},
    {"POST", VDC "/restart", AT_ANSWER_JOB, at_handle_vdc_restart, NULL, some_workstations},
    {"POST", VDC "/undo", AT_ANSWER_JOB, at_handle_vdc_undo, NULL, none},

    {"GET", WORKSTATION, AT_ANSWER_JSON, at_handle_workstation_show},
    {"POST", WORKSTATION "/start", AT_ANSWER_JOB, at_handle_workstation_start, NULL, none},
    {"POST", WORKSTATION "/stop", AT_ANSWER_JOB, at_handle_workstation_stop, NULL, one_stop_body},
    {"POST", WORKSTATION "/restart", AT_ANSWER_JOB, at_handle_workstation_restart, NULL, none},
    {"GET", WORKSTATION "/log", AT_ANSWER_OWN, at_handle_workstation_log, log_query},
    {"GET", "/v1/consoles/{vdc}/{workstation}", AT_ANSWER_UPGRADE, at_handle_console},

    {"GET", "/v1/snapshots", AT_ANSWER_JSON, at_handle_snapshot_list_all},
    {"GET", VDC "/snapshots", AT_ANSWER_JSON, at_handle_snapshot_list},
    {"POST", VDC "/snapshots", AT_ANSWER_JOB, at_handle_snapshot_create, NULL, snapshot_body},
    {"GET", SNAPSHOT, AT_ANSWER_JSON, at_handle_snapshot_show},
    {"DELETE", SNAPSHOT, AT_ANSWER_JOB, at_handle_snapshot_delete},
    {"GET", SNAPSHOT "/manifest", AT_ANSWER_OWN, at_handle_snapshot_manifest},
    {"POST", SNAPSHOT "/verify", AT_ANSWER_JOB, at_handle_snapshot_verify, NULL, none},
    {"POST", SNAPSHOT "/clone", AT_ANSWER_JOB, at_handle_snapshot_clone, NULL, clone_body},
    {"POST", SNAPSHOT "/restore", AT_ANSWER_JOB, at_handle_snapshot_restore, NULL, restore_body},
    {"GET", "/v1/diff", AT_ANSWER_OWN, at_handle_diff, diff_query},

    {"GET", "/v1/images", AT_ANSWER_JSON, at_handle_image_list},
    {"POST", "/v1/images", AT_ANSWER_JOB, at_handle_image_create, NULL, image_body, false,
     1024 * 1024},
    {"GET", "/v1/images/{image}", AT_ANSWER_JSON, at_handle_image_show},
    {"DELETE", "/v1/images/{image}", AT_ANSWER_JOB, at_handle_image_delete},
    {"POST", "/v1/images/{image}/export", AT_ANSWER_JOB, at_handle_image_export, NULL, export_body},

    {"GET", "/v1/gpus", AT_ANSWER_JSON, at_handle_gpu_list},
    {"GET", "/v1/gpus/{gpu}", AT_ANSWER_JSON, at_handle_gpu_show},
    {"POST", "/v1/gpus/rescan", AT_ANSWER_OWN, at_handle_gpu_rescan, NULL, none},
    {"POST", "/v1/gpus/plan", AT_ANSWER_JSON, at_handle_gpu_plan, NULL, NULL, true,
     AT_API_BODY_MAX},
    {"POST", "/v1/gpus/{gpu}/reserve", AT_ANSWER_JSON, at_handle_gpu_reserve, NULL, reserve_body},
    {"POST", "/v1/gpus/{gpu}/release", AT_ANSWER_JSON, at_handle_gpu_release, NULL, none},
    {"POST", "/v1/gpus/{gpu}/mix", AT_ANSWER_JSON, at_handle_gpu_mix, NULL, mix_body},
    {"POST", "/v1/gpus/{gpu}/test-isolation", AT_ANSWER_JOB, at_handle_gpu_test, NULL, test_body},
    {"GET", "/metrics", AT_ANSWER_OWN, at_handle_metrics},

    {"GET", "/v1/jobs", AT_ANSWER_JSON, at_handle_job_list, jobs_query},
    {"GET", "/v1/jobs/{job}", AT_ANSWER_JSON, at_handle_job_show},
    {"POST", "/v1/jobs/{job}/cancel", AT_ANSWER_JOB, at_handle_job_cancel, NULL, none},

    {"GET", "/v1/vault", AT_ANSWER_JSON, at_handle_vault_show},
    {"POST", "/v1/vault/gc", AT_ANSWER_JOB, at_handle_vault_gc, NULL, none},
    {"POST", "/v1/vault/verify", AT_ANSWER_JOB, at_handle_vault_verify, NULL, verify_body},
    {"POST", "/v1/vault/reindex", AT_ANSWER_JOB, at_handle_vault_reindex, NULL, none},
};
const unsigned at_n_routes = G_N_ELEMENTS(at_routes);

/* No name of anything is longer or has other characters (addresses of GPUs have colons); "." cannot
 * come first, so no path that is made from a name leads elsewhere. */
static bool is_name(const char *text)
{
    size_t len = strlen(text);
    if (len == 0 || len > 127 || !g_ascii_isalnum(text[0]))
        return false;
    for (; *text; text++) {
        if (!g_ascii_isalnum(*text) && !strchr("._-:", *text))
            return false;
    }
    return true;
}

static bool is_placeholder(const char *segment)
{
    return segment[0] == '{';
}

/* Same segments, apart from the names. */
static bool matches(const char *template, char **segments)
{
    g_auto(GStrv) parts = g_strsplit(template, "/", -1);
    if (g_strv_length(parts) != g_strv_length(segments))
        return false;
    for (unsigned i = 0; parts[i]; i++) {
        if (!is_placeholder(parts[i]) && strcmp(parts[i], segments[i]) != 0)
            return false;
    }
    return true;
}

static bool take_names(const char *template, char **segments, char **ret_names, GError **error)
{
    g_auto(GStrv) parts = g_strsplit(template, "/", -1);
    unsigned n = 0;
    for (unsigned i = 0; parts[i]; i++) {
        if (!is_placeholder(parts[i]))
            continue;
        g_autofree char *name = g_uri_unescape_segment(segments[i], NULL, "/");
        if (!name || !is_name(name)) {
            while (n > 0)
                g_clear_pointer(&ret_names[--n], g_free);
            return at_error(error, AT_ERROR_INVALID,
                            "%s in the path: \"%s\" cannot be a name; names have letters, digits, "
                            "\"-\", \"_\", \".\" and \":\"",
                            parts[i], segments[i]);
        }
        g_assert(n < AT_SEGMENTS_MAX);
        ret_names[n++] = g_steal_pointer(&name);
    }
    ret_names[n] = NULL;
    return true;
}

const struct at_route *at_route_find(const char *method, const char *path, char **ret_names,
                                     char **ret_allow, GError **error)
{
    g_auto(GStrv) segments = g_strsplit(path, "/", 16);
    g_autoptr(GString) allow = g_string_new(NULL);
    for (unsigned i = 0; i < at_n_routes; i++) {
        const struct at_route *route = &at_routes[i];
        if (!matches(route->path, segments))
            continue;
        bool get_as_head = strcmp(method, "HEAD") == 0 && strcmp(route->method, "GET") == 0 &&
                           route->answer == AT_ANSWER_JSON;
        if (strcmp(route->method, method) == 0 || get_as_head)
            return take_names(route->path, segments, ret_names, error) ? route : NULL;
        g_string_append_printf(allow, "%s%s", allow->len ? ", " : "", route->method);
    }
    if (allow->len == 0) {
        at_error(error, AT_ERROR_NOT_FOUND, "there is nothing at %s; see /v1/openapi.json", path);
        return NULL;
    }
    at_error(error, AT_ERROR_INVALID, "%s does not take %s; allowed: %s", path, method, allow->str);
    *ret_allow = g_string_free(g_steal_pointer(&allow), FALSE);
    return NULL;
}
