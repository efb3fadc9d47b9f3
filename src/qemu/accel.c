/* SPDX-License-Identifier: Apache-2.0 */
/* Which accelerator: KVM is believed only after QEMU has run a guest on it (accel-guest.S), as the
 * machines will: same program, same processor, unprivileged. On some hosts /dev/kvm opens and then
 * hangs, on others a few instructions work and QEMU or the guest does not. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "qemu/machine-internal.h"

/* The BIOS gets the first, the guest the second. */
enum { BOOT_MS = 2000, RUN_MS = 1000, REAP_MS = 500, DISK_BYTES = 1 << 20, NOBODY = 65534 };
enum { AGAIN_MAX = 3 };

const char *at_machine_kvm_device = "/dev/kvm";
const char *at_machine_probe_program = AT_QEMU_PROGRAM;

extern const unsigned char at_accel_guest[] __attribute__((visibility("hidden")));
extern const unsigned char at_accel_guest_end[] __attribute__((visibility("hidden")));

/* Waits for @letter on the guest's debug port. *@ret_closed: QEMU let go of it. */
static bool hear(int fd, char letter, int timeout_ms, bool *ret_closed)
{
    int64_t deadline = at_deadline_ms(timeout_ms);
    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        char c;
        int n = poll(&p, 1, at_deadline_left_ms(deadline));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        if (read(fd, &c, 1) != 1) {
            *ret_closed = true;
            return false;
        }
        if (c == letter)
            return true;
    }
}

static int memory_file(const char *name, const void *data, size_t len, off_t size)
{
    at_autofd fd = memfd_create(name, MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, size) != 0 || pwrite(fd, data, len, 0) != (ssize_t)len)
        return -1;
    return at_steal_fd(&fd);
}

static char *last_line(int fd)
{
    char text[4096];
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    text[MAX(n, 0)] = '\0';
    g_strchomp(text);
    char *line = strrchr(text, '\n');
    line = line ? line + 1 : text;
    if (g_str_has_prefix(line, AT_QEMU_PROGRAM ": "))
        line += strlen(AT_QEMU_PROGRAM ": ");
    return g_utf8_make_valid(line, -1);
}

/* KVM's device usually belongs to a group; a machine's own user is in none. */
size_t at_machine_kvm_groups(enum at_accel accel, gid_t ret_groups[1])
{
    struct stat st;
    if (accel != AT_ACCEL_KVM || stat(at_machine_kvm_device, &st) != 0 || st.st_gid == 0)
        return 0;
    ret_groups[0] = st.st_gid;
    return 1;
}

struct probe {
    int disk, log, port, port_qemu;
};

static bool start_probe(const struct probe *probe, enum at_accel accel, struct at_process *ret,
                        GError **error)
{
    g_autofree char *program = at_find_program(at_machine_probe_program, "qemu-system-x86", error);
    g_autofree char *log_path = g_strdup_printf("/proc/self/fd/%d", probe->log);
    g_autofree char *disk = g_strdup_printf(
        "file,node-name=f,filename=/proc/self/fd/%d,read-only=on,locking=off", probe->disk);
    g_autofree char *port = g_strdup_printf("socket,id=p,fd=%d", probe->port_qemu);
    const int fds[] = {probe->disk, probe->port_qemu};
    bool kvm = accel == AT_ACCEL_KVM;
    gid_t groups[1];
    const char *const argv[] = {program,
                                "-nodefaults",
                                "-no-user-config",
                                "-display",
                                "none",
                                "-machine",
                                "pc-q35-7.2",
                                "-accel",
                                kvm ? "kvm" : "tcg",
                                "-cpu",
                                kvm ? "host" : "max",
                                "-smp",
                                "2",
                                "-m",
                                "64",
                                "-chardev",
                                port,
                                "-device",
                                "isa-debugcon,iobase=0xe9,chardev=p",
                                "-blockdev",
                                disk,
                                "-blockdev",
                                "raw,node-name=d,file=f,read-only=on",
                                "-device",
                                "virtio-blk-pci,drive=d,bootindex=0",
                                NULL};
    if (!program)
        return false;
    struct at_spawn spawn = {.argv = argv,
                             .uid = NOBODY,
                             .gid = NOBODY,
                             .groups = groups,
                             .n_groups = at_machine_kvm_groups(accel, groups),
                             .log_path = log_path,
                             .fds = fds,
                             .n_fds = G_N_ELEMENTS(fds)};
    if (geteuid() != 0)
        spawn.uid = 0;
    return at_spawn(&spawn, ret, error);
}

