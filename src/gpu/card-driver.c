/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel's own driver of a card shows of it in sysfs. Names and formats are of Linux:
 * - Documentation/gpu/amdgpu/driver-misc.rst: mem_info_vram_total and mem_info_vram_used in bytes,
 *   serial_number, unique_id ("%016llx", empty when the board has none);
 * - Documentation/gpu/amdgpu/thermal.rst: gpu_busy_percent, and hwmon: temperatures in 1/1000 C
 *   (temp1 is missing on MI300), power1_average or power1_input and power1_cap in microwatts;
 * - Documentation/ABI/testing/sysfs-driver-intel-i915-hwmon and -xe-hwmon: temperatures, power1_max
 *   (no power that is drawn, but energy only), by Documentation/hwmon/sysfs-interface.rst;
 * - drivers/gpu/drm/xe/xe_tile_sysfs.c: tileN/physical_vram_size_bytes, which not every kernel has;
 *   the i915 of Intel's own packages: lmem_total_bytes of its DRM card.
 * What the driver counts of errors is in card-ras.c. */
#include <errno.h>
#include <string.h>

#include "gpu/attribute.h"
#include "gpu/card-driver-internal.h"
#include "gpu/card-internal.h"
#include "gpu/function.h"

enum { HWMONS_MAX = 4, TEMPERATURES_MAX = 16, TILES_MAX = 16, SERIAL_MAX = 40, SAID_MAX = 40 };
#define POWER_MAX_UW (INT64_C(100000) * 1000000) /* of a card; more is nonsense */

static void list(GString *text, const char *what)
{
    g_string_append_printf(text, "%s%s", text->len ? ", " : "", what);
}

void at_gpu_reading_missing(struct at_gpu_reading *r, const char *what)
{
    list(r->missing, what);
}

void at_gpu_reading_failed(struct at_gpu_reading *r, const char *what, const char *name,
                           const char *why)
{
    g_string_append_printf(r->failed, "%s%s (%s): %s", r->failed->len ? "; " : "", what, name, why);
}

void at_gpu_reading_odd(struct at_gpu_reading *r, const char *what, const char *name,
                        const char *said)
{
    g_autofree char *start = g_utf8_substring(said, 0, MIN(g_utf8_strlen(said, -1), SAID_MAX));
    g_autofree char *why = g_strdup_printf("it says '%s'", start);
    at_gpu_reading_failed(r, what, name, why);
}

bool at_gpu_reading_awake(struct at_gpu_reading *r, const char *what)
{
    if (r->asleep)
        list(r->sleeping, what);
    return !r->asleep;
}

/* The number in the first of these files that there is. */
static bool first_number(struct at_gpu_reading *r, const char *what, const GPtrArray *names,
                         int64_t min, int64_t max, int64_t *ret)
{
    for (unsigned i = 0; i < names->len; i++) {
        const char *name = names->pdata[i];
        g_autofree char *text = at_gpu_attr_line(r->dir, name);
        int err = errno;
        if (text && g_ascii_string_to_signed(text, 10, min, max, ret, NULL)) {
            r->any = true;
            return true;
        }
        if (!text && err == ENOENT)
            continue;
        if (text)
            at_gpu_reading_odd(r, what, name, text);
        else
            at_gpu_reading_failed(r, what, name, g_strerror(err));
        return false;
    }
    if (what)
        at_gpu_reading_missing(r, what);
    return false;
}

static bool one_number(struct at_gpu_reading *r, const char *what, const char *name, int64_t max,
                       int64_t *ret)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    g_ptr_array_add(names, (char *)name);
    return first_number(r, what, names, 0, max, ret);
}

/* ---- memory ---- */

/* Of all tiles, or unknown: a part of the memory is not what the card has. */
static bool read_tiles(struct at_gpu_reading *r, int64_t *ret)
{
    int64_t sum = 0;
    for (unsigned i = 0; i < TILES_MAX; i++) {
        g_autofree char *tile = g_strdup_printf("tile%u", i);
        g_autofree char *name = g_build_filename(tile, "physical_vram_size_bytes", NULL);
        int64_t size;
        if (!at_gpu_attr_exists(r->dir, tile))
            break;
        if (!one_number(r, "memory", name, AT_GPU_MEMORY_MAX, &size))
            return false;
        sum += size;
    }
    *ret = sum;
    return sum > 0 && sum <= (int64_t)AT_GPU_MEMORY_MAX;
}

