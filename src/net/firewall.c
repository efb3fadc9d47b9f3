/* SPDX-License-Identifier: Apache-2.0 */
/* Runs nft commands with libnftables. */
#include "net/firewall.h"

#include <nftables/libnftables.h>
#include <string.h>

#include "base/error.h"
#include "base/fault.h"

typedef struct nft_ctx NftCtx;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NftCtx, nft_ctx_free)

static GMutex nft_lock; /* libnftables keeps interface names and symbols in globals */

static bool run(const char *commands, unsigned flags, char **ret_output, GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&nft_lock);
    g_autoptr(NftCtx) ctx = nft_ctx_new(NFT_CTX_DEFAULT);
    if (!ctx)
        return at_error(error, AT_ERROR_IO, "libnftables does not start");
    nft_ctx_output_set_flags(ctx, flags);
    nft_ctx_buffer_output(ctx);
    nft_ctx_buffer_error(ctx);
    if (nft_run_cmd_from_buffer(ctx, commands) != 0) {
        /* The first line says what; the rest repeats the input. */
        g_autofree char *text = g_strdup(nft_ctx_get_error_buffer(ctx));
        return at_error(error, AT_ERROR_IO, "nftables: %s", text ? g_strstrip(text) : "failed");
    }
    if (ret_output)
        *ret_output = g_strdup(nft_ctx_get_output_buffer(ctx));
    return true;
}

bool at_net_nft_change(const char *commands, GError **error)
{
    return at_fault_point("net.nft", error) && run(commands, 0, NULL, error);
}

bool at_net_nft_query(const char *commands, char **ret_json, GError **error)
{
    /* Numbers, because names depend on whether the host has /etc/protocols (package netbase). */
    return run(commands, NFT_CTX_OUTPUT_JSON | NFT_CTX_OUTPUT_NUMERIC_PROTO, ret_json, error);
}
