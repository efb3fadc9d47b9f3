/* SPDX-License-Identifier: Apache-2.0 */
/* What happens after a verb has started a job: waiting with progress, and telling how it ended. */
#pragma once
#include "cli/cli.h"

/* @answer  the daemon's answer, {"job": ...}; taken
 * Waits (unless --no-wait) and prints the end; gives the exit code. Ctrl-C asks the daemon to
 * cancel the job, a second one leaves it running. */
int at_job_follow(struct at_cli *cli, JsonNode *answer);
/* The same for a job that runs already. */
int at_job_wait(struct at_cli *cli, const char *id);
