/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of a workstation. The hardware is fixed here: the same definition gives the
 * same devices at the same addresses on every host, in every clone.
 *
 * PCI: network cards, disks, the seed and GPUs sit on PCIe root ports, in this order; the rest is
 * built into the root bus. There are no I/O threads: with QEMU 7.2 every change of the block graph
 * (overlays on top, bases swapped) would move nodes between event loops, and the main loop is
 * otherwise idle. */
#include <errno.h>
#include <string.h>

#include "base/digest.h"
#include "base/error.h"
#include "base/json.h"
#include "qemu/blockdev.h"
#include "qemu/firmware.h"
#include "qemu/machine-internal.h"
#include "qemu/unix-socket.h"

enum {
    MIB = 1 << 20,
    MAX_NICS = 8,
    MAX_DISKS = 30,
    NAME_MAX_LEN = 63,
    SERIAL_MAX = 20, /* virtio-blk: VIRTIO_BLK_ID_BYTES */
    SERIAL_HEAD = 11,
    PORTS_PER_SLOT = 8,
    NIC_SLOT = 2,  /* of the root bus: one slot for eight ports */
    DISK_SLOT = 4, /* four slots: disks and the seed */
    DISK_CHASSIS = 32,
    TB_SIZE_MIB = 256, /* translated code; the memory limit of the cgroup counts on it */
};

const char *const at_machine_socket_names[AT_MACHINE_N_SOCKETS] = {
    "qmp-a.sock", "qmp-b.sock", "qmp-c.sock", "serial.sock", "qga.sock"};

void at_machine_add_option(GPtrArray *argv, const char *option, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    g_ptr_array_add(argv, g_strdup(option));
    g_ptr_array_add(argv, g_strdup_vprintf(fmt, ap));
    va_end(ap);
}

#define add at_machine_add_option

/* A value inside of an option list: commas are doubled. */
static char *value(const char *text)
{
    g_auto(GStrv) parts = g_strsplit(text, ",", -1);
    return g_strjoinv(",,", parts);
}

static bool all_of(const char *text, const char *allowed)
{
    return *text && strspn(text, allowed) == strlen(text);
}

static bool check_disk(const struct at_machine_disk *disk, const char *nbd_socket, GError **error)
{
    struct at_digest digest;
    if (disk->index > 255)
        return at_error(error, AT_ERROR_INVALID, "disk %u: index is above 255", disk->index);
    if (disk->base_root && !at_digest_from_hex(disk->base_root, &digest, error)) {
        g_prefix_error(error, "disk %u: ", disk->index);
        return false;
    }
    if (disk->base_root && !nbd_socket)
        return at_error(error, AT_ERROR_INVALID, "disk %u has a base but there is no image server",
                        disk->index);
    if (disk->readonly ? !disk->base_root || disk->n_gens > 0 : disk->n_gens == 0)
        return at_error(error, AT_ERROR_INVALID,
                        disk->readonly ? "disk %u is read-only: it needs a base and no overlays"
                                       : "disk %u has no overlay to write to",
                        disk->index);
    if (disk->serial && (strlen(disk->serial) > NAME_MAX_LEN ||
                         !all_of(disk->serial, G_CSET_A_2_Z G_CSET_a_2_z G_CSET_DIGITS "-_.")))
        return at_error(error, AT_ERROR_INVALID,
                        "disk %u: serial \"%s\" must be 1 to %d letters, digits, '-', '_' or '.'",
                        disk->index, disk->serial, NAME_MAX_LEN);
    return true;
}

