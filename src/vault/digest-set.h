/* SPDX-License-Identifier: Apache-2.0 */
/* Large sets of digests in little memory: only a prefix is kept, 8 or 16 bytes.  With 8 bytes two
 * digests may be taken for one another; use that only where it merely keeps garbage.  Not locked.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"

struct at_digest_set;
struct at_digest_set *at_digest_set_new(unsigned prefix_bytes);
void at_digest_set_free(struct at_digest_set *set);
bool at_digest_set_add(struct at_digest_set *set, const struct at_digest *digest); /* was new */
bool at_digest_set_has(const struct at_digest_set *set, const struct at_digest *digest);
size_t at_digest_set_count(const struct at_digest_set *set);
