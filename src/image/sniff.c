/* SPDX-License-Identifier: Apache-2.0 */
/* Recognises image files by their own bytes, before any other program opens them: the format is
 * then told to qemu-img, never guessed by it, and headers that would make it open other files are
 * refused here. Formats: docs/interop/qcow2.txt of QEMU, VMware Virtual Disk Format 5.0,
 * MS-VHDX, the VHD specification. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "image/image-internal.h"

enum { HEAD = 65536, SECTOR = 512 };

struct head {
    const char *name;
    int fd;
    uint64_t size; /* of the file */
    size_t len;    /* of what was read */
    uint8_t bytes[HEAD];
    uint8_t tail[SECTOR]; /* the last sector, zeros for shorter files */
};

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static uint64_t be64(const uint8_t *p)
{
    return (uint64_t)be32(p) << 32 | be32(p + 4);
}

static uint64_t le64(const uint8_t *p)
{
    uint64_t v = 0;
    for (int i = 7; i >= 0; i--)
        v = v << 8 | p[i];
    return v;
}

/* Foreign text for a message: printable and short. */
static char *quote(const uint8_t *text, size_t len)
{
    GString *s = g_string_new(NULL);
    for (size_t i = 0; i < MIN(len, 200) && text[i]; i++)
        g_string_append_c(s, g_ascii_isprint(text[i]) ? (char)text[i] : '?');
    return g_string_free(s, FALSE);
}

/* ---- qcow2 ---- */
enum {
    QCOW2_DATA_FILE = 1 << 2,
    QCOW2_CORRUPT = 1 << 1,
    QCOW2_V2_HEADER = 72,
    QCOW2_V3_HEADER = 104
};

static bool check_qcow2(const struct head *h, GError **error)
{
    const uint8_t *b = h->bytes;
    uint32_t version = h->len >= QCOW2_V2_HEADER ? be32(b + 4) : 0;
    if (version != 2 && version != 3)
        return at_error(error, AT_ERROR_INVALID,
                        "%s is a qcow image of version %u; versions 2 and 3 can be imported",
                        h->name, version);
    uint64_t backing_offset = be64(b + 8);
    uint32_t backing_len = be32(b + 16);
    if (backing_offset != 0) {
        g_autofree char *backing = backing_offset < h->len && backing_len <= h->len - backing_offset
                                       ? quote(b + backing_offset, backing_len)
                                       : g_strdup("?");
        return at_error(error, AT_ERROR_INVALID,
                        "%s has the backing file \"%s\": an image must be whole; flatten it first "
                        "with qemu-img convert",
                        h->name, backing);
    }
    if (be32(b + 32) != 0)
        return at_error(error, AT_ERROR_INVALID, "%s is encrypted; decrypt it first", h->name);
    if (version == 3) {
        uint64_t incompatible = h->len >= QCOW2_V3_HEADER ? be64(b + 72) : 0;
        if (incompatible & QCOW2_DATA_FILE)
            return at_error(error, AT_ERROR_INVALID,
                            "%s keeps its data in another file; flatten it first with qemu-img "
                            "convert",
                            h->name);
        if (incompatible & QCOW2_CORRUPT)
            return at_error(error, AT_ERROR_INVALID,
                            "%s is marked as corrupt; repair it first with qemu-img check -r all",
                            h->name);
    }
    return true;
}

/* ---- VMDK ---- */
static bool refuse_extents(const struct head *h, const uint8_t *text, size_t len, GError **error)
{
    g_autofree char *copy = g_strndup((const char *)text, len);
    g_auto(GStrv) lines = g_strsplit_set(copy, "\r\n", -1);
    for (char **line = lines; *line; line++) {
        bool extent = g_str_has_prefix(*line, "RW ") || g_str_has_prefix(*line, "RDONLY ") ||
                      g_str_has_prefix(*line, "NOACCESS ");
        const char *file = extent ? strchr(*line, '"') : NULL;
        if (file) {
            g_autofree char *other = quote((const uint8_t *)file, strlen(file));
            return at_error(error, AT_ERROR_INVALID,
                            "%s is a VMDK descriptor whose data is in another file (%s); convert "
                            "it to one file first",
                            h->name, other);
        }
    }
    return at_error(error, AT_ERROR_INVALID, "%s is a VMDK descriptor without data of its own",
                    h->name);
}

