/* Answers a prompt on the workstation: host MODEL.gguf PROMPT [BLOCK-BUFFER]
 *
 * With a block buffer (in bytes) the model stays in its file, and is read through the callback, as from
 * a flash that is not mapped into memory. */
#include "../answer.h"

#include <stdio.h>
#include <stdlib.h>

void print(const char *text) {
    fputs(text, stdout);
}

static int32_t read_file(void *context, uint64_t offset, void *to, size_t len) {
    FILE *file = context;
    if (fseek(file, (long)offset, SEEK_SET) != 0) {
        return 1;
    }
    return fread(to, 1, len, file) == len ? 0 : 2;
}

/* Asks how much memory is needed, and gets it. */
static void *memory_for(const ouro_source *source, const ouro_settings *settings, size_t *size) {
    ouro_plan_t plan;
    ouro_status status;
    void *memory = NULL;
    *size = 0;
    while ((status = ouro_plan(source, settings, memory, *size, &plan)) == OURO_STATUS_MEMORY) {
        free(memory);
        *size = (plan.scratch + OURO_ALIGN - 1) / OURO_ALIGN * OURO_ALIGN;
        memory = aligned_alloc(OURO_ALIGN, *size);
        if (memory == NULL) {
            return NULL;
        }
    }
    free(memory);
    if (status != OURO_STATUS_OK) {
        failed("plan", status, NULL);
        return NULL;
    }
    *size = plan.total;
    return aligned_alloc(OURO_ALIGN, *size);
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: %s MODEL.gguf PROMPT [BLOCK-BUFFER]\n", argv[0]);
        return 2;
    }
    FILE *file = fopen(argv[1], "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0) {
        perror(argv[1]);
        return 1;
    }
    ouro_source source = {0};
    ouro_settings settings = {0};
    void *model = NULL;
    settings.context = 256;
    settings.prompt = 96;
    source.len = (uint64_t)ftell(file);
    if (argc > 3) {
        source.read = read_file;
        source.context = file;
        settings.block_buffer = (uint32_t)strtoul(argv[3], NULL, 10);
    } else {
        model = malloc(source.len);
        if (model == NULL || read_file(file, 0, model, source.len) != 0) {
            perror(argv[1]);
            return 1;
        }
        source.bytes = model;
    }

    size_t size;
    void *memory = memory_for(&source, &settings, &size);
    int result = memory == NULL ? 1 : answer(&source, &settings, memory, size, argv[2], 128);
    free(memory);
    free(model);
    fclose(file);
    return result;
}
