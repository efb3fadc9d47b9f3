/* SPDX-License-Identifier: Apache-2.0 */
/* The program atoll: what its verbs share. A noun is a file with a table of verbs; main.c finds the
 * verb, reads its options, and runs it. A verb returns the exit code. */
#pragma once
#include <glib.h>
#include <json-glib/json-glib.h>
#include <stdbool.h>

enum at_exit {
    AT_EXIT_DONE = 0,
    AT_EXIT_FAILED = 1,
    AT_EXIT_USAGE = 2,     /* the command line or the file is wrong */
    AT_EXIT_NOT_FOUND = 3, /* what was named does not exist */
    AT_EXIT_CONFLICT = 4,  /* exists already, is busy, or something holds it */
};

struct at_client;

struct at_cli {
    const char *socket;
    bool json; /* JSON on standard output */
    bool wait; /* for jobs */
    struct at_client *client;
    JsonArray *changes; /* of apply: told with the job's JSON; borrowed, may be NULL */
};

struct at_verb {
    const char *name;
    const char *args;            /* "VDC@SNAP NEW"; [X] may be left out, X... may be repeated */
    const char *summary;         /* one line */
    const char *text;            /* more, and examples; may be NULL */
    const GOptionEntry *options; /* may be NULL */
    bool job;                    /* starts a job: has --wait and --no-wait */
    int (*run)(struct at_cli *cli, char **args);
};

struct at_noun {
    const char *name;
    const char *summary;
    const struct at_verb *verbs; /* the last one has no name */
};

/* A verb under another pair of words; noun "" is the top level. */
struct at_alias {
    const char *noun, *name;
    const char *of_noun, *of_verb;
};

extern const struct at_noun at_nouns[];    /* the last one has no name */
extern const struct at_alias at_aliases[]; /* the same */
extern const struct at_verb at_verbs_vdc[], at_verbs_snapshot[], at_verbs_ws[], at_verbs_image[],
    at_verbs_gpu[], at_verbs_job[], at_verbs_vault[], at_verbs_node[], at_verbs_events[],
    at_verbs_completion[];

const struct at_noun *at_noun_find(const char *name);
/* Also follows aliases; NULL when there is none. */
const struct at_verb *at_verb_find(const char *noun, const char *name);
void at_verb_arg_counts(const struct at_verb *verb, unsigned *ret_min, unsigned *ret_max);

/* ---- fail.c ---- */

/* From now on errors are one JSON object on standard error:
 * {"error": {"code", "message", "next"?}}. */
void at_cli_errors_as_json(void);
/* Prints "atoll: <message>", and "  next: ..." where one is known; frees the error and gives the
 * exit code of its kind. */
int at_cli_fail(GError **error);
/* The same with a hint of the caller's own; @next may be NULL. */
int at_cli_fail_next(GError **error, const char *next);
/* A mistake on the command line: prints it and gives AT_EXIT_USAGE. */
int at_cli_usage(const char *fmt, ...) G_GNUC_PRINTF(1, 2);

/* ---- main.c ---- */

/* The client, made on first use. */
struct at_client *at_cli_client(struct at_cli *cli);

/* Splits "VDC@SNAP" or "VDC/WS" at @mark; false after complaining as a usage error. */
bool at_cli_split(const char *text, char mark, char **ret_left, char **ret_right);

/* With --json prints @node and returns true. */
bool at_cli_json(struct at_cli *cli, JsonNode *node);

/* The list in an answer: the answer itself, or its member @name; NULL when there is none. */
JsonArray *at_cli_list(JsonNode *node, const char *name);
/* The answer as an object, or NULL. */
JsonObject *at_cli_object(JsonNode *node);
/* A member for people: "bytes_freed": 1048576 is "freed", "1 MiB". Newly allocated. */
void at_cli_record_field(const char *name, JsonNode *node, char **ret_label, char **ret_value);
/* Prints every member of a flat record as a field, byte counts as sizes. */
void at_cli_print_record(JsonObject *obj);

/* ---- help.c ---- */
void at_help_program(bool to_stderr);
void at_help_noun(const struct at_noun *noun, bool to_stderr);
void at_help_verb(const char *noun, const struct at_verb *verb);
/* roff on standard output */
void at_help_man(void);
