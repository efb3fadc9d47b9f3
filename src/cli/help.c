/* SPDX-License-Identifier: Apache-2.0 */
/* Help and the manual page, made from the tables of nouns and verbs. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

static const char *const intro =
    "atoll - virtual data centers of GPU workstations, operated as one thing\n";

static void put_verb_lines(GString *out, const struct at_noun *noun)
{
    for (const struct at_verb *verb = noun->verbs; verb->name; verb++) {
        g_autofree char *left = g_strdup_printf("%s %s", verb->name, verb->args);
        g_string_append_printf(out, "  %-34s %s\n", left, verb->summary);
    }
    for (const struct at_alias *alias = at_aliases; alias->name; alias++) {
        if (strcmp(alias->noun, noun->name) != 0)
            continue;
        const struct at_verb *verb = at_verb_find(noun->name, alias->name);
        g_autofree char *left = g_strdup_printf("%s %s", alias->name, verb->args);
        g_string_append_printf(out, "  %-34s %s\n", left, verb->summary);
    }
}

static void put_option(GString *out, const char *option, const char *what)
{
    g_string_append_printf(out, "  %-24s %s\n", option, what);
}

static void put_common_options(GString *out, bool job)
{
    put_option(out, "--json", "JSON on standard output; errors as JSON on standard error");
    put_option(out, "--socket PATH", "of atolld; default $ATOLL_SOCKET or /run/atoll/atolld.sock");
    if (job) {
        put_option(out, "--no-wait", "print the job's id and return");
        put_option(out, "--wait", "show progress until it has ended (the default)");
    }
    put_option(out, "-h, --help", "this text");
}

static void put_exit_codes(GString *out)
{
    g_string_append(out, "Exit codes: 0 done, 1 failed, 2 wrong usage or file, 3 not found, "
                         "4 conflict.\n");
}

static void print(GString *out, bool to_stderr)
{
    fputs(out->str, to_stderr ? stderr : stdout);
    g_string_free(out, TRUE);
}

void at_help_program(bool to_stderr)
{
    GString *out = g_string_new(intro);
    g_string_append(out, "\nUsage: atoll NOUN VERB [ARGUMENTS] [OPTIONS]\n");
    for (const struct at_noun *noun = at_nouns; noun->name; noun++)
        g_string_append_printf(out, "  %-12s %s\n", noun->name, noun->summary);
    g_string_append(out, "\nWithout a noun (they mean VDCs):\n ");
    for (const struct at_alias *alias = at_aliases; alias->name; alias++) {
        if (*alias->noun == '\0')
            g_string_append_printf(out, " %s", alias->name);
    }
    g_string_append(out, "\n\nOptions:\n");
    put_common_options(out, true);
    put_option(out, "--version", "the version");
    g_string_append(out, "\nExamples:\n"
                         "  atoll image build debian --name debian-12\n"
                         "  atoll apply -f team.yaml\n"
                         "  atoll snapshot create rag-team before-upgrade\n"
                         "  atoll restore rag-team@before-upgrade\n"
                         "  atoll clone rag-team@before-upgrade rag-team-2\n"
                         "\nMore: atoll NOUN --help, atoll NOUN VERB --help\n");
    put_exit_codes(out);
    print(out, to_stderr);
}

void at_help_noun(const struct at_noun *noun, bool to_stderr)
{
    GString *out = g_string_new(NULL);
    g_string_append_printf(out, "atoll %s - %s\n\nVerbs:\n", noun->name, noun->summary);
    put_verb_lines(out, noun);
    g_string_append_printf(out, "\nMore: atoll %s VERB --help\n", noun->name);
    print(out, to_stderr);
}

static void put_own_options(GString *out, const struct at_verb *verb)
{
    for (const GOptionEntry *o = verb->options; o && o->long_name; o++) {
        g_autofree char *short_name =
            o->short_name ? g_strdup_printf("-%c, ", o->short_name) : g_strdup("");
        g_autofree char *text =
            g_strdup_printf("%s--%s%s%s", short_name, o->long_name, o->arg_description ? " " : "",
                            o->arg_description ? o->arg_description : "");
        put_option(out, text, o->description);
    }
}

void at_help_verb(const char *noun, const struct at_verb *verb)
{
    GString *out = g_string_new(NULL);
    g_string_append_printf(out, "Usage: atoll %s%s%s%s%s [OPTIONS]\n\n%c%s.\n", noun,
                           *noun ? " " : "", verb->name, *verb->args ? " " : "", verb->args,
                           g_ascii_toupper(verb->summary[0]), verb->summary + 1);
    if (verb->text)
        g_string_append_printf(out, "\n%s", verb->text);
    g_string_append(out, "\nOptions:\n");
    put_own_options(out, verb);
    put_common_options(out, verb->job);
    print(out, false);
}

/* ---- the manual page ---- */

