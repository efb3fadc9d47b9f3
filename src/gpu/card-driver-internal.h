/* SPDX-License-Identifier: Apache-2.0 */
/* Reading what the kernel's driver shows of a card, and why something of it is unknown. */
#pragma once
#include "gpu/gpu.h"

struct at_gpu_reading {
    struct at_gpu_card *card;
    const char *dir; /* of its function */
    bool asleep;     /* what would wake it is not asked */
    bool any;        /* the driver showed something */
    /* Names of what it does not show and of what is not asked; what went wrong. */
    GString *missing, *sleeping, *failed;
};

void at_gpu_reading_missing(struct at_gpu_reading *r, const char *what);
/* @name: of the attribute. */
void at_gpu_reading_failed(struct at_gpu_reading *r, const char *what, const char *name,
                           const char *why);
/* @said: what stands there in place of what should. */
void at_gpu_reading_odd(struct at_gpu_reading *r, const char *what, const char *name,
                        const char *said);
/* False, with the reason noted, when it would have to be woken. */
bool at_gpu_reading_awake(struct at_gpu_reading *r, const char *what);

/* card-ras.c: errors of the memory that the driver counted, and pages that it retired. */
void at_gpu_reading_ras(struct at_gpu_reading *r);
