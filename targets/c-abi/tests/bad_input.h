#ifndef BAD_INPUT_H
#define BAD_INPUT_H

#include "ouro.h"

/* Prints text that is terminated by a NUL. Each program brings its own. */
void print(const char *text);

/* Runs all checks with the model of `len` bytes; `copy` has as much room, and is damaged on purpose.
 * `memory` is what the library is lent. Returns 0 if all of them passed. */
int bad_input(const unsigned char *model, size_t len, unsigned char *copy, unsigned char *memory, size_t size);

/* Prints the hash of the numerics for the prompt 5, 40, 7; returns 0 if that was possible. */
int print_hash(const unsigned char *model, size_t len, unsigned char *memory, size_t size);

#endif
