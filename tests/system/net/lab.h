/* SPDX-License-Identifier: Apache-2.0 */
/* A laboratory for networks: a site with a random id and a directory, and namespaces that stand in
 * for guests (a veth named as the guest's TAP would be) and for a machine outside. */
#pragma once
#include <glib.h>
#include <stdbool.h>

#include "base/process.h"
#include "net/net.h"

struct lab {
    char *site;
    char *dir;
    GPtrArray *strings;
    GPtrArray *vdcs;       /* ids that lab_end takes down */
    GPtrArray *namespaces; /* names of guests and outsiders */
    GArray *processes;     /* struct at_process */
};

/* Skips the program when the machine cannot do it. The tests then run in a child, and the
 * parent removes what they leave when they abort. */
void lab_require(void);

struct lab *lab_begin(void);
/* Takes everything down and proves that nothing is left over. */
void lab_end(struct lab *lab);
/* at_net_down for all, and the same proof. */
void lab_assert_clean(struct lab *lab);

/* A config with one network "lab" 10.20.0.0/24 (nat) and hosts retrieval .10 and tune .11. The
 * strings live as long as the lab. */
struct at_net_config lab_config(struct lab *lab, const char *vdc_name);
char *lab_up(struct lab *lab, const struct at_net_config *config); /* asserts; gives the uplink */

/* A guest on @network of the VDC with @mac; asked for its address by DHCP when @dhcp. Gives the
 * name of its namespace (owned by the lab). */
const char *lab_guest(struct lab *lab, const struct at_net_config *config, const char *network,
                      const char *mac, bool dhcp);

/* A machine outside, on a link to the host of its own: gives its namespace; *ret_outside is its
 * address, *ret_host the host's on that link. Both owned by the lab's strings. */
const char *lab_outside(struct lab *lab, char **ret_outside, char **ret_host);

/* Serves @text over HTTP at "/" on port @port of every address, in @namespace (NULL: the host). */
void lab_serve(struct lab *lab, const char *ns, unsigned port, const char *text);

/* Runs a shell command; true when it gives 0. @ret_out may be NULL. */
G_GNUC_PRINTF(2, 3) bool lab_sh(char **ret_out, const char *fmt, ...);
G_GNUC_PRINTF(1, 2) void lab_must(const char *fmt, ...);

/* The body of http://@where/ fetched in @ns (NULL: the host), or NULL when it does not come. */
char *lab_fetch(const char *ns, const char *where);
/* The same where it should not come, with less patience. */
char *lab_try(const char *ns, const char *where);

/* What 10.20.0.1 says of @name to the guest @ns: an address, "" when there is none. */
char *lab_resolve(const char *ns, const char *name);

/* A UDP socket that lives in @ns (NULL: the host), bound to @port (0: any), with a deadline of a
 * second for each receive. */
int lab_udp(const char *ns, uint16_t port);

/* A port that nobody has. */
uint16_t lab_port(void);
