/* SPDX-License-Identifier: Apache-2.0 */
/* The load that runs inside of a test guest, and that can tell whether what it finds is one
 * instant.
 *
 *   guest-load [ram=MIB] [net=server | net=ADDRESS] [verify]
 *
 * Disks: on every disk there is a load area of SLOTS slots behind a header. Round after round one
 * slot is written on disk 0, then its header with the number of the round, then the same on disk 1,
 * and so on. So at any one instant: each slot is whole and names a round that is not above the
 * header's by more than one, and the headers of two disks are equal or the earlier is one ahead.
 * Network: the client stores a number on its disk, sends it and waits; the server stores it and
 * answers. So at one instant for both machines the client's is the server's or one more.
 * RAM: pages are rewritten and checked at random.
 * It begins with a check of what is there ("FOUND ..."), goes on from it, and reports four times a
 * second ("LOAD ..."). With `verify` it only checks. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    SECTOR = 4096,
    SLOT_BYTES = 64 * 1024,
    SLOTS = 192,
    MAX_DISKS = 8,
    NET_PORT = 7000,
    PAUSE_US = 2000,
    REPORT_US = 250 * 1000,
};
static const uint64_t magic = 0x41746f6c6c4c6f61;   /* "AtollLoa" */
static const uint64_t boot_disk_area = 48ull << 20; /* behind the partition that was booted from */

/* The first words of each sector; the rest of it is filled with `sum`. */
struct stamp {
    uint64_t magic, round, slot, sector, sum;
};

struct disk {
    char path[16];
    int fd;
    uint64_t area;  /* where the header is; the network's sector and the slots follow */
    uint64_t round; /* last one in the header */
    uint64_t net;   /* last number in the network's sector */
    uint64_t bad;   /* sectors that are not what they must be */
    uint64_t used;  /* slots that were written */
};

static struct disk disks[MAX_DISKS];
static unsigned n_disks;
static volatile uint64_t rounds, io_errors, reads, ram_bad, ram_checked, net_number, net_bad;

static uint64_t mix(uint64_t a, uint64_t b)
{
    uint64_t x = a * 0x9e3779b97f4a7c15 ^ b * 0xc2b2ae3d27d4eb4f;
    x ^= x >> 29;
    x *= 0xbf58476d1ce4e5b9;
    return x ^ x >> 32;
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    return *state ^= *state << 17;
}

static void fill(void *sector, uint64_t round, uint64_t slot, uint64_t index)
{
    struct stamp stamp = {magic, round, slot, index, mix(round, slot * 64 + index)};
    uint64_t *words = sector;
    for (unsigned i = 0; i < SECTOR / 8; i++)
        words[i] = stamp.sum;
    memcpy(sector, &stamp, sizeof stamp);
}

static bool is_zero(const void *sector)
{
    const uint64_t *words = sector;
    for (unsigned i = 0; i < SECTOR / 8; i++) {
        if (words[i] != 0)
            return false;
    }
    return true;
}

static bool is_whole(const void *sector, uint64_t round, uint64_t slot, uint64_t index)
{
    static __thread uint8_t expected[SECTOR];
    fill(expected, round, slot, index);
    return memcmp(sector, expected, SECTOR) == 0;
}

static void *aligned(size_t len)
{
    void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        exit(1);
    return p;
}

static void put(const struct disk *d, const void *data, size_t len, uint64_t offset)
{
    if (pwrite(d->fd, data, len, (off_t)(d->area + offset)) != (ssize_t)len)
        io_errors++;
}

static bool get(const struct disk *d, void *data, size_t len, uint64_t offset)
{
    if (pread(d->fd, data, len, (off_t)(d->area + offset)) == (ssize_t)len)
        return true;
    io_errors++;
    return false;
}

static uint64_t slot_offset(uint64_t slot)
{
    return 2 * SECTOR + slot * SLOT_BYTES;
}

