/* SPDX-License-Identifier: Apache-2.0 */
/* What is known of a death inside LMDB afterwards. */
#include "vault/index-guard.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/stat.h>
#include <unistd.h>

#define MARK_MAX 65536 /* bytes that the file may have before nothing more is added */

/* Of a wild pointer, a page behind the end of the file, an assertion of LMDB or of malloc(). */
static const int deaths[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL};
enum { N_DEATHS = sizeof deaths / sizeof deaths[0] };
static struct sigaction before[N_DEATHS];

/* Initial-exec: a handler must not be the first to touch it, when it would have to be allocated. */
static __thread const char *volatile inside __attribute__((tls_model("initial-exec")));

void at_index_guard_mark(const char *path, bool died)
{
    static const char met_line[] = AT_INDEX_MET "\n", died_line[] = AT_INDEX_DIED "\n";
    const char *line = died ? died_line : met_line;
    size_t len = (died ? sizeof died_line : sizeof met_line) - 1;
    struct stat st;
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0640);
    if (fd < 0)
        return;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size < MARK_MAX)
        (void)!write(fd, line, len);
    close(fd);
}

static void on_death(int sig, siginfo_t *info, void *context)
{
    int saved = errno;
    if (inside)
        at_index_guard_mark(inside, true);
    for (int i = 0; i < N_DEATHS; i++) {
        if (deaths[i] == sig)
            sigaction(sig, &before[i], NULL);
    }
    /* A fault comes again as soon as we return; a signal that was sent does not. */
    if (info->si_code <= 0)
        raise(sig);
    errno = saved;
}

void at_index_guard_install(void)
{
    static bool done;
    if (done)
        return;
    done = true;
    for (int i = 0; i < N_DEATHS; i++) {
        struct sigaction action = {.sa_sigaction = on_death, .sa_flags = SA_SIGINFO | SA_ONSTACK};
        sigemptyset(&action.sa_mask);
        sigaction(deaths[i], &action, &before[i]);
    }
}

void at_index_guard_enter(const char *mark)
{
    inside = mark;
    atomic_signal_fence(memory_order_seq_cst);
}

void at_index_guard_leave(void)
{
    atomic_signal_fence(memory_order_seq_cst);
    inside = NULL;
}
