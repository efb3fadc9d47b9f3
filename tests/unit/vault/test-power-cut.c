/* SPDX-License-Identifier: Apache-2.0 */
/* The power is cut anywhere in the life of a vault: whatever the disk has kept of what was not
 * synced, the vault opens, all that was acknowledged is there, and it works on.  And each sync is
 * needed for that: without it there is a state in which something is lost. */
#include <string.h>

#include "base/atomic-file.h"
#include "disturb.h"
#include "power-cut.h"

int main(int argc, char **argv)
{
    if (disturb_child(argc, argv))
        return 0;
    g_test_init(&argc, &argv, NULL);
    return g_test_run();
}
