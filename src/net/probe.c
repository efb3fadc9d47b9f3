/* SPDX-License-Identifier: Apache-2.0 */
/* Health checks from inside a VDC. Addresses are literal and no proxy is asked, so GLib makes and
 * connects the socket in the calling thread, which is in the VDC's namespace, and starts no other
 * thread there. */
#include <arpa/inet.h>
#include <libsoup/soup.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "net/names.h"
#include "net/namespace.h"
#include "net/net.h"

struct probe {
    const char *path; /* of the namespace */
    const char *url;  /* HTTP, or NULL: TCP */
    const char *address;
    uint16_t port;
    int timeout_ms;
    GCancellable *cancellable;
    bool ok;
    GError *error;
    GMutex lock; /* guards done */
    GCond cond;
    bool done;
};

static unsigned whole_seconds(int ms)
{
    return (unsigned)(ms + 999) / 1000 + 1;
}

static bool tcp_inside(void *data, GError **error)
{
    struct probe *p = data;
    g_autoptr(GSocketClient) client = g_socket_client_new();
    g_autoptr(GSocketAddress) to = g_inet_socket_address_new_from_string(p->address, p->port);
    g_socket_client_set_enable_proxy(client, FALSE);
    g_socket_client_set_timeout(client, whole_seconds(p->timeout_ms));
    g_autoptr(GSocketConnection) connection =
        g_socket_client_connect(client, G_SOCKET_CONNECTABLE(to), p->cancellable, error);
    return connection != NULL;
}

static bool http_inside(void *data, GError **error)
{
    struct probe *p = data;
    g_autoptr(SoupSession) session =
        soup_session_new_with_options("proxy-resolver", NULL, "timeout",
                                      whole_seconds(p->timeout_ms), "user-agent", "atoll", NULL);
    g_autoptr(SoupMessage) message = soup_message_new(SOUP_METHOD_GET, p->url);
    soup_message_add_flags(message, SOUP_MESSAGE_NO_REDIRECT);
    soup_message_headers_replace(soup_message_get_request_headers(message), "Connection", "close");
    /* The answer's head is enough; its body is never read. */
    g_autoptr(GInputStream) body = soup_session_send(session, message, p->cancellable, error);
    if (!body)
        return false;
    unsigned status = soup_message_get_status(message);
    soup_session_abort(session);
    if (status < 200 || status > 399)
        return at_error(error, AT_ERROR_PEER, "answered %u %s", status,
                        soup_message_get_reason_phrase(message));
    return true;
}

static gpointer probe_thread(gpointer data)
{
    struct probe *p = data;
    p->ok = at_net_inside(p->path, p->url ? http_inside : tcp_inside, p, &p->error);
    g_mutex_lock(&p->lock);
    p->done = true;
    g_cond_signal(&p->cond);
    g_mutex_unlock(&p->lock);
    return NULL;
}

/* Runs it with a deadline for the whole: then everything in it that waits is cancelled. */
static bool run_probe(struct probe *p, const char *what, GError **error)
{
    int64_t deadline = at_deadline_ms(p->timeout_ms);
    g_autoptr(GCancellable) cancellable = g_cancellable_new();
    p->cancellable = cancellable;
    g_mutex_init(&p->lock);
    g_cond_init(&p->cond);
    GThread *thread = g_thread_try_new("at-probe", probe_thread, p, error);
    if (thread) {
        g_mutex_lock(&p->lock);
        while (!p->done && g_cond_wait_until(&p->cond, &p->lock, deadline))
            ;
        g_mutex_unlock(&p->lock);
        g_cancellable_cancel(cancellable);
        g_thread_join(thread);
    }
    g_mutex_clear(&p->lock);
    g_cond_clear(&p->cond);
    if (!thread || p->ok)
        return thread != NULL;
    g_autoptr(GError) cause = p->error;
    if (g_error_matches(cause, G_IO_ERROR, G_IO_ERROR_CANCELLED) ||
        g_error_matches(cause, G_IO_ERROR, G_IO_ERROR_TIMED_OUT))
        return at_error(error, AT_ERROR_TIMEOUT, "%s: no answer within %d ms", what, p->timeout_ms);
    return at_error(error,
                    cause->domain == AT_ERROR ? (enum at_error_code)cause->code : AT_ERROR_PEER,
                    "%s: %s", what, cause->message);
}

bool at_net_probe_http(const char *site_id, const char *vdc_id, const char *url, int timeout_ms,
                       GError **error)
{
    if (!at_net_check_id("site", site_id, error) || !at_net_check_id("VDC", vdc_id, error))
        return false;
    g_autoptr(GUri) uri = url ? g_uri_parse(url, SOUP_HTTP_URI_FLAGS, NULL) : NULL;
    uint32_t address;
    if (!uri || strcmp(g_uri_get_scheme(uri), "http") != 0 ||
        !at_net_address_parse(g_uri_get_host(uri), &address, NULL))
        return at_error(error, AT_ERROR_INVALID,
                        "'%s' is not a URL such as http://10.20.0.10:8000/health (with the "
                        "workstation's address)",
                        url ? url : "");
    g_autofree char *path = at_net_path_netns(site_id, vdc_id);
    struct probe probe = {.path = path, .url = url, .timeout_ms = timeout_ms};
    return run_probe(&probe, url, error);
}

bool at_net_probe_tcp(const char *site_id, const char *vdc_id, const char *address, uint16_t port,
                      int timeout_ms, GError **error)
{
    uint32_t number;
    if (!at_net_check_id("site", site_id, error) || !at_net_check_id("VDC", vdc_id, error) ||
        !at_net_address_parse(address, &number, error))
        return false;
    g_autofree char *path = at_net_path_netns(site_id, vdc_id);
    g_autofree char *what = g_strdup_printf("tcp %s:%u", address, port);
    struct probe probe = {.path = path, .address = address, .port = port, .timeout_ms = timeout_ms};
    return run_probe(&probe, what, error);
}
