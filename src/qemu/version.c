/* SPDX-License-Identifier: Apache-2.0 */
/* Which QEMU is installed. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "qemu/machine-internal.h"

enum { VERSION_MS = 10 * 1000 };

char *at_qemu_version(GError **error)
{
    const char *const argv[] = {AT_QEMU_PROGRAM, "--version", NULL};
    static const char intro[] = "QEMU emulator version ";
    g_autofree char *program = at_find_program(AT_QEMU_PROGRAM, "qemu-system-x86", error);
    g_autofree char *out = NULL;
    unsigned major, minor;
    if (!program || !at_run(argv, NULL, VERSION_MS, NULL, &out, error))
        return NULL;
    char *text = strstr(out, intro);
    if (!text || sscanf(text + strlen(intro), "%u.%u", &major, &minor) != 2) {
        at_error(error, AT_ERROR_PEER, "%s does not tell its version", program);
        return NULL;
    }
    text += strlen(intro);
    text[strcspn(text, " \n(")] = '\0';
    if (major < 7 || (major == 7 && minor < 2)) {
        at_error(error, AT_ERROR_UNAVAILABLE, "QEMU 7.2 or later is needed, %s is %s", program,
                 text);
        return NULL;
    }
    return g_strdup(text);
}
