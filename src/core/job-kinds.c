/* SPDX-License-Identifier: Apache-2.0 */
/* Every kind of job there is: a restart finds the one that a record names here. */
#include "core/vdc.h"

const struct at_job_kind *const at_job_kinds[] = {
    &at_job_vdc_create,      &at_job_vdc_change,
    &at_job_vdc_start,       &at_job_vdc_stop,
    &at_job_vdc_restart,     &at_job_vdc_delete,
    &at_job_snapshot_create, &at_job_snapshot_delete,
    &at_job_snapshot_verify, &at_job_clone,
    &at_job_restore,         &at_job_vault_gc,
    &at_job_vault_verify,    &at_job_vault_reindex,
    &at_job_reconcile,       &at_job_image_import,
    &at_job_image_build,     &at_job_image_export,
    &at_job_image_delete,    &at_job_snapshot_seal,
    &at_job_gpu_test,        NULL,
};
