/* SPDX-License-Identifier: GPL-2.0 */
/* Double of NVIDIA's vGPU host driver, as a kernel sees it from version 17 on; only for the test
 * host.
 * - Gives emulated PCI functions (pf=ADDRESS,... device=ID,...) the identity of NVIDIA cards.
 * - A driver called "nvidia" binds to them, and to their VFs as VFIO devices of their own kind,
 * each with a directory nvidia/ of which a vGPU type is chosen. Without a type a VF cannot be
 * opened.
 * - sriov_numvfs is refused, as the real driver does; /usr/lib/nvidia/sriov-manage has a way
 * around. Real: EIO when there is no room (with the kernel's line), ENXIO before there is a vGPU, 0
 * to clear, one size per card unless `mixed`. Invented: EBUSY while in use, EEXIST when a type is
 * set, EPERM of sriov_numvfs, ENODEV of opening; names and numbers of types are samples. */
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/vfio_pci_core.h>

enum { MAX_CARDS = 8, MAX_TYPES = 16, NAME_MAX_LEN = 48, PARAMS_MAX = 256, NVIDIA = 0x10de };
enum { CLASS_3D = 0x030200, H100_PCIE = 0x2331, GIB_IN_MIB = 1024 };

static char *pf[MAX_CARDS];
static int n_pf;
module_param_array(pf, charp, &n_pf, 0444);
MODULE_PARM_DESC(pf, "addresses of the functions that become cards");
static ushort device[MAX_CARDS];
static int n_device;
module_param_array(device, ushort, &n_device, 0444);
MODULE_PARM_DESC(device, "their device ids; the default is 0x2331 (H100 PCIe)");
static char *types[MAX_TYPES] = {"1145:1024:NVIDIA_L40-1B", "1155:4096:NVIDIA_L40-4Q",
                                 "1160:24576:NVIDIA_L40-24Q", "1161:49152:NVIDIA_L40-48Q"};
static int n_types = 4;
module_param_array(types, charp, &n_types, 0444);
MODULE_PARM_DESC(types, "vGPU types as NUMBER:MIB:NAME, '_' for a blank");
static uint fb_mb = 48 * GIB_IN_MIB;
module_param(fb_mb, uint, 0644);
MODULE_PARM_DESC(fb_mb, "memory of a card in MiB");
static bool mixed;
module_param(mixed, bool, 0644);
MODULE_PARM_DESC(mixed, "vGPUs of one card may differ in size");
static uint instances;
module_param(instances, uint, 0644);
MODULE_PARM_DESC(instances, "MIG: GPU instances of a card, one vGPU in each; 0: time-sliced");
static uint next_instance;
module_param(next_instance, uint, 0644);
MODULE_PARM_DESC(next_instance,
                 "MIG: id of the instance that the next vGPU is in; 0: the first free");
static bool managed;
module_param(managed, bool, 0644);
MODULE_PARM_DESC(managed, "sriov_numvfs may be written (set by sriov-manage)");

struct vgpu_type {
    uint id, mib;
    char name[NAME_MAX_LEN];
};
static struct vgpu_type known[MAX_TYPES];

struct vf {
    struct vfio_pci_core_device core; /* first: what the core finds by the device's data */
    const struct vgpu_type *type;
    uint place, instance;
    bool open;
    char params[PARAMS_MAX];
    struct list_head link;
};
static DEFINE_MUTEX(lock); /* guards what follows, and the VFs in it but for core */
static LIST_HEAD(vfs);

static struct pci_dev *card_of(const struct vf *vf)
{
    return pci_physfn(vf->core.pdev);
}

/* The first n*step in [0, end) at which no vGPU of the same card begins, or end. */
static uint first_free(const struct vf *vf, uint step, uint end, bool by_instance)
{
    uint at;
    for (at = 0; at < end; at += step) {
        struct vf *other;
        bool taken = false;
        list_for_each_entry(other, &vfs, link) if (other->type && card_of(other) == card_of(vf))
            taken |= (by_instance ? other->instance : other->place) == at;
        if (!taken)
            break;
    }
    return at;
}

static bool fits(const struct vf *vf, const struct vgpu_type *type)
{
    struct vf *other;
    uint used = 0;
    if (instances)
        return first_free(vf, 1, instances, true) < instances;
    list_for_each_entry(other, &vfs, link)
    {
        if (!other->type || card_of(other) != card_of(vf))
            continue;
        used += other->type->mib;
        if (!mixed && other->type->mib != type->mib)
            return false;
    }
    return used + type->mib <= fb_mb;
}

static ssize_t creatable_vgpu_types_show(struct device *dev, struct device_attribute *attr,
                                         char *buf)
{
    struct vf *vf = dev_get_drvdata(dev);
    int len = sysfs_emit(buf, "ID    : vGPU Name\n");
    int i;
    mutex_lock(&lock);
    for (i = 0; !vf->type && i < n_types; i++) {
        if (fits(vf, &known[i]))
            len += sysfs_emit_at(buf, len, "%-5u : %s\n", known[i].id, known[i].name);
    }
    mutex_unlock(&lock);
    return len;
}
static DEVICE_ATTR_RO(creatable_vgpu_types);

