/* SPDX-License-Identifier: Apache-2.0 */
/* Small texts with a meaning: durations, IPv4 addresses and subnets, MAC addresses, and the nearest
 * of several words. Sizes and names are in definition.h. Pure functions, any thread. */
#pragma once
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* "10s", "2m", "1h", or plain seconds. */
bool at_duration_parse(const char *text, unsigned *ret_seconds);
/* "90 s" as "1m30s"; newly allocated. */
char *at_duration_format(uint64_t seconds);

/* Dotted IPv4 without leading zeros, to host byte order and back (newly allocated). */
bool at_ipv4_parse(const char *text, uint32_t *ret_address);
char *at_ipv4_format(uint32_t address);

/* "10.20.0.0/24": the address with its host bits, and the prefix length 0..32. */
bool at_subnet_parse(const char *text, uint32_t *ret_address, unsigned *ret_prefix);
/* Netmask of a prefix length. */
uint32_t at_subnet_mask(unsigned prefix);
/* The first address of a canonical subnet: the router's. NULL when @subnet is none. */
char *at_subnet_gateway(const char *subnet);

/* "02:1a:...": six hex pairs; canonical lower-case text, newly allocated. NULL when it is none. */
char *at_mac_canonical(const char *text);

/* The entry of @words (NULL-terminated) that @word was most likely meant to be, or NULL. */
const char *at_nearest_word(const char *word, const char *const *words);