static bool check_config(const struct at_machine_config *c, GError **error)
{
    static const char hex[] = G_CSET_DIGITS "abcdefABCDEF";
    if (c->accel == AT_ACCEL_AUTO)
        return at_error(error, AT_ERROR_INVALID, "the accelerator is not decided");
    if (c->cpus < 1 || c->cpus > 255)
        return at_error(error, AT_ERROR_INVALID, "cpus must be 1 to 255, not %u", c->cpus);
    if (c->memory < 32 * MIB || c->memory % MIB != 0)
        return at_error(error, AT_ERROR_INVALID,
                        "memory must be whole MiB and at least 32 MiB, not %" G_GUINT64_FORMAT
                        " bytes",
                        c->memory);
    if (!g_uuid_string_is_valid(c->uuid))
        return at_error(error, AT_ERROR_INVALID, "\"%s\" is not a UUID", c->uuid);
    if (c->vmgenid && !g_uuid_string_is_valid(c->vmgenid))
        return at_error(error, AT_ERROR_INVALID, "\"%s\" is not a UUID", c->vmgenid);
    if (c->n_nics > MAX_NICS)
        return at_error(error, AT_ERROR_INVALID, "more than %d network cards", MAX_NICS);
    if (c->n_disks > MAX_DISKS)
        return at_error(error, AT_ERROR_INVALID, "more than %d disks", MAX_DISKS);
    if (c->dir[0] != '/')
        return at_error(error, AT_ERROR_INVALID, "%s is not an absolute path", c->dir);
    for (unsigned i = 0; i < c->n_nics; i++) {
        const char *mac = c->nics[i].mac;
        bool ok = strlen(mac) == 17;
        for (int k = 0; ok && k < 17; k++)
            ok = k % 3 == 2 ? mac[k] == ':' : strchr(hex, mac[k]) != NULL;
        if (!ok)
            return at_error(error, AT_ERROR_INVALID, "\"%s\" is not a MAC address", mac);
    }
    for (unsigned i = 0; i < c->n_disks; i++) {
        if (!check_disk(&c->disks[i], c->nbd_socket, error))
            return false;
        for (unsigned k = 0; k < i; k++) {
            if (c->disks[k].index == c->disks[i].index)
                return at_error(error, AT_ERROR_INVALID, "disk %u is there twice",
                                c->disks[i].index);
        }
    }
    return at_machine_check_gpus(c, error);
}

