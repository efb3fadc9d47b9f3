/* SPDX-License-Identifier: Apache-2.0 */
/* Reading the health checks of a workstation: what they name must be the workstation itself. */
#include <string.h>

#include "wire/definition-internal.h"

enum { MAX_HEALTH = 16 };

/* The address of @ws that @host names: one of its own addresses, or its name (the first one). */
static const char *own_address(const struct at_def_workstation *ws, const char *host)
{
    for (unsigned i = 0; i < ws->nics->len; i++) {
        const struct at_def_nic *nic = ws->nics->pdata[i];
        if (strcmp(nic->address, host) == 0 || strcmp(ws->name, host) == 0)
            return nic->address;
    }
    return NULL;
}

/* "HOST[:PORT][REST]" with the host replaced by its address; NULL with the error set. */
static char *resolve(struct at_reader *r, const struct at_def_workstation *ws,
                     const struct at_place *at, const char *whole, const char *text, bool http)
{
    size_t n = strcspn(text, ":/");
    g_autofree char *host = g_strndup(text, n);
    unsigned long port = http ? 80 : 0;
    const char *rest = text + n;
    if (*rest == ':') {
        char *end;
        port = g_ascii_isdigit(rest[1]) ? strtoul(rest + 1, &end, 10) : 0;
        rest = port ? end : "?";
    }
    bool good = port >= 1 && port <= 65535 && (http ? *rest == '\0' || *rest == '/' : !*rest);
    for (const char *p = rest; *p; p++)
        good = good && g_ascii_isgraph(*p);
    if (!good) {
        at_place_fail(&r->check, at, "found \"%s\", allowed are %s", whole,
                      http ? "URLs such as http://10.20.0.10:8000/health"
                           : "an address and a port such as 10.20.0.10:5432");
        return NULL;
    }
    const char *address = own_address(ws, host);
    if (!address) {
        at_place_fail(&r->check, at,
                      "\"%s\" is not workstation %s; a health check names its own workstation or "
                      "one of its addresses",
                      host, ws->name);
        return NULL;
    }
    return g_strdup_printf("%s:%lu%s", address, port, rest);
}

static bool read_target(struct at_reader *r, const struct at_def_workstation *ws,
                        const struct at_place *at, JsonObject *obj, struct at_def_health *health)
{
    const char *http = NULL, *tcp = NULL;
    bool agent = false;
    if (!at_read_str(&r->check, at, obj, "http", false, &http) ||
        !at_read_str(&r->check, at, obj, "tcp", false, &tcp) ||
        !at_read_bool(&r->check, at, obj, "agent", &agent))
        return false;
    if ((http != NULL) + (tcp != NULL) + agent != 1)
        return at_place_fail(&r->check, at,
                             "needs exactly one of http: URL, tcp: ADDRESS:PORT and "
                             "agent: true");
    if (agent) {
        health->kind = g_strdup("agent");
        return true;
    }
    const char *kind = http ? "http" : "tcp", *text = http ? http : tcp;
    const struct at_place *here = AT_KEY(at, kind);
    if (http && !g_str_has_prefix(http, "http://"))
        return at_place_fail(&r->check, here,
                             "found \"%s\", allowed are URLs that begin with "
                             "http://",
                             http);
    g_autofree char *target = resolve(r, ws, here, text, http ? http + 7 : tcp, http != NULL);
    if (!target)
        return false;
    health->kind = g_strdup(kind);
    health->target = http ? g_strconcat("http://", target, NULL) : g_steal_pointer(&target);
    return true;
}

static bool read_health(struct at_reader *r, struct at_def_workstation *ws,
                        const struct at_place *at, JsonNode *node)
{
    static const char *const keys[] = {"http", "tcp", "agent", "every", "timeout", NULL};
    JsonObject *obj;
    if (!at_read_object(&r->check, at, node, keys, &obj))
        return false;
    struct at_def_health *health = g_new0(struct at_def_health, 1);
    g_ptr_array_add(ws->health, health);
    health->every_s = 10;
    if (!read_target(r, ws, at, obj, health) ||
        !at_read_seconds(&r->check, at, obj, "every", 1, 3600, &health->every_s))
        return false;
    health->timeout_s = MIN(5, health->every_s);
    return at_read_seconds(&r->check, at, obj, "timeout", 1, health->every_s, &health->timeout_s);
}

bool at_reader_health(struct at_reader *r, struct at_def_workstation *ws, const struct at_place *at,
                      JsonObject *obj)
{
    JsonArray *arr;
    const struct at_place *list = AT_KEY(at, "health");
    if (!at_read_list(&r->check, at, obj, "health", MAX_HEALTH, &arr))
        return false;
    for (unsigned i = 0; arr && i < json_array_get_length(arr); i++) {
        if (!read_health(r, ws, AT_INDEX(list, i), json_array_get_element(arr, i)))
            return false;
    }
    return true;
}
