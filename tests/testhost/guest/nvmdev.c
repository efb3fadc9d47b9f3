/* SPDX-License-Identifier: GPL-2.0 */
/* Double of NVIDIA's vGPU host driver as it was before version 17, with mediated devices; only for
 * the test host. parent=ADDRESS must be bound to the driver "nvidia" (fakenv), from which the types
 * get the first half of their names: nvidia-471. An instance is a PCI function with the registers
 * of QEMU's edu device, so that a guest can drive it by MMIO and DMA. Each type allows so many
 * instances as its memory has room for, and none while there is one of the other type. */
#include <linux/mdev.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/vfio.h>

enum { CONFIG_BYTES = 256, BAR_BYTES = 4096, BUFFER_BYTES = 4096, REGION_SHIFT = 40 };
enum { EDU_ID = 0x010000ed, EDU_BUFFER = 0x40000, DMA_RUN = 1, DMA_TO_GUEST = 2 };
enum { REG_ID = 0x00, REG_LIVE = 0x04, REG_FACTORIAL = 0x08, REG_DMA = 0x80 };
enum { DMA_FROM, DMA_TO, DMA_COUNT, DMA_COMMAND, DMA_REGS };

static char *parent;
module_param(parent, charp, 0444);
MODULE_PARM_DESC(parent, "address of the card");
static uint fb_mb = 4096;
module_param(fb_mb, uint, 0644);
MODULE_PARM_DESC(fb_mb, "memory of the card in MiB");

struct vgpu_type {
    struct mdev_type type; /* first */
    uint mib;
};
static struct vgpu_type vgpu_types[] = {
    {{.sysfs_name = "471", .pretty_name = "GRID A40-1Q"}, 1024},
    {{.sysfs_name = "472", .pretty_name = "GRID A40-2Q"}, 2048},
};
static struct mdev_type *type_list[] = {&vgpu_types[0].type, &vgpu_types[1].type};

struct vgpu {
    struct vfio_device vdev; /* first */
    const struct vgpu_type *type;
    struct mutex busy; /* guards what follows */
    u8 config[CONFIG_BYTES];
    u32 live, factorial;
    u64 dma[DMA_REGS];
    u8 buffer[BUFFER_BYTES];
    struct list_head link;
};
static DEFINE_MUTEX(lock); /* guards what follows */
static LIST_HEAD(vgpus);

static struct pci_dev *card;
static struct mdev_parent mdev_parent;

static uint room_for(const struct vgpu_type *type)
{
    struct vgpu *vgpu;
    uint used = 0;
    bool other = false;
    mutex_lock(&lock);
    list_for_each_entry(vgpu, &vgpus, link)
    {
        used += vgpu->type->mib;
        other |= vgpu->type != type;
    }
    mutex_unlock(&lock);
    return other || used > fb_mb ? 0 : (fb_mb - used) / type->mib;
}

/* ---- the device that a guest sees ---- */
static void put32(u8 *config, uint at, u32 value)
{
    *(__le32 *)(config + at) = cpu_to_le32(value);
}

static void reset(struct vgpu *vgpu)
{
    mutex_lock(&vgpu->busy);
    memset(vgpu->config, 0, sizeof vgpu->config);
    put32(vgpu->config, PCI_VENDOR_ID, 0x223510de);
    put32(vgpu->config, PCI_CLASS_REVISION, 0x030200a1);
    put32(vgpu->config, PCI_SUBSYSTEM_VENDOR_ID, 0x14d310de);
    vgpu->live = 0;
    vgpu->factorial = 0;
    memset(vgpu->dma, 0, sizeof vgpu->dma);
    memset(vgpu->buffer, 0, sizeof vgpu->buffer);
    mutex_unlock(&vgpu->busy);
}

static void config_write(struct vgpu *vgpu, uint at, const u8 *from, size_t count)
{
    bool whole = count == sizeof(u32) && at % sizeof(u32) == 0;
    if (at == PCI_COMMAND && count >= sizeof(u16)) /* with or without the status above it */
        memcpy(vgpu->config + at, from, sizeof(u16));
    else if (at == PCI_BASE_ADDRESS_0 && whole)
        put32(vgpu->config, at, le32_to_cpup((const __le32 *)from) & ~(u32)(BAR_BYTES - 1));
}

/* The whole transfer happens while the command is written. Addresses of the device's own buffer
 * begin at EDU_BUFFER; the others are the guest's. */
static void run_dma(struct vgpu *vgpu)
{
    bool to_guest = vgpu->dma[DMA_COMMAND] & DMA_TO_GUEST;
    u64 mine = vgpu->dma[to_guest ? DMA_FROM : DMA_TO] - EDU_BUFFER;
    u64 guests = vgpu->dma[to_guest ? DMA_TO : DMA_FROM], count = vgpu->dma[DMA_COUNT];
    if (mine < BUFFER_BYTES && count > 0 && count <= BUFFER_BYTES - mine) {
        int err = vfio_dma_rw(&vgpu->vdev, guests, vgpu->buffer + mine, count, to_guest);
        if (err)
            dev_err(vgpu->vdev.dev, "DMA of %llu bytes at %llx: %d\n", count, guests, err);
    }
    vgpu->dma[DMA_COMMAND] &= ~(u64)DMA_RUN;
}

