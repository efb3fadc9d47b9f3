/* SPDX-License-Identifier: Apache-2.0 */
/* The tiny guest: lists the PCI functions on the serial port, and drives those that it knows by
 * MMIO and DMA. Started with -kernel it then leaves through isa-debug-exit (QEMU's status is 33).
 * Booted from its disk it stays: a byte on the serial port makes it look again, the power button
 * ends it. */
#include <stdbool.h>
#include <stdint.h>

enum { COM1 = 0x3f8, DEBUG_EXIT = 0xf4, MULTIBOOT = 0x2badb002 };
enum { CFG_COMMAND = 4, CFG_CLASS = 8, CFG_HEADER = 12, CFG_BAR0 = 16, CFG_BUSES = 24 };
enum { CFG_SUBSYSTEM = 44, COMMAND_ON = 6 /* memory, bus master */, DEPTH_MAX = 8 };
enum { WORDS = 64, EDU_BUFFER = 0x40000, EDU_TO_GUEST = 2, PATIENCE = 100000000 };

/* Vendor in the low half. */
static const uint32_t edu_id = 0x11e81234, mdev_id = 0x223510de;
static const uint32_t lpc_id = 0x29188086;
/* Without a vendor: doubles of drivers put others in place of Intel's. */
static const uint32_t igbvf_device = 0x10ca;

extern char tiny_on_interrupt[], tiny_on_fault[];

struct gate {
    uint16_t low, selector, flags, high;
} __attribute__((packed));
static struct gate gates[0x30];
static volatile uint32_t dma_buffer[2][WORDS] __attribute__((aligned(4096)));

static void outb(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port));
}

