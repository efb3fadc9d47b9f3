/* SPDX-License-Identifier: Apache-2.0 */
/* Boot sector of the tiny guest's disk: the BIOS loads it, it loads the 32 KiB behind it, goes to
 * protected mode, moves them to 1 MiB, and enters at 1 MiB + 16 (tiny.ld). */
#define SECTORS 64
#define BUFFER 0x10000
#define HOME 0x100000
#define BSS_BYTES 0x10000

    .code16
    .globl _start
_start:
    ljmp $0, $1f
1:  xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %ss
    movw $0x7c00, %sp
    movw $packet, %si
    movb $0x42, %ah             /* extended read of the drive in %dl */
    int $0x13
    jc failed
    cli
    inb $0x92, %al              /* address line 20; SeaBIOS has it on already */
    orb $2, %al
    outb %al, $0x92
    lgdt table
    movl %cr0, %eax
    orl $1, %eax
    movl %eax, %cr0
    ljmp $8, $protected

failed:
    movw $message, %si
2:  lodsb
    testb %al, %al
    jz 3f
    movw $0x3f8, %dx
    outb %al, %dx
    jmp 2b
3:  hlt
    jmp 3b

    .code32
protected:
    movw $16, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    cld
    movl $BUFFER, %esi
    movl $HOME, %edi
    movl $(SECTORS * 512 / 4), %ecx
    rep movsl
    movl $(BSS_BYTES / 4), %ecx /* from the end of what was read */
    xorl %eax, %eax
    rep stosl
    movl $(HOME + 16), %ebx
    jmp *%ebx                   /* %eax is 0: not multiboot */

message:
    .asciz "TINY: the disk cannot be read\n"
    .balign 4
packet:                         /* of int 13h, function 42h */
    .byte 16, 0
    .word SECTORS
    .word 0, BUFFER >> 4        /* offset, segment */
    .quad 1                     /* first sector */
    .balign 8
gdt:
    .quad 0, 0x00cf9a000000ffff, 0x00cf92000000ffff
table:
    .word . - gdt - 1
    .long gdt
    .org 510
    .word 0xaa55
