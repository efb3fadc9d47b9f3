/* SPDX-License-Identifier: GPL-2.0 */
/* Double of a host driver of GPUs with SR-IOV, as AMD's gim or Intel's xe; only for the test host.
 * - Gives an emulated PCI function (pf=ADDRESS) the identity (vendor=, device=, class=) of such a
 *   card, and its VFs the same vendor and class.
 * - A driver of the given name= binds to the card, and its VFs come by sriov_numvfs. It wants none
 *   of the VFs, which is what atolld sees to with the real ones (sriov_drivers_autoprobe).
 * Real: SR-IOV, the VFs with their groups, their function-level reset and their registers.
 * Invented: that each number of VFs is taken at once, and that the driver lets the card go. */
#include <linux/module.h>
#include <linux/pci.h>

static char *pf;
module_param(pf, charp, 0444);
MODULE_PARM_DESC(pf, "address of the function that becomes a card");
static char *name = "gim";
module_param(name, charp, 0444);
MODULE_PARM_DESC(name, "of the driver");
static ushort vendor = 0x1002;
module_param(vendor, ushort, 0444);
static ushort device = 0x74a1;
module_param(device, ushort, 0444);
static uint class = 0x120000;
module_param(class, uint, 0444);
MODULE_PARM_DESC(class, "0x120000: accelerator; 0x030000: VGA; 0x038000: other display");

static struct pci_dev *card;

static int probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
    int err = pci_enable_device(pdev);
    if (!err)
        pci_set_master(pdev);
    return err;
}

static void unbind(struct pci_dev *pdev)
{
    pci_disable_sriov(pdev);
    pci_disable_device(pdev);
}

static struct pci_device_id ids[2];
static struct pci_driver driver = {
    .id_table = ids,
    .probe = probe,
    .remove = unbind,
    .sriov_configure = pci_sriov_configure_simple,
};

/* A VF has its vendor from its card, but its class from its registers. */
static int appeared(struct notifier_block *block, unsigned long action, void *data)
{
    struct pci_dev *pdev = to_pci_dev(data);
    if (action == BUS_NOTIFY_ADD_DEVICE && pdev->is_virtfn && pdev->physfn == card)
        pdev->class = class;
    return NOTIFY_DONE;
}
static struct notifier_block watch = {.notifier_call = appeared};

static int disguise(void)
{
    uint domain, bus, slot, function;
    if (!pf || sscanf(pf, "%x:%x:%x.%x", &domain, &bus, &slot, &function) != 4)
        return -EINVAL;
    card = pci_get_domain_bus_and_slot(domain, bus, PCI_DEVFN(slot, function));
    if (!card)
        return -ENODEV;
    if (card->dev.driver)
        return -EBUSY;
    card->vendor = card->subsystem_vendor = vendor;
    card->device = device;
    card->class = class;
    return 0;
}

static int __init fakesriov_init(void)
{
    int err = disguise();
    ids[0] = (struct pci_device_id){PCI_DEVICE(vendor, device)};
    driver.name = name;
    if (!err)
        err = bus_register_notifier(&pci_bus_type, &watch);
    if (!err) {
        err = pci_register_driver(&driver);
        if (err)
            bus_unregister_notifier(&pci_bus_type, &watch);
    }
    if (err)
        pci_dev_put(card);
    return err;
}

static void __exit fakesriov_exit(void)
{
    pci_unregister_driver(&driver);
    bus_unregister_notifier(&pci_bus_type, &watch);
    pci_dev_put(card);
}

module_init(fakesriov_init);
module_exit(fakesriov_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("double of a host driver of GPUs with SR-IOV for tests");
