/* SPDX-License-Identifier: Apache-2.0 */
/* Steps that several kinds of jobs share. Their args: "vdc" (name), "id" (of the VDC), "ids"
 * ({workstation: machine id}). */
#pragma once
#include "core/job.h"

bool at_step_unrecord(struct at_job *job, GError **error);   /* undo of a new VDC's record */
bool at_step_make_files(struct at_job *job, GError **error); /* of all active machines */
bool at_step_network_up(struct at_job *job, GError **error);
bool at_step_network_down(struct at_job *job, GError **error); /* by "id" */
bool at_step_power_on(struct at_job *job, GError **error);     /* all that want to run */
