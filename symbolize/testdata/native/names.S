# Code without debug information: names as C, C++ and Rust compilers write
# them, with sizes and without, and a label in the middle of a function.
	.text
	.globl plain_name
	.type plain_name, @function
plain_name:
	nop
	nop
inner_label:
	nop
	ret
	.size plain_name, .-plain_name
	.globl _ZN5outer5innerEi
	.type _ZN5outer5innerEi, @function
_ZN5outer5innerEi:
	nop
	ret
	.size _ZN5outer5innerEi, .-_ZN5outer5innerEi
	nop
	.globl _RNvNtCs1234_7mycrate3foo3bar
	.type _RNvNtCs1234_7mycrate3foo3bar, @function
_RNvNtCs1234_7mycrate3foo3bar:
	nop
	ret
	.globl _ZN4core3fmt5write17h0123456789abcdefE
	.type _ZN4core3fmt5write17h0123456789abcdefE, @function
_ZN4core3fmt5write17h0123456789abcdefE:
	nop
	ret
	.size _ZN4core3fmt5write17h0123456789abcdefE, .-_ZN4core3fmt5write17h0123456789abcdefE
bare_label:
	nop
	ret
	.globl main
	.type main, @function
main:
	xorl %eax, %eax
	ret
	.size main, .-main
	.section .note.GNU-stack,"",@progbits