/* Text of a help page as roff: indented lines stay as they are, '-' is a minus. */
static void put_roff(const char *text)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    bool verbatim = false;
    for (char **line = lines; *line; line++) {
        bool indented = **line == ' ';
        if (indented != verbatim)
            puts(indented ? ".nf" : ".fi");
        verbatim = indented;
        if (**line == '\0' && line[1])
            puts(".sp");
        if (**line == '.' || **line == '\'')
            fputs("\\&", stdout);
        for (const char *p = *line; *p; p++) {
            if (*p == '-' || *p == '\\')
                fputs(*p == '-' ? "\\-" : "\\e", stdout);
            else
                putchar(*p);
        }
        if (**line)
            putchar('\n');
    }
    if (verbatim)
        puts(".fi");
}

static void man_verb(const char *noun, const struct at_verb *verb)
{
    g_autoptr(GString) options = g_string_new(NULL);
    printf(".SS \"atoll %s%s%s %s\"\n", noun, *noun ? " " : "", verb->name, verb->args);
    g_autofree char *summary =
        g_strdup_printf("%c%s.", g_ascii_toupper(verb->summary[0]), verb->summary + 1);
    put_roff(summary);
    if (verb->text) {
        puts(".sp");
        put_roff(verb->text);
    }
    put_own_options(options, verb);
    if (options->len) {
        puts(".sp");
        put_roff(options->str);
    }
}

void at_help_man(void)
{
    printf(".TH ATOLL 1 \"\" \"atoll %s\" \"Atoll\"\n", ATOLL_VERSION);
    puts(".SH NAME");
    put_roff(intro);
    puts(".SH SYNOPSIS\n.B atoll\n.I NOUN VERB\n[\\fIARGUMENTS\\fR] [\\fIOPTIONS\\fR]");
    puts(".SH DESCRIPTION");
    put_roff("atoll talks to the daemon atolld over its unix socket. A virtual data center (VDC) "
             "of workstations, networks and disks is described in one file, see atoll-vdc(5).\n"
             "Long operations are jobs: atoll shows their progress and waits. Ctrl-C asks for the "
             "job to be cancelled; a second Ctrl-C leaves it running.");
    puts(".SH OPTIONS");
    g_autoptr(GString) options = g_string_new(NULL);
    put_common_options(options, true);
    put_roff(options->str);
    puts(".SH VERBS");
    for (const struct at_noun *noun = at_nouns; noun->name; noun++) {
        for (const struct at_verb *verb = noun->verbs; verb->name; verb++)
            man_verb(noun->name, verb);
    }
    put_roff("\nThese may be written without their noun vdc: apply, list, show, start, stop, "
             "delete, clone, restore, undo.");
    puts(".SH EXIT STATUS");
    g_autoptr(GString) codes = g_string_new(NULL);
    put_exit_codes(codes);
    put_roff(codes->str);
    puts(".SH ERRORS");
    put_roff("Errors are told on standard error. With --json an error is one object:\n"
             "  {\"error\":{\"code\":\"not_found\",\"message\":\"VDC x does not exist\"}}\n"
             "with next, too, where it is known what can be done. A job's record is printed on "
             "standard output whether it succeeds or not; that of apply has the list of changes.");
    puts(".SH ENVIRONMENT");
    put_roff("ATOLL_SOCKET: the daemon's socket. NO_COLOR: no colours, when set and not empty.");
    puts(".SH SEE ALSO\n.BR atoll\\-vdc (5),\n.BR atolld (8)");
}
