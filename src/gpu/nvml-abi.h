/* SPDX-License-Identifier: Apache-2.0 */
/* The part of NVML's binary interface that is used here, declared from NVIDIA's NVML API reference:
 * types, constants, and a table of the functions with the names under which libraries export them.
 * Laid out for LP64. The names of the members are NVIDIA's. */
#pragma once
#include <stddef.h>

/* nvmlReturn_t */
enum {
    NVML_SUCCESS = 0,
    NVML_UNINITIALIZED = 1,
    NVML_INVALID_ARGUMENT = 2,
    NVML_NOT_SUPPORTED = 3,
    NVML_NO_PERMISSION = 4,
    NVML_NOT_FOUND = 6,
    NVML_INSUFFICIENT_SIZE = 7,
    NVML_INSUFFICIENT_POWER = 8,
    NVML_DRIVER_NOT_LOADED = 9,
    NVML_TIMEOUT = 10,
    NVML_IRQ_ISSUE = 11,
    NVML_LIBRARY_NOT_FOUND = 12,
    NVML_FUNCTION_NOT_FOUND = 13,
    NVML_CORRUPTED_INFOROM = 14,
    NVML_GPU_IS_LOST = 15,
    NVML_RESET_REQUIRED = 16,
    NVML_OPERATING_SYSTEM = 17,
    NVML_VERSION_MISMATCH = 18, /* LIB_RM_VERSION_MISMATCH */
    NVML_IN_USE = 19,
    NVML_MEMORY = 20,
    NVML_NO_DATA = 21,
    NVML_INSUFFICIENT_RESOURCES = 23,
    NVML_ARGUMENT_VERSION_MISMATCH = 25,
    NVML_NOT_READY = 27,
    NVML_GPU_NOT_FOUND = 28,
    NVML_INVALID_STATE = 29,
    NVML_UNKNOWN = 999,
};

enum {
    NVML_UUID_SIZE = 96,
    NVML_NAME_SIZE = 96,
    NVML_SERIAL_SIZE = 30,
    NVML_VERSION_SIZE = 80,
    NVML_VGPU_NAME_SIZE = 64,
};
#define NVML_NO_PROFILE 0xffffffffU /* of a vGPU type: it is time-sliced */
#define NVML_NOT_AVAILABLE (~0ULL)  /* of a process's memory */
#define NVML_EVENT_XID 0x8ULL       /* nvmlEventTypeXidCriticalError */
#define NVML_VGPU_CAP_MIXED_SIZES 2 /* nvmlDeviceVgpuCapability_t */
#define NVML_VERSION_OF(type, n) ((unsigned)(sizeof(type) | ((unsigned)(n) << 24)))

/* Opaque. A device handle is invalid after the card was reset or MIG mode was switched. */
struct nvml_device;
struct nvml_gi; /* a GPU instance */
struct nvml_ci; /* a compute instance */
struct nvml_events;

struct nvml_pci_info {
    char busIdLegacy[16];
    unsigned domain, bus, device, pciDeviceId, pciSubSystemId;
    char busId[32]; /* "00000000:41:00.0" */
};
struct nvml_memory {
    unsigned long long total, free, used;
};
struct nvml_memory_v2 {
    unsigned version;
    unsigned long long total, reserved, free, used;
};
struct nvml_utilization {
    unsigned gpu, memory;
};
struct nvml_temperature {
    unsigned version;
    unsigned sensorType;
    int temperature;
};
struct nvml_rows_v2 {
    unsigned corrActiveRemaps, corrInactiveRemaps, uncActiveRemaps, uncInactiveRemaps;
    unsigned bPending, bFailureOccurred;
};
struct nvml_process {
    unsigned pid;
    unsigned long long usedGpuMemory;
    unsigned gpuInstanceId, computeInstanceId;
};
struct nvml_event {
    struct nvml_device *device;
    unsigned long long eventType, eventData;
    unsigned gpuInstanceId, computeInstanceId;
};
struct nvml_placement {
    unsigned start, size;
};
struct nvml_gi_profile {
    unsigned id, isP2pSupported, sliceCount, instanceCount, multiprocessorCount, copyEngineCount;
    unsigned decoderCount, encoderCount, jpegCount, ofaCount;
    unsigned long long memorySizeMB;
};
struct nvml_gi_profile_v2 {
    unsigned version;
    unsigned id, isP2pSupported, sliceCount, instanceCount, multiprocessorCount, copyEngineCount;
    unsigned decoderCount, encoderCount, jpegCount, ofaCount;
    unsigned long long memorySizeMB;
    char name[NVML_NAME_SIZE];
};
struct nvml_gi_info {
    struct nvml_device *device;
    unsigned id, profileId;
    struct nvml_placement placement;
};
struct nvml_ci_profile {
    unsigned id, sliceCount, instanceCount, multiprocessorCount, sharedCopyEngineCount;
    unsigned sharedDecoderCount, sharedEncoderCount, sharedJpegCount, sharedOfaCount;
};
struct nvml_vgpu_max_per_gi {
    unsigned version, vgpuTypeId, maxInstancePerGI;
};
struct nvml_vgpu_mixed {
    unsigned version, mode;
};
struct nvml_vgpu_placements {
    unsigned version, placementSize, count;
    unsigned *placementIds;
    unsigned mode; /* 0: sizes mixed */
};
struct nvml_vgpu_placements_v1 {
    unsigned version, placementSize, count;
    unsigned *placementIds;
};

