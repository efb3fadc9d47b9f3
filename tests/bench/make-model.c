/* SPDX-License-Identifier: Apache-2.0 */
/* Makes what AI disks are full of, the same on every run: the weights of a language model in the
 * safetensors format (https://huggingface.co/docs/safetensors), a fine-tuned version of them, and
 * vectors of a database.  Weights are normally distributed, with a deviation of their own for each
 * tensor: trained ones look and compress like that.
 *
 * usage: make-model model LAYERS VOCABULARY >FILE
 *        make-model tuned LAYERS VOCABULARY >FILE       (the same; a few tensors differ)
 *        make-model vectors COUNT DIMENSION SEED >FILE  (fp32, each of length 1) */
#include <glib.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 1024, HIDDEN = 2816, TUNED_LAYERS = 3, OUT_BYTES = 1 << 20 };

/* ---- Random numbers ---- */

struct source {
    uint64_t state;
    double spare;
    bool has_spare;
};

static uint64_t next(struct source *s)
{
    uint64_t z = s->state += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* In (0, 1]. */
static double uniform(struct source *s)
{
    return ((double)(next(s) >> 11) + 1) * 0x1p-53;
}

/* Mean 0, deviation 1 (Box and Muller). */
static double normal(struct source *s)
{
    if (s->has_spare) {
        s->has_spare = false;
        return s->spare;
    }
    double radius = sqrt(-2 * log(uniform(s))), angle = 2 * G_PI * uniform(s);
    s->spare = radius * sin(angle);
    s->has_spare = true;
    return radius * cos(angle);
}

/* ---- Numbers as bytes; values are far from infinity ---- */

static uint32_t bits_of(double value)
{
    float f = (float)value;
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

static void put_fp32(uint8_t *to, double value)
{
    uint32_t bits = GUINT32_TO_LE(bits_of(value));
    memcpy(to, &bits, sizeof bits);
}

static void put_16(uint8_t *to, uint32_t bits)
{
    to[0] = (uint8_t)bits;
    to[1] = (uint8_t)(bits >> 8);
}

/* The upper half of an fp32, rounded to even. */
static void put_bf16(uint8_t *to, double value)
{
    uint32_t bits = bits_of(value);
    put_16(to, (bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

static void put_fp16(uint8_t *to, double value)
{
    uint32_t sign = value < 0 ? 0x8000 : 0;
    double size = fabs(value);
    int exponent;
    frexp(size, &exponent); /* size < 2^exponent */
    int shift = MAX(exponent - 11, -24);
    uint32_t units = (uint32_t)nearbyint(ldexp(size, -shift)); /* of 2^shift, at most 2048 */
    /* The leading one of a normal number counts the exponent up, and so does a carry. */
    put_16(to, sign | (units ? units + ((uint32_t)(shift + 24) << 10) : 0));
}

/* ---- The model ---- */

struct kind {
    const char *name; /* as safetensors calls it */
    unsigned bytes;
    void (*put)(uint8_t *to, double value);
};
static const struct kind bf16 = {"BF16", 2, put_bf16};
static const struct kind fp16 = {"F16", 2, put_fp16};
static const struct kind fp32 = {"F32", 4, put_fp32};

struct tensor {
    char *name;
    const struct kind *kind;
    uint64_t rows, columns; /* columns 0: one dimension */
    double mean, deviation;
    bool tuned;
};

static void add(GArray *model, char *name, const struct kind *kind, uint64_t rows, uint64_t columns,
                double mean, double deviation, bool tuned)
{
    struct tensor t = {name, kind, rows, columns, mean, deviation, tuned};
    g_array_append_val(model, t);
}

static void add_layer(GArray *model, unsigned i, bool tuned)
{
    static const struct {
        const char *name;
        unsigned rows, columns;
        bool tuned; /* in the layers that are */
    } parts[] = {
        {"self_attn.q_proj", WIDTH, WIDTH, true}, {"self_attn.k_proj", WIDTH, WIDTH, false},
        {"self_attn.v_proj", WIDTH, WIDTH, true}, {"self_attn.o_proj", WIDTH, WIDTH, false},
        {"mlp.gate_proj", HIDDEN, WIDTH, false},  {"mlp.up_proj", HIDDEN, WIDTH, false},
        {"mlp.down_proj", WIDTH, HIDDEN, true},
    };
    for (unsigned k = 0; k < G_N_ELEMENTS(parts); k++)
        add(model, g_strdup_printf("model.layers.%u.%s.weight", i, parts[k].name), &bf16,
            parts[k].rows, parts[k].columns, 0, 0.01 + 0.002 * ((i * 7 + k * 3) % 11),
            tuned && parts[k].tuned);
    add(model, g_strdup_printf("model.layers.%u.input_layernorm.weight", i), &fp32, WIDTH, 0, 0.5,
        0.1, tuned);
    add(model, g_strdup_printf("model.layers.%u.post_attention_layernorm.weight", i), &fp32, WIDTH,
        0, 0.5, 0.1, tuned);
}

static GArray *describe(unsigned layers, unsigned vocabulary, bool tuned)
{
    GArray *model = g_array_new(FALSE, FALSE, sizeof(struct tensor));
    add(model, g_strdup("model.embed_tokens.weight"), &bf16, vocabulary, WIDTH, 0, 0.02, false);
    add(model, g_strdup("model.embed_positions.weight"), &fp32, vocabulary / 4, WIDTH, 0, 0.02,
        false);
    for (unsigned i = 0; i < layers; i++)
        add_layer(model, i, tuned && i + TUNED_LAYERS >= layers);
    add(model, g_strdup("lm_head.weight"), &fp16, vocabulary, WIDTH, 0, 0.015, false);
    return model;
}

static uint64_t numbers_in(const struct tensor *t)
{
    return t->rows * MAX(t->columns, 1);
}

static void put(const void *data, size_t len)
{
    if (fwrite(data, 1, len, stdout) != len) {
        perror("make-model: write");
        exit(1);
    }
}

static void put_header(const GArray *model)
{
    g_autoptr(GString) text = g_string_new("{\"__metadata__\":{\"format\":\"pt\"}");
    uint64_t at = 0;
    for (unsigned i = 0; i < model->len; i++) {
        const struct tensor *t = &g_array_index(model, struct tensor, i);
        uint64_t end = at + numbers_in(t) * t->kind->bytes;
        g_autofree char *columns =
            t->columns ? g_strdup_printf(",%" G_GUINT64_FORMAT, t->columns) : g_strdup("");
        g_string_append_printf(text,
                               ",\"%s\":{\"dtype\":\"%s\",\"shape\":[%" G_GUINT64_FORMAT
                               "%s],\"data_offsets\":[%" G_GUINT64_FORMAT ",%" G_GUINT64_FORMAT
                               "]}",
                               t->name, t->kind->name, t->rows, columns, at, end);
        at = end;
    }
    g_string_append_c(text, '}');
    while (text->len % 8)
        g_string_append_c(text, ' ');
    uint64_t len = GUINT64_TO_LE(text->len);
    put(&len, sizeof len);
    put(text->str, text->len);
}

static void put_tensor(const struct tensor *t, unsigned number)
{
    static uint8_t out[OUT_BYTES];
    struct source weights = {.state = (uint64_t)(number + 1) << 32};
    struct source change = {.state = (uint64_t)(number + 1) << 32 | UINT32_MAX};
    uint64_t left = numbers_in(t);
    while (left > 0) {
        uint64_t n = MIN(left, OUT_BYTES / t->kind->bytes);
        for (uint64_t i = 0; i < n; i++) {
            double value = t->mean + t->deviation * normal(&weights);
            if (t->tuned)
                value += 0.05 * t->deviation * normal(&change);
            t->kind->put(out + i * t->kind->bytes, value);
        }
        put(out, n * t->kind->bytes);
        left -= n;
    }
}

static void put_model(unsigned layers, unsigned vocabulary, bool tuned)
{
    g_autoptr(GArray) model = describe(layers, vocabulary, tuned);
    put_header(model);
    for (unsigned i = 0; i < model->len; i++) {
        struct tensor *t = &g_array_index(model, struct tensor, i);
        put_tensor(t, i);
        g_free(t->name);
    }
}

/* ---- Vectors ---- */

static void put_vectors(unsigned count, unsigned dimension, uint64_t seed)
{
    struct source s = {.state = ~seed << 20};
    g_autofree double *vector = g_new(double, dimension);
    g_autofree uint8_t *out = g_malloc_n(dimension, 4);
    for (unsigned i = 0; i < count; i++) {
        double square = 0;
        for (unsigned k = 0; k < dimension; k++) {
            vector[k] = normal(&s);
            square += vector[k] * vector[k];
        }
        for (unsigned k = 0; k < dimension; k++)
            put_fp32(out + 4 * (size_t)k, vector[k] / sqrt(square));
        put(out, 4 * (size_t)dimension);
    }
}

int main(int argc, char **argv)
{
    unsigned number[3] = {0};
    bool good = argc >= 4 && argc <= 5;
    for (int i = 2; good && i < argc; i++) {
        char *end;
        number[i - 2] = (unsigned)strtoul(argv[i], &end, 10);
        good = *argv[i] && !*end && number[i - 2] < 1u << 24;
    }
    if (good && argc == 4 && strcmp(argv[1], "model") == 0)
        put_model(number[0], number[1], false);
    else if (good && argc == 4 && strcmp(argv[1], "tuned") == 0)
        put_model(number[0], number[1], true);
    else if (good && argc == 5 && strcmp(argv[1], "vectors") == 0)
        put_vectors(number[0], number[1], number[2]);
    else {
        fprintf(stderr, "usage: make-model model|tuned LAYERS VOCABULARY\n"
                        "       make-model vectors COUNT DIMENSION SEED\n");
        return 2;
    }
    if (fflush(stdout) != 0) {
        perror("make-model: write");
        return 1;
    }
    return 0;
}