/* Header (slot number SLOTS) or the network's sector (SLOTS + 1): its round, 0 when unwritten. */
static uint64_t read_mark(struct disk *d, void *buf, uint64_t which)
{
    struct stamp stamp;
    if (!get(d, buf, SECTOR, which == SLOTS ? 0 : SECTOR) || is_zero(buf))
        return 0;
    memcpy(&stamp, buf, sizeof stamp);
    if (is_whole(buf, stamp.round, which, 0))
        return stamp.round;
    d->bad++;
    return 0;
}

static void check_slot(struct disk *d, uint8_t *buf, uint64_t slot)
{
    struct stamp stamp;
    if (!get(d, buf, SLOT_BYTES, slot_offset(slot)))
        return;
    memcpy(&stamp, buf, sizeof stamp);
    if (stamp.magic == 0) {
        for (unsigned i = 0; i < SLOT_BYTES / SECTOR; i++)
            d->bad += !is_zero(buf + i * SECTOR);
        return;
    }
    d->used++;
    for (unsigned i = 0; i < SLOT_BYTES / SECTOR; i++)
        d->bad += !is_whole(buf + i * SECTOR, stamp.round, slot, i);
    if (stamp.round > d->round + 1)
        d->bad++;
}

static void check_disks(void)
{
    uint8_t *buf = aligned(SLOT_BYTES);
    bool order = true;
    for (unsigned k = 0; k < n_disks; k++) {
        struct disk *d = &disks[k];
        d->round = read_mark(d, buf, SLOTS);
        d->net = read_mark(d, buf, SLOTS + 1);
        for (uint64_t slot = 0; slot < SLOTS; slot++)
            check_slot(d, buf, slot);
        if (k > 0 && d[-1].round != d->round && d[-1].round != d->round + 1)
            order = false;
        if (d->round > rounds)
            rounds = d->round;
        printf("FOUND disk=%s round=%lu used=%lu net=%lu bad=%lu\n", d->path, d->round, d->used,
               d->net, d->bad);
    }
    if (n_disks > 0)
        net_number = disks[0].net;
    printf("FOUND all disks=%u order=%s errors=%lu\n", n_disks, order ? "good" : "BROKEN",
           io_errors);
    fflush(stdout);
}

static bool has_boot_record(int fd)
{
    uint8_t *buf = aligned(SECTOR);
    return pread(fd, buf, SECTOR, 0) == SECTOR && buf[510] == 0x55 && buf[511] == 0xaa;
}

static void find_disks(void)
{
    for (char letter = 'a'; letter <= 'z' && n_disks < MAX_DISKS; letter++) {
        struct disk *d = &disks[n_disks];
        uint64_t size = 0;
        int readonly = 0;
        snprintf(d->path, sizeof d->path, "/dev/vd%c", letter);
        d->fd = open(d->path, O_RDWR | O_DIRECT | O_CLOEXEC);
        if (d->fd < 0)
            continue;
        ioctl(d->fd, BLKGETSIZE64, &size);
        ioctl(d->fd, BLKROGET, &readonly);
        d->area = has_boot_record(d->fd) ? boot_disk_area : 0;
        if (readonly || size < d->area + slot_offset(SLOTS))
            close(d->fd);
        else
            n_disks++;
    }
}

static void *write_disks(void *unused)
{
    uint8_t *slot_buf = aligned(SLOT_BYTES), *mark = aligned(SECTOR);
    uint64_t state = 88172645463325252 ^ rounds;
    for (;;) {
        uint64_t round = rounds + 1, slot = next_random(&state) % SLOTS;
        for (unsigned k = 0; k < n_disks; k++) {
            struct disk *d = &disks[k];
            for (unsigned i = 0; i < SLOT_BYTES / SECTOR; i++)
                fill(slot_buf + i * SECTOR, round, slot, i);
            put(d, slot_buf, SLOT_BYTES, slot_offset(slot));
            fill(mark, round, SLOTS, 0);
            put(d, mark, SECTOR, 0);
            if (round % 16 == 0)
                fsync(d->fd);
        }
        rounds = round;
        usleep(PAUSE_US);
    }
    return unused;
}

static void *read_disks(void *unused)
{
    uint8_t *buf = aligned(SLOT_BYTES);
    uint64_t state = 777;
    for (;;) {
        const struct disk *d = &disks[next_random(&state) % n_disks];
        if (get(d, buf, SLOT_BYTES, slot_offset(next_random(&state) % SLOTS)))
            reads++;
        usleep(2 * PAUSE_US);
    }
    return unused;
}

