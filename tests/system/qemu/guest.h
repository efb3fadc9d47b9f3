/* SPDX-License-Identifier: Apache-2.0 */
/* A machine with the tiny guest inside, and an empty second disk, as tests start them. */
#pragma once
#include "qemu/agent.h"
#include "qemu/machine.h"

enum { OWNER = 0x70004321, GROUP = 0x70000000, BOOT_MS = 300 * 1000, WAIT_MS = 60 * 1000 };

struct guest {
    const char *dir, *console;
    struct at_machine_config config;
    struct at_machine_disk disks[2];
    struct at_machine_nic nic;
    struct at_process process;
    bool runs;
};

/* A failed assertion ends the program at once, and machines would outlive it: before the first. */
void guest_watch_signals(void);

/* False: the test is marked as skipped, with the reason. */
bool guest_possible(void);
/* Ready to be started, in a directory of its own; killed and freed when the test ends. */
struct guest *guest_prepare(const char *user_data);
void guest_start(struct guest *g);
void guest_set_runs(struct guest *g, bool runs); /* to be told when it was ended */
/* Waits until the console says @text behind its first @from bytes; aborts with all it said. */
void guest_expect(struct guest *g, uint64_t from, const char *text, uint64_t *ret_end);
void guest_boot(struct guest *g); /* starts it and waits for its load */
struct at_agent *guest_agent(struct guest *g);
