/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of NVML begin with: its double with a state, and a card in it. */
#pragma once
#include <string.h>

#include "base/error.h"
#include "gpu/nvml.h"
#include "lib/at-test.h"
#include "lib/nvml-double/nvml-state.h"

#define CARD "0000:41:00.0"
#define MIB(n) ((uint64_t)(n) << 20)
#define GIB(n) ((uint64_t)(n) << 30)

struct fixture {
    const char *state; /* path of the double's state */
    struct at_nvml *nvml;
    struct at_gpu_card *card;
};

static inline struct fixture begin(const char *state)
{
    GError *error = NULL;
    struct fixture f = {.state = nvml_state_new(at_test_dir(), state)};
    f.nvml = at_nvml_open(AT_NVML_DOUBLE, &error);
    g_assert_no_error(error);
    f.card = at_gpu_card_new(CARD);
    return f;
}

static inline void end(struct fixture *f)
{
    at_gpu_card_free(f->card);
    at_nvml_close(f->nvml);
}

static inline void fill(struct fixture *f)
{
    GError *error = NULL;
    g_assert_true(at_test_ok(at_nvml_fill(f->nvml, f->card, &error), &error));
}

/* The error is of that code, and its text has that part. */
static inline void assert_failed(GError **error, int code, const char *part)
{
    g_assert_error(*error, AT_ERROR, code);
    if (!strstr((*error)->message, part))
        g_error("no '%s' in: %s", part, (*error)->message);
    g_clear_error(error);
}
