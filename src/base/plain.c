/* SPDX-License-Identifier: Apache-2.0 */
/* Text of guests, files and other programs, made fit for records and terminals. */
#include "base/plain.h"

#include <string.h>

bool at_plain_steers(gunichar c)
{
    return g_unichar_iscntrl(c) || (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

char *at_plain_text(const char *text, bool lines)
{
    g_autofree char *valid = g_utf8_make_valid(text, -1);
    GString *out = g_string_sized_new(strlen(valid));
    for (const char *p = valid; *p; p = g_utf8_next_char(p)) {
        gunichar c = g_utf8_get_char(p);
        g_string_append_unichar(out, at_plain_steers(c) && !(lines && c == '\n') ? ' ' : c);
    }
    return g_string_free(out, FALSE);
}

void at_plain_copy(char *buf, size_t cap, const char *text)
{
    g_autofree char *plain = at_plain_text(text, false);
    const char *end;
    if (g_strlcpy(buf, plain, cap) >= cap && !g_utf8_validate(buf, -1, &end))
        buf[end - buf] = '\0';
}
