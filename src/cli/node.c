/* SPDX-License-Identifier: Apache-2.0 */
/* atoll node: this host. */
#include "base/json.h"
#include "cli/cli.h"
#include "cli/client.h"

static int run_show(struct at_cli *cli, char **args)
{
    GError *error = NULL;
    g_autoptr(JsonNode) node = at_client_get(at_cli_client(cli), &error, "/v1/node");
    if (!node)
        return at_cli_fail(&error);
    if (!at_cli_json(cli, node))
        at_cli_print_record(at_cli_object(node));
    return AT_EXIT_DONE;
}

const struct at_verb at_verbs_node[] = {
    {"show", "", "show processors, memory, space and versions", "Example:\n  atoll node show\n",
     NULL, false, run_show},
    {0},
};
