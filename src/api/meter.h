/* SPDX-License-Identifier: Apache-2.0 */
/* A meter on what comes in from a client: libsoup bounds neither the header of a request nor the
 * fragments of a WebSocket message, so the stream below it ends when an allowance is used up. */
#pragma once
#include <gio/gio.h>
#include <stdint.h>

struct at_meter;

/* @connection with a meter in it; reading beyond the allowance fails. Main thread.
 * @ret_meter lives until at_meter_unref(), also when the stream is gone. */
GIOStream *at_meter_wrap(GIOStream *connection, struct at_meter **ret_meter);
void at_meter_unref(struct at_meter *meter);
/* Lets @bytes more come in, whatever was left. */
void at_meter_allow(struct at_meter *meter, uint64_t bytes);
