/* SPDX-License-Identifier: Apache-2.0 */
/* Processes: helpers that are waited for with a deadline, and long-lived ones that outlive us.
 * A long-lived process is known by pid AND start time, so that a reused pid is never mistaken. */
#pragma once
#include <gio/gio.h>
#include <glib.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Runs argv[0] (looked up in PATH and the sbin directories), no shell, stdin from @input (may be
 * NULL), and waits at most @timeout_ms; then it is killed with its process group.
 * @ret_out  standard output, NUL-terminated, at most 16 MiB kept; may be NULL
 * False with TIMEOUT, CANCELLED, UNAVAILABLE (the program is not installed; says which), or IO with
 * the last lines of its standard error. Any thread; blocks. */
bool at_run(const char *const *argv, const char *input, int timeout_ms, GCancellable *cancellable,
            char **ret_out, GError **error);

/* Absolute path of a program, or NULL with UNAVAILABLE "PROGRAM is not installed (package HINT)".
 */
char *at_find_program(const char *name, const char *package_hint, GError **error);

struct at_process {
    pid_t pid;
    uint64_t start; /* field 22 of /proc/PID/stat, clock ticks since boot */
};

struct at_spawn {
    const char *const *argv; /* argv[0] absolute */
    uid_t uid;               /* 0 keeps root */
    gid_t gid;               /* with uid != 0: primary group */
    const gid_t *groups;     /* with uid != 0: supplementary groups, @n_groups of them */
    size_t n_groups;
    const char *log_path; /* stdout and stderr appended here; NULL = /dev/null */
    const char *cwd;      /* NULL = / */
    const char *netns;    /* path such as /run/netns/x to enter first; NULL = ours */
    const char *cgroup;   /* NUL-separated list, empty string last, of cgroup directories to
                           * join by writing cgroup.procs; NULL = none */
    const int *fds;       /* these stay open in the child at the same numbers */
    unsigned n_fds;
    uint64_t memlock;      /* RLIMIT_MEMLOCK in bytes, 0 = unchanged */
    const cpu_set_t *cpus; /* may run on these only; NULL = unchanged */
    bool orphan; /* not our child but init's: for programs that die with their parent unasked,
                  * as nbdkit 1.32 does (it sets PR_SET_PDEATHSIG by itself) */
};

/* Starts a process in a session of its own, with no_new_privs, an empty environment but PATH and
 * LANG=C.UTF-8, its own oom score, and every other descriptor closed. It survives us.
 * Returns once exec has succeeded or failed (UNAVAILABLE, DENIED, IO). Any thread. */
bool at_spawn(const struct at_spawn *spawn, struct at_process *ret_process, GError **error);

/* True while exactly this process lives (zombies are dead; a zombie child of ours is reaped). */
bool at_process_alive(const struct at_process *process);

/* Looks up the start time of @pid now; false when there is none. */
bool at_process_lookup(pid_t pid, struct at_process *ret_process);

/* Sends @signo if it is still this process (by pidfd); true when sent or already dead. */
bool at_process_kill(const struct at_process *process, int signo, GError **error);

/* Waits until it is gone; TIMEOUT otherwise. Any thread; blocks. */
bool at_process_wait(const struct at_process *process, int timeout_ms, GError **error);

/* SIGTERM, wait @term_ms, SIGKILL, wait 5 s. */
bool at_process_stop(const struct at_process *process, int term_ms, GError **error);

/* A pidfd that polls readable when the process ends, or -1. The caller closes it. */
int at_process_pidfd(const struct at_process *process);

/* "PID START\n" files, published atomically. Reading a missing file gives NOT_FOUND. */
bool at_pidfile_write(const char *path, const struct at_process *process, GError **error);
bool at_pidfile_read(const char *path, struct at_process *ret_process, GError **error);
