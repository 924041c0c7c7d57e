/* What the board offers: the debugger's console (semihosting), and the model in flash. */
#ifndef BOARD_H
#define BOARD_H

#include <stddef.h>
#include <stdint.h>

/* The model, from model.S. */
extern const unsigned char model[], model_end[];

/* Prints text that is terminated by a NUL. */
void print(const char *text);

/* Ends the run. */
void leave(int status);

/* The most bytes of stack that were ever in use; all of them if it went as deep or deeper. */
unsigned stack_used(void);

/* The command line, without the program's name; empty if there is none. */
const char *command_line(void);

#endif
