/* SPDX-License-Identifier: Apache-2.0 */
/* GET /metrics, for Prometheus. */
#include <string.h>

#include "api/handlers.h"

JsonNode *at_handle_metrics(struct at_request *r, GError **error)
{
    g_autofree char *text = at_core_metrics(r->api->core, error);
    if (text)
        at_reply_text(r->msg, "text/plain; version=0.0.4; charset=utf-8", text, strlen(text));
    return NULL;
}
