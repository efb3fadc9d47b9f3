/* SPDX-License-Identifier: Apache-2.0 */
/* The state file as the double reads and writes it; the format is in nvml-state.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "lib/nvml-double/double.h"

enum { FILE_MAX = 65536 };

static const struct key {
    const char *name;
    size_t offset;
    unsigned initial;
} keys[] = {
#define KEY(name, member, initial)                                                                 \
    {                                                                                              \
        name, offsetof(struct card, member), initial                                               \
    }
    KEY("mig", mig, 0),
    KEY("pending", pending, 0),
    KEY("generation", generation, 0),
    KEY("mixed", mixed, 0),
    KEY("lost", lost, 0),
    KEY("guest", guest, 0),
    KEY("vfs", vfs, 0),
    KEY("temperature", temperature, 41),
    KEY("power", power, 67000),
    KEY("limit", limit, 350000),
    KEY("gpu", gpu, 3),
    KEY("memory", memory, 1),
    KEY("used", used, 512),
    KEY("corrected", corrected, 0),
    KEY("uncorrected", uncorrected, 0),
    KEY("rows-corrected", rows_c, 0),
    KEY("rows-uncorrected", rows_u, 0),
    KEY("rows-pending", rows_pending, 0),
    KEY("rows-failed", rows_failed, 0),
};
#define N_KEYS (sizeof keys / sizeof keys[0])

static unsigned *member(struct card *card, const struct key *key)
{
    return (unsigned *)(void *)((char *)card + key->offset);
}

static void set_key(struct card *card, const char *word)
{
    if (strncmp(word, "uuid=", 5) == 0)
        snprintf(card->uuid, sizeof card->uuid, "%s", word + 5);
    else if (strncmp(word, "serial=", 7) == 0)
        snprintf(card->serial, sizeof card->serial, "%s", word + 7);
    for (size_t i = 0; i < N_KEYS; i++) {
        size_t len = strlen(keys[i].name);
        if (strncmp(word, keys[i].name, len) == 0 && word[len] == '=')
            *member(card, &keys[i]) = (unsigned)strtoul(word + len + 1, NULL, 10);
    }
}

static void read_card(struct state *s, char *line)
{
    struct card *card = &s->cards[s->n_cards];
    char *at = NULL;
    const char *address = strtok_r(line, " ", &at);
    const char *board = strtok_r(NULL, " ", &at);
    if (s->n_cards == CARDS || !board || !(card->board = board_find(board)))
        return;
    s->n_cards++;
    snprintf(card->address, sizeof card->address, "%s", address);
    snprintf(card->uuid, sizeof card->uuid, "GPU-00000000-0000-4000-8000-%012u", s->n_cards);
    snprintf(card->serial, sizeof card->serial, "16500220%05u", s->n_cards);
    for (size_t i = 0; i < N_KEYS; i++)
        *member(card, &keys[i]) = keys[i].initial;
    for (char *word; (word = strtok_r(NULL, " ", &at));)
        set_key(card, word);
}

/* A line of what cards have; false when it is none of those. */
static bool read_thing(struct state *s, const char *line)
{
    struct instance *gi = &s->gis[s->n_gis % THINGS];
    struct compute *ci = &s->cis[s->n_cis % THINGS];
    struct process *p = &s->processes[s->n_processes % THINGS];
    struct vgpu *v = &s->vgpus[s->n_vgpus % THINGS];
    struct event *e = &s->events[s->n_events % THINGS];
    if (sscanf(line, "gi %15s %u %u %u", gi->address, &gi->id, &gi->profile, &gi->start) == 4)
        s->n_gis++;
    else if (sscanf(line, "ci %15s %u %u %u", ci->address, &ci->gi, &ci->id, &ci->profile) == 4)
        s->n_cis++;
    else if (sscanf(line, "process %15s %u %llu %d %c", p->address, &p->pid, &p->bytes, &p->gi,
                    &p->kind) == 5)
        s->n_processes++;
    else if (sscanf(line, "vgpu %15s %u %d", v->address, &v->type, &v->gi) == 3)
        s->n_vgpus++;
    else if (sscanf(line, "event %15s %u", e->address, &e->xid) == 2)
        s->n_events++;
    else
        return false;
    return s->n_gis < THINGS && s->n_cis < THINGS && s->n_processes < THINGS &&
           s->n_vgpus < THINGS && s->n_events < THINGS;
}

