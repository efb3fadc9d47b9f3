/* SPDX-License-Identifier: Apache-2.0 */
/* Prints as JSON what at_nvml_fill() reads of cards, for check-nvml.py. Changes nothing.
 * usage: show-nvml LIBRARY ADDRESS... ("" for the library of the system); exit status 77 with the
 * reason where NVML cannot be had. */
#include <stdio.h>

#include "base/json.h"
#include "gpu/nvml.h"

static void add_number(JsonObject *to, const char *name, bool known, uint64_t value)
{
    if (known)
        json_object_set_int_member(to, name, (gint64)value);
    else
        json_object_set_null_member(to, name);
}

static JsonObject *show_health(const struct at_gpu_health *h)
{
    JsonObject *o = json_object_new();
    json_object_set_boolean_member(o, "lost", h->lost);
    bool known = h->known & AT_GPU_KNOWS_TEMPERATURE;
    add_number(o, "temperature_c", known, (uint64_t)h->temperature_c);
    known = h->known & AT_GPU_KNOWS_POWER;
    add_number(o, "power_mw", known, h->power_mw);
    add_number(o, "power_limit_mw", known && h->power_limit_mw, h->power_limit_mw);
    known = h->known & AT_GPU_KNOWS_UTILIZATION;
    add_number(o, "utilization_gpu", known, h->utilization_gpu);
    add_number(o, "utilization_memory", known, h->utilization_memory);
    add_number(o, "memory_used", h->known & AT_GPU_KNOWS_MEMORY_USED, h->memory_used);
    known = h->known & AT_GPU_KNOWS_ECC;
    add_number(o, "ecc_corrected", known, h->ecc_corrected);
    add_number(o, "ecc_uncorrected", known, h->ecc_uncorrected);
    known = h->known & AT_GPU_KNOWS_ROWS;
    add_number(o, "rows_corrected", known, h->rows_corrected);
    add_number(o, "rows_uncorrected", known, h->rows_uncorrected);
    add_number(o, "rows_pending", known, h->rows_pending);
    add_number(o, "rows_failed", known, h->rows_failed);
    return o;
}

static JsonArray *show_instances(const struct at_gpu_card *card)
{
    JsonArray *list = json_array_new();
    for (unsigned i = 0; i < card->instances->len; i++) {
        const struct at_gpu_instance *instance = card->instances->pdata[i];
        JsonObject *o = json_object_new();
        json_object_set_int_member(o, "id", instance->id);
        json_object_set_int_member(o, "gi_profile", instance->gi_profile);
        json_object_set_int_member(o, "start", instance->start);
        json_object_set_int_member(o, "slices", instance->slices);
        json_object_set_int_member(o, "compute_instances", instance->compute_instances);
        json_array_add_object_element(list, o);
    }
    return list;
}

static JsonArray *show_profiles(const struct at_gpu_card *card)
{
    JsonArray *list = json_array_new();
    for (unsigned i = 0; i < card->profiles->len; i++) {
        const struct at_gpu_profile *p = card->profiles->pdata[i];
        JsonObject *o = json_object_new();
        at_json_set_str(o, "name", p->name);
        at_json_set_str(o, "kind", at_gpu_kind_name(p->kind));
        json_object_set_int_member(o, "type_id", p->type_id);
        json_object_set_int_member(o, "max", p->max);
        at_json_set_str(o, "gi_name", p->gi_name);
        json_object_set_int_member(o, "starts", p->starts);
        json_array_add_object_element(list, o);
    }
    return list;
}

static JsonObject *show_card(const struct at_gpu_card *card)
{
    JsonObject *o = json_object_new();
    at_json_set_str(o, "address", card->address);
    at_json_set_str(o, "id", card->id);
    at_json_set_str(o, "serial", card->serial);
    at_json_set_str(o, "name", card->name);
    at_json_set_str(o, "architecture", card->architecture);
    add_number(o, "memory", card->memory > 0, card->memory);
    json_object_set_boolean_member(o, "mig_capable", card->mig_capable);
    json_object_set_boolean_member(o, "mig_on", card->mig_on);
    json_object_set_boolean_member(o, "mig_pending", card->mig_pending);
    json_object_set_int_member(o, "grid_slices", card->grid_slices);
    json_object_set_int_member(o, "grid_compute", card->grid_compute);
    json_object_set_array_member(o, "instances", show_instances(card));
    json_object_set_array_member(o, "profiles", show_profiles(card));
    JsonArray *pids = json_array_new();
    for (unsigned i = 0; i < card->processes->len; i++) {
        const struct at_gpu_process *p = card->processes->pdata[i];
        json_array_add_int_element(pids, p->pid);
    }
    json_object_set_array_member(o, "processes", pids);
    json_object_set_object_member(o, "health", show_health(&card->health));
    return o;
}

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    struct at_nvml *nvml = at_nvml_open(argc > 1 && *argv[1] ? argv[1] : NULL, &error);
    if (!nvml) {
        fprintf(stderr, "%s\n", error->message);
        return 77;
    }
    int status = 0;
    JsonArray *cards = json_array_new();
    for (int i = 2; i < argc; i++) {
        struct at_gpu_card *card = at_gpu_card_new(argv[i]);
        if (at_nvml_fill(nvml, card, &error)) {
            json_array_add_object_element(cards, show_card(card));
        } else {
            fprintf(stderr, "%s: %s\n", argv[i], error->message);
            g_clear_error(&error);
            status = 1;
        }
        at_gpu_card_free(card);
    }
    JsonObject *all = json_object_new();
    at_json_set_str(all, "driver", at_nvml_driver_version(nvml));
    at_json_set_str(all, "cuda", at_nvml_cuda_version(nvml));
    json_object_set_array_member(all, "cards", cards);
    g_autoptr(JsonNode) node = at_json_take_obj(all);
    g_autofree char *text = at_json_pretty(node);
    puts(text);
    at_nvml_close(nvml);
    return status;
}
