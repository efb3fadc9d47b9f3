/* SPDX-License-Identifier: Apache-2.0 */
/* Attributes of sysfs (and of /proc): small files and links, read within limits. A file that is
 * missing, too long, no plain file or no text is unknown: NULL or false, never a guess. Any thread;
 * a FIFO or a device node in their place holds nobody up. Everywhere @name may have several parts,
 * and NULL is @dir itself. */
#pragma once
#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    AT_GPU_ATTR_MAX = 64 << 10, /* bytes of a file that are read; a longer one is unknown */
    AT_GPU_LIST_MAX = 1 << 14,  /* entries of a directory that are looked at */
};

/* The text of @dir/@name without blanks around it, made fit for records (base/plain.h): with its
 * line ends, or as one line; "" of an empty file. Newly allocated; NULL with errno, which is the
 * kernel's, or EINVAL (no plain file), EFBIG, EILSEQ (no text). */
char *at_gpu_attr_text(const char *dir, const char *name);
char *at_gpu_attr_line(const char *dir, const char *name);
/* A number and nothing else, of @base (16: with or without "0x"), at most @max. */
bool at_gpu_attr_number(const char *dir, const char *name, unsigned base, uint64_t max,
                        uint64_t *ret);
/* Up to @cap raw bytes from the beginning; how many there are (0: none, or unknown). */
size_t at_gpu_attr_bytes(const char *dir, const char *name, void *buf, size_t cap);
bool at_gpu_attr_exists(const char *dir, const char *name);
/* The last part of what a symbolic link points to, and the part before it; NULL when it is none. */
char *at_gpu_attr_link(const char *dir, const char *name);
char *at_gpu_attr_link_parent(const char *dir, const char *name);

/* Names in a directory, sorted by bytes, at most @max of those that @take wants (NULL: all); char*
 * with free func. NULL with errno when it cannot be opened. */
GPtrArray *at_gpu_attr_list(const char *dir, unsigned max, bool (*take)(const char *name));

/* What a process calls itself, in one line of at most 64 bytes; NULL: unknown. Newly allocated.
 * @proc  where processes are, "/proc" */
char *at_gpu_process_name(const char *proc, unsigned pid);

/* All of @text is a number of @base not above @max. */
bool at_gpu_number_parse(const char *text, unsigned base, uint64_t max, uint64_t *ret);
