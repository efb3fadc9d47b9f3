/* SPDX-License-Identifier: Apache-2.0 */
/* A VDC file of a stranger: every complaint, of the YAML or of the definition, names its place. */
#include <glib.h>

#include "base/error.h"
#include "fuzz/fuzz.h"
#include "wire/definition.h"
#include "wire/yaml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GError) error = NULL;
    const char *text = data ? (const char *)data : "";
    g_autoptr(at_yaml) yaml = at_yaml_parse("f.yaml", text, size, &error);
    if (!yaml) {
        g_assert_error(error, AT_ERROR, AT_ERROR_INVALID);
        g_assert_true(g_str_has_prefix(error->message, "f.yaml:"));
        return 0;
    }
    g_autofree char *pointer = NULL;
    g_autoptr(at_definition) def = at_definition_parse(at_yaml_root(yaml), &pointer, &error);
    if (!def) {
        g_assert_error(error, AT_ERROR, AT_ERROR_INVALID);
        g_autofree char *place = at_yaml_place(yaml, pointer);
        g_assert_true(g_str_has_prefix(place, "f.yaml:"));
    }
    return 0;
}