static bool is_drm_card(const char *name)
{
    return g_regex_match_simple("^card[0-9]+$", name, 0, 0);
}

/* Of a card of several tiles it may be what one of them has: such a card's is unknown. */
static char *lmem_file(struct at_gpu_reading *r)
{
    g_autofree char *drm = g_build_filename(r->dir, "drm", NULL);
    g_autoptr(GPtrArray) cards = at_gpu_attr_list(drm, 1, is_drm_card);
    if (!cards || cards->len == 0)
        return NULL;
    g_autofree char *second = g_build_filename(cards->pdata[0], "gt/gt1", NULL);
    if (at_gpu_attr_exists(drm, second))
        return NULL;
    return g_build_filename("drm", cards->pdata[0], "lmem_total_bytes", NULL);
}

static bool read_total(struct at_gpu_reading *r, int64_t *ret)
{
    g_autofree char *lmem = lmem_file(r);
    if (at_gpu_attr_exists(r->dir, "tile0/physical_vram_size_bytes"))
        return read_tiles(r, ret);
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    g_ptr_array_add(names, (char *)"mem_info_vram_total");
    if (lmem)
        g_ptr_array_add(names, lmem);
    return first_number(r, "memory", names, 1, AT_GPU_MEMORY_MAX, ret);
}

static void read_memory(struct at_gpu_reading *r)
{
    struct at_gpu_card *card = r->card;
    int64_t total, used;
    if (read_total(r, &total))
        card->memory = (uint64_t)total;
    int64_t max = card->memory ? (int64_t)card->memory : (int64_t)AT_GPU_MEMORY_MAX;
    if (one_number(r, "memory in use", "mem_info_vram_used", max, &used)) {
        card->health.memory_used = (uint64_t)used;
        card->health.known |= AT_GPU_KNOWS_MEMORY_USED;
    }
}

/* ---- what it does ---- */

static bool is_hwmon(const char *name)
{
    return g_str_has_prefix(name, "hwmon");
}

static GPtrArray *list_hwmons(struct at_gpu_reading *r)
{
    g_autofree char *dir = g_build_filename(r->dir, "hwmon", NULL);
    GPtrArray *names = at_gpu_attr_list(dir, HWMONS_MAX, is_hwmon);
    return names ? names : g_ptr_array_new_with_free_func(g_free);
}

static void add_sensor(GPtrArray *names, const GPtrArray *hwmons, const char *file)
{
    for (unsigned i = 0; i < hwmons->len; i++)
        g_ptr_array_add(names, g_build_filename("hwmon", hwmons->pdata[i], file, NULL));
}

/* The first sensor is the nearest to the chip as a whole: amdgpu's temp1 is its edge (temp2, the
 * hottest place, where there is no edge), xe's temp2 the package. */
static void read_temperature(struct at_gpu_reading *r, const GPtrArray *hwmons)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    int64_t value;
    for (unsigned i = 1; i <= TEMPERATURES_MAX; i++) {
        char file[24];
        g_snprintf(file, sizeof file, "temp%u_input", i);
        add_sensor(names, hwmons, file);
    }
    if (!at_gpu_reading_awake(r, "temperature") ||
        !first_number(r, "temperature", names, -100000, 250000, &value))
        return;
    r->card->health.temperature_c = (int)(value / 1000);
    r->card->health.known |= AT_GPU_KNOWS_TEMPERATURE;
}

static void read_power(struct at_gpu_reading *r, const GPtrArray *hwmons)
{
    g_autoptr(GPtrArray) drawn = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) limits = g_ptr_array_new_with_free_func(g_free);
    int64_t value;
    add_sensor(drawn, hwmons, "power1_average");
    add_sensor(drawn, hwmons, "power1_input");
    add_sensor(limits, hwmons, "power1_cap");
    add_sensor(limits, hwmons, "power1_max");
    if (!at_gpu_reading_awake(r, "power") ||
        !first_number(r, "power", drawn, 0, POWER_MAX_UW, &value))
        return;
    r->card->health.power_mw = (unsigned)(value / 1000);
    r->card->health.known |= AT_GPU_KNOWS_POWER;
    if (first_number(r, NULL, limits, 0, POWER_MAX_UW, &value))
        r->card->health.power_limit_mw = (unsigned)(value / 1000);
}