static bool check_vmdk_sparse(const struct head *h, GError **error)
{
    uint64_t capacity = h->len >= SECTOR ? le64(h->bytes + 12) : 0;
    uint64_t descriptor = le64(h->bytes + 28) * SECTOR;
    uint64_t descriptor_len = le64(h->bytes + 36) * SECTOR;
    bool inside = descriptor > 0 && descriptor < h->len;
    size_t len = inside ? (size_t)MIN(descriptor_len, h->len - descriptor) : 0;
    if (capacity == 0) /* QEMU would then follow the extents of the embedded descriptor */
        return inside ? refuse_extents(h, h->bytes + descriptor, len, error)
                      : at_error(error, AT_ERROR_INVALID, "%s is a VMDK without capacity", h->name);
    g_autofree char *text = g_strndup((const char *)h->bytes + descriptor, len);
    const char *parent = inside ? strstr(text, "parentFileNameHint") : NULL;
    if (parent) {
        g_autofree char *name = quote((const uint8_t *)parent, strcspn(parent, "\r\n"));
        return at_error(error, AT_ERROR_INVALID,
                        "%s has a parent (%s): an image must be whole; flatten it first", h->name,
                        name);
    }
    return true;
}

/* ---- VDI and VHD ---- */
static bool check_vdi(const struct head *h, GError **error)
{
    const uint8_t *b = h->bytes;
    enum {
        IMAGE_TYPE = 0x4c,
        DATA_OFFSET = 0x158,
        BLOCK_SIZE = 0x178,
        ALLOCATED = 0x184,
        LEN = 0x200
    };
    if (h->len < LEN)
        return at_error(error, AT_ERROR_INVALID, "%s is a truncated VDI image", h->name);
#define LE32(o)                                                                                    \
    ((uint32_t)b[o] | (uint32_t)b[(o) + 1] << 8 | (uint32_t)b[(o) + 2] << 16 |                     \
     (uint32_t)b[(o) + 3] << 24)
    if (LE32(IMAGE_TYPE) != 1 && LE32(IMAGE_TYPE) != 2)
        return at_error(error, AT_ERROR_INVALID,
                        "%s is a VDI image that needs its parent; flatten it first", h->name);
    uint64_t end = LE32(DATA_OFFSET) + (uint64_t)LE32(ALLOCATED) * LE32(BLOCK_SIZE);
#undef LE32
    if (end > h->size)
        return at_error(error, AT_ERROR_INVALID,
                        "%s is truncated: its blocks end at byte %" G_GUINT64_FORMAT
                        ", the file has %" G_GUINT64_FORMAT,
                        h->name, end, h->size);
    return true;
}

static bool check_vpc(const struct head *h, GError **error)
{
    enum { DISK_TYPE = 0x3c, DIFFERENCING = 4 };
    const uint8_t *footer = memcmp(h->tail, "conectix", 8) == 0 ? h->tail : h->bytes;
    if (be32(footer + DISK_TYPE) == DIFFERENCING)
        return at_error(error, AT_ERROR_INVALID,
                        "%s is a differencing VHD that needs its parent; flatten it first",
                        h->name);
    if (footer != h->tail)
        return at_error(error, AT_ERROR_INVALID, "%s is truncated: a VHD ends with its footer",
                        h->name);
    return true;
}

static bool check_vhdx(const struct head *h, GError **error)
{
    return at_vhdx_check(h->fd, h->name, h->size, error);
}

static bool check_desc(const struct head *h, GError **error)
{
    return refuse_extents(h, h->bytes, h->len, error);
}

/* ---- the tables ---- */
static const struct {
    unsigned offset;
    const char *magic;
    unsigned len;
    const char *format;
    bool (*check)(const struct head *h, GError **error);
} formats[] = {
    {0, "QFI\xfb", 4, "qcow2", check_qcow2},
    {0, "KDMV", 4, "vmdk", check_vmdk_sparse},
    {0, "# Disk DescriptorFile", 21, "vmdk", check_desc},
    {0, "vhdxfile", 8, "vhdx", check_vhdx},
    {0, "conectix", 8, "vpc", check_vpc},
    {0x40, "\x7f\x10\xda\xbe", 4, "vdi", check_vdi},
};

