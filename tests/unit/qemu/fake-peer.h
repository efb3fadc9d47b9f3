/* SPDX-License-Identifier: Apache-2.0 */
/* A server on a unix socket that plays a script, for peers that no real QEMU would be: silent,
 * broken, endless. Each line of the script is one step:
 *   "> text"   sends the text and a newline          ">> text"  sends the text as it is
 *   "< text"   reads a line and expects it to hold the text
 *   "id text"  sends the text, "%" replaced by the id of the last line read
 *   "flood N text"  sends the text and a newline N times (as fast as it is read)
 *   "bytes N"  sends N times the letter x            "close"  ends the connection
 *   "hold"     keeps the connection and says nothing until the test is over */
#pragma once
#include <glib.h>

/* Serves one connection on the returned path in a thread that ends with the test. */
const char *fake_peer(const char *const *script);

/* The descriptor that came along with the last connection, or -1; the caller closes it. */
int fake_peer_take_fd(void);
