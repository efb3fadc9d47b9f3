/* SPDX-License-Identifier: Apache-2.0 */
/* Space that is kept back, so that recovery and gc can write index pages on a full disk. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/retry.h"
#include "vault/vault-internal.h"

#define RESERVE (8 << 20)

void at_vault_reserve(struct at_vault *vault, bool keep)
{
    g_autofree char *path = at_vault_path(vault, "reserve");
    at_autofd fd = at_retry(open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (fd < 0)
        return;
    /* On a full disk there is none until gc has freed something; both are tried again. */
    if (!keep && at_retry(ftruncate(fd, 0)) != 0)
        return;
    int err = 0;
    do
        err = keep ? posix_fallocate(fd, 0, RESERVE) : 0;
    while (err == EINTR);
    if (err)
        (void)!at_retry(ftruncate(fd, 0));
}
