/* SPDX-License-Identifier: Apache-2.0 */
/* Shared parts of the tests about workstations. */
#include "machine-config.h"

#include <string.h>

static const unsigned first_gen[] = {1};

struct at_machine_config config_in(const char *dir, const struct at_machine_disk *disks,
                                   unsigned n_disks)
{
    return (struct at_machine_config){.name = "team/desk",
                                      .uuid = "0a7c1e52-3f44-4d1b-9b4f-27e8a1a3b1aa",
                                      .vmgenid = "9a1c1e52-3f44-4d1b-9b4f-27e8a1a3b1bb",
                                      .dir = dir,
                                      .uid = OWNER,
                                      .gid = GROUP,
                                      .cpus = 1,
                                      .memory = 64 << 20,
                                      .accel = AT_ACCEL_TCG,
                                      .disks = disks,
                                      .n_disks = n_disks};
}

struct at_machine_disk empty_disk(unsigned index)
{
    return (struct at_machine_disk){
        .index = index, .size = 64 << 20, .gens = first_gen, .n_gens = 1};
}

const char *after(GStrv argv, const char *option, const char *start)
{
    for (int i = 0; argv[i] && argv[i + 1]; i++) {
        if (strcmp(argv[i], option) == 0 && g_str_has_prefix(argv[i + 1], start))
            return argv[i + 1];
    }
    return NULL;
}
