/* SPDX-License-Identifier: Apache-2.0 */
/* One YAML document (libyaml) as JSON, with the place of every value. */
#include "wire/yaml.h"

#include <string.h>
#include <yaml.h>

#include "base/error.h"

enum {
    MAX_BYTES = 1 << 20,
    MAX_VALUES = 20000,
    MAX_DEPTH = 32,
    MAX_KEY = 256,        /* bytes */
    MAX_COPIED = 4 << 20, /* bytes of text beyond those of the file: what aliases may add */
};

struct mark {
    size_t line, column; /* from 1 */
};

struct at_yaml {
    char *name;
    JsonNode *root;
    GHashTable *marks; /* JSON pointer, or that of a key with '#' at its end -> struct mark */
};

struct walk {
    struct at_yaml *yaml;
    yaml_document_t *doc;
    GString *pointer;
    unsigned values, depth;
    size_t copies_left; /* bytes of text and places that may still be stored */
    GError **error;
};

G_GNUC_PRINTF(4, 5)
static bool fail(const struct at_yaml *yaml, yaml_mark_t mark, GError **error, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    g_autofree char *text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    return at_error(error, AT_ERROR_INVALID, "%s:%zu:%zu: %s", yaml->name, mark.line + 1,
                    mark.column + 1, text);
}

/* Counts @len bytes that will be stored. */
static bool afford(struct walk *w, size_t len, yaml_mark_t mark)
{
    if (len > w->copies_left)
        return fail(w->yaml, mark, w->error,
                    "the document has more than 4 MiB of text when its aliases are followed");
    w->copies_left -= len;
    return true;
}

static bool remember(struct walk *w, const char *suffix, yaml_mark_t mark)
{
    if (!afford(w, w->pointer->len, mark))
        return false;
    struct mark *m = g_new(struct mark, 1);
    m->line = mark.line + 1;
    m->column = mark.column + 1;
    g_hash_table_insert(w->yaml->marks, g_strconcat(w->pointer->str, suffix, NULL), m);
    return true;
}

static void push_key(GString *pointer, const char *key)
{
    g_string_append_c(pointer, '/');
    for (; *key; key++) {
        if (*key == '~')
            g_string_append(pointer, "~0");
        else if (*key == '/')
            g_string_append(pointer, "~1");
        else
            g_string_append_c(pointer, *key);
    }
}

/* ---- scalars ---- */

/* Decimal, no leading zeros (which mean octal to some readers), fits in 64 bits. */
static bool as_int(const char *text, int64_t *ret)
{
    const char *digits = text + (*text == '-' || *text == '+');
    if (!g_ascii_isdigit(*digits) || (digits[0] == '0' && digits[1]))
        return false;
    return g_ascii_string_to_signed(*text == '+' ? digits : text, 10, G_MININT64, G_MAXINT64, ret,
                                    NULL);
}

static bool as_double(const char *text, double *ret)
{
    const char *p = text + (*text == '-');
    size_t whole = strspn(p, "0123456789");
    size_t part = p[whole] == '.' ? strspn(p + whole + 1, "0123456789") : 0;
    if (whole == 0 || part == 0 || p[whole + 1 + part] || whole + part > 15)
        return false;
    *ret = g_ascii_strtod(text, NULL);
    return true;
}

static JsonNode *scalar(const yaml_node_t *node)
{
    const char *text = (const char *)node->data.scalar.value;
    JsonNode *json = json_node_new(JSON_NODE_VALUE);
    int64_t integer;
    double number;
    if (node->data.scalar.style != YAML_PLAIN_SCALAR_STYLE)
        json_node_set_string(json, text);
    else if (strcmp(text, "true") == 0 || strcmp(text, "false") == 0)
        json_node_set_boolean(json, text[0] == 't');
    else if (strcmp(text, "") == 0 || strcmp(text, "~") == 0 || strcmp(text, "null") == 0)
        json_node_init_null(json);
    else if (as_int(text, &integer))
        json_node_set_int(json, integer);
    else if (as_double(text, &number))
        json_node_set_double(json, number);
    else
        json_node_set_string(json, text);
    return json;
}

/* ---- the tree ---- */

static JsonNode *convert(struct walk *w, int index);