static uint8_t inb(uint16_t port)
{
    uint8_t value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static void outw(uint16_t port, uint16_t value)
{
    __asm__ volatile("outw %0, %1" ::"a"(value), "Nd"(port));
}

static uint16_t inw(uint16_t port)
{
    uint16_t value;
    __asm__ volatile("inw %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static void outl(uint16_t port, uint32_t value)
{
    __asm__ volatile("outl %0, %1" ::"a"(value), "Nd"(port));
}

static uint32_t inl(uint16_t port)
{
    uint32_t value;
    __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static void say(const char *text)
{
    for (; *text; text++) {
        while (!(inb(COM1 + 5) & 0x20))
            ;
        outb(COM1, (uint8_t)*text);
    }
}

static void say_hex(uint32_t value, int digits)
{
    char text[] = {0, 0};
    while (digits-- > 0) {
        text[0] = "0123456789abcdef"[(value >> (4 * digits)) & 15];
        say(text);
    }
}

struct function {
    uint32_t bus, device, function;
};

static uint16_t select(struct function f, uint32_t offset)
{
    outl(0xcf8, 0x80000000u | f.bus << 16 | f.device << 11 | f.function << 8 | (offset & 0xfc));
    return 0xcfc;
}

static uint32_t cfg_read(struct function f, uint32_t offset)
{
    return inl(select(f, offset));
}

static void cfg_write(struct function f, uint32_t offset, uint32_t value)
{
    outl(select(f, offset), value);
}

/* BAR 0 as words, switched on; NULL when it has no place that 32 bits reach. */
static volatile uint32_t *open_bar(struct function f)
{
    uint32_t bar = cfg_read(f, CFG_BAR0);
    bool wide = (bar & 6) == 4;
    if ((bar & 1) || bar < 16 || (wide && cfg_read(f, CFG_BAR0 + 4) != 0)) {
        say(" bar0=none");
        return 0;
    }
    cfg_write(f, CFG_COMMAND, cfg_read(f, CFG_COMMAND) | COMMAND_ON);
    return (volatile uint32_t *)(bar & ~15u);
}

static bool edu_dma(volatile uint32_t *regs, uint32_t from, uint32_t to, uint32_t direction)
{
    regs[0x80 / 4] = from;
    regs[0x84 / 4] = 0;
    regs[0x88 / 4] = to;
    regs[0x8c / 4] = 0;
    regs[0x90 / 4] = sizeof dma_buffer[0];
    regs[0x94 / 4] = 0;
    regs[0x98 / 4] = direction | 1;
    regs[0x9c / 4] = 0;
    for (uint32_t i = 0; i < PATIENCE; i++) {
        if (!(regs[0x98 / 4] & 1))
            return true;
    }
    return false;
}

/* QEMU's docs/specs/edu.txt; the mdev double has the same registers. */
static void drive_edu(struct function f)
{
    volatile uint32_t *regs = open_bar(f);
    if (!regs)
        return;
    say(" EDU id=");
    say_hex(regs[0], 8);
    regs[1] = 0x12345678;
    say(" live=");
    say_hex(regs[1], 8);
    regs[2] = 5; /* computes the factorial, as of now while it is busy */
    for (uint32_t i = 0; i < PATIENCE && (regs[8] & 1); i++)
        ;
    say(" fact5=");
    say_hex(regs[2], 8);
    bool mmio = (regs[0] & 0xff) == 0xed && regs[1] == ~0x12345678u && regs[2] == 120;
    say(mmio ? " mmio=OK" : " mmio=BAD");
    for (uint32_t i = 0; i < WORDS; i++) {
        dma_buffer[0][i] = 0xc0de0000u + i;
        dma_buffer[1][i] = 0;
    }
    bool dma = edu_dma(regs, (uint32_t)&dma_buffer[0][0], EDU_BUFFER, 0) &&
               edu_dma(regs, EDU_BUFFER, (uint32_t)&dma_buffer[1][0], EDU_TO_GUEST);
    for (uint32_t i = 0; i < WORDS; i++)
        dma = dma && dma_buffer[1][i] == dma_buffer[0][i];
    say(dma ? " dma=OK" : " dma=BAD");
}

/* A VF of an igb: its half of the mailbox is memory. */
static void drive_igbvf(struct function f)
{
    volatile uint32_t *mailbox = open_bar(f);
    if (!mailbox)
        return;
    mailbox += 0x800 / 4;
    bool ok = true;
    for (uint32_t i = 0; i < 16; i++)
        mailbox[i] = 0xfeed0000u + i;
    for (uint32_t i = 0; i < 16; i++)
        ok = ok && mailbox[i] == 0xfeed0000u + i;
    say(ok ? " mmio=OK" : " mmio=BAD");
}

static uint16_t power; /* I/O base of ACPI's fixed registers; 0: none */

/* As an operating system: from now on the button is told to us. */
static void watch_power_button(struct function lpc)
{
    power = cfg_read(lpc, 0x40) & 0xff80;
    if (!power)
        return;
    outb(0xb2, 2);
    outw(power + 2, 0x100);
}

static void scan(uint32_t bus, int depth);

static void visit(struct function f, uint32_t id, int depth)
{
    say("TINY: PCI ");
    say_hex(f.bus, 2);
    say(":");
    say_hex(f.device, 2);
    say(".");
    say_hex(f.function, 1);
    say(" ");
    say_hex(id & 0xffff, 4);
    say(":");
    say_hex(id >> 16, 4);
    say(" class ");
    say_hex(cfg_read(f, CFG_CLASS) >> 8, 6);
    say(" sub ");
    say_hex(cfg_read(f, CFG_SUBSYSTEM), 8);
    say(" bar0 ");
    say_hex(cfg_read(f, CFG_BAR0), 8);
    if (id == edu_id || id == mdev_id)
        drive_edu(f);
    if (id >> 16 == igbvf_device)
        drive_igbvf(f);
    if (id == lpc_id)
        watch_power_button(f);
    say("\n");
    bool bridge = (cfg_read(f, CFG_HEADER) >> 16 & 0x7f) == 1;
    uint32_t below = cfg_read(f, CFG_BUSES) >> 8 & 0xff;
    if (bridge && below > f.bus && depth < DEPTH_MAX)
        scan(below, depth + 1);
}

static void scan(uint32_t bus, int depth)
{
    struct function f = {.bus = bus};
    for (f.device = 0; f.device < 32; f.device++) {
        for (f.function = 0; f.function < 8; f.function++) {
            uint32_t id = cfg_read(f, 0);
            bool there = (id & 0xffff) != 0xffff && id != 0;
            if (there)
                visit(f, id, depth);
            if (f.function == 0 && (!there || !(cfg_read(f, CFG_HEADER) & 0x800000)))
                break; /* one function only */
        }
    }
}

void tiny_fault(void);
void tiny_fault(void)
{
    say("TINY: fault\n");
}

/* The timer wakes us 18 times a second; all else is masked. */
static void start_timer(void)
{
    static const uint8_t setup[][2] = {
        {0x20, 0x11}, {0xa0, 0x11}, {0x21, 0x20}, {0xa1, 0x28}, {0x21, 4}, {0xa1, 2}, {0x21, 1},
        {0xa1, 1},    {0x21, 0xfe}, {0xa1, 0xff}, {0x43, 0x36}, {0x40, 0}, {0x40, 0}};
    for (uint32_t i = 0; i < sizeof gates / sizeof *gates; i++) {
        uint32_t to = (uint32_t)(i < 0x20 ? tiny_on_fault : tiny_on_interrupt);
        gates[i] = (struct gate){to & 0xffff, 8, 0x8e00, to >> 16};
    }
    struct {
        uint16_t limit;
        uint32_t base;
    } __attribute__((packed)) table = {sizeof gates - 1, (uint32_t)gates};
    __asm__ volatile("lidt %0" ::"m"(table));
    for (uint32_t i = 0; i < sizeof setup / sizeof *setup; i++)
        outb(setup[i][0], setup[i][1]);
}

static void stay(void)
{
    start_timer();
    for (;;) {
        __asm__ volatile("sti; hlt; cli");
        if (inb(COM1 + 5) & 1) {
            inb(COM1);
            say("TINY: again\n");
            scan(0, 0);
            say("TINY: done\n");
        }
        if (power && (inw(power) & 0x100)) {
            say("TINY: power button\n");
            outw(power + 4, 0x2000); /* S5 */
        }
    }
}

void tiny_main(uint32_t magic);
void tiny_main(uint32_t magic)
{
    outb(COM1 + 3, 3);
    say("TINY: start\n");
    scan(0, 0);
    say("TINY: done\n");
    if (magic == MULTIBOOT)
        outb(DEBUG_EXIT, 0x10);
    stay();
}
