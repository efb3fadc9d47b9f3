/* SPDX-License-Identifier: Apache-2.0 */
/* Names of PCI ids by libpci. pci_init() is not called: it looks for a way to the devices, and ends
 * the process when there is none. What it would set is set here. */
#include "gpu/pci-names.h"

#include <pci/pci.h>
#include <setjmp.h>
#include <string.h>

#include "base/plain.h"

struct at_pci_names {
    struct pci_access *access;
    char *file;
};

enum { NAME_MAX_BYTES = 256 };

/* Where libpci's error function goes, which must not return. */
static _Thread_local jmp_buf escape;

G_NORETURN static void give_up(char *text, ...)
{
    longjmp(escape, 1);
}

static void be_silent(char *text, ...)
{
}

struct at_pci_names *at_pci_names_open(const char *file)
{
    struct at_pci_names *names = g_new0(struct at_pci_names, 1);
    names->access = pci_alloc();
    names->access->error = give_up;
    names->access->warning = be_silent;
    names->access->debug = be_silent;
    names->access->id_lookup_mode = 0; /* no cache in somebody's home, no DNS */
    names->file = g_strdup(file);
    if (file)
        pci_set_name_list_path(names->access, names->file, 0);
    return names;
}

void at_pci_names_close(struct at_pci_names *names)
{
    if (!names)
        return;
    pci_cleanup(names->access);
    g_free(names->file);
    g_free(names);
}

/* A damaged list makes libpci give up once; it does not read it again after that. */
static char *look_up(struct at_pci_names *names, int what, int vendor, int device)
{
    char buf[NAME_MAX_BYTES];
    if (setjmp(escape) != 0)
        return NULL;
    int flags = what | PCI_LOOKUP_NO_NUMBERS | PCI_LOOKUP_NO_HWDB;
    const char *name = pci_lookup_name(names->access, buf, sizeof buf, flags, vendor, device);
    return name && *name && *name != '<' ? at_plain_text(name, false) : NULL;
}

char *at_pci_names_vendor(struct at_pci_names *names, uint16_t vendor)
{
    return look_up(names, PCI_LOOKUP_VENDOR, vendor, 0);
}

char *at_pci_names_device(struct at_pci_names *names, uint16_t vendor, uint16_t device)
{
    return look_up(names, PCI_LOOKUP_DEVICE, vendor, device);
}

char *at_pci_names_product(struct at_pci_names *names, uint16_t vendor, uint16_t device)
{
    char *name = at_pci_names_device(names, vendor, device);
    char *open = name && g_str_has_suffix(name, "]") ? strrchr(name, '[') : NULL;
    if (!open || open[1] == ']')
        return name;
    char *product = g_strndup(open + 1, strlen(open) - 2);
    g_free(name);
    return product;
}

char *at_pci_names_full(struct at_pci_names *names, uint16_t vendor, uint16_t device)
{
    g_autofree char *maker = at_pci_names_vendor(names, vendor);
    g_autofree char *name = at_pci_names_device(names, vendor, device);
    if (maker && name)
        return g_strdup_printf("%s %s", maker, name);
    if (maker)
        return g_strdup_printf("%s %04x", maker, device);
    return g_strdup_printf("%04x:%04x", vendor, device);
}