static JsonNode *sequence(struct walk *w, const yaml_node_t *node)
{
    g_autoptr(JsonArray) arr = json_array_new();
    size_t here = w->pointer->len;
    const yaml_node_item_t *items = node->data.sequence.items.start;
    for (int i = 0; items + i < node->data.sequence.items.top; i++) {
        g_string_append_printf(w->pointer, "/%d", i);
        JsonNode *value = convert(w, items[i]);
        g_string_truncate(w->pointer, here);
        if (!value)
            return NULL;
        json_array_add_element(arr, value);
    }
    JsonNode *json = json_node_new(JSON_NODE_ARRAY);
    json_node_set_array(json, arr);
    return json;
}

static JsonNode *mapping(struct walk *w, const yaml_node_t *node)
{
    g_autoptr(JsonObject) obj = json_object_new();
    size_t here = w->pointer->len;
    for (yaml_node_pair_t *pair = node->data.mapping.pairs.start;
         pair < node->data.mapping.pairs.top; pair++) {
        const yaml_node_t *key = yaml_document_get_node(w->doc, pair->key);
        if (key->type != YAML_SCALAR_NODE) {
            fail(w->yaml, key->start_mark, w->error, "a key is text, not a list or a mapping");
            return NULL;
        }
        const char *name = (const char *)key->data.scalar.value;
        if (key->data.scalar.length > MAX_KEY) {
            fail(w->yaml, key->start_mark, w->error, "a key has at most %d bytes, not %zu", MAX_KEY,
                 key->data.scalar.length);
            return NULL;
        }
        if (strlen(name) != key->data.scalar.length || json_object_has_member(obj, name)) {
            fail(w->yaml, key->start_mark, w->error, "the key \"%s\" is there twice", name);
            return NULL;
        }
        push_key(w->pointer, name);
        JsonNode *value = remember(w, "#", key->start_mark) ? convert(w, pair->value) : NULL;
        g_string_truncate(w->pointer, here);
        if (!value)
            return NULL;
        json_object_set_member(obj, name, value);
    }
    JsonNode *json = json_node_new(JSON_NODE_OBJECT);
    json_node_set_object(json, obj);
    return json;
}

static bool has_own_tag(const yaml_node_t *node)
{
    static const char *const usual[] = {YAML_STR_TAG, YAML_SEQ_TAG, YAML_MAP_TAG, NULL};
    return node->tag && !g_strv_contains(usual, (const char *)node->tag);
}

static JsonNode *convert(struct walk *w, int index)
{
    const yaml_node_t *node = yaml_document_get_node(w->doc, index);
    const char *why = NULL;
    if (++w->values > MAX_VALUES)
        why = "the document has more than 20000 values when its aliases are followed";
    else if (w->depth >= MAX_DEPTH)
        why = "the document is nested deeper than 32 levels (or an alias contains itself)";
    else if (has_own_tag(node))
        why = "tags (words that begin with !) are not allowed";
    else if (node->type == YAML_SCALAR_NODE &&
             strlen((const char *)node->data.scalar.value) != node->data.scalar.length)
        why = "text must not contain NUL characters";
    if (why) {
        fail(w->yaml, node->start_mark, w->error, "%s", why);
        return NULL;
    }
    if (!remember(w, "", node->start_mark) ||
        (node->type == YAML_SCALAR_NODE && !afford(w, node->data.scalar.length, node->start_mark)))
        return NULL;
    w->depth++;
    JsonNode *json = node->type == YAML_SCALAR_NODE     ? scalar(node)
                     : node->type == YAML_SEQUENCE_NODE ? sequence(w, node)
                                                        : mapping(w, node);
    w->depth--;
    return json;
}

/* ---- the document ---- */

static yaml_mark_t mark_at(const char *text, size_t len, size_t offset)
{
    yaml_mark_t mark = {0, 0, 0};
    for (size_t i = 0; i < MIN(len, offset); i++) {
        if (text[i] == '\n') {
            mark.line++;
            mark.column = 0;
        } else if (((unsigned char)text[i] & 0xc0) != 0x80) {
            mark.column++;
        }
    }
    return mark;
}

