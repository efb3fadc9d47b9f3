/* SPDX-License-Identifier: Apache-2.0 */
/* The serial console of a workstation on this terminal. */
#pragma once
#include "cli/cli.h"

/* Until Ctrl-], the end of standard input, or the other side ends it; gives the exit code.
 * Protocol: binary frames are bytes of the console in both directions; for every frame received a
 * text frame {"ack": N} gives back N bytes of credit, so that a guest that floods waits for us. */
int at_console_run(struct at_cli *cli, const char *vdc, const char *ws);
