/* Answers one prompt: what the host example and the firmware have in common. */
#ifndef ANSWER_H
#define ANSWER_H

#include "ouro.h"

/* Prints text that is terminated by a NUL. Each example brings its own. */
void print(const char *text);

/* Prints a number in decimal. */
void print_number(unsigned long long number);

/* Prints "error: ", what went wrong, and returns 1. `handle` may be NULL. */
int failed(const char *what, ouro_status status, const ouro *handle);

/* Opens the model in `memory`, answers `prompt` in at most `max_new` tokens, and prints the answer and
 * a report: for every token its depth and the reason, then the RAM by part. Returns 0, or 1 after an
 * error. */
int answer(const ouro_source *source, const ouro_settings *settings, void *memory, size_t size,
           const char *prompt, unsigned max_new);

#endif
