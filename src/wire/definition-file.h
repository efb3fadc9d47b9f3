/* SPDX-License-Identifier: Apache-2.0 */
/* A definition from a YAML file, with the files that it names. */
#pragma once
#include "wire/definition.h"
#include "wire/yaml.h"

/* Reads @path ("-": standard input) and checks it as at_definition_parse() does.
 * cloud_init.user_data that begins with "#cloud-config" or "#!" is the text itself; otherwise it
 * names a file beside the YAML file, whose content is taken.
 * @ret_yaml  (may be NULL) the places of the file's values, for later complaints; the caller's
 * NULL with INVALID "team.yaml:12:14: workstations[0].memory: found ...", or NOT_FOUND, DENIED, IO
 * for the file itself. Blocks on disk. */
struct at_definition *at_definition_load(const char *path, struct at_yaml **ret_yaml,
                                         GError **error);