static void *dirty_ram(void *mib)
{
    uint64_t pages = (uint64_t)(uintptr_t)mib * 256, state = 4711;
    uint8_t *ram = aligned(pages * SECTOR);
    uint64_t *round = calloc(pages, sizeof *round);
    for (uint64_t i = 0; i < pages; i++)
        fill(ram + i * SECTOR, 0, i, 0);
    for (;;) {
        for (int k = 0; k < 100; k++) {
            uint64_t i = next_random(&state) % pages;
            ram_bad += !is_whole(ram + i * SECTOR, round[i], i, 0);
            fill(ram + i * SECTOR, ++round[i], i, 0);
            ram_checked++;
        }
        usleep(50 * 1000);
    }
    return NULL;
}

static void store_number(void *mark)
{
    if (n_disks == 0)
        return;
    fill(mark, net_number, SLOTS + 1, 0);
    put(&disks[0], mark, SECTOR, SECTOR);
}

static void serve(void *mark)
{
    int on = 1, s = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(NET_PORT)};
    setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(s, (struct sockaddr *)&addr, sizeof addr) != 0 || listen(s, 4) != 0)
        return;
    for (;;) {
        int c = accept(s, NULL, NULL);
        uint64_t number;
        while (recv(c, &number, 8, MSG_WAITALL) == 8) {
            if (number != net_number + 1 && number != net_number)
                net_bad++;
            net_number = number;
            store_number(mark);
            if (send(c, &number, 8, MSG_NOSIGNAL) != 8)
                break;
        }
        close(c);
    }
}

static void ask(const char *address, void *mark)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(NET_PORT)};
    int on = 1;
    inet_pton(AF_INET, address, &addr.sin_addr);
    for (;; sleep(1)) {
        int s = socket(AF_INET, SOCK_STREAM, 0);
        setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (connect(s, (struct sockaddr *)&addr, sizeof addr) == 0) {
            for (uint64_t answer;; usleep(PAUSE_US)) {
                net_number++;
                store_number(mark);
                uint64_t number = net_number;
                if (send(s, &number, 8, MSG_NOSIGNAL) != 8 || recv(s, &answer, 8, MSG_WAITALL) != 8)
                    break;
                if (answer != number)
                    net_bad++;
            }
            net_number--; /* not known to have arrived; it is sent again */
        }
        close(s);
    }
}

static void *talk(void *role)
{
    void *mark = aligned(SECTOR);
    if (strcmp(role, "server") == 0)
        serve(mark);
    else
        ask(role, mark);
    return NULL;
}

int main(int argc, char **argv)
{
    unsigned long ram_mib = 0;
    char *role = NULL;
    bool only_verify = false;
    pthread_t thread;
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "ram=", 4) == 0)
            ram_mib = strtoul(argv[i] + 4, NULL, 10);
        else if (strncmp(argv[i], "net=", 4) == 0)
            role = argv[i] + 4;
        else if (strcmp(argv[i], "verify") == 0)
            only_verify = true;
    }
    find_disks();
    check_disks();
    if (only_verify)
        return 0;
    if (n_disks > 0) {
        pthread_create(&thread, NULL, write_disks, NULL);
        pthread_create(&thread, NULL, read_disks, NULL);
    }
    if (ram_mib > 0)
        pthread_create(&thread, NULL, dirty_ram, (void *)(uintptr_t)ram_mib);
    if (role)
        pthread_create(&thread, NULL, talk, role);
    for (uint64_t n = 1;; n++) {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        printf("LOAD n=%lu round=%lu reads=%lu errors=%lu ram_checked=%lu ram_bad=%lu net=%lu "
               "net_bad=%lu time=%ld.%03ld\n",
               n, rounds, reads, io_errors, ram_checked, ram_bad, net_number, net_bad,
               (long)now.tv_sec, now.tv_nsec / 1000000);
        fflush(stdout);
        usleep(REPORT_US);
    }
}
