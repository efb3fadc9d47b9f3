/* SPDX-License-Identifier: Apache-2.0 */
/* JSON: what is refused, what members give, and canonical text (vectors of RFC 8785 where they
 * have integers only). */
#include <glib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/plain.h"

static JsonNode *parse(const char *text)
{
    g_autoptr(GError) error = NULL;
    JsonNode *node = at_json_parse(text, -1, &error);
    g_assert_no_error(error);
    g_assert_nonnull(node);
    return node;
}

static void assert_refused(const char *text, gssize len, const char *part)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonNode) node = at_json_parse(text, len, &error);
    if (node || !strstr(error->message, part))
        g_error("%s: %s (expected: %s)", text, node ? "was taken" : error->message, part);
    g_assert_error(error, AT_ERROR, AT_ERROR_INVALID);
}

static void assert_canonical(const char *text, const char *expected)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonNode) node = parse(text);
    g_autofree char *canonical = at_json_canonical(node, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(canonical, ==, expected);
    g_autoptr(JsonNode) again = parse(canonical);
    g_autofree char *second = at_json_canonical(again, NULL);
    g_assert_cmpstr(second, ==, expected);
}

static void refuses_what_is_not_json_and_says_where(void)
{
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"", "JSON:1:1: a value was expected"},
        {"  \n ", "JSON:2:2: a value was expected"},
        {"{\"a\": 1,\n \"b\": }", "JSON:2:7: a value was expected"},
        {"{\"a\" 1}", "JSON:1:6: \":\" was expected"},
        {"{\"a\": 1 \"b\": 2}", "\"}\" was expected"},
        {"{\"a\": 1,}", "a string was expected"},
        {"{a: 1}", "a string was expected"},
        {"{'a': 1}", "a string was expected"},
        {"[1,]", "a value was expected"},
        {"[1 2]", "\"]\" was expected"},
        {"[1", "\"]\" was expected"},
        {"\"open", "without its end"},
        {"\"a\tb\"", "control character"},
        {"\"\\x\"", "unknown escape"},
        {"\"\\u12g4\"", "four hex digits"},
        {"\"\\u0000\"", "U+0000"},
        {"\"\\ud800\"", "surrogate"},
        {"\"\\ud800\\u0041\"", "surrogate"},
        {"\"\\udc00\"", "surrogate"},
        {"01", "leading zero"},
        {"-", "a digit was expected"},
        {"1.", "a digit was expected"},
        {".5", "a value was expected"},
        {"1e", "a digit was expected"},
        {"+1", "a value was expected"},
        {"9223372036854775808", "out of range"},
        {"-9223372036854775809", "out of range"},
        {"1e400", "out of range"},
        {"NaN", "a value was expected"},
        {"Infinity", "a value was expected"},
        {"nulL", "a value was expected"},
        {"truefalse", "text after the value"},
        {"{} {}", "JSON:1:4: text after the value"},
        {"// comment\n1", "a value was expected"},
        {"/* comment */ 1", "a value was expected"},
        {"var a = 1", "a value was expected"},
        {"{\"a\": 1, \"b\": 2, \"a\": 3}", "twice"},
        {"{\"a\": 1, \"\\u0061\": 3}", "twice"},
        {"[{\"x\": [{\"y\": 1, \"y\": 1}]}]", "twice"},
        {"\xef\xbb\xbf{}", "a value was expected"},
        {"\"\xff\"", "not valid UTF-8"},
        {"\"\xc3\"", "not valid UTF-8"},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
        assert_refused(cases[i].text, -1, cases[i].part);
    assert_refused("1\0002", 3, "not valid UTF-8");
    assert_refused("[1,2]", 4, "\"]\" was expected");
}

static void takes_what_is_json(void)
{
    static const char *const texts[] = {"0",
                                        "-0",
                                        "true",
                                        "null",
                                        "\"\"",
                                        "[]",
                                        "{}",
                                        " [ 1 , -2.5e+3 ] ",
                                        "1E5",
                                        "9223372036854775807",
                                        "-9223372036854775808",
                                        "\"\\ud83d\\ude02 \\\" \\/ \\b\"",
                                        "{\"a\":{\"a\":{\"a\":[{\"a\":1},{\"a\":2}]}}}"};
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(JsonNode) node = parse(texts[i]);
        g_autofree char *text = at_json_text(node);
        g_autoptr(JsonNode) again = parse(text);
        g_assert_true(json_node_equal(node, again));
    }
    g_autoptr(JsonNode) least = parse("-9223372036854775808");
    g_assert_cmpint(json_node_get_int(least), ==, G_MININT64);
}