static void read_use(struct at_gpu_reading *r)
{
    int64_t busy;
    if (!at_gpu_reading_awake(r, "utilization") ||
        !one_number(r, "utilization", "gpu_busy_percent", 100, &busy))
        return;
    r->card->health.utilization_gpu = (unsigned)busy;
    r->card->health.known |= AT_GPU_KNOWS_UTILIZATION;
}

/* ---- who it is ---- */

/* Zeros and ones are what a board says that was never given a number. */
static bool is_number(const char *text)
{
    uint64_t value;
    return at_gpu_number_parse(text, 16, UINT64_MAX, &value) && value != 0 && value != UINT64_MAX;
}

static bool is_serial(const char *text)
{
    size_t len = strlen(text);
    return len >= 4 && len <= SERIAL_MAX && strspn(text, "0") != len &&
           strspn(text, G_CSET_A_2_Z G_CSET_a_2_z G_CSET_DIGITS "-") == len;
}

static void read_identity(struct at_gpu_reading *r)
{
    g_autofree char *unique = at_gpu_attr_line(r->dir, "unique_id");
    g_autofree char *serial = at_gpu_attr_line(r->dir, "serial_number");
    bool has_serial = serial && is_serial(serial);
    if (unique && is_number(unique))
        r->card->unique_id = g_ascii_strdown(unique, -1);
    else if (has_serial)
        r->card->unique_id = g_strdup(serial);
    if (has_serial && !r->card->serial)
        r->card->serial = g_strdup(serial);
    r->any = r->any || r->card->unique_id;
}

/* ---- all of it ---- */

static char *in_words(struct at_gpu_reading *r)
{
    g_autoptr(GString) text = g_string_new(NULL);
    if (r->missing->len)
        g_string_append_printf(text, "driver %s does not show: %s", r->card->driver,
                               r->missing->str);
    if (r->sleeping->len)
        g_string_append_printf(text,
                               "%sthe card is suspended, and is not woken to be asked for: %s",
                               text->len ? "; " : "", r->sleeping->str);
    if (r->failed->len)
        g_string_append_printf(text, "%s%s", text->len ? "; " : "", r->failed->str);
    return text->len ? g_strdup(text->str) : NULL;
}

static void read_all(struct at_gpu_reading *r)
{
    g_autofree char *status = at_gpu_attr_line(r->dir, "power/runtime_status");
    g_autoptr(GPtrArray) hwmons = list_hwmons(r);
    r->asleep = g_strcmp0(status, "suspended") == 0;
    read_memory(r);
    read_use(r);
    read_temperature(r, hwmons);
    read_power(r, hwmons);
    at_gpu_reading_ras(r);
    read_identity(r);
}

/* Of NVIDIA's cards the library's reason stays: it is what would tell all the rest. */
static void conclude(struct at_gpu_reading *r)
{
    struct at_gpu_card *card = r->card;
    if (card->vendor == AT_GPU_VENDOR_NVIDIA)
        return;
    if (r->any)
        card->health_unknown = in_words(r);
    else
        card->unknown = g_strdup_printf("driver %s shows nothing of it in sysfs", card->driver);
}

void at_gpu_card_read_driver(struct at_gpu_card *card, const struct at_gpu_paths *paths)
{
    bool library = card->vendor == AT_GPU_VENDOR_NVIDIA;
    if (library && !card->unknown)
        return;
    if (card->health.lost || at_pci_driver_lets_go(card->driver)) {
        if (!library && card->health.lost)
            card->unknown = g_strdup("the card does not answer");
        else if (!library && !card->driver)
            card->unknown = g_strdup("no driver is bound that could tell of it");
        else if (!library)
            card->unknown = g_strdup_printf(
                "bound to %s: its own driver is not there to tell of it", card->driver);
        return;
    }
    g_autofree char *dir = at_pci_function_dir(paths, card->address);
    g_autoptr(GString) missing = g_string_new(NULL), failed = g_string_new(NULL);
    g_autoptr(GString) sleeping = g_string_new(NULL);
    struct at_gpu_reading r = {
        .card = card, .dir = dir, .missing = missing, .sleeping = sleeping, .failed = failed};
    read_all(&r);
    conclude(&r);
}
