/* Start-up of a Cortex-M4F: vectors, variables, the FPU, then main. A fault ends the run with status
 * 102, so that nothing can hang unseen. */
#include "board.h"

extern uint32_t stack_bottom, stack_top, data_start, data_end, data_load, bss_start, bss_end;
int main(void);

static void fault(void) {
    print("fault\n");
    leave(102);
}

/* What the stack's memory is painted with before it is used. */
#define PAINT 0xC0DED00Du

unsigned stack_used(void) {
    const volatile uint32_t *word = &stack_bottom;
    while (word < &stack_top && *word == PAINT) {
        word++;
    }
    return (unsigned)((const unsigned char *)&stack_top - (const unsigned char *)word);
}

void reset(void);
void reset(void) {
    /* All but this function's own frame. */
    const uint32_t *frame = __builtin_frame_address(0);
    for (volatile uint32_t *word = &stack_bottom; word < frame - 32; word++) {
        *word = PAINT;
    }

    /* Coprocessors 10 and 11 are the FPU: the library is built for hard floats. */
    *(volatile uint32_t *)0xE000ED88u |= 0xFu << 20;
    __asm__ volatile("dsb\n\tisb" ::: "memory");

    const uint32_t *from = &data_load;
    for (volatile uint32_t *to = &data_start; to < &data_end; to++) {
        *to = *from++;
    }
    for (volatile uint32_t *to = &bss_start; to < &bss_end; to++) {
        *to = 0;
    }
    leave(main());
}

/* What the processor finds at address 0: the stack, then reset, NMI, the faults and the system's
 * exceptions. No interrupt is ever enabled. */
static const struct {
    const uint32_t *stack;
    void (*handlers[15])(void);
} vectors __attribute__((section(".vectors"), used)) = {
    &stack_top,
    {reset, fault, fault, fault, fault, fault, 0, 0, 0, 0, fault, fault, 0, fault, fault},
};
