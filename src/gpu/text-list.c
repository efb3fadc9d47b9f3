/* SPDX-License-Identifier: Apache-2.0 */
/* Lists in messages. */
#include "gpu/text-list.h"

void at_gpu_list_add(GString *list, const char *format, ...)
{
    va_list ap;
    if (list->len > 0)
        g_string_append(list, ", ");
    va_start(ap, format);
    g_string_append_vprintf(list, format, ap);
    va_end(ap);
}

void at_gpu_list_more(GString *list, unsigned more)
{
    if (more > 0)
        g_string_append_printf(list, " and %u more", more);
}
