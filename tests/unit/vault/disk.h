/* SPDX-License-Identifier: Apache-2.0 */
/* What vault tests share: a vault in a temporary directory, and seeded random disks. */
#pragma once
#include "vault/maintenance.h"

struct fixture {
    char *dir; /* of the test; the vault is in dir/vault */
    char *vault_dir;
    struct at_vault *vault; /* open for writing, or NULL */
};
void fixture_open(struct fixture *f);
void fixture_reopen(struct fixture *f);
void fixture_close(struct fixture *f); /* removes everything */

/* @size bytes with holes, repeated runs, text-like and random stretches. */
uint8_t *disk_random(GRand *r, size_t size);

/* Ingests from memory through a file. */
void ingest(struct fixture *f, const uint8_t *disk, size_t size, struct at_digest *ret_root,
            struct at_tree_stats *ret_stats);
/* Reads the whole disk back and compares. */
void check_disk(struct at_vault *vault, const struct at_digest *root, const uint8_t *disk,
                size_t size);

/* A root of the fixture's vault that names a disk. */
void set_tree_root(struct fixture *f, const char *name, const struct at_digest *digest);
/* A verification of everything; its report is the caller's. */
struct at_verify_report *verify_vault(struct fixture *f);

char *pack_path(struct fixture *f, unsigned id);
/* Turns one bit of the byte at @at over; twice is as before. */
void flip_bit(const char *path, uint64_t at);
uint64_t size_of_file(const char *path);
