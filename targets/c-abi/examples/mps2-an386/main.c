/* Firmware that answers the prompt on its command line with the model in its flash. */
#include "../answer.h"
#include "board.h"

static _Alignas(OURO_ALIGN) unsigned char memory[MEMORY];

int main(void) {
    const char *prompt = command_line();
    ouro_source source = {.bytes = model, .len = (uint64_t)(model_end - model)};
    ouro_settings settings = {.context = 80, .prompt = 48};
    int result = answer(&source, &settings, memory, sizeof memory, *prompt ? prompt : "60 plus 70?", 64);
    print("stack: ");
    print_number(stack_used());
    print("\n");
    return result;
}