/* NULL when the guest ran, else why not; *@ret_expired: time ran out, nothing else failed. */
static char *run_probe(struct probe *probe, enum at_accel accel, bool *ret_expired)
{
    struct at_process process;
    g_autoptr(GError) error = NULL;
    if (!start_probe(probe, accel, &process, &error))
        return g_strdup(error->message);
    at_close_fd(&probe->port_qemu); /* its death is then heard */
    int64_t begin = at_clock_us();
    bool closed = false;
    bool booted = hear(probe->port, 'A', BOOT_MS, &closed);
    bool ran = booted && hear(probe->port, 'K', RUN_MS, &closed);
    bool died = closed || !at_process_alive(&process);
    int ms = (int)((at_clock_us() - begin) / 1000);
    at_process_kill(&process, SIGKILL, NULL);
    at_process_wait(&process, REAP_MS,
                    NULL); /* one stuck in the kernel is left: it holds nothing */
    if (ran)
        return NULL;
    g_autofree char *said = last_line(probe->log);
    if (died)
        return g_strdup_printf("QEMU ended while it ran a probe guest%s%s", *said ? ": " : "",
                               said);
    *ret_expired = true;
    return g_strdup_printf("a probe guest %s within %d ms",
                           booted ? "began but did not finish" : "did not begin", ms);
}

char *at_machine_try_accel(enum at_accel accel, bool *ret_expired)
{
    *ret_expired = false;
    size_t len = (size_t)(at_accel_guest_end - at_accel_guest);
    at_autofd disk = memory_file("accel-guest", at_accel_guest, len, DISK_BYTES);
    at_autofd log = memory_file("accel-log", "", 0, 0);
    int pair[2];
    if (accel == AT_ACCEL_KVM && access(at_machine_kvm_device, F_OK) != 0)
        return g_strdup_printf("this machine has no %s", at_machine_kvm_device);
    if (disk < 0 || log < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return g_strdup_printf("probe: %s", g_strerror(errno));
    struct probe probe = {disk, log, pair[0], pair[1]};
    char *reason = run_probe(&probe, accel, ret_expired);
    at_close_fd(&probe.port);
    at_close_fd(&probe.port_qemu);
    return reason;
}

static struct {
    GMutex lock; /* guards what follows */
    bool probed, expired;
    char *reason; /* why not; NULL once probed: KVM works */
    unsigned again;
} kvm;

enum at_accel at_machine_probe_accel(enum at_accel wanted, char **ret_reason, GError **error)
{
    g_autofree char *reason = NULL;
    if (ret_reason)
        *ret_reason = NULL;
    if (wanted == AT_ACCEL_TCG)
        return AT_ACCEL_TCG;
    g_mutex_lock(&kvm.lock);
    if (!kvm.probed)
        kvm.reason = at_machine_try_accel(AT_ACCEL_KVM, &kvm.expired);
    kvm.probed = true;
    reason = g_strdup(kvm.reason);
    g_mutex_unlock(&kvm.lock);
    if (!reason)
        return AT_ACCEL_KVM;
    if (wanted == AT_ACCEL_KVM) {
        at_error(error, AT_ERROR_UNAVAILABLE, "KVM does not work here: %s", reason);
        return AT_ACCEL_AUTO;
    }
    if (ret_reason)
        *ret_reason = g_strdup_printf("KVM does not work here: %s", reason);
    return AT_ACCEL_TCG;
}

bool at_machine_probe_again(void)
{
    g_mutex_lock(&kvm.lock);
    bool due = kvm.probed && kvm.expired && kvm.again < AGAIN_MAX;
    kvm.again += due;
    g_mutex_unlock(&kvm.lock);
    if (!due)
        return false;
    bool expired = false;
    char *reason = at_machine_try_accel(AT_ACCEL_KVM, &expired);
    g_mutex_lock(&kvm.lock);
    g_free(kvm.reason);
    kvm.reason = reason;
    kvm.expired = expired;
    bool more = expired && kvm.again < AGAIN_MAX;
    g_mutex_unlock(&kvm.lock);
    return more;
}

const char *at_accel_name(enum at_accel accel)
{
    return accel == AT_ACCEL_KVM ? "kvm" : accel == AT_ACCEL_TCG ? "tcg" : "auto";
}