static void nesting_is_bounded_at_64(void)
{
    g_autofree char *open = g_strnfill(64, '['), *close = g_strnfill(64, ']');
    g_autofree char *deep = g_strconcat(open, close, NULL);
    g_autofree char *deeper = g_strconcat("{\"a\":", deep, "}", NULL);
    g_autofree char *hostile = g_strnfill(1 << 20, '[');
    g_autofree char *in_string = g_strconcat("\"", hostile, "\"", NULL);
    g_autoptr(JsonNode) node = parse(deep);
    g_autoptr(JsonNode) text = parse(in_string);
    assert_refused(deeper, -1, "deeper than 64");
    assert_refused(hostile, -1, "deeper than 64");
}

static void doubles_are_written_short_and_come_back(void)
{
    static const struct {
        double value;
        const char *text;
    } cases[] = {{1e-08, "1e-08"},
                 {5e-74, "5e-74"},
                 {0.1, "0.1"},
                 {52.222, "52.222"},
                 {0, "0.0"},
                 {-3, "-3.0"},
                 {1e22, "1e+22"},
                 {1e300, "1e+300"},
                 {1.0 / 3, "0.3333333333333333"},
                 {0.1 + 0.2, "0.30000000000000004"}};
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(JsonNode) node = json_node_init_double(json_node_alloc(), cases[i].value);
        g_autofree char *text = at_json_text(node);
        g_assert_cmpstr(text, ==, cases[i].text);
        g_autoptr(JsonNode) again = parse(text);
        g_assert_true(json_node_get_value_type(again) == G_TYPE_DOUBLE);
        g_assert_cmpfloat(json_node_get_double(again), ==, cases[i].value);
    }
}

static void what_is_not_utf8_is_written_so_that_it_can_be_read(void)
{
    static const char *const texts[] = {"\xff", "cut in a character: \xe2\x82", "a\xc3\x28z",
                                        "\xed\xa0\x80"};
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        JsonObject *obj = json_object_new();
        json_object_set_string_member(obj, "message", texts[i]);
        g_autoptr(JsonNode) node = at_json_take_obj(obj);
        g_autofree char *text = at_json_text(node), *canonical = at_json_canonical(node, NULL);
        g_autoptr(JsonNode) again = parse(text), again_canonical = parse(canonical);
        g_assert_nonnull(strstr(text, "\ufffd"));
        g_assert_true(json_node_equal(again, again_canonical));
    }
}

static void plain_text_cannot_steer_a_terminal(void)
{
    g_autofree char *one = at_plain_text("a\033[31mb\xc2\x9b"
                                         "2Jc\xff\u202ed\u2067\r\n\177\t\u00f6",
                                         false);
    g_assert_cmpstr(one, ==, "a [31mb 2Jc\ufffd d     \u00f6");
    g_autofree char *lines = at_plain_text("first\nsecond\r\n", true);
    g_assert_cmpstr(lines, ==, "first\nsecond \n");
}

static void a_plain_copy_is_not_cut_within_a_character(void)
{
    static const char *const expected[] = {
        "", "a", "a", "a\u00f6", "a\u00f6", "a\u00f6", "a\u00f6\u20ac"};
    for (size_t cap = 1; cap <= G_N_ELEMENTS(expected); cap++) {
        char buf[8];
        at_plain_copy(buf, cap, "a\u00f6\u20ac");
        g_assert_cmpstr(buf, ==, expected[cap - 1]);
    }
    char buf[16];
    at_plain_copy(buf, sizeof buf, "503 \033\xe2\x82");
    g_assert_cmpstr(buf, ==, "503  \ufffd\ufffd");
}

static void indented_text_reads_well(void)
{
    g_autoptr(JsonNode) node = parse("{\"a\":[1,{\"b\":null}],\"c\":{},\"d\":[],\"e\":\"\\n\"}");
    g_autofree char *text = at_json_pretty(node);
    g_assert_cmpstr(text, ==,
                    "{\n  \"a\" : [\n    1,\n    {\n      \"b\" : null\n    }\n  ],\n"
                    "  \"c\" : {},\n  \"d\" : [],\n  \"e\" : \"\\n\"\n}");
}

static void canonical_text_matches_rfc8785(void)
{
    /* Section 3.2.2 and 3.2.3, the integers only. */
    assert_canonical("{\"string\": \"\\u20ac$\\u000F\\u000aA'\\u0042\\u0022\\u005c\\\\\\\"\\/\","
                     " \"literals\": [null, true, false], \"numbers\": [1, 0, -1]}",
                     "{\"literals\":[null,true,false],\"numbers\":[1,0,-1],"
                     "\"string\":\"\u20ac$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}");
    /* Members are sorted by UTF-16 code units: the surrogate pair comes before U+FB33. */
    assert_canonical("{\"\\u20ac\": \"Euro Sign\", \"\\r\": \"Carriage Return\","
                     "\"\\ufb33\": \"Hebrew Letter Dalet With Dagesh\", \"1\": \"One\","
                     "\"\\ud83d\\ude00\": \"Emoji: Grinning Face\", \"\\u0080\": \"Control\","
                     "\"\\u00f6\": \"Latin Small Letter O With Diaeresis\"}",
                     "{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\xc2\x80\":\"Control\","
                     "\"\u00f6\":\"Latin Small Letter O With Diaeresis\",\"\u20ac\":\"Euro Sign\","
                     "\"\U0001F600\":\"Emoji: Grinning Face\","
                     "\"\ufb33\":\"Hebrew Letter Dalet With Dagesh\"}");
    assert_canonical(
        "{\"peach\": 1, \"p\u00eache\": 2, \"\": {}, \"b\": [], \"a\": {\"z\":1,\"y\":2}}",
        "{\"\":{},\"a\":{\"y\":2,\"z\":1},\"b\":[],\"peach\":1,\"p\u00eache\":2}");
    assert_canonical("\"\\b\\t\\n\\f\\r\\u0001\\u001f\\u007f\"",
                     "\"\\b\\t\\n\\f\\r\\u0001\\u001f\x7f\"");
    assert_canonical("-0", "0");
    assert_canonical("9007199254740991", "9007199254740991");
    assert_canonical("-9007199254740991", "-9007199254740991");
}

