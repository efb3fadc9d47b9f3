/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of processors as the kernel writes them. */
#include "base/cpulist.h"

#include "base/error.h"

/* A number below CPU_SETSIZE; *@p moves behind it. */
static bool number(const char **p, unsigned *ret)
{
    unsigned n = 0;
    if (!g_ascii_isdigit(**p))
        return false;
    for (; g_ascii_isdigit(**p); (*p)++) {
        n = n * 10 + (unsigned)(**p - '0');
        if (n >= CPU_SETSIZE)
            return false;
    }
    *ret = n;
    return true;
}

static bool range(const char **p, cpu_set_t *set)
{
    unsigned first, last;
    if (!number(p, &first))
        return false;
    last = first;
    if (**p == '-') {
        (*p)++;
        if (!number(p, &last) || last < first)
            return false;
    }
    for (unsigned cpu = first; cpu <= last; cpu++)
        CPU_SET(cpu, set);
    return true;
}

bool at_cpulist_parse(const char *text, cpu_set_t *ret_set, GError **error)
{
    cpu_set_t set;
    const char *p = text;
    bool ok;
    CPU_ZERO(&set);
    while ((ok = range(&p, &set)) && *p == ',')
        p++;
    if (!ok || (*p && !(*p == '\n' && !p[1])))
        return at_error(error, AT_ERROR_INVALID, "\"%s\" is not a list of processors such as 0-31",
                        text);
    *ret_set = set;
    return true;
}
