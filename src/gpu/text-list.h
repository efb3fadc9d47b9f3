/* SPDX-License-Identifier: Apache-2.0 */
/* Lists in messages: "a, b and 3 more". */
#pragma once
#include <glib.h>

/* Appends one more to @list, behind a comma when there is one already. */
void at_gpu_list_add(GString *list, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* Says how many there are beside those that @list names; nothing for 0. */
void at_gpu_list_more(GString *list, unsigned more);