static bool add_board(GPtrArray *argv, const struct at_machine_config *c, GError **error)
{
    g_autofree char *firmware = at_firmware_options(argv, c, error);
    if (!firmware)
        return false;
    g_autofree char *name = value(c->name);
    add(argv, "-name", "guest=%s,debug-threads=on", name);
    g_ptr_array_add(argv, g_strdup("-nodefaults"));
    g_ptr_array_add(argv, g_strdup("-no-user-config"));
    /* A numbered machine type: the guest sees the same hardware after an upgrade of QEMU. */
    add(argv, "-machine", "pc-q35-7.2,memory-backend=ram0,usb=off,vmport=off,graphics=on%s",
        firmware);
    if (c->accel == AT_ACCEL_KVM) {
        add(argv, "-accel", "kvm");
        add(argv, "-cpu", "host");
    } else {
        add(argv, "-accel", "tcg,thread=multi,tb-size=%d", TB_SIZE_MIB);
        add(argv, "-cpu", "max");
    }
    add(argv, "-smp", "cpus=%u,sockets=1,cores=%u,threads=1", c->cpus, c->cpus);
    add(argv, "-m", "size=%" G_GUINT64_FORMAT "M", c->memory / MIB);
    g_autofree char *node = c->n_gpus > 0 && c->numa_node >= 0
                                ? g_strdup_printf(",host-nodes=%d,policy=preferred", c->numa_node)
                                : g_strdup("");
    add(argv, "-object", "memory-backend-ram,id=ram0,size=%" G_GUINT64_FORMAT "%s", c->memory,
        node);
    add(argv, "-uuid", "%s", c->uuid);
    add(argv, "-smbios", "type=1,manufacturer=Atoll,product=Workstation,uuid=%s", c->uuid);
    add(argv, "-rtc", "base=utc");
    add(argv, "-boot", "menu=off,strict=on");
    /* A guest that suspends itself would look dead. */
    add(argv, "-global", "ICH9-LPC.disable_s3=1");
    add(argv, "-global", "ICH9-LPC.disable_s4=1");
    add(argv, "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    add(argv, "-msg", "timestamp=on");
    return true;
}

static void add_consoles(GPtrArray *argv, const struct at_machine_config *c, const int *sockets)
{
    g_autofree char *dir = value(c->dir);
    static const char *const monitors[] = {"qmp-a", "qmp-b", "qmp-c"};
    for (unsigned i = 0; i < G_N_ELEMENTS(monitors); i++) {
        add(argv, "-chardev", "socket,id=%s,fd=%d,server=on,wait=off", monitors[i],
            sockets[AT_MACHINE_QMP_A + i]);
        add(argv, "-mon", "chardev=%s,mode=control", monitors[i]);
    }
    add(argv, "-chardev",
        "socket,id=serial0,fd=%d,server=on,wait=off,logfile=%s/console.log,logappend=on",
        sockets[AT_MACHINE_SERIAL], dir);
    add(argv, "-device", "isa-serial,chardev=serial0");
    add(argv, "-device", "virtio-serial-pci,id=vserial,bus=pcie.0,addr=0x10");
    add(argv, "-chardev", "socket,id=agent0,fd=%d,server=on,wait=off", sockets[AT_MACHINE_AGENT]);
    add(argv, "-device",
        "virtserialport,bus=vserial.0,nr=1,chardev=agent0,name=org.qemu.guest_agent.0");
    add(argv, "-device", "VGA,id=vga,vgamem_mb=8,bus=pcie.0,addr=0x1");
    add(argv, "-display", "none");
    add(argv, "-vnc", "unix:%s/u/vnc.sock", dir);
    add(argv, "-object", "rng-random,id=rng0,filename=/dev/urandom");
    add(argv, "-device", "virtio-rng-pci,rng=rng0,bus=pcie.0,addr=0x11");
    if (c->vmgenid)
        add(argv, "-device", "vmgenid,id=vmgenid,guid=%s", c->vmgenid);
    add(argv, "-device", "pvpanic"); /* a kernel that panics ends QEMU: seen as a crash */
}

void at_machine_add_port(GPtrArray *argv, const char *id, unsigned slot, unsigned n,
                         unsigned chassis)
{
    add(argv, "-device", "pcie-root-port,id=%s,bus=pcie.0,addr=0x%x.0x%x,%schassis=%u,slot=%u", id,
        slot + n / PORTS_PER_SLOT, n % PORTS_PER_SLOT,
        n % PORTS_PER_SLOT == 0 ? "multifunction=on," : "", chassis + n, chassis + n);
}

static void add_nics(GPtrArray *argv, const struct at_machine_config *c)
{
    for (unsigned i = 0; i < c->n_nics; i++) {
        const struct at_machine_nic *nic = &c->nics[i];
        g_autofree char *port = g_strdup_printf("pn%u", nic->index);
        at_machine_add_port(argv, port, NIC_SLOT, i, 1);
        /* No vhost: the kernel would write into guest memory behind the back of the sandbox, and of
         * the write protection that a snapshot of RAM relies on. */
        add(argv, "-netdev", "tap,id=net%u,fd=%d,vhost=off", nic->index, nic->tap_fd);
        add(argv, "-device",
            "virtio-net-pci,id=nic%u,netdev=net%u,mac=%s,bus=%s,romfile=", nic->index, nic->index,
            nic->mac, port);
    }
}

static void add_blockdev(GPtrArray *argv, JsonNode *node)
{
    g_autofree char *json = at_json_text(node);
    add(argv, "-blockdev", "%s", json);
}

/* What the guest sees: a name that is too long becomes its head and a hash of all of it, which
 * docs/man/atoll-vdc.5 promises. */
static char *serial_of(const struct at_machine_disk *disk)
{
    struct at_digest digest;
    if (!disk->serial)
        return g_strdup_printf("d%u", disk->index);
    if (strlen(disk->serial) <= SERIAL_MAX)
        return g_strdup(disk->serial);
    at_digest_of(disk->serial, strlen(disk->serial), &digest);
    g_autofree char *hex = at_digest_dup_hex(&digest);
    return g_strdup_printf("%.*s-%.8s", SERIAL_HEAD, disk->serial, hex);
}

static void add_disk(GPtrArray *argv, const struct at_machine_config *c, unsigned position)
{
    const struct at_machine_disk *disk = &c->disks[position];
    g_autofree char *port = g_strdup_printf("pd%u", disk->index);
    g_autoptr(JsonArray) chain = at_blockdev_chain(c->dir, c->nbd_socket, disk->index,
                                                   disk->base_root, disk->gens, disk->n_gens);
    for (unsigned i = 0; i < json_array_get_length(chain); i++)
        add_blockdev(argv, json_array_get_element(chain, i));
    g_autofree char *top = disk->n_gens > 0
                               ? at_blockdev_overlay_node(disk->index, disk->gens[disk->n_gens - 1])
                               : at_blockdev_base_node(disk->index, disk->base_root);
    g_autofree char *serial = serial_of(disk);
    g_autofree char *boot = position == 0 ? g_strdup(",bootindex=0") : g_strdup("");
    at_machine_add_port(argv, port, DISK_SLOT, position, DISK_CHASSIS);
    add(argv, "-device",
        "virtio-blk-pci,id=disk%u,drive=%s,bus=%s,serial=%s,werror=stop,rerror=stop%s", disk->index,
        top, port, serial, boot);
}

/* The seed is a virtio disk: every kernel that boots from disk0 has the driver, while cloud kernels
 * lack IDE and SCSI. It is found by its label. */
static void add_seed(GPtrArray *argv, const struct at_machine_config *c)
{
    JsonObject *file = json_object_new();
    g_autoptr(JsonNode) node = at_json_take_obj(file);
    json_object_set_string_member(file, "driver", "file");
    json_object_set_string_member(file, "node-name", "seed-f");
    json_object_set_string_member(file, "filename", c->seed_path);
    json_object_set_boolean_member(file, "read-only", TRUE);
    add_blockdev(argv, node);
    JsonObject *raw = json_object_new();
    g_autoptr(JsonNode) raw_node = at_json_take_obj(raw);
    json_object_set_string_member(raw, "driver", "raw");
    json_object_set_string_member(raw, "node-name", "seed");
    json_object_set_string_member(raw, "file", "seed-f");
    json_object_set_boolean_member(raw, "read-only", TRUE);
    add_blockdev(argv, raw_node);
    at_machine_add_port(argv, "pseed", DISK_SLOT, c->n_disks, DISK_CHASSIS);
    add(argv, "-device", "virtio-blk-pci,id=seed0,drive=seed,bus=pseed,serial=seed");
}

GStrv at_machine_build_argv(const struct at_machine_config *config, const char *program,
                            const int sockets[AT_MACHINE_N_SOCKETS],
                            const struct at_iommufd *iommufd, GError **error)
{
    if (!check_config(config, error))
        return NULL;
    g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);
    g_ptr_array_add(argv, g_strdup(program));
    if (!add_board(argv, config, error))
        return NULL;
    add_consoles(argv, config, sockets);
    add_nics(argv, config);
    for (unsigned i = 0; i < config->n_disks; i++)
        add_disk(argv, config, i);
    if (config->seed_path)
        add_seed(argv, config);
    at_machine_add_gpus(argv, config, iommufd);
    if (config->paused)
        g_ptr_array_add(argv, g_strdup("-S"));
    g_ptr_array_add(argv, NULL);
    return (GStrv)g_ptr_array_free(g_steal_pointer(&argv), FALSE);
}

GStrv at_machine_argv(const struct at_machine_config *config, GError **error)
{
    static const int shown[AT_MACHINE_N_SOCKETS] = {3, 4, 5, 6, 7};
    struct at_iommufd iommufd = AT_IOMMUFD_NONE;
    if (config->iommufd) {
        iommufd = (struct at_iommufd){.iommu = 8, .n = AT_IOMMUFD_MAX};
        for (int i = 0; i < AT_IOMMUFD_MAX; i++)
            iommufd.devices[i] = iommufd.iommu + 1 + i;
    }
    return at_machine_build_argv(config, AT_QEMU_PROGRAM, shown, &iommufd, error);
}
