/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the metrics share. */
#pragma once
#include <glib.h>

/* Begins a family of metrics. */
void at_metrics_family(GString *out, const char *name, const char *type, const char *help);
/* @recs    at_gpu_rec*
 * @cards   of this host: struct at_gpu_card*
 * @faults  as struct at_core has them; may be NULL */
void at_metrics_gpus(GString *out, const GPtrArray *recs, const GPtrArray *cards,
                     GHashTable *faults);
