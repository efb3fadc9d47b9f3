/* SPDX-License-Identifier: Apache-2.0 */
/* A real nbdkit with the atoll plugin, as another user when the test is root, and libnbd in front
 * of it. */
#pragma once
#include <libnbd.h>
#include <sys/types.h>

#include "vault/vault.h"

#define SERVER_GROUP 54321 /* the vault's, so that the server may read it */

struct server {
    const char *socket;
    const char *log;
    const char *damage; /* what the plugin reports */
    pid_t pid;
};

/* The group for at_vault_open(). */
gid_t server_group(void);
/* Starts it on @vault_dir with its files in @dir (of at_test_dir) and waits until it listens; it
 * may be started there again. */
void server_start(struct server *server, const char *dir, const char *vault_dir);
void server_stop(struct server *server);

char *server_uri(const struct server *server, const struct at_digest *root);
/* NULL when the export is refused. */
struct nbd_handle *server_connect(const struct server *server, const char *uri);
