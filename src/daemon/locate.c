/* SPDX-License-Identifier: Apache-2.0 */
/* Where our other programs are: the environment, the build tree, the installed places. */
#include <unistd.h>

#include "base/error.h"
#include "daemon/daemon.h"

char *at_locate(const char *what, const char *env, const char *build, const char *installed,
                GError **error)
{
    const char *given = g_getenv(env);
    if (given && access(given, R_OK) == 0)
        return g_strdup(given);
    if (given) {
        at_error(error, AT_ERROR_UNAVAILABLE, "%s: %s=%s is not there", what, env, given);
        return NULL;
    }
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *dir = self ? g_path_get_dirname(self) : g_strdup(".");
    g_autofree char *relative = g_build_filename(dir, build, NULL);
    g_autofree char *beside = g_canonicalize_filename(relative, NULL);
    if (access(beside, R_OK) == 0)
        return g_steal_pointer(&beside);
    if (access(installed, R_OK) == 0)
        return g_strdup(installed);
    at_error(error, AT_ERROR_UNAVAILABLE, "%s is neither at %s nor at %s; %s can name it", what,
             beside, installed, env);
    return NULL;
}
