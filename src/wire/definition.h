/* SPDX-License-Identifier: Apache-2.0 */
/* The definition of a VDC: typed, with defaults filled in, from JSON and back. The same checks run
 * in the CLI (on the YAML file, with line and column) and in the daemon.
 * Errors are INVALID; the place is a JSON pointer, e.g. "/workstations/0/disks/1/size". */
#pragma once
#include <glib.h>
#include <json-glib/json-glib.h>
#include <stdbool.h>
#include <stdint.h>

struct at_def_network {
    char *name;
    char *subnet; /* canonical IPv4 CIDR, prefix 8..29 */
    bool nat;
};
struct at_def_volume {
    char *name;
    char *image;   /* NULL: empty, then size is set */
    uint64_t size; /* bytes; 0: the image's */
    bool readonly;
};
struct at_def_disk {
    char *name;    /* default: "root" for the first, "disk1", "disk2", ... */
    char *image;   /* NULL: empty */
    uint64_t size; /* bytes, multiple of 1 MiB; 0: the image's */
};
struct at_def_nic {
    char *network;
    char *address; /* filled: a free address of the subnet, deterministic, when not given */
    char *mac;     /* filled: deterministic from workstation name and NIC index (02:...) */
};
struct at_def_health {
    char *kind;   /* http | tcp | agent */
    char *target; /* "http://ADDRESS:PORT/PATH", or "ADDRESS:PORT", or NULL */
    unsigned every_s, timeout_s;
};
/* A request for (parts of) GPUs: by a profile's name, or by need; see docs/man/atoll-vdc.5. */
struct at_def_gpu {
    char *profile;   /* "passthrough", "H100-2-20C", ..., or NULL: any that meets the rest */
    char *model;     /* glob on the card's name ("H100*"), or NULL */
    uint64_t memory; /* bytes at least; 0: any */
    char *isolation; /* any | shared | hardware | exclusive: at least; default any */
    unsigned count;  /* 1..16, default 1 */
    bool hold;       /* a stopped workstation keeps it */
};
/* What the VDC's workstations may have of GPUs together. */
struct at_def_gpu_policy {
    char *isolation;       /* the weakest that may be given; default any */
    char *on_failure;      /* of a card: leave | move (the workstation starts on another one) */
    unsigned gpus, slices; /* at most so many grants, MIG slices; 0: no limit */
    uint64_t memory;       /* bytes of GPU memory at most; 0: no limit */
};
struct at_def_port {
    char *protocol; /* tcp | udp */
    uint16_t host, guest;
};
struct at_def_workstation {
    char *name;
    unsigned cpus;    /* 1..256, default 1 */
    uint64_t memory;  /* bytes, >= 64 MiB, default 1 GiB */
    char *accel;      /* auto | kvm | tcg */
    char *firmware;   /* bios | uefi; default bios */
    char *restart;    /* always | on-failure | never; default on-failure */
    GPtrArray *disks; /* struct at_def_disk* */
    GPtrArray *nics;  /* struct at_def_nic* */
    GPtrArray *gpus;  /* struct at_def_gpu* */
    GStrv volumes;    /* names, in order */
    char *hostname;   /* cloud_init.hostname, default the name */
    char *user_data;  /* content, or NULL */
    GStrv ssh_keys;
    GPtrArray *health;  /* struct at_def_health* */
    GPtrArray *publish; /* struct at_def_port* */
};
struct at_definition {
    char *vdc;
    bool isolated;
    struct at_def_gpu_policy gpu_policy;
    GPtrArray *networks, *volumes, *workstations;
};
typedef struct at_definition at_definition;
void at_definition_free(struct at_definition *def);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(at_definition, at_definition_free)

/* Checks everything that can be known without the site (names, sizes, references, subnets,
 * duplicates, unknown keys) and fills defaults; addresses and MACs that are not given come from the
 * names of workstation and network alone. A health target may name its workstation: it gets the
 * address. The message of an error begins with the place ("workstations[0].memory: found ...").
 * @ret_pointer (may be NULL) gets the place as a JSON pointer, newly allocated; a '#' at its end
 * means the key itself ("/netwroks#": an unknown key). */
struct at_definition *at_definition_parse(JsonNode *node, char **ret_pointer, GError **error);

/* Normalised JSON: every default written out, sizes in bytes, lists in the order of the file.
 * Parsing it again gives the same. */
JsonNode *at_definition_to_json(const struct at_definition *def);

/* What a workstation asks for, what a policy says, in a line: "2 x passthrough (H100*)"; "none";
 * newly allocated. */
char *at_gpu_request_text(const struct at_def_gpu *gpu);
char *at_gpus_text(const struct at_def_workstation *ws);
char *at_gpu_policy_text(const struct at_def_gpu_policy *policy);

/* "20 GiB", "512MiB", "1 TiB", or plain bytes; binary units only (KiB MiB GiB TiB). */
bool at_size_parse(const char *text, uint64_t *ret_bytes, GError **error);
/* "1.5 GiB"; newly allocated. */
char *at_size_format(uint64_t bytes);
/* @what goes into the message: "a VDC name has ...". RFC 1123 label:
 * [a-z0-9]([a-z0-9-]{0,61}[a-z0-9])? */
bool at_name_check(const char *name, const char *what, GError **error);