static ssize_t current_vgpu_type_show(struct device *dev, struct device_attribute *attr, char *buf)
{
    struct vf *vf = dev_get_drvdata(dev);
    ssize_t len;
    mutex_lock(&lock);
    len = sysfs_emit(buf, "%u\n", vf->type ? vf->type->id : 0);
    mutex_unlock(&lock);
    return len;
}

static int set_type(struct vf *vf, uint id)
{
    int i;
    if (vf->open)
        return -EBUSY;
    if (id == 0) {
        vf->type = NULL;
        return 0;
    }
    if (vf->type)
        return -EEXIST;
    for (i = 0; i < n_types; i++) {
        if (known[i].id != id || !fits(vf, &known[i]))
            continue;
        vf->instance = !instances      ? 0
                       : next_instance ? next_instance - 1
                                       : first_free(vf, 1, instances, true);
        vf->place = instances
                        ? 0
                        : first_free(vf, known[i].mib / GIB_IN_MIB ?: 1, fb_mb / GIB_IN_MIB, false);
        vf->type = &known[i];
        return 0;
    }
    pr_err("NVRM: Failed to add vgpu create request: 0x38\n");
    return -EIO;
}

static ssize_t current_vgpu_type_store(struct device *dev, struct device_attribute *attr,
                                       const char *buf, size_t len)
{
    uint id;
    int err = kstrtouint(buf, 0, &id);
    if (err)
        return err;
    mutex_lock(&lock);
    err = set_type(dev_get_drvdata(dev), id);
    mutex_unlock(&lock);
    return err ? err : (ssize_t)len;
}
static DEVICE_ATTR_RW(current_vgpu_type);

static ssize_t show_of_vgpu(struct device *dev, char *buf, bool instance)
{
    struct vf *vf = dev_get_drvdata(dev);
    ssize_t len = -ENXIO;
    mutex_lock(&lock);
    if (vf->type)
        len = sysfs_emit(buf, "%u\n", instance ? vf->instance + 1 : vf->place);
    mutex_unlock(&lock);
    return len;
}

static ssize_t gpu_instance_id_show(struct device *dev, struct device_attribute *attr, char *buf)
{
    return instances ? show_of_vgpu(dev, buf, true) : -ENXIO;
}
static DEVICE_ATTR_RO(gpu_instance_id);

static ssize_t placement_id_show(struct device *dev, struct device_attribute *attr, char *buf)
{
    return show_of_vgpu(dev, buf, false);
}
static DEVICE_ATTR_RO(placement_id);

static ssize_t vgpu_params_show(struct device *dev, struct device_attribute *attr, char *buf)
{
    struct vf *vf = dev_get_drvdata(dev);
    ssize_t len;
    mutex_lock(&lock);
    len = sysfs_emit(buf, "%s\n", vf->params);
    mutex_unlock(&lock);
    return len;
}

static ssize_t vgpu_params_store(struct device *dev, struct device_attribute *attr, const char *buf,
                                 size_t len)
{
    struct vf *vf = dev_get_drvdata(dev);
    char *end;
    if (len >= PARAMS_MAX)
        return -EINVAL;
    mutex_lock(&lock);
    strscpy(vf->params, buf, PARAMS_MAX);
    end = strim(vf->params); /* a blank clears them */
    memmove(vf->params, end, strlen(end) + 1);
    mutex_unlock(&lock);
    return len;
}
static DEVICE_ATTR_RW(vgpu_params);

static struct attribute *vf_attributes[] = {
    &dev_attr_creatable_vgpu_types.attr, &dev_attr_current_vgpu_type.attr,
    &dev_attr_gpu_instance_id.attr,      &dev_attr_placement_id.attr,
    &dev_attr_vgpu_params.attr,          NULL};

static umode_t only_vfs(struct kobject *kobj, struct attribute *attr, int n)
{
    return to_pci_dev(kobj_to_dev(kobj))->is_virtfn ? attr->mode : 0;
}

static const struct attribute_group vf_group = {
    .name = "nvidia", .attrs = vf_attributes, .is_visible = only_vfs};
static const struct attribute_group *vf_groups[] = {&vf_group, NULL};

static void set_open(struct vf *vf, bool open)
{
    mutex_lock(&lock);
    vf->open = open;
    mutex_unlock(&lock);
}

static int vf_open(struct vfio_device *vdev)
{
    struct vf *vf = container_of(vdev, struct vf, core.vdev);
    int err;
    mutex_lock(&lock);
    err = vf->type ? 0 : -ENODEV;
    vf->open = err == 0;
    mutex_unlock(&lock);
    if (err) {
        dev_err(vdev->dev, "no vGPU type is set\n");
        return err;
    }
    err = vfio_pci_core_enable(&vf->core);
    if (err)
        set_open(vf, false);
    else
        vfio_pci_core_finish_enable(&vf->core);
    return err;
}

static void vf_close(struct vfio_device *vdev)
{
    vfio_pci_core_close_device(vdev);
    set_open(container_of(vdev, struct vf, core.vdev), false);
}