static void canonical_text_refuses_numbers_that_programs_read_differently(void)
{
    static const char *const texts[] = {"9007199254740992", "-9007199254740992", "1.5", "1e2",
                                        "{\"a\": [1.0]}"};
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(JsonNode) node = parse(texts[i]);
        g_assert_null(at_json_canonical(node, &error));
        g_assert_error(error, AT_ERROR, AT_ERROR_INVALID);
    }
}

static void members_give_a_default_when_missing_or_of_another_type(void)
{
    g_autoptr(JsonNode) node = parse(
        "{\"s\": \"x\", \"i\": 3, \"d\": 2.5, \"b\": true, \"n\": null, \"o\": {}, \"a\": []}");
    JsonObject *obj = json_node_get_object(node);
    g_assert_cmpstr(at_json_str(obj, "s", "-"), ==, "x");
    g_assert_cmpint(at_json_int(obj, "i", 7), ==, 3);
    g_assert_cmpfloat(at_json_num(obj, "d", 7), ==, 2.5);
    g_assert_cmpfloat(at_json_num(obj, "i", 7), ==, 3);
    g_assert_true(at_json_bool(obj, "b", false));
    g_assert_nonnull(at_json_obj(obj, "o"));
    g_assert_nonnull(at_json_arr(obj, "a"));
    static const char *const names[] = {"s", "i", "d", "b", "n", "o", "a", "missing"};
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        const char *name = names[i];
        g_assert_cmpstr(at_json_str(obj, name, "-"), ==, *name == 's' ? "x" : "-");
        g_assert_cmpint(at_json_int(obj, name, 7), ==, *name == 'i' ? 3 : 7);
        g_assert_true(at_json_bool(obj, name, true));
        g_assert_true((at_json_obj(obj, name) != NULL) == (*name == 'o'));
        g_assert_true((at_json_arr(obj, name) != NULL) == (*name == 'a'));
    }
    g_assert_cmpstr(at_json_str(NULL, "s", "-"), ==, "-");
    g_assert_null(at_json_obj(NULL, "o"));
}

static void a_missing_string_is_written_as_null(void)
{
    JsonObject *obj = json_object_new();
    at_json_set_str(obj, "a", "x");
    at_json_set_str(obj, "b", NULL);
    g_autoptr(JsonNode) node = at_json_take_obj(obj);
    g_autofree char *text = at_json_text(node);
    g_assert_cmpstr(text, ==, "{\"a\":\"x\",\"b\":null}");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/base/json/refuses-what-is-not-json-and-says-where",
                    refuses_what_is_not_json_and_says_where);
    g_test_add_func("/base/json/takes-what-is-json", takes_what_is_json);
    g_test_add_func("/base/json/nesting-is-bounded-at-64", nesting_is_bounded_at_64);
    g_test_add_func("/base/json/doubles-are-written-short-and-come-back",
                    doubles_are_written_short_and_come_back);
    g_test_add_func("/base/json/indented-text-reads-well", indented_text_reads_well);
    g_test_add_func("/base/json/what-is-not-utf8-is-written-so-that-it-can-be-read",
                    what_is_not_utf8_is_written_so_that_it_can_be_read);
    g_test_add_func("/base/plain/text-cannot-steer-a-terminal", plain_text_cannot_steer_a_terminal);
    g_test_add_func("/base/plain/a-copy-is-not-cut-within-a-character",
                    a_plain_copy_is_not_cut_within_a_character);
    g_test_add_func("/base/json/canonical-text-matches-rfc8785", canonical_text_matches_rfc8785);
    g_test_add_func("/base/json/canonical-text-refuses-numbers-that-programs-read-differently",
                    canonical_text_refuses_numbers_that_programs_read_differently);
    g_test_add_func("/base/json/members-give-a-default-when-missing-or-of-another-type",
                    members_give_a_default_when_missing_or_of_another_type);
    g_test_add_func("/base/json/a-missing-string-is-written-as-null",
                    a_missing_string_is_written_as_null);
    return g_test_run();
}
