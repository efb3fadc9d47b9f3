/* SPDX-License-Identifier: Apache-2.0 */
/* The cut's side of atoll-guard: starting it and telling it that all is over. */
#include "qemu/cut-guard.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/process.h"

enum { READY_MS = 15000, DONE_MS = 2000, WORD_MAX = 400 };

/* Reads up to @cap bytes, or until end of file, or a newline; 0 on timeout. */
static size_t read_word(int fd, char *word, size_t cap, int timeout_ms)
{
    int64_t deadline = at_deadline_ms(timeout_ms);
    size_t len = 0;
    while (len < cap && (len == 0 || word[len - 1] != '\n')) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int n = poll(&p, 1, at_deadline_left_ms(deadline));
        if (n < 0 && errno == EINTR)
            continue;
        ssize_t got = n > 0 ? read(fd, word + len, 1) : 0;
        if (got <= 0)
            break;
        len++;
    }
    return len;
}

bool at_cut_guard_start(struct at_cut_guard *guard, const char *program, const char *const *sockets,
                        int deadline_ms, GError **error)
{
    int to[2], from[2];
    if (!program)
        return at_error(error, AT_ERROR_UNAVAILABLE, "no guard program is set");
    if (pipe2(to, O_CLOEXEC) != 0)
        return at_error_errno(error, errno, "pipe");
    at_autofd in_fd = to[1];
    at_autofd guard_in = to[0];
    if (pipe2(from, O_CLOEXEC) != 0)
        return at_error_errno(error, errno, "pipe");
    at_autofd out_fd = from[0];
    at_autofd guard_out = from[1];

    g_autofree char *in = g_strdup_printf("%d", guard_in);
    g_autofree char *out = g_strdup_printf("%d", guard_out);
    g_autofree char *ms = g_strdup_printf("%d", deadline_ms);
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    g_ptr_array_add(argv, (char *)program);
    g_ptr_array_add(argv, in);
    g_ptr_array_add(argv, out);
    g_ptr_array_add(argv, ms);
    for (; *sockets; sockets++)
        g_ptr_array_add(argv, (char *)*sockets);
    g_ptr_array_add(argv, NULL);
    const int fds[] = {guard_in, guard_out};
    struct at_spawn spawn = {.argv = (const char *const *)argv->pdata, .fds = fds, .n_fds = 2};
    struct at_process process;
    if (!at_spawn(&spawn, &process, error)) {
        g_prefix_error(error, "guard: ");
        return false;
    }
    at_close_fd(&guard_in);
    at_close_fd(&guard_out);
    at_process_wait(&process, READY_MS, NULL); /* it goes to the background at once */
    char word[WORD_MAX + 1];
    size_t len = read_word(out_fd, word, WORD_MAX, READY_MS);
    word[len] = '\0';
    if (word[0] != AT_GUARD_READY) {
        g_strchomp(word);
        return at_error(error, AT_ERROR_UNAVAILABLE, "the guard of the capture did not start: %s",
                        *word ? word : "it said nothing");
    }
    guard->in_fd = at_steal_fd(&in_fd);
    guard->out_fd = at_steal_fd(&out_fd);
    return true;
}

bool at_cut_guard_done(struct at_cut_guard *guard, GError **error)
{
    if (guard->in_fd < 0)
        return true;
    char word = AT_GUARD_DONE;
    /* A guard that is gone (killed, say) has done nothing: that is no failure. */
    bool told = write(guard->in_fd, &word, 1) == 1 || errno == EPIPE;
    bool fired =
        !told || (read_word(guard->out_fd, &word, 1, DONE_MS) == 1 && word == AT_GUARD_FIRED);
    at_close_fd(&guard->in_fd);
    at_close_fd(&guard->out_fd);
    return !fired || at_error(error, AT_ERROR_TIMEOUT,
                              "the guard resumed the machines because the pause took too long");
}

void at_cut_guard_leave(struct at_cut_guard *guard)
{
    at_close_fd(&guard->in_fd);
    at_close_fd(&guard->out_fd);
}
