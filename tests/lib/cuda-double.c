/* SPDX-License-Identifier: Apache-2.0 */
/* Stands where a guest's libcuda.so.1 would, with its interface: a card whose memory is a file that
 * processes share, or the process's own. CUDA_DOUBLE names the file; CUDA_DOUBLE_MODE, or else
 * /etc/cuda-double, is a list of words:
 *   memory=MIB  of the card (16)          rate=MIB   that a copy runs at per second (256)
 *   gpus=N      that there are (1)        init=CODE  what cuInit() returns (0)
 *   parts=N     the card is cut into      part=K     this process has part K of them, from 0
 *   turns       copies take turns         leak       memory is given as its last owner left it
 *   flip        a copy changes a byte of another process's memory
 *   rot         a copy changes a byte of what it has not written
 *   stuck       a copy never ends          hampered   the same, beside another process's memory
 *   fail=NAME   that function returns CUDA_ERROR_UNKNOWN (not cuInit: init=999)
 * Nothing but the C library: the tiny guest has it, too. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* Declared anew from NVIDIA's manual, so that what one side has wrong is seen. */
typedef unsigned long long cu_pointer;
typedef int cu_device;
typedef void *cu_context;
enum {
    CUDA_SUCCESS = 0,
    CUDA_ERROR_INVALID_VALUE = 1,
    CUDA_ERROR_OUT_OF_MEMORY = 2,
    CUDA_ERROR_NOT_INITIALIZED = 3,
    CUDA_ERROR_NO_DEVICE = 100,
    CUDA_ERROR_INVALID_DEVICE = 101,
    CUDA_ERROR_INVALID_CONTEXT = 201,
    CUDA_ERROR_SYSTEM_NOT_READY = 802,
    CUDA_ERROR_UNKNOWN = 999,
};

#define EXPORT __attribute__((visibility("default")))
#define SLOTS 1000u
#define BASE 0x7f0000000000ull /* of the addresses that are given out */
#define PAGE ((uint64_t)1 << 20)

struct slot {
    uint64_t at, len;
    int pid;
};

struct head {
    int64_t due_ns; /* when the engine that all share is done */
    struct slot slots[SLOTS];
};

static struct {
    char mode[512];
    uint64_t memory, rate; /* bytes, MiB per second */
    uint64_t from, until;  /* what this process can have of the memory */
    int64_t due_ns;
    struct head *head;
    uint8_t *bytes;
    int fd, turn_fd; /* of the file; the second one is locked while a copy runs in turns */
    bool started, current;
} card;

static const char *mode_of(const char *name)
{
    size_t len = strlen(name);
    for (const char *word = card.mode; word; word = strchr(word, ' ')) {
        word += strspn(word, " \n");
        if (strncmp(word, name, len) == 0 && strchr("= \n", word[len]))
            return word + len + (word[len] == '=');
    }
    return NULL;
}