#define NVML_LAYOUT(type, member, offset)                                                          \
    _Static_assert(offsetof(struct type, member) == (offset), #type "." #member)
#define NVML_SIZE(type, size) _Static_assert(sizeof(struct type) == (size), #type)
NVML_SIZE(nvml_pci_info, 68);
NVML_LAYOUT(nvml_pci_info, domain, 16);
NVML_LAYOUT(nvml_pci_info, busId, 36);
NVML_SIZE(nvml_memory, 24);
NVML_SIZE(nvml_memory_v2, 40);
NVML_LAYOUT(nvml_memory_v2, total, 8);
NVML_LAYOUT(nvml_memory_v2, used, 32);
NVML_SIZE(nvml_utilization, 8);
NVML_SIZE(nvml_temperature, 12);
NVML_SIZE(nvml_rows_v2, 24);
NVML_SIZE(nvml_process, 24);
NVML_LAYOUT(nvml_process, usedGpuMemory, 8);
NVML_LAYOUT(nvml_process, gpuInstanceId, 16);
NVML_SIZE(nvml_event, 32);
NVML_LAYOUT(nvml_event, eventData, 16);
NVML_LAYOUT(nvml_event, gpuInstanceId, 24);
NVML_SIZE(nvml_placement, 8);
NVML_SIZE(nvml_gi_profile, 48);
NVML_LAYOUT(nvml_gi_profile, memorySizeMB, 40);
NVML_SIZE(nvml_gi_profile_v2, 152);
NVML_LAYOUT(nvml_gi_profile_v2, instanceCount, 16);
NVML_LAYOUT(nvml_gi_profile_v2, memorySizeMB, 48);
NVML_LAYOUT(nvml_gi_profile_v2, name, 56);
NVML_SIZE(nvml_gi_info, 24);
NVML_LAYOUT(nvml_gi_info, profileId, 12);
NVML_LAYOUT(nvml_gi_info, placement, 16);
NVML_SIZE(nvml_ci_profile, 36);
NVML_SIZE(nvml_vgpu_max_per_gi, 12);
NVML_SIZE(nvml_vgpu_mixed, 8);
NVML_SIZE(nvml_vgpu_placements, 32);
NVML_LAYOUT(nvml_vgpu_placements, placementIds, 16);
NVML_LAYOUT(nvml_vgpu_placements, mode, 24);
NVML_SIZE(nvml_vgpu_placements_v1, 24);

/* X(member, needed, name, name in older libraries with the same signature or NULL, arguments).
 * The plain names of NVIDIA's header are macros; what a library exports has the suffix. */
#define NVML_FUNCTIONS(X)                                                                          \
    X(init, 1, "nvmlInit_v2", "nvmlInit", (void))                                                  \
    X(shutdown, 1, "nvmlShutdown", NULL, (void))                                                   \
    X(driver_version, 0, "nvmlSystemGetDriverVersion", NULL, (char *, unsigned))                   \
    X(nvml_version, 0, "nvmlSystemGetNVMLVersion", NULL, (char *, unsigned))                       \
    X(cuda_version, 0, "nvmlSystemGetCudaDriverVersion_v2", "nvmlSystemGetCudaDriverVersion",      \
      (int *))                                                                                     \
    X(count, 0, "nvmlDeviceGetCount_v2", "nvmlDeviceGetCount", (unsigned *))                       \
    X(by_index, 0, "nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetHandleByIndex",                  \
      (unsigned, struct nvml_device **))                                                           \
    X(by_bus_id, 1, "nvmlDeviceGetHandleByPciBusId_v2", "nvmlDeviceGetHandleByPciBusId",           \
      (const char *, struct nvml_device **))                                                       \
    X(pci_info, 0, "nvmlDeviceGetPciInfo_v3", NULL,                                                \
      (struct nvml_device *, struct nvml_pci_info *))                                              \
    X(name, 0, "nvmlDeviceGetName", NULL, (struct nvml_device *, char *, unsigned))                \
    X(uuid, 0, "nvmlDeviceGetUUID", NULL, (struct nvml_device *, char *, unsigned))                \
    X(serial, 0, "nvmlDeviceGetSerial", NULL, (struct nvml_device *, char *, unsigned))            \
    X(architecture, 0, "nvmlDeviceGetArchitecture", NULL, (struct nvml_device *, unsigned *))      \
    X(memory, 0, "nvmlDeviceGetMemoryInfo", NULL, (struct nvml_device *, struct nvml_memory *))    \
    X(memory_v2, 0, "nvmlDeviceGetMemoryInfo_v2", NULL,                                            \
      (struct nvml_device *, struct nvml_memory_v2 *))                                             \
    X(utilization, 0, "nvmlDeviceGetUtilizationRates", NULL,                                       \
      (struct nvml_device *, struct nvml_utilization *))                                           \
    X(temperature, 0, "nvmlDeviceGetTemperature", NULL,                                            \
      (struct nvml_device *, unsigned, unsigned *))                                                \
    X(temperature_v, 0, "nvmlDeviceGetTemperatureV", NULL,                                         \
      (struct nvml_device *, struct nvml_temperature *))                                           \
    X(power, 0, "nvmlDeviceGetPowerUsage", NULL, (struct nvml_device *, unsigned *))               \
    X(power_limit, 0, "nvmlDeviceGetEnforcedPowerLimit", "nvmlDeviceGetPowerManagementLimit",      \
      (struct nvml_device *, unsigned *))                                                          \
    X(ecc_errors, 0, "nvmlDeviceGetTotalEccErrors", NULL,                                          \
      (struct nvml_device *, unsigned, unsigned, unsigned long long *))                            \
    X(rows, 0, "nvmlDeviceGetRemappedRows", NULL,                                                  \
      (struct nvml_device *, unsigned *, unsigned *, unsigned *, unsigned *))                      \
    X(rows_v2, 0, "nvmlDeviceGetRemappedRows_v2", NULL,                                            \
      (struct nvml_device *, struct nvml_rows_v2 *))                                               \
    X(compute_processes, 0, "nvmlDeviceGetComputeRunningProcesses_v3",                             \
      "nvmlDeviceGetComputeRunningProcesses_v2",                                                   \
      (struct nvml_device *, unsigned *, struct nvml_process *))                                   \
    X(graphics_processes, 0, "nvmlDeviceGetGraphicsRunningProcesses_v3",                           \
      "nvmlDeviceGetGraphicsRunningProcesses_v2",                                                  \
      (struct nvml_device *, unsigned *, struct nvml_process *))                                   \
    X(mig_mode, 0, "nvmlDeviceGetMigMode", NULL, (struct nvml_device *, unsigned *, unsigned *))   \
    X(set_mig_mode, 0, "nvmlDeviceSetMigMode", NULL, (struct nvml_device *, unsigned, int *))      \
    X(gi_profile, 0, "nvmlDeviceGetGpuInstanceProfileInfo", NULL,                                  \
      (struct nvml_device *, unsigned, struct nvml_gi_profile *))                                  \
    X(gi_profile_v, 0, "nvmlDeviceGetGpuInstanceProfileInfoV", NULL,                               \
      (struct nvml_device *, unsigned, struct nvml_gi_profile_v2 *))                               \
    X(gi_placements, 0, "nvmlDeviceGetGpuInstancePossiblePlacements_v2", NULL,                     \
      (struct nvml_device *, unsigned, struct nvml_placement *, unsigned *))                       \
    X(gi_create, 0, "nvmlDeviceCreateGpuInstanceWithPlacement", NULL,                              \
      (struct nvml_device *, unsigned, const struct nvml_placement *, struct nvml_gi **))          \
    X(gi_destroy, 0, "nvmlGpuInstanceDestroy", NULL, (struct nvml_gi *))                           \
    X(gi_list, 0, "nvmlDeviceGetGpuInstances", NULL,                                               \
      (struct nvml_device *, unsigned, struct nvml_gi **, unsigned *))                             \
    X(gi_by_id, 0, "nvmlDeviceGetGpuInstanceById", NULL,                                           \
      (struct nvml_device *, unsigned, struct nvml_gi **))                                         \
    X(gi_info, 0, "nvmlGpuInstanceGetInfo", NULL, (struct nvml_gi *, struct nvml_gi_info *))       \
    X(ci_profile, 0, "nvmlGpuInstanceGetComputeInstanceProfileInfo", NULL,                         \
      (struct nvml_gi *, unsigned, unsigned, struct nvml_ci_profile *))                            \
    X(ci_create, 0, "nvmlGpuInstanceCreateComputeInstance", NULL,                                  \
      (struct nvml_gi *, unsigned, struct nvml_ci **))                                             \
    X(ci_destroy, 0, "nvmlComputeInstanceDestroy", NULL, (struct nvml_ci *))                       \
    X(ci_list, 0, "nvmlGpuInstanceGetComputeInstances", NULL,                                      \
      (struct nvml_gi *, unsigned, struct nvml_ci **, unsigned *))                                 \
    X(vgpu_supported, 0, "nvmlDeviceGetSupportedVgpus", NULL,                                      \
      (struct nvml_device *, unsigned *, unsigned *))                                              \
    X(vgpu_name, 0, "nvmlVgpuTypeGetName", NULL, (unsigned, char *, unsigned *))                   \
    X(vgpu_memory, 0, "nvmlVgpuTypeGetFramebufferSize", NULL, (unsigned, unsigned long long *))    \
    X(vgpu_gi_profile, 0, "nvmlVgpuTypeGetGpuInstanceProfileId", NULL, (unsigned, unsigned *))     \
    X(vgpu_max, 0, "nvmlVgpuTypeGetMaxInstances", NULL,                                            \
      (struct nvml_device *, unsigned, unsigned *))                                                \
    X(vgpu_max_per_gi, 0, "nvmlVgpuTypeGetMaxInstancesPerGpuInstance", NULL,                       \
      (struct nvml_vgpu_max_per_gi *))                                                             \
    X(vgpu_placements, 0, "nvmlDeviceGetVgpuTypeSupportedPlacements", NULL,                        \
      (struct nvml_device *, unsigned, struct nvml_vgpu_placements *))                             \
    X(vgpu_capability, 0, "nvmlDeviceGetVgpuCapabilities", NULL,                                   \
      (struct nvml_device *, unsigned, unsigned *))                                                \
    X(get_mixed, 0, "nvmlDeviceGetVgpuHeterogeneousMode", NULL,                                    \
      (struct nvml_device *, struct nvml_vgpu_mixed *))                                            \
    X(set_mixed, 0, "nvmlDeviceSetVgpuHeterogeneousMode", NULL,                                    \
      (struct nvml_device *, const struct nvml_vgpu_mixed *))                                      \
    X(events_new, 0, "nvmlEventSetCreate", NULL, (struct nvml_events **))                          \
    X(events_free, 0, "nvmlEventSetFree", NULL, (struct nvml_events *))                            \
    X(events_kinds, 0, "nvmlDeviceGetSupportedEventTypes", NULL,                                   \
      (struct nvml_device *, unsigned long long *))                                                \
    X(events_add, 0, "nvmlDeviceRegisterEvents", NULL,                                             \
      (struct nvml_device *, unsigned long long, struct nvml_events *))                            \
    X(events_wait, 0, "nvmlEventSetWait_v2", NULL,                                                 \
      (struct nvml_events *, struct nvml_event *, unsigned))

#define NVML_MEMBER(member, needed, name, older, arguments) int(*member) arguments;
struct nvml_functions {
    NVML_FUNCTIONS(NVML_MEMBER)
};
#undef NVML_MEMBER
