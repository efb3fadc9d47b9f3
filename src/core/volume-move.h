/* SPDX-License-Identifier: Apache-2.0 */
/* Writable volumes that go from one workstation of a VDC to another: their disks change hands, with
 * all that is on them. Worker threads. */
#pragma once
#include "core/core-internal.h"

/* Hands the disks of such volumes over between the records in @machines (not saved here): those
 * that a workstation of @before had, and that another one has in @after. @ret_moves: what has to
 * happen to the files once the records are committed, [{from, from_index, to, to_index, gen, uid}];
 * empty when nothing moves. */
JsonArray *at_volumes_move(struct at_core *core, const struct at_definition *before,
                           const struct at_definition *after, const GPtrArray *machines);
/* Moves the files; those that were moved already are passed over. Durable on return. Both machines
 * are off. */
bool at_volumes_move_files(struct at_core *core, JsonArray *moves, GError **error);
