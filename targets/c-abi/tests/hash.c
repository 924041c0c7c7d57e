/* The fixed run whose SHA-256 is the same on every machine. */
#include "bad_input.h"

int print_hash(const unsigned char *model, size_t len, unsigned char *memory, size_t size) {
    static const uint32_t ids[3] = {5, 40, 7};
    static float logits[512];
    unsigned char digest[32];
    char text[65] = {0};
    ouro *handle;
    ouro_source source = {0};
    ouro_settings settings = {0};
    source.bytes = model;
    source.len = len;
    settings.context = 3 + 16;
    settings.prompt = 3;
    settings.kv_sharing = OURO_KV_SHARING_LAST;
    settings.kv_type = OURO_KV_TYPE_INT8;
    ouro_status status = ouro_open(&source, &settings, memory, size, &handle);
    if (status == OURO_STATUS_OK) {
        status = ouro_hash(handle, ids, 3, logits, 512, digest);
    }
    if (status != OURO_STATUS_OK) {
        print(ouro_status_text(status));
        print("\n");
        return 1;
    }
    for (int i = 0; i < 32; i++) {
        text[2 * i] = "0123456789abcdef"[digest[i] >> 4];
        text[2 * i + 1] = "0123456789abcdef"[digest[i] & 15];
    }
    print("hash: ");
    print(text);
    print("\n");
    return 0;
}
