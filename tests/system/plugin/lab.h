/* SPDX-License-Identifier: Apache-2.0 */
/* A small vault with two disks that share nothing, to be harmed in one place at a time: what a
 * reader behind a real nbdkit then gets, what is logged, and that the writer heals it. */
#pragma once
#include "server.h"
#include "vault/format.h"
#include "vault/index.h"
#include "vault/maintenance.h"

enum { LAB_HIT, LAB_WHOLE, LAB_DISKS }; /* what is harmed is of the first */

struct lab_record {
    uint64_t offset;
    struct at_record record;
};

struct lab {
    const char *dir, *vault_dir;
    const char *pristine; /* a copy of the vault before any harm */
    const char *pack;     /* its only pack */
    const char *index;    /* data.mdb */
    size_t size;          /* of each disk */
    uint8_t *disks[LAB_DISKS];
    struct at_digest roots[LAB_DISKS];
    GArray *records;   /* struct lab_record of the pack, in order */
    unsigned of_whole; /* the first that is of the second disk */
};
void lab_open(struct lab *lab);
void lab_close(struct lab *lab);

/* The @nth record of @kind among those of the first disk. */
const struct lab_record *lab_record(const struct lab *lab, uint8_t kind, unsigned nth);

/* One case: a fresh copy of the vault, which no process has open. */
void lab_renew(struct lab *lab);
/* Writes into the pack, or cuts it. */
void lab_write(struct lab *lab, uint64_t offset, const void *bytes, size_t len);
void lab_flip(struct lab *lab, uint64_t offset);
void lab_cut(struct lab *lab, uint64_t size);
/* Puts @value (NULL: nothing) in place of a row of the index. */
void lab_row(struct lab *lab, const char *table, const void *key, size_t key_len, const void *value,
             size_t len);
/* A row of the table `object` as the document has it. */
void lab_place(struct lab *lab, const struct at_digest *digest, const struct at_place *place);

struct lab_reading {
    unsigned refused[LAB_DISKS]; /* blocks that were refused; all others were right */
    char *log;                   /* of nbdkit */
};
/* Reads both disks twice through nbdkit. */
void lab_read(struct lab *lab, struct lab_reading *ret_reading);
/* How many lines have @what, or name @digest. */
unsigned lab_lines(const char *log, const char *what);
unsigned lab_lines_on(const char *log, const struct at_digest *digest);

/* A writer opens the vault, verifies it (all that is found is in quarantine then) and puts both
 * disks again, after which nothing is damaged. Gives how much verify found. */
unsigned lab_heal(struct lab *lab);