static const struct {
    unsigned offset;
    const char *magic;
    unsigned len;
    const char *what;
} not_disks[] = {
    {0, "\x1f\x8b", 2, "compressed with gzip; unpack it first"},
    {0,
     "\xfd"
     "7zXZ",
     5, "compressed with xz; unpack it first"},
    {0, "\x28\xb5\x2f\xfd", 4, "compressed with zstd; unpack it first"},
    {0, "BZh", 3, "compressed with bzip2; unpack it first"},
    {0, "PK\x03\x04", 4, "a zip archive; unpack it first"},
    {0, "7z\xbc\xaf\x27\x1c", 6, "a 7z archive; unpack it first"},
    {257, "ustar", 5, "a tar archive (perhaps an OVA); unpack it first"},
    {0,
     "\x7f"
     "ELF",
     4, "a program"},
    {0, "#!", 2, "a script"},
    {0, "%PDF", 4, "a document"},
    {0, "\x89PNG", 4, "a picture"},
    {0, "\xff\xd8\xff", 3, "a picture"},
    {0, "SQLite format 3", 15, "a database"},
    {0, "!<arch>", 7, "a package or library"},
    {0, "LUKS\xba\xbe", 6, "an encrypted volume (LUKS); decrypt it first"},
    {0, "QED\0", 4, "a QED image, which is not supported; convert it to qcow2 first"},
    {0, "COWD", 4, "a VMDK of an old kind (COWD); convert it to qcow2 first"},
    {0, "WithoutFreeSpace", 16, "a Parallels image; convert it to qcow2 first"},
    {0, "WithouFreSpacExt", 16, "a Parallels image; convert it to qcow2 first"},
};

static bool has(const struct head *h, unsigned offset, const char *magic, unsigned len)
{
    return h->len >= offset + len && memcmp(h->bytes + offset, magic, len) == 0;
}

static bool is_text(const struct head *h)
{
    for (size_t i = 0; i < MIN(h->len, SECTOR); i++) {
        if (!g_ascii_isprint(h->bytes[i]) && !g_ascii_isspace(h->bytes[i]) && h->bytes[i] < 0x80)
            return false;
    }
    return true;
}

static bool check_raw(const struct head *h, GError **error)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(not_disks); i++) {
        if (has(h, not_disks[i].offset, not_disks[i].magic, not_disks[i].len))
            return at_error(error, AT_ERROR_INVALID, "%s is not a disk image: it is %s", h->name,
                            not_disks[i].what);
    }
    if (is_text(h))
        return at_error(error, AT_ERROR_INVALID, "%s is not a disk image: it is text", h->name);
    if (h->size % SECTOR != 0)
        return at_error(error, AT_ERROR_INVALID,
                        "%s is not a disk image, or is truncated: %" G_GUINT64_FORMAT
                        " bytes are not whole sectors of %d, and no known format begins it",
                        h->name, h->size, SECTOR);
    return true;
}

static bool read_at(int fd, void *buf, size_t len, off_t offset, size_t *ret_len)
{
    size_t done = 0;
    while (done < len) {
        ssize_t n = pread(fd, (char *)buf + done, len - done, offset + (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        if (n == 0)
            break;
        done += (size_t)n;
    }
    *ret_len = done;
    return true;
}

bool at_image_sniff(int fd, const char *name, char ret_format[static 16], GError **error)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return at_error_errno(error, errno, "%s", name);
    off_t end = S_ISBLK(st.st_mode) ? lseek(fd, 0, SEEK_END) : st.st_size;
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
        return at_error(error, AT_ERROR_INVALID, "%s is %s, not a disk image", name,
                        S_ISDIR(st.st_mode) ? "a directory" : "a special file");
    if (end <= 0)
        return at_error(error, AT_ERROR_INVALID, "%s is empty", name);
    g_autofree struct head *h = g_new0(struct head, 1);
    h->name = name;
    h->fd = fd;
    h->size = (uint64_t)end;
    size_t tail_len = 0;
    if (!read_at(fd, h->bytes, sizeof h->bytes, 0, &h->len) ||
        (end >= SECTOR && !read_at(fd, h->tail, SECTOR, end - SECTOR, &tail_len)))
        return at_error_errno(error, errno, "read %s", name);
    for (unsigned i = 0; i < G_N_ELEMENTS(formats); i++) {
        if (!has(h, formats[i].offset, formats[i].magic, formats[i].len))
            continue;
        if (formats[i].check && !formats[i].check(h, error))
            return false;
        g_strlcpy(ret_format, formats[i].format, 16);
        return true;
    }
    if (memcmp(h->tail, "conectix", 8) == 0) { /* a fixed VHD has its header at the end only */
        g_strlcpy(ret_format, "vpc", 16);
        return check_vpc(h, error);
    }
    if (!check_raw(h, error))
        return false;
    g_strlcpy(ret_format, "raw", 16);
    return true;
}
