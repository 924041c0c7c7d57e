// The header in C++: every type and every call compiles and links; a handle that is none is refused.
#include "ouro.h"

#include <cstdint>
#include <cstdio>
#include <vector>

struct alignas(OURO_ALIGN) Chunk {
    unsigned char bytes[OURO_ALIGN];
};

int main(int argc, char **argv) {
    std::FILE *file = argc == 2 ? std::fopen(argv[1], "rb") : nullptr;
    if (file == nullptr) {
        std::fprintf(stderr, "usage: %s MODEL.gguf\n", argv[0]);
        return 2;
    }
    std::vector<unsigned char> model;
    unsigned char piece[4096];
    for (std::size_t got; (got = std::fread(piece, 1, sizeof piece, file)) > 0;) {
        model.insert(model.end(), piece, piece + got);
    }
    std::fclose(file);

    ouro_source source = {};
    source.bytes = model.data();
    source.len = model.size();
    ouro_settings settings = {};
    settings.context = 8;
    settings.prompt = 4;
    std::vector<Chunk> memory(32 * 1024);
    const std::size_t size = memory.size() * sizeof(Chunk);
    ouro_plan_t plan;
    ouro *handle = nullptr;
    if (ouro_clear(nullptr) != OURO_STATUS_NULL_POINTER ||
        ouro_plan(&source, &settings, memory.data(), size, &plan) != OURO_STATUS_OK ||
        ouro_open(&source, &settings, memory.data(), size, &handle) != OURO_STATUS_OK) {
        return 1;
    }
    const std::uint32_t id = 1;
    ouro_status status = ouro_feed(handle, &id, 1, OURO_INPUT_PROMPT);
    ouro_progress progress = {};
    while (status == OURO_STATUS_OK && progress.kind != OURO_WORK_DONE) {
        status = ouro_step(handle, &progress);
    }
    ouro_token token = {};
    if (status != OURO_STATUS_OK || ouro_answer(handle, &token) != OURO_STATUS_OK) {
        return 1;
    }
    const float *logits = nullptr;
    std::size_t count = 0;
    if (ouro_logits(handle, &logits, &count) != OURO_STATUS_OK || count != plan.vocab) {
        return 1;
    }
    for (std::size_t i = 0; i < count; i++) {
        if (logits[i] > logits[token.id]) {
            return 1;
        }
    }
    std::printf("C++: token %u, %s\n", static_cast<unsigned>(token.id), ouro_status_text(status));
    return 0;
}
