/* SPDX-License-Identifier: Apache-2.0 */
/* A guest agent that says what a script of fake-peer.h has it say. */
#pragma once
#include "qemu/agent.h"

enum { LONG_MS = 20000 };

/* The agent's own sentinel, then the id that it was asked for: how each script begins. */
#define SYNCED "< guest-sync-delimited", "id \xff{\"return\": %}"

struct at_agent *fake_agent(const char *const *script); /* aborts when it cannot be opened */
