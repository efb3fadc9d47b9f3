/* SPDX-License-Identifier: Apache-2.0 */
/* Programs and files of the guest, by its agent. What a guest answers is not trusted: bounded, and
 * no more than text to show. Errors as in agent.h; PEER also when the guest's administrator has
 * switched the command off. All calls block. */
#pragma once
#include "qemu/agent.h"

enum { AT_AGENT_OUTPUT_MAX = 64 << 10 };

/* Writes a file of the guest anew. qemu-ga makes it with mode 0666 whatever its umask is: every
 * user of the guest can write to it, unless it lies in a directory that keeps them out. Nothing is
 * removed when it fails. */
bool at_agent_write_file(struct at_agent *agent, const char *path, GBytes *content, int timeout_ms,
                         GError **error);

/* Starts @argv (an absolute path first) with its output kept for at_agent_exec_poll(). It goes on
 * when the agent's connection is closed. */
bool at_agent_exec_start(struct at_agent *agent, const char *const *argv, int timeout_ms,
                         int64_t *ret_pid, GError **error);

struct at_agent_exec {
    bool ended;
    int status;            /* exit status; -1: killed by a signal */
    char *output, *errors; /* of stdout and stderr, at most AT_AGENT_OUTPUT_MAX, UTF-8 */
};
void at_agent_exec_clear(struct at_agent_exec *exec);

/* Whether it has ended. Once told, the agent forgets it. */
bool at_agent_exec_poll(struct at_agent *agent, int64_t pid, int timeout_ms,
                        struct at_agent_exec *ret_exec, GError **error);

/* Runs @argv to its end and sees to it that the agent keeps nothing of it. TIMEOUT when it goes on;
 * PEER with the first words of its stderr when it ends with another status than 0. */
bool at_agent_exec_run(struct at_agent *agent, const char *const *argv, int timeout_ms,
                       GError **error);