static bool explain(const struct at_yaml *yaml, const yaml_parser_t *parser, const char *text,
                    size_t len, GError **error)
{
    yaml_mark_t mark = parser->problem_mark;
    const char *problem = parser->problem ? parser->problem : "cannot be read";
    if (parser->error == YAML_MEMORY_ERROR)
        return at_error(error, AT_ERROR_NO_SPACE, "%s: not enough memory to read it", yaml->name);
    if (parser->error == YAML_READER_ERROR)
        mark = mark_at(text, len, parser->problem_offset);
    if (strcmp(problem, "found character that cannot start any token") == 0 && mark.index < len &&
        memchr(text, '\t', len))
        return fail(yaml, mark, error, "YAML: %s (tabs cannot indent, use spaces)", problem);
    if (parser->context && parser->context_mark.line != mark.line)
        return fail(yaml, mark, error, "YAML: %s (%s that begins in line %zu)", problem,
                    parser->context, parser->context_mark.line + 1);
    if (parser->context)
        return fail(yaml, mark, error, "YAML: %s (%s)", problem, parser->context);
    return fail(yaml, mark, error, "YAML: %s", problem);
}

/* There must be nothing behind the first document. */
static bool is_alone(struct at_yaml *yaml, yaml_parser_t *parser, const char *text, size_t len,
                     GError **error)
{
    yaml_document_t next;
    if (!yaml_parser_load(parser, &next))
        return explain(yaml, parser, text, len, error);
    const yaml_node_t *root = yaml_document_get_root_node(&next);
    bool alone = root == NULL;
    if (!alone)
        fail(yaml, root->start_mark, error,
             "a second document begins here; one file has one document");
    yaml_document_delete(&next);
    return alone;
}

static bool load(struct at_yaml *yaml, yaml_parser_t *parser, const char *text, size_t len,
                 GError **error)
{
    yaml_document_t doc;
    if (!yaml_parser_load(parser, &doc))
        return explain(yaml, parser, text, len, error);
    if (yaml_document_get_root_node(&doc)) {
        g_autoptr(GString) pointer = g_string_new(NULL);
        struct walk w = {yaml, &doc, pointer, 0, 0, MAX_COPIED + len, error};
        yaml->root = convert(&w, 1);
    } else {
        fail(yaml, (yaml_mark_t){0}, error, "the file is empty");
    }
    yaml_document_delete(&doc);
    return yaml->root && is_alone(yaml, parser, text, len, error);
}

struct at_yaml *at_yaml_parse(const char *name, const char *text, size_t len, GError **error)
{
    g_autoptr(at_yaml) yaml = g_new0(struct at_yaml, 1);
    const char *end;
    yaml->name = g_strdup(name);
    yaml->marks = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    if (len > MAX_BYTES) {
        at_error(error, AT_ERROR_INVALID, "%s: has %zu bytes, allowed are at most 1 MiB", name,
                 len);
        return NULL;
    }
    if (!g_utf8_validate(text, (gssize)len, &end)) {
        fail(yaml, mark_at(text, len, (size_t)(end - text)), error,
             "the file is not UTF-8 text (is it a YAML file?)");
        return NULL;
    }
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser)) {
        at_error(error, AT_ERROR_NO_SPACE, "%s: not enough memory to read it", name);
        return NULL;
    }
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
    bool good = load(yaml, &parser, text, len, error);
    yaml_parser_delete(&parser);
    return good ? g_steal_pointer(&yaml) : NULL;
}

void at_yaml_free(struct at_yaml *yaml)
{
    if (!yaml)
        return;
    g_free(yaml->name);
    g_clear_pointer(&yaml->root, json_node_unref);
    g_hash_table_unref(yaml->marks);
    g_free(yaml);
}

JsonNode *at_yaml_root(const struct at_yaml *yaml)
{
    return yaml->root;
}

char *at_yaml_place(const struct at_yaml *yaml, const char *pointer)
{
    g_autofree char *left = g_strdup(pointer);
    const struct mark *mark;
    while (!(mark = g_hash_table_lookup(yaml->marks, left))) {
        char *slash = strrchr(left, '/');
        if (!slash)
            return g_strdup(yaml->name);
        *slash = '\0';
    }
    return g_strdup_printf("%s:%zu:%zu", yaml->name, mark->line, mark->column);
}
