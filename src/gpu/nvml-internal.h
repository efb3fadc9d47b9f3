/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of NVML share: the open library, questions to one card, and the errors. */
#pragma once
#include "base/error.h"
#include "gpu/nvml-abi.h"
#include "gpu/nvml.h"

enum {
    AT_NVML_LIST_MAX = 4096,   /* entries that are taken of any list of the library */
    AT_NVML_PROFILES_MAX = 64, /* indices of profiles that are tried */
    AT_NVML_SLICES_MAX = 32,   /* memory slices of a grid; starts are bits of a uint32_t */
};

struct at_nvml {
    void *library;
    struct nvml_functions f; /* NULL: this library does not have it */
    char *driver, *cuda;
    int generation; /* atomic: handles made before it changed may be invalid */

    GMutex lock; /* guards what follows; nothing of the library is called with it but init/shutdown
                  */
    GCond left;
    unsigned users, pauses;
    bool up;
};

/* Around every use of the library. False with UNAVAILABLE while it is paused. */
bool at_nvml_enter(struct at_nvml *nvml, GError **error);
void at_nvml_leave(struct at_nvml *nvml);

/* Questions to one card. An answer that is an error is no answer; that the card is lost is kept. */
struct at_nvml_ask {
    struct at_nvml *nvml;
    struct nvml_device *device;
    bool lost;
};
/* The card at @address, as sysfs writes it; the library has been entered. False with NOT_FOUND,
 * INVALID or what else NVML says; ask->lost is then true when it says that the card is lost. */
bool at_nvml_ask_init(struct at_nvml_ask *ask, struct at_nvml *nvml, const char *address,
                      GError **error);
/* True for success; keeps that the card is lost. */
bool at_nvml_got(struct at_nvml_ask *ask, int result);
/* False also when the library lacks the function. */
#define AT_NVML_ASK(ask, member, ...)                                                              \
    ((ask)->nvml->f.member && at_nvml_got(ask, (ask)->nvml->f.member(__VA_ARGS__)))

/* Sets the error: "<what>: <NVML's meaning in words> (NVML error <n>)". Always false. */
bool at_nvml_fail(GError **error, int result, const char *fmt, ...) G_GNUC_PRINTF(3, 4);
const char *at_nvml_words(int result);
/* The text in a buffer that the library filled: valid UTF-8 without what steers terminals,
 * terminated even if the buffer was not; NULL when nothing is in it. */
char *at_nvml_text(const char *buf, size_t cap);
/* UNAVAILABLE: the library is too old for @what. Always false. */
bool at_nvml_lacks(GError **error, const char *what);
/* "0000:41:00.0" of "00000000:41:00.0"; NULL when it is no address. */
char *at_nvml_sysfs_address(const char *bus_id);

/* ---- nvml-health.c ---- */
void at_nvml_ask_health(struct at_nvml_ask *ask, struct at_gpu_card *card);
/* "python3 (1234), a (7)", or NULL when NVML names none. @instance: only those in that GPU
 * instance; UINT_MAX: all. */
char *at_nvml_users(struct at_nvml_ask *ask, unsigned instance);

/* ---- nvml-mig-profiles.c ---- */
struct at_nvml_gi {
    unsigned index, id;
    char *name;
    unsigned compute, slices, max, media;
    uint32_t starts;
    uint64_t memory_mb;
};
/* Of struct at_nvml_gi, by index; empty when the card knows no MIG. @memory: of the card. */
GArray *at_nvml_ask_gi_profiles(struct at_nvml_ask *ask, uint64_t memory);
/* MIG mode, grid, instances. */
void at_nvml_ask_mig(struct at_nvml_ask *ask, const GArray *profiles, struct at_gpu_card *card);
/* Appends the instances of the card that are made of @profiles: struct at_gpu_instance*. */
void at_nvml_ask_instances(struct at_nvml_ask *ask, const GArray *profiles, GPtrArray *ret);
/* Compute instances of @gi, at most @cap of them into @ret; gives how many. */
unsigned at_nvml_ask_compute(struct at_nvml_ask *ask, struct nvml_gi *gi, struct nvml_ci **ret,
                             unsigned cap);

/* ---- nvml-vgpu.c ---- */
/* Replaces the vGPU profiles of the card, if the library can list them. */
void at_nvml_ask_vgpu(struct at_nvml_ask *ask, const GArray *gi_profiles, struct at_gpu_card *card);
