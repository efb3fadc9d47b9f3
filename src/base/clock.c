/* SPDX-License-Identifier: Apache-2.0 */
/* Time: monotonic for deadlines and durations, RFC 3339 UTC for records. */
#include "base/clock.h"

int64_t at_clock_us(void)
{
    return g_get_monotonic_time();
}

int64_t at_deadline_ms(int64_t timeout_ms)
{
    return at_clock_us() + timeout_ms * 1000;
}

int at_deadline_left_ms(int64_t deadline_us)
{
    int64_t left = (deadline_us - at_clock_us() + 999) / 1000;
    return (int)CLAMP(left, 0, G_MAXINT);
}

char *at_clock_rfc3339(void)
{
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    g_autofree char *seconds = g_date_time_format(now, "%Y-%m-%dT%H:%M:%S");
    return g_strdup_printf("%s.%03dZ", seconds, g_date_time_get_microsecond(now) / 1000);
}
