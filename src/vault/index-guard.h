/* SPDX-License-Identifier: Apache-2.0 */
/* LMDB maps its file and trusts what is in it: a file that was damaged behind its back can end the
 * process in the middle of a look-up.  So that this happens once and not at every start, each
 * thread says when it is inside LMDB, and a process that dies there leaves a mark: a line in a
 * file.  Who finds it builds the index again from the packs (recover.c, damage.c). */
#pragma once
#include <stdbool.h>

#define AT_INDEX_MET "index"       /* the line of who met what cannot be true */
#define AT_INDEX_DIED "index died" /* of who died: the file is not to be looked into any more */

/* Once for the process: handlers of the signals of a death. They leave the mark, and hand on to
 * what was there before.  Not thread-safe. */
void at_index_guard_install(void);

/* This thread is inside LMDB until at_index_guard_leave(). @mark: path of the file of the mark,
 * which must live as long; NULL: there is none. Not nested. */
void at_index_guard_enter(const char *mark);
void at_index_guard_leave(void);

/* Adds a line to @path, which may be missing.  Async-signal-safe; never fails loudly. */
void at_index_guard_mark(const char *path, bool died);
