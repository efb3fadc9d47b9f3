/* SPDX-License-Identifier: Apache-2.0 */
/* The guest that proves KVM: a boot sector. It says 'A' on port 0xe9, goes to 64-bit mode with
 * paging, writes through one mapping and reads through another, takes ten timer interrupts out of
 * the halted state, and says 'K'. That is what a kernel needs first, and where half-working nested
 * virtualisation fails. */
    .section .rodata
    .globl at_accel_guest, at_accel_guest_end
    .hidden at_accel_guest, at_accel_guest_end

    .set BASE, 0x7c00
    .set PML4, 0x1000
    .set PDPT, 0x2000
    .set PD, 0x3000
    .set IDT, 0x4000
    .set TICKS, 0x5000
    .set PROBED, 0x6000
    .set ALIAS, 0x200000
    .set TIMER_VECTOR, 0x20

at_accel_guest:
    .code16
    cli
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw $BASE, %sp
    movb $'A', %al
    outb %al, $0xe9

    /* Identity mapping of the first 2 MiB, and the same again at 2 MiB. */
    cld
    movl $PML4, %edi
    movl $((PROBED + 0x1000 - PML4) / 4), %ecx
    xorl %eax, %eax
    rep stosl
    movl $(PDPT + 3), PML4
    movl $(PD + 3), PDPT
    movl $0x83, PD
    movl $0x83, PD + 8

    /* Interrupt controller: vectors from 0x20, the timer only. Timer: 1 kHz. */
    movb $0x11, %al
    outb %al, $0x20
    movb $TIMER_VECTOR, %al
    outb %al, $0x21
    movb $4, %al
    outb %al, $0x21
    movb $1, %al
    outb %al, $0x21
    movb $0xfe, %al
    outb %al, $0x21
    movb $0xff, %al
    outb %al, $0xa1
    movb $0x34, %al
    outb %al, $0x43
    movb $0xa9, %al
    outb %al, $0x40
    movb $0x04, %al
    outb %al, $0x40

    lgdtw BASE + (gdt_pointer - at_accel_guest)
    movl %cr4, %eax
    orl $0x20, %eax
    movl %eax, %cr4
    movl $PML4, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x100, %eax
    wrmsr
    movl %cr0, %eax
    orl $0x80000001, %eax
    movl %eax, %cr0
    ljmpl $8, $(BASE + (long_mode - at_accel_guest))

    .code64
long_mode:
    movl $16, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl $BASE, %esp

    movl $(IDT + TIMER_VECTOR * 16), %edi
    movl $(BASE + (on_timer - at_accel_guest)), %eax
    movw %ax, (%rdi)
    movw $8, 2(%rdi)
    movw $0x8e00, 4(%rdi)
    shrl $16, %eax
    movw %ax, 6(%rdi)
    lidt BASE + (idt_pointer - at_accel_guest)

    movl $0x600d600d, ALIAS + PROBED
    cmpl $0x600d600d, PROBED
    jne stop
    sti
wait:
    hlt
    cmpl $10, TICKS
    jb wait
    movb $'K', %al
    outb %al, $0xe9
stop:
    cli
    hlt
    jmp stop

on_timer:
    pushq %rax
    incl TICKS
    movb $0x20, %al
    outb %al, $0x20
    popq %rax
    iretq

    .balign 8
gdt:
    .quad 0
    .quad 0x00af9a000000ffff
    .quad 0x00cf92000000ffff
gdt_pointer:
    .word gdt_pointer - gdt - 1
    .long BASE + (gdt - at_accel_guest)
idt_pointer:
    .word TIMER_VECTOR * 16 + 15
    .quad IDT

    .org at_accel_guest + 510
    .word 0xaa55
at_accel_guest_end:
    .section .note.GNU-stack, "", @progbits
