/* SPDX-License-Identifier: Apache-2.0 */
/* UEFI firmware for machines: where OVMF is, and each machine's variables. */
#include "qemu/firmware.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/json.h"
#include "qemu/machine-internal.h"

enum { VARS_MAX = 4 << 20 };

/* Where distributions have it: code, and a template of variables that belongs to it. */
static const struct {
    const char *code, *vars;
} places[] = {
    {"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"},
    {"/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"},
    {"/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"},
};

static bool find(unsigned *ret_place, GError **error)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(places); i++) {
        if (access(places[i].code, R_OK) == 0 && access(places[i].vars, R_OK) == 0) {
            *ret_place = i;
            return true;
        }
    }
    return at_error(error, AT_ERROR_UNAVAILABLE,
                    "firmware: uefi needs OVMF, which is not installed (package ovmf)");
}

static char *vars_path(const struct at_machine_config *c)
{
    return g_build_filename(c->dir, "vars.fd", NULL);
}

/* Of a machine that was cut off while its file was made the size is wrong. */
static bool is_there(const char *path, size_t size)
{
    struct stat st;
    return lstat(path, &st) == 0 && S_ISREG(st.st_mode) && (size_t)st.st_size == size;
}

bool at_firmware_prepare(const struct at_machine_config *c, GError **error)
{
    unsigned place;
    g_autofree char *path = vars_path(c), *text = NULL;
    g_autoptr(GError) local = NULL;
    gsize len;
    if (!c->uefi)
        return true;
    if (!find(&place, error))
        return false;
    if (!g_file_get_contents(places[place].vars, &text, &len, &local) || len > VARS_MAX)
        return at_error(error, AT_ERROR_IO, "read %s: %s", places[place].vars,
                        local ? local->message : "it is too large");
    if (!is_there(path, len)) {
        unlink(path);
        at_autofd fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0 || write(fd, text, len) != (ssize_t)len)
            return at_error_errno(error, errno, "write %s", path);
    }
    at_autofd fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fchown(fd, c->uid, c->gid) != 0 || fchmod(fd, 0600) != 0)
        return at_error_errno(error, errno, "give %s to user %u", path, (unsigned)c->uid);
    return true;
}

static void add_drive(GPtrArray *argv, const char *node, const char *path, bool readonly)
{
    JsonObject *o = json_object_new();
    g_autoptr(JsonNode) wrapped = at_json_take_obj(o);
    json_object_set_string_member(o, "driver", "file");
    json_object_set_string_member(o, "node-name", node);
    json_object_set_string_member(o, "filename", path);
    json_object_set_boolean_member(o, "read-only", readonly);
    g_autofree char *text = at_json_text(wrapped);
    at_machine_add_option(argv, "-blockdev", "%s", text);
}

char *at_firmware_options(GPtrArray *argv, const struct at_machine_config *c, GError **error)
{
    unsigned place;
    g_autofree char *path = vars_path(c);
    if (!c->uefi)
        return g_strdup("");
    if (!find(&place, error))
        return NULL;
    add_drive(argv, "fw-code", places[place].code, true);
    add_drive(argv, "fw-vars", path, false);
    return g_strdup(",pflash0=fw-code,pflash1=fw-vars");
}
