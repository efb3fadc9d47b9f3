/* SPDX-License-Identifier: Apache-2.0 */
/* Runs inside of a guest, as its first program: reads the name of a disk from the console, reads
 * that disk with O_DIRECT, sequentially and then 4 KiB here and there, and prints both rates:
 * "READ vdb seq=MIB/S random=READS/S". Static; no shell and no driver but what the initrd loads. */
#include <fcntl.h>
#include <linux/fs.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 256 << 10, SEQUENTIAL = 192 << 20, SMALL = 4096, RANDOM_S = 4 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint64_t next(uint64_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x;
}

/* @round chooses the place, so that no round reads what an earlier one has read. */
static int measure(const char *name, unsigned round)
{
    char path[64];
    snprintf(path, sizeof path, "/dev/%s", name);
    int fd = open(path, O_RDONLY | O_DIRECT);
    uint64_t size = 0;
    void *buf = aligned_alloc(SMALL, BLOCK);
    if (fd < 0 || !buf || ioctl(fd, BLKGETSIZE64, &size) != 0 || size < 2ull * SEQUENTIAL) {
        perror(path);
        return 1;
    }
    off_t from =
        (off_t)((uint64_t)round * SEQUENTIAL % (size - SEQUENTIAL) & ~(uint64_t)(BLOCK - 1));
    double began = now();
    for (off_t at = from; at < from + SEQUENTIAL; at += BLOCK) {
        if (pread(fd, buf, BLOCK, at) != BLOCK) {
            perror("read");
            return 1;
        }
    }
    double seq = SEQUENTIAL / 1048576.0 / (now() - began);
    uint64_t x = 88172645463325252ull + round, reads = 0;
    began = now();
    while (now() - began < RANDOM_S) {
        if (pread(fd, buf, SMALL, (off_t)(next(&x) % (size / SMALL) * SMALL)) != SMALL) {
            perror("read");
            return 1;
        }
        reads++;
    }
    printf("READ %s seq=%.2f random=%.1f\n", name, seq, (double)reads / (now() - began));
    fflush(stdout);
    close(fd);
    free(buf);
    return 0;
}

int main(void)
{
    char line[64], name[32];
    unsigned round;
    printf("READY\n");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        if (sscanf(line, "%31s %u", name, &round) == 2 && measure(name, round) != 0)
            printf("READ %s failed\n", name);
        fflush(stdout);
    }
    return 0;
}