static u32 bar_read(const struct vgpu *vgpu, uint at)
{
    if (at >= REG_DMA && at < REG_DMA + sizeof vgpu->dma)
        return vgpu->dma[(at - REG_DMA) / sizeof(u64)] >> (at % sizeof(u64) * BITS_PER_BYTE);
    return at == REG_ID          ? EDU_ID
           : at == REG_LIVE      ? ~vgpu->live
           : at == REG_FACTORIAL ? vgpu->factorial
                                 : 0;
}

static void bar_write(struct vgpu *vgpu, uint at, u32 value)
{
    if (at == REG_LIVE) {
        vgpu->live = value;
    } else if (at == REG_FACTORIAL) {
        u32 product = 1;
        for (; value > 1; value--)
            product *= value;
        vgpu->factorial = product;
    } else if (at >= REG_DMA && at < REG_DMA + sizeof vgpu->dma) {
        u64 *reg = &vgpu->dma[(at - REG_DMA) / sizeof(u64)];
        uint shift = at % sizeof(u64) * BITS_PER_BYTE;
        *reg = (*reg & ~((u64)U32_MAX << shift)) | (u64)value << shift;
        if (at == REG_DMA + DMA_COMMAND * sizeof(u64) && (value & DMA_RUN))
            run_dma(vgpu);
    }
}

static int access(struct vgpu *vgpu, uint region, uint at, u32 *word, size_t count, bool write)
{
    bool config = region == VFIO_PCI_CONFIG_REGION_INDEX;
    uint size = config ? CONFIG_BYTES : region == VFIO_PCI_BAR0_REGION_INDEX ? BAR_BYTES : 0;
    if (at >= size || count > size - at)
        return -EINVAL;
    if (config && write)
        config_write(vgpu, at, (const u8 *)word, count);
    else if (config)
        memcpy(word, vgpu->config + at, count);
    else if (count != sizeof *word || at % sizeof *word)
        return -EINVAL; /* registers are words */
    else if (write)
        bar_write(vgpu, at, *word);
    else
        *word = bar_read(vgpu, at);
    return 0;
}

/* Pieces of at most a word, none across a word's end. */
static ssize_t transfer(struct vfio_device *vdev, char __user *buf, size_t count, loff_t *pos,
                        bool write)
{
    struct vgpu *vgpu = container_of(vdev, struct vgpu, vdev);
    uint region = *pos >> REGION_SHIFT;
    size_t done = 0;
    int err = 0;
    mutex_lock(&vgpu->busy);
    while (!err && done < count) {
        uint at = *pos & ((1ull << REGION_SHIFT) - 1);
        size_t n = min_t(size_t, count - done, sizeof(u32) - at % sizeof(u32));
        u32 word = 0;
        if (n == 3) /* PCI knows bytes, pairs and words */
            n = 1;
        if (write && copy_from_user(&word, buf + done, n))
            err = -EFAULT;
        if (!err)
            err = access(vgpu, region, at, &word, n, write);
        if (!err && !write && copy_to_user(buf + done, &word, n))
            err = -EFAULT;
        done += err ? 0 : n;
        *pos += err ? 0 : n;
    }
    mutex_unlock(&vgpu->busy);
    return done ? (ssize_t)done : err;
}

static ssize_t vgpu_read(struct vfio_device *vdev, char __user *buf, size_t count, loff_t *pos)
{
    return transfer(vdev, buf, count, pos, false);
}

static ssize_t vgpu_write(struct vfio_device *vdev, const char __user *buf, size_t count,
                          loff_t *pos)
{
    return transfer(vdev, (char __user *)buf, count, pos, true);
}

/* ---- what VFIO is told of it ---- */
static int device_info(unsigned long arg)
{
    struct vfio_device_info info;
    size_t size = offsetofend(struct vfio_device_info, num_irqs);
    if (copy_from_user(&info, (void __user *)arg, size) || info.argsz < size)
        return -EINVAL;
    info.flags = VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET;
    info.num_regions = VFIO_PCI_NUM_REGIONS;
    info.num_irqs = VFIO_PCI_NUM_IRQS;
    return copy_to_user((void __user *)arg, &info, size) ? -EFAULT : 0;
}

static int region_info(unsigned long arg)
{
    struct vfio_region_info info;
    size_t size = offsetofend(struct vfio_region_info, offset);
    if (copy_from_user(&info, (void __user *)arg, size) || info.argsz < size ||
        info.index >= VFIO_PCI_NUM_REGIONS)
        return -EINVAL;
    info.size = info.index == VFIO_PCI_CONFIG_REGION_INDEX ? CONFIG_BYTES
                : info.index == VFIO_PCI_BAR0_REGION_INDEX ? BAR_BYTES
                                                           : 0;
    info.flags = info.size ? VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE : 0;
    info.offset = (u64)info.index << REGION_SHIFT;
    return copy_to_user((void __user *)arg, &info, size) ? -EFAULT : 0;
}

