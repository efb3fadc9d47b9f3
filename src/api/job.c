/* SPDX-License-Identifier: Apache-2.0 */
/* Routes of jobs. */
#include "api/handlers.h"

JsonNode *at_handle_job_list(struct at_request *r, GError **error)
{
    return at_core_job_list(r->api->core, at_request_query(r, "state"), at_request_query(r, "vdc"),
                            error);
}

JsonNode *at_handle_job_show(struct at_request *r, GError **error)
{
    return at_core_job_view(r->api->core, r->names[0], error);
}

JsonNode *at_handle_job_cancel(struct at_request *r, GError **error)
{
    return at_core_job_cancel(r->api->core, &r->actor, r->names[0], error);
}
