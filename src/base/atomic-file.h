/* SPDX-License-Identifier: Apache-2.0 */
/* The one way to publish a file: write beside, fsync, rename, fsync the directory.
 * A crash leaves either the old file or the new one, whole; temporaries are named ".<name>.tmp-*".
 */
#pragma once
#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

/* Publishes @len bytes as @path with @mode. Durable on return. Any thread; blocks on disk.
 * Errors: NO_SPACE, IO, DENIED; then @path is as before and the temporary is gone, but for an error
 * of syncing the directory: then the new file is there, and may be gone after a crash. */
bool at_atomic_write(const char *path, const void *data, size_t len, mode_t mode, GError **error);

/* Renames within one directory or between two, then fsyncs both directories. */
bool at_rename_durable(const char *from, const char *to, GError **error);

/* Unlinks and fsyncs the directory; a missing file is success. After an error of syncing the file
 * is gone and may be back after a crash; a second call makes that good. */
bool at_unlink_durable(const char *path, GError **error);

/* fsync of a directory by path, of an open file by path. */
bool at_fsync_dir(const char *dir, GError **error);
bool at_fsync_file(const char *path, GError **error);

/* Writes all of @len at the current position; EINTR and short writes are continued. */
bool at_write_all(int fd, const void *data, size_t len, GError **error);

/* mkdir -p with @mode for what is missing, whose names are durable on return; existing directories
 * keep theirs. */
bool at_mkdirs(const char *dir, mode_t mode, GError **error);

/* rm -r, never following links, never crossing a mount; a missing tree is success. */
bool at_remove_tree(const char *dir, GError **error);