static uint64_t number_of(const char *name, uint64_t otherwise)
{
    const char *text = mode_of(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

static bool fails(const char *name)
{
    const char *which = mode_of("fail");
    size_t len = strlen(name);
    return which && strncmp(which, name, len) == 0 && strchr(" \n", which[len]);
}

static void read_mode(void)
{
    const char *text = getenv("CUDA_DOUBLE_MODE");
    int fd = text ? -1 : open("/etc/cuda-double", O_RDONLY | O_CLOEXEC);
    if (text)
        snprintf(card.mode, sizeof card.mode, "%s", text);
    if (fd >= 0) {
        ssize_t n = read(fd, card.mode, sizeof card.mode - 1);
        card.mode[n > 0 ? n : 0] = 0;
        close(fd);
    }
}

static void lock(bool on)
{
    if (card.fd >= 0)
        while (flock(card.fd, on ? LOCK_EX : LOCK_UN) != 0 && errno == EINTR)
            ;
}

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* The engine has its rate whatever this machine's load is: who comes late has to wait less. */
static void wait_for(uint64_t bytes, int64_t *due)
{
    int64_t now = now_ns();
    if (*due < now - 300000000)
        *due = now;
    *due += (int64_t)(bytes * 1000000000u / (card.rate << 20));
    struct timespec t = {*due / 1000000000, *due % 1000000000};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
        ;
}

EXPORT int cuInit(unsigned flags);
int cuInit(unsigned flags)
{
    const char *path = getenv("CUDA_DOUBLE");
    read_mode();
    if (number_of("init", 0))
        return (int)number_of("init", 0);
    card.memory = number_of("memory", 16) << 20;
    card.rate = number_of("rate", 256);
    uint64_t part = card.memory / number_of("parts", 1);
    card.from = part * number_of("part", 0);
    card.until = card.from + part;
    size_t len = sizeof *card.head + card.memory;
    card.fd = path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (path && (card.fd < 0 || ftruncate(card.fd, (off_t)len) != 0))
        return CUDA_ERROR_UNKNOWN;
    card.turn_fd = -1;
    if (path) {
        char turns[512];
        snprintf(turns, sizeof turns, "%s.turns", path);
        card.turn_fd = open(turns, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    }
    card.head = mmap(NULL, len, PROT_READ | PROT_WRITE,
                     path ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS, card.fd, 0);
    if (card.head == MAP_FAILED)
        return CUDA_ERROR_UNKNOWN;
    card.bytes = (uint8_t *)(card.head + 1);
    card.started = true;
    return CUDA_SUCCESS;
}

EXPORT int cuGetErrorString(int result, const char **text);
int cuGetErrorString(int result, const char **text)
{
    static const struct {
        int result;
        const char *text;
    } known[] = {
        {CUDA_SUCCESS, "no error"},
        {CUDA_ERROR_INVALID_VALUE, "invalid argument"},
        {CUDA_ERROR_OUT_OF_MEMORY, "out of memory"},
        {CUDA_ERROR_NOT_INITIALIZED, "initialization error"},
        {CUDA_ERROR_NO_DEVICE, "no CUDA-capable device is detected"},
        {CUDA_ERROR_INVALID_DEVICE, "invalid device ordinal"},
        {CUDA_ERROR_INVALID_CONTEXT, "invalid device context"},
        {CUDA_ERROR_SYSTEM_NOT_READY, "system not yet initialized"},
        {CUDA_ERROR_UNKNOWN, "unknown error"},
    };
    for (unsigned i = 0; i < sizeof known / sizeof *known; i++) {
        if (known[i].result == result) {
            *text = known[i].text;
            return CUDA_SUCCESS;
        }
    }
    *text = NULL;
    return CUDA_ERROR_INVALID_VALUE;
}

EXPORT int cuDeviceGetCount(int *count);
int cuDeviceGetCount(int *count)
{
    if (fails("cuDeviceGetCount"))
        return CUDA_ERROR_UNKNOWN;
    if (!card.started)
        return CUDA_ERROR_NOT_INITIALIZED;
    *count = (int)number_of("gpus", 1);
    return CUDA_SUCCESS;
}

EXPORT int cuDeviceGet(cu_device *device, int ordinal);
int cuDeviceGet(cu_device *device, int ordinal)
{
    if (fails("cuDeviceGet"))
        return CUDA_ERROR_UNKNOWN;
    *device = ordinal;
    return ordinal < (int)number_of("gpus", 1) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

EXPORT int cuDeviceGetName(char *name, int len, cu_device device);
int cuDeviceGetName(char *name, int len, cu_device device)
{
    if (fails("cuDeviceGetName"))
        return CUDA_ERROR_UNKNOWN;
    snprintf(name, (size_t)len, "CUDA \"double\" %d", device);
    return CUDA_SUCCESS;
}

EXPORT int cuDevicePrimaryCtxRetain(cu_context *context, cu_device device);
int cuDevicePrimaryCtxRetain(cu_context *context, cu_device device)
{
    if (fails("cuDevicePrimaryCtxRetain"))
        return CUDA_ERROR_UNKNOWN;
    *context = (cu_context)&card;
    return CUDA_SUCCESS;
}

EXPORT int cuCtxSetCurrent(cu_context context);
int cuCtxSetCurrent(cu_context context)
{
    if (fails("cuCtxSetCurrent"))
        return CUDA_ERROR_UNKNOWN;
    card.current = context == (cu_context)&card;
    return card.current ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

EXPORT int cuCtxSynchronize(void);
int cuCtxSynchronize(void)
{
    if (fails("cuCtxSynchronize"))
        return CUDA_ERROR_UNKNOWN;
    return CUDA_SUCCESS;
}

/* Locked: what a process that has ended had is free. */
static uint64_t reap(void)
{
    uint64_t used = 0;
    for (unsigned i = 0; i < SLOTS; i++) {
        struct slot *s = &card.head->slots[i];
        if (s->len && kill(s->pid, 0) != 0 && errno == ESRCH)
            s->len = 0;
        used += s->at >= card.from && s->at < card.until ? s->len : 0;
    }
    return used;
}

EXPORT int cuMemGetInfo_v2(size_t *free, size_t *total);
int cuMemGetInfo_v2(size_t *free, size_t *total)
{
    if (fails("cuMemGetInfo_v2"))
        return CUDA_ERROR_UNKNOWN;
    if (!card.current)
        return CUDA_ERROR_INVALID_CONTEXT;
    lock(true);
    *total = card.until - card.from;
    *free = *total - reap();
    lock(false);
    return CUDA_SUCCESS;
}

static bool is_free(uint64_t at, uint64_t len)
{
    for (unsigned i = 0; i < SLOTS; i++) {
        const struct slot *s = &card.head->slots[i];
        if (s->len && at < s->at + s->len && s->at < at + len)
            return false;
    }
    return true;
}

EXPORT int cuMemAlloc_v2(cu_pointer *pointer, size_t len);
int cuMemAlloc_v2(cu_pointer *pointer, size_t len)
{
    if (fails("cuMemAlloc_v2"))
        return CUDA_ERROR_UNKNOWN;
    int result = CUDA_ERROR_OUT_OF_MEMORY;
    if (!card.current || len == 0)
        return CUDA_ERROR_INVALID_VALUE;
    len = (len + PAGE - 1) / PAGE * PAGE;
    lock(true);
    reap();
    struct slot *slot = NULL;
    for (unsigned i = 0; i < SLOTS && !slot; i++)
        slot = card.head->slots[i].len ? NULL : &card.head->slots[i];
    for (uint64_t at = card.from; slot && at + len <= card.until; at += PAGE) {
        if (!is_free(at, len))
            continue;
        *slot = (struct slot){at, len, getpid()};
        if (!mode_of("leak"))
            memset(card.bytes + at, 0, len);
        *pointer = BASE + at;
        result = CUDA_SUCCESS;
        break;
    }
    lock(false);
    return result;
}

/* The bytes that @at names when they are this process's. */
static uint8_t *own(cu_pointer at, size_t len)
{
    for (unsigned i = 0; i < SLOTS; i++) {
        const struct slot *s = &card.head->slots[i];
        if (s->len && s->pid == getpid() && at >= BASE + s->at && at + len <= BASE + s->at + s->len)
            return card.bytes + (at - BASE);
    }
    return NULL;
}

/* Memory of others, or of this process, where the load's still part is. */
static void flip(bool others)
{
    for (unsigned i = 0; i < SLOTS; i++) {
        const struct slot *s = &card.head->slots[i];
        if (s->len && (s->pid != getpid()) == others)
            card.bytes[s->at + s->len / 2] = 0xee;
    }
}

static bool has_company(void)
{
    bool company = false;
    lock(true);
    reap();
    for (unsigned i = 0; i < SLOTS; i++)
        company = company || (card.head->slots[i].len && card.head->slots[i].pid != getpid());
    lock(false);
    return company;
}

EXPORT int cuMemsetD32_v2(cu_pointer to, unsigned value, size_t words);
int cuMemsetD32_v2(cu_pointer to, unsigned value, size_t words)
{
    if (fails("cuMemsetD32_v2"))
        return CUDA_ERROR_UNKNOWN;
    uint8_t *p = own(to, words * 4);
    if (!p)
        return CUDA_ERROR_INVALID_VALUE;
    for (size_t i = 0; i < words; i++)
        memcpy(p + 4 * i, &value, 4);
    return CUDA_SUCCESS;
}

EXPORT int cuMemcpyHtoD_v2(cu_pointer to, const void *from, size_t len);
int cuMemcpyHtoD_v2(cu_pointer to, const void *from, size_t len)
{
    if (fails("cuMemcpyHtoD_v2"))
        return CUDA_ERROR_UNKNOWN;
    uint8_t *p = own(to, len);
    if (!p)
        return CUDA_ERROR_INVALID_VALUE;
    memcpy(p, from, len);
    return CUDA_SUCCESS;
}

EXPORT int cuMemcpyDtoH_v2(void *to, cu_pointer from, size_t len);
int cuMemcpyDtoH_v2(void *to, cu_pointer from, size_t len)
{
    if (fails("cuMemcpyDtoH_v2"))
        return CUDA_ERROR_UNKNOWN;
    const uint8_t *p = own(from, len);
    if (!p)
        return CUDA_ERROR_INVALID_VALUE;
    memcpy(to, p, len);
    return CUDA_SUCCESS;
}

EXPORT int cuMemcpyDtoD_v2(cu_pointer to, cu_pointer from, size_t len);
int cuMemcpyDtoD_v2(cu_pointer to, cu_pointer from, size_t len)
{
    if (fails("cuMemcpyDtoD_v2"))
        return CUDA_ERROR_UNKNOWN;
    uint8_t *p = own(to, len);
    const uint8_t *q = own(from, len);
    if (!p || !q)
        return CUDA_ERROR_INVALID_VALUE;
    while (mode_of("stuck") || (mode_of("hampered") && has_company()))
        pause();
    bool turns = mode_of("turns") && card.turn_fd >= 0;
    if (turns)
        flock(card.turn_fd, LOCK_EX);
    memmove(p, q, len);
    wait_for(len, turns ? &card.head->due_ns : &card.due_ns);
    if (mode_of("flip"))
        flip(true);
    if (mode_of("rot"))
        flip(false);
    if (turns)
        flock(card.turn_fd, LOCK_UN);
    return CUDA_SUCCESS;
}
