/* SPDX-License-Identifier: Apache-2.0 */
/* Entry of the tiny guest, from a multiboot loader (%eax is its magic number) or tiny-boot.S, and
 * what C cannot say: segments, and where interrupts go. */
    .section .multiboot, "a"
    .long 0x1badb002, 0, -0x1badb002

    .section .text.start, "ax"
    .globl _start
_start:
    cli
    lgdt table
    ljmp $8, $1f
1:  movw $16, %cx
    movw %cx, %ds
    movw %cx, %es
    movw %cx, %ss
    movl $stack_end, %esp
    cld
    pushl %eax
    call tiny_main
2:  hlt
    jmp 2b

    .text
    .globl tiny_on_interrupt, tiny_on_fault
tiny_on_interrupt:              /* of either controller: it only has to wake the loop */
    pushl %eax
    movb $0x20, %al
    outb %al, $0xa0
    outb %al, $0x20
    popl %eax
    iret
tiny_on_fault:
    call tiny_fault
3:  cli
    hlt
    jmp 3b

    .balign 8
gdt:
    .quad 0, 0x00cf9a000000ffff, 0x00cf92000000ffff
table:
    .word . - gdt - 1
    .long gdt

    .bss
    .balign 16
    .skip 8192
stack_end:
    .section .note.GNU-stack, "", @progbits
