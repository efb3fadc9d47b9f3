/* SPDX-License-Identifier: Apache-2.0 */
/* Routes of the site itself: site, node, vault, and the description of this API. */
#include <string.h>

#include "api/handlers.h"
#include "base/json.h"

JsonNode *at_handle_site(struct at_request *r, GError **error)
{
    return at_core_site_view(r->api->core);
}

JsonNode *at_handle_node(struct at_request *r, GError **error)
{
    return at_core_node_view(r->api->core);
}

const char *at_api_openapi(void)
{
    g_autoptr(GBytes) bytes =
        g_resources_lookup_data("/atoll/openapi.json", G_RESOURCE_LOOKUP_FLAGS_NONE, NULL);
    return bytes ? g_bytes_get_data(bytes, NULL) : NULL; /* the text is static, with a NUL behind */
}

JsonNode *at_handle_openapi(struct at_request *r, GError **error)
{
    const char *text = at_api_openapi();
    at_reply_text(r->msg, "application/json", text, strlen(text));
    return NULL;
}

JsonNode *at_handle_vault_show(struct at_request *r, GError **error)
{
    return at_core_vault_view(r->api->core, error);
}

JsonNode *at_handle_vault_gc(struct at_request *r, GError **error)
{
    return at_core_vault_gc(r->api->core, &r->actor, error);
}

JsonNode *at_handle_vault_verify(struct at_request *r, GError **error)
{
    return at_core_vault_verify(r->api->core, &r->actor,
                                at_json_num(at_request_object(r), "sample_percent", 100), error);
}

JsonNode *at_handle_vault_reindex(struct at_request *r, GError **error)
{
    return at_core_vault_reindex(r->api->core, &r->actor, error);
}
