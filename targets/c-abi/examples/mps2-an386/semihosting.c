/* The debugger's console: Arm's semihosting, which QEMU offers with -semihosting. */
#include "board.h"

enum { WRITE0 = 0x04, GET_COMMAND_LINE = 0x15, EXIT_EXTENDED = 0x20 };

static int call(int operation, const void *argument) {
    register int r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

void print(const char *text) {
    call(WRITE0, text);
}

void leave(int status) {
    const uint32_t stopped_by_itself = 0x20026;
    const uint32_t arguments[2] = {stopped_by_itself, (uint32_t)status};
    call(EXIT_EXTENDED, arguments);
    for (;;) {
    }
}

const char *command_line(void) {
    static char line[512];
    struct {
        char *text;
        uint32_t len;
    } arguments = {line, sizeof line};
    if (call(GET_COMMAND_LINE, &arguments) != 0) {
        return "";
    }
    const char *rest = line;
    while (*rest != '\0' && *rest != ' ') {
        rest++;
    }
    return *rest == ' ' ? rest + 1 : rest;
}
