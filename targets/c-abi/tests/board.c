/* The checks of bad_input.c, and the hash, on the board. */
#include "../examples/mps2-an386/board.h"
#include "bad_input.h"

static unsigned char copy[1024 * 1024];
static _Alignas(OURO_ALIGN) unsigned char memory[256 * 1024];

int main(void) {
    size_t len = (size_t)(model_end - model);
    if (len > sizeof copy) {
        return 2;
    }
    return bad_input(model, len, copy, memory, sizeof memory) + print_hash(model, len, memory, sizeof memory);
}
