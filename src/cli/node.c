/* SPDX-License-Identifier: Apache-2.0 */
/* atoll node: this host. */
#include "base/json.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/text.h"

static int run_show(struct at_cli *cli, char **args)
{
    GError *error = NULL;
    g_autoptr(JsonNode) node = at_client_get(at_cli_client(cli), &error, "/v1/node");
    if (!node)
        return at_cli_fail(&error);
    if (at_cli_json(cli, node))
        return AT_EXIT_DONE;
    JsonArray *warnings = at_json_arr(at_cli_object(node), "warnings");
    g_autoptr(JsonArray) kept = warnings ? json_array_ref(warnings) : json_array_new();
    g_autoptr(JsonNode) copy = at_json_thaw(node);
    json_object_remove_member(json_node_get_object(copy), "warnings");
    at_cli_print_record(json_node_get_object(copy));
    for (unsigned i = 0; i < json_array_get_length(kept); i++)
        at_text_field("warning", json_array_get_string_element(kept, i));
    return AT_EXIT_DONE;
}

const struct at_verb at_verbs_node[] = {
    {"show", "", "show processors, memory, space and versions", "Example:\n  atoll node show\n",
     NULL, false, run_show},
    {0},
};
