/* SPDX-License-Identifier: Apache-2.0 */
/* Cases of placement: a site, what is asked for, where it must go or how it must be refused. The
 * languages of the columns are those of site-text.h. */
#include <string.h>

#include "base/error.h"
#include "site-text.h"

struct row {
    const char *name, *site, *asked;
    const char *want; /* the plan; or words of the refusal, '|' between them */
    int code;         /* 0: it is placed; else an error code + 1 */
};
#define CONFLICT (AT_ERROR_CONFLICT + 1)
#define NOT_FOUND (AT_ERROR_NOT_FOUND + 1)
#define DENIED (AT_ERROR_DENIED + 1)
#define INVALID (AT_ERROR_INVALID + 1)

static const struct row rows[] = {
    /* MIG on the grid of eight. */
    {"gives-a-whole-grid", "a: A100-40", "t/x A100-7-40C", "a/0 A100-7-40C@0"},
    {"puts-3g-at-4", "a: A100-80", "t/x A100D-3-40C", "a/0 A100D-3-40C@4"},
    {"puts-the-second-3g-at-0", "a: A100-80{o/o=A100D-3-40C@4}", "t/x A100D-3-40C",
     "a/0 A100D-3-40C@0"},
    {"puts-a-small-one-at-the-end", "a: H100", "t/x H100-1-10C", "a/0 H100-1-10C@6"},
    {"puts-4g-at-its-only-place", "a: H100{o/o=H100-3-40C@4}", "t/x H100-4-40C",
     "a/0 H100-4-40C@0"},
    {"never-puts-4g-beside-3g-at-0", "a: H100{o/o=H100-3-40C@0}", "t/x H100-4-40C",
     "o/o holds slices 0-3 (H100-3-40C)|has 40 GiB free but cut up|0000:41:00.0 (H100 PCIe) on "
     "node "
     "a|what fits now: H100-3-40C on GPU 0000:41:00.0",
     CONFLICT},
    {"fills-a-gap", "a: H100{o/a=H100-2-20C@0 o/b=H100-3-40C@4}", "t/x H100-1-10C",
     "a/0 H100-1-10C@2"},
    {"counts-compute-slices", "a: H100{o/a=H100-4-40C@0 o/b=H100-2-20C@4 o/c=H100-1-10C@6}",
     "t/x H100-1-10C", "has no compute slice left: o/c holds slice 6 (H100-1-10C)", CONFLICT},
    {"counts-compute-when-memory-is-left", "a: A100-80{a/a=A100D-3-40C@4 a/b=A100D-4-40C@0}",
     "t/x A100D-1-10C", "is full: a/a holds slices 4-7 (A100D-3-40C)", CONFLICT},
    {"gives-seven-small-ones", "a: H100", "t/x 7x H100-1-10C",
     "a/0 H100-1-10C@0; a/0 H100-1-10C@1; a/0 H100-1-10C@2; a/0 H100-1-10C@3; a/0 H100-1-10C@4; "
     "a/0 H100-1-10C@5; a/0 H100-1-10C@6"},
    {"never-gives-eight-small-ones", "a: H100", "t/x 8x H100-1-10C",
     "8 x H100-1-10C|more than any node could give at once even if nobody held anything",
     NOT_FOUND},
    {"gives-one-with-media-engines", "a: H100", "t/x H100-1-10CME", "a/0 H100-1-10CME@6"},
    {"never-gives-two-with-media-engines", "a: H100{o/o=H100-1-10CME@6}", "t/x H100-1-10CME",
     "o/o holds slice 6 (H100-1-10CME)|H100-1-10C on", CONFLICT},
    {"takes-another-card-for-media-engines", "a: H100{o/o=H100-1-10CME@6} H100", "t/x H100-1-10CME",
     "a/1 H100-1-10CME@6"},
    {"orders-the-mixed-layout-itself", "a: A100-40",
     "t/x 2x A100-1-5C; t/x A100-2-10C; t/x A100-3-20C",
     "a/0 A100-1-5C@2; a/0 A100-1-5C@3; a/0 A100-2-10C@0; a/0 A100-3-20C@4"},
    {"knows-that-a-hole-must-be-aligned",
     "a: H100{o/a=H100-1-10C@0 o/b=H100-1-10C@3 o/c=H100-3-40C@4}", "t/x H100-2-20C",
     "has 20 GiB free but cut up|holds slice|H100-1-10C on GPU", CONFLICT},
    {"gives-double-memory-ones-four-times", "a: H100{o/o=H100-1-20C@6}", "t/x 3x H100-1-20C",
     "a/0 H100-1-20C@0; a/0 H100-1-20C@2; a/0 H100-1-20C@4"},
    {"gives-three-of-2g", "a: H200", "t/x 3x H200-2-35C",
     "a/0 H200-2-35C@0; a/0 H200-2-35C@2; a/0 H200-2-35C@4"},
    {"places-a-team-of-mig", "a: H100 H100",
     "t/a H100-4-40C; t/b H100-3-40C; t/c H100-3-40C; t/d H100-3-40C",
     "a/0 H100-4-40C@0; a/0 H100-3-40C@4; a/1 H100-3-40C@4; a/1 H100-3-40C@0"},
    {"keeps-mig-and-time-slices-apart", "a: H100{o/o=H100-20C}", "t/x H100-1-10C",
     "is shared by time: o/o holds H100-20C; free that", CONFLICT},
    {"keeps-time-slices-and-mig-apart", "a: H100{o/o=H100-1-10C@6}", "t/x H100-20C",
     "is cut into MIG instances: o/o holds slice 6|what fits now: H100-", CONFLICT},
    {"goes-into-an-instance-that-exists", "a: H100+14@2", "t/x H100-2-20C", "a/0 H100-2-20C@2"},
    {"goes-around-an-instance-that-exists", "a: H100+9@0", "t/x H100-1-10C", "a/0 H100-1-10C@6"},
    {"names-instances-that-nobody-holds", "a: H100+9@0+9@4", "t/x H100-7-80C",
     "0000:41:00.0|MIG instances that no workstation holds", CONFLICT},

    /* The grid of four and the grid of twelve. */
    {"knows-the-grid-of-four", "a: A30", "t/x 2x A30-1-6C; t/x A30-2-12C",
     "a/0 A30-1-6C@2; a/0 A30-1-6C@3; a/0 A30-2-12C@0"},
    {"fills-the-grid-of-four", "a: A30{o/o=A30-2-12C@2}", "t/x 2x A30-1-6C",
     "a/0 A30-1-6C@0; a/0 A30-1-6C@1"},
    {"has-one-of-the-media-engines-of-the-A30", "a: A30{o/o=A30-2-12CME@0}", "t/x A30-1-6CME",
     "o/o holds slices 0-1 (A30-2-12CME)", CONFLICT},
    {"opens-at-the-edge-of-the-grid-of-twelve", "a: RTX6000", "t/x DC-1-24Q", "a/0 DC-1-24Q@0"},
    {"keeps-halves-whole-on-the-grid-of-twelve", "a: RTX6000{o/o=DC-1-24Q@9}",
     "t/x DC-1-24Q; t/y DC-2-48Q", "a/0 DC-1-24Q@6; a/0 DC-2-48Q@0"},
    {"knows-that-two-in-the-middle-block-a-half", "a: RTX6000{o/a=DC-1-24Q@3 o/b=DC-1-24Q@6}",
     "t/x DC-2-48Q",
     "has 48 GiB free but cut up: o/a holds slices 3-5 (DC-1-24Q)|what fits now: DC-1-24Q",
     CONFLICT},
    {"shares-an-instance", "a: RTX6000{o/o=DC-1-12Q@9}", "t/x DC-1-12Q", "a/0 DC-1-12Q@9"},
    {"shares-among-series-of-one-size", "a: RTX6000{o/o=DC-1-12A@9}", "t/x DC-1-12Q",
     "a/0 DC-1-12Q@9"},
    {"never-shares-among-sizes", "a: RTX6000{o/o=DC-1-12Q@9}", "t/x DC-1-8Q", "a/0 DC-1-8Q@6"},
    {"never-shares-a-full-instance", "a: RTX6000{o/a=DC-1-12Q@9 o/b=DC-1-12Q@9}", "t/x DC-1-12Q",
     "a/0 DC-1-12Q@6"},
    {"shares-until-all-is-full", "a: RTX6000", "t/x 16x DC-1-6Q",
     "a/0 DC-1-6Q@0; a/0 DC-1-6Q@0; a/0 DC-1-6Q@0; a/0 DC-1-6Q@0; a/0 DC-1-6Q@3; a/0 DC-1-6Q@3; "
     "a/0 DC-1-6Q@3; a/0 DC-1-6Q@3; a/0 DC-1-6Q@6; a/0 DC-1-6Q@6; a/0 DC-1-6Q@6; a/0 DC-1-6Q@6; "
     "a/0 DC-1-6Q@9; a/0 DC-1-6Q@9; a/0 DC-1-6Q@9; a/0 DC-1-6Q@9"},
    {"never-shares-beyond", "a: RTX6000", "t/x 17x DC-1-6Q", "17 x DC-1-6Q|any node", NOT_FOUND},

    /* Time slices. */
    {"gives-time-slices-of-one-size", "a: L40S", "t/x 4x L40S-12Q",
     "a/0 L40S-12Q; a/0 L40S-12Q; a/0 L40S-12Q; a/0 L40S-12Q"},
    {"prefers-the-card-with-the-same-size", "a: L40S L40S{o/o=L40S-8Q}", "t/x L40S-8Q",
     "a/1 L40S-8Q"},
    {"opens-a-card-rather-than-mix", "a: L40S{o/o=L40S-8Q} L40S", "t/x L40S-12Q", "a/1 L40S-12Q"},
    {"mixes-when-it-must", "a: L40S{o/o=L40S-8Q}", "t/x L40S-12Q", "a/0 L40S-12Q"},
    {"never-mixes-on-cards-that-cannot", "a: T4{o/o=T4-4Q}", "t/x T4-8Q",
     "has 12 GiB free but cannot mix these sizes: o/o holds T4-4Q|what fits now: T4-4Q", CONFLICT},
    {"mixes-only-below-the-mixed-maximum",
     "a: L40S{o/a=L40S-8Q o/b=L40S-8Q o/c=L40S-8Q o/d=L40S-8Q "
     "o/e=L40S-8Q}",
     "t/x L40S-6Q", "holds L40S-8Q", CONFLICT},
    {"counts-shares-when-sizes-are-mixed", "a: L40S{o/a=L40S-24Q o/b=L40S-16Q}", "t/x L40S-4Q",
     "holds L40S-", CONFLICT},
    {"counts-the-maximum", "a: L40S{o/a=L40S-24Q o/b=L40S-24Q}", "t/x L40S-24Q",
     "is full: o/a holds L40S-24Q", CONFLICT},
    {"lets-series-of-one-size-be-together", "a: L40S{o/a=L40S-12A o/b=L40S-12Q}", "t/x L40S-12C",
     "a/0 L40S-12C"},
    {"fills-the-fullest-card-first", "a: L40S{o/a=L40S-12Q} L40S{o/b=L40S-12Q o/c=L40S-12Q}",
     "t/x L40S-12Q", "a/1 L40S-12Q"},
    {"counts-virtual-functions", "a: A100-40", "t/x 10x A100-4C",
     "a/0 A100-4C; a/0 A100-4C; a/0 A100-4C; a/0 A100-4C; a/0 A100-4C; a/0 A100-4C; a/0 A100-4C; "
     "a/0 A100-4C; a/0 A100-4C; a/0 A100-4C"},
    {"gives-time-slices-of-a-T4", "a: T4{o/o=T4-4Q}", "t/x 3x T4-4Q",
     "a/0 T4-4Q; a/0 T4-4Q; a/0 T4-4Q"},

    /* Virtual functions of others. */
    {"gives-a-vf", "a: MI300X", "t/x vf", "a/0 vf"},
    {"gives-as-many-vfs-as-there-are", "a: FLEX170{o/o=vf}", "t/x 3x vf", "a/0 vf; a/0 vf; a/0 vf"},
    {"never-gives-more-vfs", "a: FLEX170{o/o=vf}", "t/x 4x vf", "o/o holds vf|room for 3 of the 4",
     CONFLICT},
    {"keeps-vfs-and-passthrough-apart", "a: MI300X{o/o=vf}", "t/x passthrough model=MI300X",
     "o/o holds vf|what fits now: vf", CONFLICT},
    {"finds-a-model-of-pci-ids", "a: FLEX170 MI300X", "t/x passthrough model=flex*",
     "a/0 passthrough"},

    /* The whole card. */
    {"passes-a-card-through", "a: H100", "t/x passthrough", "a/0 passthrough"},
    {"passes-nothing-through-that-is-cut", "a: H100{o/o=H100-1-10C@6}", "t/x passthrough",
     "o/o holds slice 6 (H100-1-10C)|H100-", CONFLICT},
    {"cuts-nothing-that-is-passed-through", "a: H100{o/o=passthrough}", "t/x H100-1-10C",
     "is passed through: o/o holds passthrough; free that; nothing else fits now", CONFLICT},
    {"passes-the-smallest-through", "a: H100 L40S T4 A30", "t/x passthrough", "a/2 passthrough"},
    {"passes-the-smallest-that-suffices-through", "a: H100 L40S T4 A30", "t/x passthrough mem=20",
     "a/3 passthrough"},
    {"passes-what-cannot-be-cut-through-first", "a: T4 T4~vgpu=no_driver_for_vGPU",
     "t/x passthrough", "a/1 passthrough"},
    {"passes-by-model", "a: T4 H100 H200", "t/x passthrough model=H*0* mem=100", "a/2 passthrough"},
    {"takes-several-of-one-numa-node", "a: T4#0{o/o=passthrough} T4#0 T4#1 T4#1",
     "t/x 2x passthrough", "a/2 passthrough; a/3 passthrough"},
    {"takes-several-of-two-numa-nodes-when-it-must", "a: T4#0{o/o=passthrough} T4#0 T4#1",
     "t/x 2x passthrough", "a/1 passthrough; a/2 passthrough"},
    {"prefers-the-node-with-one-numa-node", "a: T4#0 T4#1; b: T4#1 T4#1", "t/x 2x passthrough",
     "b/0 passthrough; b/1 passthrough"},
    {"keeps-nodes-with-many-cards-for-large-teams", "a: T4 T4; b: T4", "t/x passthrough",
     "b/0 passthrough"},
    {"never-splits-a-holder-over-nodes", "a: T4; b: T4", "t/x 2x passthrough",
     "2 x passthrough|any node", NOT_FOUND},
    {"puts-holders-on-different-nodes", "a: T4; b: T4", "t/x passthrough; t/y passthrough",
     "a/0 passthrough; b/0 passthrough"},
    {"says-what-there-is-room-for", "a: T4 T4{o/o=passthrough}; b: T4{o/p=passthrough}",
     "t/x 2x passthrough", "on node a o/o holds passthrough|node a has room for 1 of the 2",
     CONFLICT},
    {"says-that-all-together-is-too-much", "a: T4", "t/x passthrough; t/y passthrough",
     "beside what is asked for with it", NOT_FOUND},

    /* Needs instead of names. */
    {"chooses-the-least-memory", "a: A100-80 A100-40 H200", "t/x * mem=4.5 iso=hardware",
     "a/1 A100-1-5C@6"},
    {"takes-what-is-less-than-a-GiB-for-the-same", "a: A100-40 A100-80",
     "t/x * mem=9.5 iso=hardware", "a/1 A100D-1-10C@6"},
    {"chooses-the-weakest-isolation", "a: A100-40", "t/x * mem=20", "a/0 A100-20C"},
    {"chooses-hardware-when-asked", "a: A100-40", "t/x * mem=20 iso=hardware", "a/0 A100-3-20C@4"},
    {"chooses-the-whole-when-asked", "a: A100-40 T4", "t/x * iso=exclusive", "a/1 passthrough"},
    {"bears-three-percent", "a: A100-80", "t/x * mem=20 iso=hardware", "a/0 A100D-1-20C@6"},
    {"bears-no-more-than-three-percent", "a: A100-40{o/o=A100-1-5C@6}", "t/x * mem=5 iso=hardware",
     "a/0 A100-1-10C@4"},
    {"chooses-fewest-slices", "a: H200{o/o=H200-1-18C@6}", "t/x * mem=32 iso=hardware",
     "a/0 H200-1-35C@4"},
    {"prefers-compute-types", "a: L40S", "t/x * mem=12", "a/0 L40S-12C"},
    {"leaves-media-engines-alone", "a: H100", "t/x * mem=8 iso=hardware", "a/0 H100-1-10C@6"},
    {"fills-cards-that-are-cut", "a: H100 H100{o/o=H100-3-40C@4}", "t/x * mem=9 iso=hardware",
     "a/1 H100-1-10C@0"},
    {"prefers-a-cut-card-of-another-node", "a: H100; b: H100{o/o=H100-3-40C@4}", "t/x H100-1-10C",
     "b/0 H100-1-10C@0"},
    {"takes-more-than-asked-when-the-rest-is-full", "a: A30{o/o=A30-4-24C@0} H100",
     "t/x * mem=5 iso=hardware", "a/1 H100-1-10C@6"},
    {"mixes-a-whole-and-a-part", "a: T4 H100", "t/x passthrough; t/x H100-1-10C",
     "a/0 passthrough; a/1 H100-1-10C@6"},
    {"places-the-whole-before-the-part", "a: H100{o/o=H100-1-10C@6} H100",
     "t/x H100-1-10C; t/x passthrough", "a/0 H100-1-10C@4; a/1 passthrough"},

    /* Homes, policies, what is kept back. */
    {"stays-at-home", "a: H100{o/o=H100-1-10C@6}; b: H100", "t/x H100-1-10C; home=b",
     "b/0 H100-1-10C@6"},
    {"refuses-when-home-is-full", "a: T4{o/o=passthrough}; b: T4", "t/x passthrough; home=a",
     "o/o holds passthrough|on node a", CONFLICT},
    {"refuses-when-home-has-none", "a: T4; b: H100", "t/x H100-1-10C; home=a",
     "node a, where it has to be|T4-1Q|node b could give it", NOT_FOUND},
    {"obeys-a-policy", "a: A100-40", "t/x * mem=4; policy=hardware:the_site", "a/0 A100-1-5C@6"},
    {"refuses-by-a-policy-and-names-it", "a: L40S", "t/x L40S-12Q; policy=hardware:the_site",
     "the site allows nothing weaker than hardware|L40S-12Q is shared", DENIED},
    {"names-the-strictest-policy", "a: A100-40",
     "t/x A100-1-5C; policy=hardware:the_site; policy=exclusive:VDC_t",
     "VDC t allows nothing weaker than exclusive", DENIED},
    {"never-gives-what-is-reserved", "a: T4!kept_for_the_host T4", "t/x passthrough",
     "a/1 passthrough"},
    {"says-why-all-is-reserved", "a: T4!kept_for_the_host; b: T4!in_quarantine_after_XID_79",
     "t/x passthrough", "T4) on node a: kept for the host|in quarantine after XID 79", CONFLICT},
    {"names-what-is-reserved-beside-what-is-held", "a: T4{o/o=passthrough} T4!in_quarantine",
     "t/x passthrough", "o/o holds passthrough|0000:42:00.0 (Tesla T4) on node a: in quarantine",
     CONFLICT},
    {"says-the-obstacle", "a: H100~mig-vgpu=the_vGPU_host_driver_is_not_loaded", "t/x H100-1-10C",
     "none that could can|0000:41:00.0 (H100 PCIe) on node a: the vGPU host driver is not loaded",
     NOT_FOUND},
    {"goes-around-an-obstacle", "a: H100~passthrough=the_group_is_not_viable", "t/x * mem=80",
     "a/0 H100-80C"},
    {"shuts-cards-whose-holds-make-no-sense", "a: H100{o/a=H100-3-40C@0 o/b=H100-4-40C@0}",
     "t/x H100-1-10C", "its memory slices are taken", CONFLICT},

    /* What there is not. */
    {"lists-profiles-that-exist", "a: H100", "t/x H100-9-90C",
     "no GPU of the site has such a profile; there are: H100-|and 11 more", NOT_FOUND},
    {"lists-models-that-exist", "a: H100 T4", "t/x passthrough model=B200*",
     "the site has no such model; there are: H100 PCIe, Tesla T4", NOT_FOUND},
    {"tells-the-largest", "a: H100 H200", "t/x * mem=200",
     "a GPU with 200 GiB|the largest part is passthrough with 141 GiB", NOT_FOUND},
    {"tells-the-size-of-what-was-named", "a: H100", "t/x H100-1-10C mem=20",
     "H100-1-10C has 10 GiB", NOT_FOUND},
    {"tells-the-isolation", "a: L40S", "t/x L40S-12Q iso=hardware",
     "isolation of L40S-12Q is only shared", NOT_FOUND},
    {"knows-an-empty-site", "a:", "t/x passthrough", "the site has no GPU", NOT_FOUND},
    {"knows-profile-names-by-case", "a: H100", "t/x h100-1-10c", "there are: H100-1-10C",
     NOT_FOUND},
    {"refuses-none", "a: H100", "t/x 0x passthrough", "asks for 0 GPUs", INVALID},
    {"refuses-more-than-a-machine-can-have", "a: H100", "t/x 65x passthrough", "1 to 64", INVALID},
    {"names-three-cards-and-counts-the-rest",
     "a: T4{o/a=passthrough} T4{o/b=passthrough} T4{o/c=passthrough} T4{o/d=passthrough} "
     "T4{o/e=passthrough}",
     "t/x passthrough", "o/a holds|o/b holds|o/c holds|and 2 more", CONFLICT},
    {"names-the-card-with-the-fewest-in-the-way",
     "a: H100{o/a=H100-1-10C@0 o/b=H100-1-10C@1} H100{o/c=H100-1-10C@0}", "t/x H100-7-80C",
     "needs H100-7-80C: GPU 0000:42:00.0 (H100 PCIe) on node a|o/c holds slice 0", CONFLICT},
};

static void test_row(const void *data)
{
    const struct row *row = data;
    g_autoptr(test_site) site = test_site_new(row->site);
    g_autoptr(test_asked) asked = test_asked_new(site, row->asked);
    g_autoptr(GError) error = NULL;
    g_autoptr(at_gpu_plan) plan = test_place(site, asked, &error);
    if (!row->code) {
        g_assert_no_error(error);
        g_autofree char *text = test_plan_text(site, plan);
        g_assert_cmpstr(text, ==, row->want);
        return;
    }
    g_assert_error(error, AT_ERROR, row->code - 1);
    g_assert_null(plan);
    g_test_message("%s", error->message);
    g_assert_cmpuint(strlen(error->message), <=, 600);
    g_auto(GStrv) words = g_strsplit(row->want, "|", -1);
    for (unsigned i = 0; words[i]; i++) {
        if (!strstr(error->message, words[i]))
            g_error("\"%s\" does not say \"%s\"", error->message, words[i]);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *path = g_strdup_printf("/gpu/place/%s", rows[i].name);
        g_test_add_data_func(path, &rows[i], test_row);
    }
    return g_test_run();
}