static const struct vfio_device_ops vf_ops = {
    .name = "nvidia-vgpu-vfio",
    .init = vfio_pci_core_init_dev,
    .release = vfio_pci_core_release_dev,
    .open_device = vf_open,
    .close_device = vf_close,
    .ioctl = vfio_pci_core_ioctl,
    .device_feature = vfio_pci_core_ioctl_feature,
    .read = vfio_pci_core_read,
    .write = vfio_pci_core_write,
    .mmap = vfio_pci_core_mmap,
    .request = vfio_pci_core_request,
    .match = vfio_pci_core_match,
};

static int probe_card(struct pci_dev *pdev)
{
    int err = pci_enable_device(pdev);
    if (!err)
        pci_set_master(pdev);
    return err;
}

static int probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
    struct vf *vf;
    int err;
    if (!pdev->is_virtfn)
        return probe_card(pdev);
    pdev->class = CLASS_3D;
    vf = vfio_alloc_device(vf, core.vdev, &pdev->dev, &vf_ops);
    if (IS_ERR(vf))
        return PTR_ERR(vf);
    vf->core.pdev = pdev;
    dev_set_drvdata(&pdev->dev, &vf->core);
    err = vfio_pci_core_register_device(&vf->core);
    if (err) {
        vfio_put_device(&vf->core.vdev);
        return err;
    }
    mutex_lock(&lock);
    list_add(&vf->link, &vfs);
    mutex_unlock(&lock);
    return 0;
}

/* Waits, as the real one does, until nobody has the VF open. */
static void unbind(struct pci_dev *pdev)
{
    struct vf *vf = dev_get_drvdata(&pdev->dev);
    if (!pdev->is_virtfn) {
        pci_disable_sriov(pdev);
        pci_disable_device(pdev);
        return;
    }
    vfio_pci_core_unregister_device(&vf->core);
    mutex_lock(&lock);
    list_del(&vf->link);
    mutex_unlock(&lock);
    vfio_put_device(&vf->core.vdev);
}

static int sriov_configure(struct pci_dev *pdev, int n)
{
    int err;
    if (!managed)
        return -EPERM;
    if (n == 0) {
        pci_disable_sriov(pdev);
        return 0;
    }
    err = pci_enable_sriov(pdev, n);
    return err ? err : n;
}

static const struct pci_device_id ids[] = {{PCI_DEVICE(NVIDIA, PCI_ANY_ID)}, {}};
static struct pci_driver driver = {
    .name = "nvidia",
    .id_table = ids,
    .probe = probe,
    .remove = unbind,
    .sriov_configure = sriov_configure,
    .dev_groups = vf_groups,
    .driver_managed_dma = true, /* else a group with the card in it would not be viable */
};

static ushort id_of(int i)
{
    return i < n_device ? device[i] : H100_PCIE;
}

static void put_on_mask(struct pci_dev *pdev, ushort id)
{
    pdev->vendor = pdev->subsystem_vendor = NVIDIA;
    pdev->device = id;
    pdev->subsystem_device = 0x16c1;
    pdev->class = CLASS_3D;
}

static int disguise(const char *address, ushort id)
{
    uint domain, bus, slot, function;
    struct pci_dev *pdev;
    int err = 0;
    if (sscanf(address, "%x:%x:%x.%x", &domain, &bus, &slot, &function) != 4)
        return -EINVAL;
    pdev = pci_get_domain_bus_and_slot(domain, bus, PCI_DEVFN(slot, function));
    if (!pdev)
        return -ENODEV;
    if (pdev->dev.driver)
        err = -EBUSY;
    else
        put_on_mask(pdev, id);
    pci_dev_put(pdev);
    return err;
}

/* What is plugged into the slot of a card is one again, before anybody hears of it: a real card has
 * its identity from the first moment on. */
static int plugged(struct notifier_block *block, unsigned long action, void *data)
{
    struct device *dev = data;
    int i;
    for (i = 0; action == BUS_NOTIFY_ADD_DEVICE && i < n_pf; i++) {
        if (strcmp(pf[i], dev_name(dev)) == 0)
            put_on_mask(to_pci_dev(dev), id_of(i));
    }
    return NOTIFY_DONE;
}
static struct notifier_block plugging = {.notifier_call = plugged};

static int parse_type(const char *text, struct vgpu_type *type)
{
    if (sscanf(text, "%u:%u:%47s", &type->id, &type->mib, type->name) != 3)
        return -EINVAL;
    strreplace(type->name, '_', ' ');
    return 0;
}

static int __init fakenv_init(void)
{
    int i, err = 0;
    for (i = 0; !err && i < n_types; i++)
        err = parse_type(types[i], &known[i]);
    for (i = 0; !err && i < n_pf; i++)
        err = disguise(pf[i], id_of(i));
    err = err ? err : pci_register_driver(&driver);
    return err ? err : bus_register_notifier(&pci_bus_type, &plugging); /* which cannot fail */
}

static void __exit fakenv_exit(void)
{
    bus_unregister_notifier(&pci_bus_type, &plugging);
    pci_unregister_driver(&driver);
}

module_init(fakenv_init);
module_exit(fakenv_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("double of a vGPU host driver for tests");
