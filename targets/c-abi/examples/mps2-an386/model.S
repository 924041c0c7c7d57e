/* A model as an object file: its bytes between two symbols, where the linker script puts .model.
   MODEL is the path of a GGUF file, in quotes. */
    .section .model, "a"
    .balign 16
    .global model
model:
    .incbin MODEL
    .global model_end
model_end:
    .byte 0
