/* The checks of bad_input.c, and the hash, on the workstation: bad-input MODEL.gguf */
#include "bad_input.h"

#include <stdio.h>
#include <stdlib.h>

void print(const char *text) {
    fputs(text, stdout);
}

int main(int argc, char **argv) {
    FILE *file = argc == 2 ? fopen(argv[1], "rb") : NULL;
    if (file == NULL || fseek(file, 0, SEEK_END) != 0) {
        fprintf(stderr, "usage: %s MODEL.gguf\n", argv[0]);
        return 2;
    }
    size_t len = (size_t)ftell(file), size = 1 << 20;
    unsigned char *model = malloc(len), *copy = malloc(len), *memory = aligned_alloc(OURO_ALIGN, size);
    rewind(file);
    if (model == NULL || copy == NULL || memory == NULL || fread(model, 1, len, file) != len) {
        return 2;
    }
    fclose(file);
    int result = bad_input(model, len, copy, memory, size) + print_hash(model, len, memory, size);
    free(memory);
    free(copy);
    free(model);
    return result;
}
