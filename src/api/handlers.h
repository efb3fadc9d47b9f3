/* SPDX-License-Identifier: Apache-2.0 */
/* The handlers that routes.c names. Each is called with query and body already checked. */
#pragma once
#include "api/api-internal.h"

enum { AT_LOG_TAIL_MAX = 1024 * 1024, AT_LOG_TAIL_DEFAULT = 64 * 1024 };

JsonNode *at_handle_site(struct at_request *r, GError **error);
JsonNode *at_handle_node(struct at_request *r, GError **error);
JsonNode *at_handle_openapi(struct at_request *r, GError **error);
JsonNode *at_handle_vault_show(struct at_request *r, GError **error);
JsonNode *at_handle_vault_gc(struct at_request *r, GError **error);
JsonNode *at_handle_vault_verify(struct at_request *r, GError **error);
JsonNode *at_handle_vault_reindex(struct at_request *r, GError **error);

JsonNode *at_handle_vdc_list(struct at_request *r, GError **error);
JsonNode *at_handle_vdc_show(struct at_request *r, GError **error);
JsonNode *at_handle_vdc_put(struct at_request *r, GError **error);
JsonNode *at_handle_vdc_delete(struct at_request *r, GError **error);
JsonNode *at_handle_vdc_start(struct at_request *r, GError **error);
JsonNode *at_handle_vdc_stop(struct at_request *r, GError **error);
JsonNode *at_handle_vdc_restart(struct at_request *r, GError **error);
JsonNode *at_handle_vdc_undo(struct at_request *r, GError **error);

JsonNode *at_handle_workstation_show(struct at_request *r, GError **error);
JsonNode *at_handle_workstation_start(struct at_request *r, GError **error);
JsonNode *at_handle_workstation_stop(struct at_request *r, GError **error);
JsonNode *at_handle_workstation_restart(struct at_request *r, GError **error);
JsonNode *at_handle_workstation_log(struct at_request *r, GError **error);

JsonNode *at_handle_snapshot_list_all(struct at_request *r, GError **error);
JsonNode *at_handle_snapshot_list(struct at_request *r, GError **error);
JsonNode *at_handle_snapshot_create(struct at_request *r, GError **error);
JsonNode *at_handle_snapshot_show(struct at_request *r, GError **error);
JsonNode *at_handle_snapshot_manifest(struct at_request *r, GError **error);
JsonNode *at_handle_snapshot_delete(struct at_request *r, GError **error);
JsonNode *at_handle_snapshot_verify(struct at_request *r, GError **error);
JsonNode *at_handle_snapshot_clone(struct at_request *r, GError **error);
JsonNode *at_handle_snapshot_restore(struct at_request *r, GError **error);
JsonNode *at_handle_diff(struct at_request *r, GError **error);

JsonNode *at_handle_image_list(struct at_request *r, GError **error);
JsonNode *at_handle_image_create(struct at_request *r, GError **error);
JsonNode *at_handle_image_show(struct at_request *r, GError **error);
JsonNode *at_handle_image_delete(struct at_request *r, GError **error);
JsonNode *at_handle_image_export(struct at_request *r, GError **error);

JsonNode *at_handle_gpu_list(struct at_request *r, GError **error);
JsonNode *at_handle_gpu_show(struct at_request *r, GError **error);
JsonNode *at_handle_gpu_rescan(struct at_request *r, GError **error);
JsonNode *at_handle_gpu_plan(struct at_request *r, GError **error);
JsonNode *at_handle_gpu_reserve(struct at_request *r, GError **error);
JsonNode *at_handle_gpu_mix(struct at_request *r, GError **error);
JsonNode *at_handle_gpu_release(struct at_request *r, GError **error);
JsonNode *at_handle_gpu_test(struct at_request *r, GError **error);
JsonNode *at_handle_metrics(struct at_request *r, GError **error);

JsonNode *at_handle_job_list(struct at_request *r, GError **error);
JsonNode *at_handle_job_show(struct at_request *r, GError **error);
JsonNode *at_handle_job_cancel(struct at_request *r, GError **error);