static int irq_info(unsigned long arg)
{
    struct vfio_irq_info info;
    size_t size = offsetofend(struct vfio_irq_info, count);
    if (copy_from_user(&info, (void __user *)arg, size) || info.argsz < size ||
        info.index >= VFIO_PCI_NUM_IRQS)
        return -EINVAL;
    info.flags = 0;
    info.count = 0; /* it is polled */
    return copy_to_user((void __user *)arg, &info, size) ? -EFAULT : 0;
}

static long vgpu_ioctl(struct vfio_device *vdev, unsigned int command, unsigned long arg)
{
    switch (command) {
    case VFIO_DEVICE_GET_INFO:
        return device_info(arg);
    case VFIO_DEVICE_GET_REGION_INFO:
        return region_info(arg);
    case VFIO_DEVICE_GET_IRQ_INFO:
        return irq_info(arg);
    case VFIO_DEVICE_RESET:
        reset(container_of(vdev, struct vgpu, vdev));
        return 0;
    }
    return -ENOTTY;
}

static void vgpu_release(struct vfio_device *vdev)
{
    vfio_free_device(vdev);
}

static const struct vfio_device_ops vgpu_ops = {
    .name = "nvmdev",
    .release = vgpu_release,
    .read = vgpu_read,
    .write = vgpu_write,
    .ioctl = vgpu_ioctl,
};

/* ---- instances ---- */
static int probe(struct mdev_device *mdev)
{
    const struct vgpu_type *type = container_of(mdev->type, struct vgpu_type, type);
    struct vgpu *vgpu;
    int err;
    if (room_for(type) == 0)
        return -ENOSPC;
    vgpu = vfio_alloc_device(vgpu, vdev, &mdev->dev, &vgpu_ops);
    if (IS_ERR(vgpu))
        return PTR_ERR(vgpu);
    mutex_init(&vgpu->busy);
    vgpu->type = type;
    reset(vgpu);
    err = vfio_register_emulated_iommu_dev(&vgpu->vdev);
    if (err) {
        vfio_put_device(&vgpu->vdev);
        return err;
    }
    dev_set_drvdata(&mdev->dev, vgpu);
    mutex_lock(&lock);
    list_add(&vgpu->link, &vgpus);
    mutex_unlock(&lock);
    return 0;
}

/* Waits, as the real one does, until nobody has it open. */
static void discard(struct mdev_device *mdev)
{
    struct vgpu *vgpu = dev_get_drvdata(&mdev->dev);
    vfio_unregister_group_dev(&vgpu->vdev);
    mutex_lock(&lock);
    list_del(&vgpu->link);
    mutex_unlock(&lock);
    vfio_put_device(&vgpu->vdev);
}

static unsigned int available(struct mdev_type *mtype)
{
    return room_for(container_of(mtype, struct vgpu_type, type));
}

static ssize_t describe(struct mdev_type *mtype, char *buf)
{
    const struct vgpu_type *type = container_of(mtype, struct vgpu_type, type);
    return sysfs_emit(buf,
                      "num_heads=4, frl_config=60, framebuffer=%uM, max_resolution=5120x2880, "
                      "max_instance=%u\n",
                      type->mib, fb_mb / type->mib);
}

static struct mdev_driver driver = {
    .device_api = VFIO_DEVICE_API_PCI_STRING,
    .probe = probe,
    .remove = discard,
    .get_available = available,
    .show_description = describe,
    .driver = {.name = "nvidia-vgpu-mdev", .owner = THIS_MODULE, .mod_name = KBUILD_MODNAME},
};

static struct pci_dev *find_card(void)
{
    uint domain, bus, slot, function;
    if (!parent || sscanf(parent, "%x:%x:%x.%x", &domain, &bus, &slot, &function) != 4)
        return NULL;
    return pci_get_domain_bus_and_slot(domain, bus, PCI_DEVFN(slot, function));
}

static int __init nvmdev_init(void)
{
    int err;
    card = find_card();
    if (!card)
        return -ENODEV;
    err = mdev_register_driver(&driver);
    if (err)
        goto put_card;
    err = mdev_register_parent(&mdev_parent, &card->dev, &driver, type_list, ARRAY_SIZE(type_list));
    if (err)
        goto unregister;
    return 0;
unregister:
    mdev_unregister_driver(&driver);
put_card:
    pci_dev_put(card);
    return err;
}

static void __exit nvmdev_exit(void)
{
    mdev_unregister_parent(&mdev_parent);
    mdev_unregister_driver(&driver);
    pci_dev_put(card);
}

module_init(nvmdev_init);
module_exit(nvmdev_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("double of a vGPU host driver with mediated devices for tests");
