/* SPDX-License-Identifier: Apache-2.0 */
/* Opening the connection to a guest agent that follows a script. */
#include "fake-agent.h"

#include "fake-peer.h"

struct at_agent *fake_agent(const char *const *script)
{
    g_autoptr(GError) error = NULL;
    struct at_agent *agent = at_agent_open(fake_peer(script), LONG_MS, &error);
    g_assert_no_error(error);
    return agent;
}
