/* SPDX-License-Identifier: Apache-2.0 */
/* A tree of files like those of a host with GPUs, for tests that are not in C: prints its root,
 * then does what its lines of input say, each answered by a line, and removes the tree at their
 * end. add BOARD ADDRESS [vfs=N] [mdev] [vendor] [foreign] [no-reset] [no-iommu] [driver=NAME]
 *   remove ADDRESS */
#include <stdio.h>
#include <string.h>

#include "base/atomic-file.h"
#include "lib/gpu-tree.h"

static void take_option(struct gpu_tree_options *o, const char *word)
{
    if (g_str_has_prefix(word, "vfs="))
        o->vfs = (unsigned)g_ascii_strtoull(word + strlen("vfs="), NULL, 10);
    else if (g_str_has_prefix(word, "driver="))
        o->driver = word + strlen("driver=");
    else if (g_str_equal(word, "mdev"))
        o->vgpu = GPU_TREE_MDEV;
    else if (g_str_equal(word, "vendor"))
        o->vgpu = GPU_TREE_VENDOR;
    else if (g_str_equal(word, "foreign"))
        o->foreign = true;
    else if (g_str_equal(word, "no-reset"))
        o->no_reset = true;
    else if (g_str_equal(word, "no-iommu"))
        o->no_iommu = true;
    else
        g_error("unknown option %s", word);
}

static void run(struct gpu_tree *tree, char **words)
{
    struct gpu_tree_options options = {0};
    unsigned n = g_strv_length(words);
    if (n >= 3 && g_str_equal(words[0], "add")) {
        for (unsigned i = 3; i < n; i++)
            take_option(&options, words[i]);
        gpu_tree_add(tree, words[1], words[2], &options);
    } else if (n == 2 && g_str_equal(words[0], "remove")) {
        g_autofree char *path = g_strdup_printf("sys/bus/pci/devices/%s", words[1]);
        gpu_tree_remove(tree, path);
    } else {
        g_error("unknown command %s", words[0]);
    }
}

static void serve(void)
{
    char line[512];
    struct gpu_tree *tree = gpu_tree_new();
    printf("%s\n", gpu_tree_root(tree));
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        g_auto(GStrv) words = g_strsplit(g_strstrip(line), " ", -1);
        run(tree, words);
        printf("done\n");
        fflush(stdout);
    }
    /* No test of GLib's runs, whose end would do it. */
    g_autoptr(GError) error = NULL;
    if (!at_remove_tree(gpu_tree_root(tree), &error))
        g_error("%s", error->message);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_log_set_always_fatal(G_LOG_LEVEL_ERROR);
    g_test_set_nonfatal_assertions();
    serve();
    return 0;
}
