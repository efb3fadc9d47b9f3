/* SPDX-License-Identifier: Apache-2.0 */
/* The grammar of RFC 8259, strictly, before json-glib sees a text: that parser also takes comments,
 * bare words and assignments, recurses without a bound, and cuts strings at U+0000. */
#include "base/json-internal.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "base/error.h"

enum { MAX_DEPTH = 64 };

struct scan {
    const char *start, *p, *end;
    int depth;
    uint64_t members;
    const char *fault; /* what is wrong at p */
};

static bool wrong(struct scan *s, const char *what)
{
    if (!s->fault)
        s->fault = what;
    return false;
}

static void skip_space(struct scan *s)
{
    while (s->p < s->end && strchr(" \t\r\n", *s->p) && *s->p)
        s->p++;
}

static bool take(struct scan *s, char c)
{
    skip_space(s);
    if (s->p == s->end || *s->p != c)
        return false;
    s->p++;
    return true;
}

/* The four digits after \u; -1 when they are not. */
static int hex4(struct scan *s)
{
    int value = 0;
    for (int i = 0; i < 4; i++) {
        int digit = s->p < s->end ? g_ascii_xdigit_value(*s->p) : -1;
        if (digit < 0)
            return -1;
        value = value << 4 | digit;
        s->p++;
    }
    return value;
}

static bool scan_unicode(struct scan *s)
{
    int unit = hex4(s);
    if (unit < 0)
        return wrong(s, "\\u needs four hex digits");
    if (unit == 0)
        return wrong(s, "U+0000 in a string");
    if (unit >= 0xdc00 && unit <= 0xdfff)
        return wrong(s, "half a surrogate pair");
    if (unit < 0xd800 || unit > 0xdbff)
        return true;
    if (s->end - s->p < 2 || s->p[0] != '\\' || s->p[1] != 'u')
        return wrong(s, "half a surrogate pair");
    s->p += 2;
    unit = hex4(s);
    return (unit >= 0xdc00 && unit <= 0xdfff) || wrong(s, "half a surrogate pair");
}

static bool scan_string(struct scan *s)
{
    if (!take(s, '"'))
        return wrong(s, "a string was expected");
    while (s->p < s->end) {
        char c = *s->p;
        if ((unsigned char)c < 0x20)
            return wrong(s, "a control character in a string");
        s->p++;
        if (c == '"')
            return true;
        if (c != '\\')
            continue;
        if (s->p < s->end && *s->p == 'u') {
            s->p++;
            if (!scan_unicode(s))
                return false;
        } else if (s->p < s->end && *s->p && strchr("\"\\/bfnrt", *s->p)) {
            s->p++;
        } else {
            return wrong(s, "an unknown escape");
        }
    }
    return wrong(s, "a string without its end");
}

static bool scan_digits(struct scan *s)
{
    const char *from = s->p;
    while (s->p < s->end && g_ascii_isdigit(*s->p))
        s->p++;
    return s->p > from || wrong(s, "a digit was expected");
}

/* Integers fit in 64 bits, others in a double: nothing changes its value silently. */
static bool scan_number(struct scan *s)
{
    const char *from = s->p;
    bool integer = true;
    if (*s->p == '-')
        s->p++;
    const char *digits = s->p;
    if (!scan_digits(s))
        return false;
    if (*digits == '0' && s->p - digits > 1)
        return wrong(s, "a number with a leading zero");
    if (s->p < s->end && *s->p == '.') {
        integer = false;
        s->p++;
        if (!scan_digits(s))
            return false;
    }
    if (s->p < s->end && (*s->p == 'e' || *s->p == 'E')) {
        integer = false;
        s->p++;
        if (s->p < s->end && (*s->p == '+' || *s->p == '-'))
            s->p++;
        if (!scan_digits(s))
            return false;
    }
    g_autofree char *text = g_strndup(from, (size_t)(s->p - from));
    errno = 0;
    if (integer)
        g_ascii_strtoll(text, NULL, 10);
    if (integer ? errno == ERANGE : !isfinite(g_ascii_strtod(text, NULL)))
        return wrong(s, "a number out of range");
    return true;
}

static bool scan_word(struct scan *s)
{
    static const char *const words[] = {"true", "false", "null"};
    for (size_t i = 0; i < G_N_ELEMENTS(words); i++) {
        size_t len = strlen(words[i]);
        if ((size_t)(s->end - s->p) >= len && memcmp(s->p, words[i], len) == 0) {
            s->p += len;
            return true;
        }
    }
    return wrong(s, "a value was expected");
}

static bool scan_value(struct scan *s);

static bool scan_array(struct scan *s)
{
    if (take(s, ']'))
        return true;
    do {
        if (!scan_value(s))
            return false;
    } while (take(s, ','));
    return take(s, ']') || wrong(s, "\",\" or \"]\" was expected");
}

static bool scan_object(struct scan *s)
{
    if (take(s, '}'))
        return true;
    do {
        if (!scan_string(s))
            return false;
        s->members++;
        if (!take(s, ':'))
            return wrong(s, "\":\" was expected");
        if (!scan_value(s))
            return false;
    } while (take(s, ','));
    return take(s, '}') || wrong(s, "\",\" or \"}\" was expected");
}

static bool scan_value(struct scan *s)
{
    skip_space(s);
    if (s->p == s->end)
        return wrong(s, "a value was expected");
    char c = *s->p;
    if (c == '"')
        return scan_string(s);
    if (c == '-' || g_ascii_isdigit(c))
        return scan_number(s);
    if (c != '{' && c != '[')
        return scan_word(s);
    if (++s->depth > MAX_DEPTH)
        return wrong(s, "nested deeper than 64 levels");
    s->p++;
    bool ok = c == '{' ? scan_object(s) : scan_array(s);
    s->depth--;
    return ok;
}

bool at_json_check_syntax(const char *text, size_t len, uint64_t *ret_members, GError **error)
{
    struct scan s = {.start = text, .p = text, .end = text + len};
    bool ok = scan_value(&s);
    if (ok) {
        skip_space(&s);
        ok = s.p == s.end || wrong(&s, "text after the value");
    }
    if (!ok) {
        unsigned line = 1, column = 1;
        for (const char *p = text; p < s.p; p = g_utf8_next_char(p)) {
            column = *p == '\n' ? 1 : column + 1;
            line += *p == '\n';
        }
        return at_error(error, AT_ERROR_INVALID, "JSON:%u:%u: %s", line, column, s.fault);
    }
    *ret_members = s.members;
    return true;
}