static void read_line(struct state *s, char *line)
{
    struct fail *f = &s->fails[s->n_fails % FAILS];
    if (strncmp(line, "card ", 5) == 0)
        read_card(s, line + 5);
    else if (sscanf(line, "fail %63s %d %u %u", f->function, &f->code, &f->after, &f->times) == 4)
        s->n_fails = s->n_fails + 1 < FAILS ? s->n_fails + 1 : s->n_fails;
    else if (!read_thing(s, line)) {
        sscanf(line, "driver %79s", s->driver);
        sscanf(line, "nvml %79s", s->nvml);
        sscanf(line, "cuda %d", &s->cuda);
        sscanf(line, "host %u", &s->host);
    }
}

bool state_read(int fd, struct state *s)
{
    static char text[FILE_MAX];
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    if (n < 0)
        return false;
    text[n] = '\0';
    memset(s, 0, sizeof *s);
    snprintf(s->driver, sizeof s->driver, "580.65.06");
    snprintf(s->nvml, sizeof s->nvml, "13.580.65.06");
    s->cuda = 13000;
    char *at = NULL;
    for (char *line = strtok_r(text, "\n", &at); line; line = strtok_r(NULL, "\n", &at)) {
        if (*line != '#')
            read_line(s, line);
    }
    return true;
}

static void write_cards(FILE *f, const struct state *s)
{
    for (unsigned i = 0; i < s->n_cards; i++) {
        struct card card = s->cards[i];
        fprintf(f, "card %s %s uuid=%s serial=%s", card.address, card.board->key, card.uuid,
                card.serial);
        for (size_t k = 0; k < N_KEYS; k++) {
            if (*member(&card, &keys[k]) != keys[k].initial)
                fprintf(f, " %s=%u", keys[k].name, *member(&card, &keys[k]));
        }
        fputc('\n', f);
    }
}

void state_write(int fd, const struct state *s)
{
    static char text[FILE_MAX];
    FILE *f = fmemopen(text, sizeof text, "w");
    if (!f)
        abort();
    fprintf(f, "driver %s\nnvml %s\ncuda %d\nhost %u\n", s->driver, s->nvml, s->cuda, s->host);
    write_cards(f, s);
    for (unsigned i = 0; i < s->n_gis; i++)
        fprintf(f, "gi %s %u %u %u\n", s->gis[i].address, s->gis[i].id, s->gis[i].profile,
                s->gis[i].start);
    for (unsigned i = 0; i < s->n_cis; i++)
        fprintf(f, "ci %s %u %u %u\n", s->cis[i].address, s->cis[i].gi, s->cis[i].id,
                s->cis[i].profile);
    for (unsigned i = 0; i < s->n_processes; i++)
        fprintf(f, "process %s %u %llu %d %c\n", s->processes[i].address, s->processes[i].pid,
                s->processes[i].bytes, s->processes[i].gi, s->processes[i].kind);
    for (unsigned i = 0; i < s->n_vgpus; i++)
        fprintf(f, "vgpu %s %u %d\n", s->vgpus[i].address, s->vgpus[i].type, s->vgpus[i].gi);
    for (unsigned i = 0; i < s->n_events; i++)
        fprintf(f, "event %s %u\n", s->events[i].address, s->events[i].xid);
    for (unsigned i = 0; i < s->n_fails; i++) {
        if (!s->fails[i].spent)
            fprintf(f, "fail %s %d %u %u\n", s->fails[i].function, s->fails[i].code,
                    s->fails[i].after, s->fails[i].times);
    }
    long len = ftell(f);
    if (fclose(f) || len < 0 || ftruncate(fd, 0) || pwrite(fd, text, (size_t)len, 0) != len)
        abort();
}
