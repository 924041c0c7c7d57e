/*
 * Ouro: a looped language model next to a control loop, in C.
 *
 * Made by cbindgen from targets/c-abi/src; do not edit.
 *
 * A whole program:
 *
 *     static _Alignas(OURO_ALIGN) unsigned char memory[448 * 1024];
 *
 *     ouro_source source = {.bytes = model, .len = model_len};
 *     ouro_settings settings = {.context = 80, .prompt = 48};
 *     ouro *handle;
 *     if (ouro_open(&source, &settings, memory, sizeof memory, &handle) != OURO_STATUS_OK) ...
 *
 *     ouro_message message = {OURO_ROLE_USER, "60 plus 70?", 11};
 *     uint32_t ids[48];
 *     size_t count;
 *     ouro_encode_chat(handle, &message, 1, 0, ids, 48, &count);
 *     ouro_feed(handle, ids, count, OURO_INPUT_PROMPT);
 *     for (;;) {
 *         ouro_progress progress;
 *         do {
 *             if (ouro_step(handle, &progress) != OURO_STATUS_OK) ...
 *         } while (progress.kind != OURO_WORK_DONE);
 *         ouro_token token;
 *         ouro_answer(handle, &token);
 *         if (token.ends) break;
 *         char text[64];
 *         size_t len;
 *         ouro_token_text(handle, token.id, text, sizeof text, &len);
 *         ouro_feed(handle, &token.id, 1, OURO_INPUT_GENERATED);
 *     }
 *
 * Memory. The library allocates nothing, and no call leaves anything behind for another but in its
 * handle: the only variables are what was found out about the CPU. A handle, K and V, the activations
 * and everything else stand in the memory that the caller lends to ouro_open; ouro_plan tells
 * beforehand how much that is, to the byte. The memory belongs to the handle until the caller
 * uses it for something else: there is nothing to close. It must not be moved or copied.
 *
 * Stack. 16 KiB: a Cortex-M4F that answers a prompt was seen to use 15,420 bytes (`make emulate` prints it).
 *
 * Pointers. What is passed to a call is used during that call only, except for the model's bytes, the
 * callbacks and what is handed to them: these must last as long as the handle. No buffer may overlap
 * the handle's memory. NULL, misaligned pointers and impossible lengths are errors by name; beyond that
 * a pointer is believed, as everywhere in C.
 *
 * Threads. A handle is used by one thread at a time, and not from inside its own callbacks. Different
 * handles have nothing in common and may be used at the same time. No call blocks, but for the
 * callbacks. Interrupts may do what they like, except use a handle that a call is at work on.
 *
 * Errors. Every call returns a status; none unwinds, aborts or prints. Whatever bytes the model has,
 * no call reads or writes beyond what it was lent. ouro_explain tells the last error in words.
 *
 * Units. Sizes and lengths are bytes, unless they are counts of what the pointer beside them points
 * to. Positions are tokens. Loops and layers count from 1. Times are microseconds. Texts are UTF-8.
 */


#ifndef OURO_H
#define OURO_H

#include <stddef.h>
#include <stdint.h>

/**
 * `ouro_settings.kv_window`: no position keeps every loop's K and V.
 */
#define OURO_NO_KV_WINDOW UINT32_MAX

/**
 * Memory lent to this library must begin at a multiple of this many bytes.
 */
#define OURO_ALIGN 16

/**
 * The most messages of one call.
 */
#define OURO_MAX_MESSAGES 16

/**
 * How a call ended. Every error leaves the handle as it was before the call, unless said otherwise;
 * `ouro_explain` tells more about it.
 */
enum ouro_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * It did what it is for.
     */
    OURO_STATUS_OK = 0,
    /**
     * A pointer is NULL that must not be.
     */
    OURO_STATUS_NULL_POINTER = 1,
    /**
     * A pointer is not aligned as its type asks; the memory of a handle to OURO_ALIGN bytes.
     */
    OURO_STATUS_MISALIGNED = 2,
    /**
     * A length is 0, larger than an object can be, or more than 1 for a generated token.
     */
    OURO_STATUS_LENGTH = 3,
    /**
     * The model and the memory lent overlap.
     */
    OURO_STATUS_OVERLAP = 4,
    /**
     * The pointer is not a handle that `ouro_open` opened.
     */
    OURO_STATUS_HANDLE = 5,
    /**
     * The handle is in use: the call comes from inside one of its callbacks.
     */
    OURO_STATUS_BUSY = 6,
    /**
     * A setting is out of range.
     */
    OURO_STATUS_SETTING = 7,
    /**
     * The memory lent is too small.
     */
    OURO_STATUS_MEMORY = 8,
    /**
     * There is no room for all that would be written.
     */
    OURO_STATUS_BUFFER = 9,
    /**
     * The file is damaged, or is no model that runs here.
     */
    OURO_STATUS_MODEL = 10,
    /**
     * The file ends too early.
     */
    OURO_STATUS_TRUNCATED = 11,
    /**
     * The block buffer is too small for a row of weights.
     */
    OURO_STATUS_BLOCK_BUFFER = 12,
    /**
     * The read callback failed. What was in flight is dropped; feed the same tokens again.
     */
    OURO_STATUS_READ = 13,
    /**
     * The file's tokenizer is not one that is known here: give token ids.
     */
    OURO_STATUS_TOKENIZER = 14,
    /**
     * The tokenizer has not the special tokens of ChatML: give plain text or token ids.
     */
    OURO_STATUS_NOT_CHATML = 15,
    /**
     * The text is not UTF-8.
     */
    OURO_STATUS_NOT_UTF8 = 16,
    /**
     * The text has a word that is longer than the settings allow.
     */
    OURO_STATUS_WORD = 17,
    /**
     * More tokens at once than the settings allow.
     */
    OURO_STATUS_PROMPT = 18,
    /**
     * The conversation is longer than the settings allow.
     */
    OURO_STATUS_CONTEXT = 19,
    /**
     * No token has this id.
     */
    OURO_STATUS_TOKEN = 20,
    /**
     * The exit policy needs the exit gate, and the file has none.
     */
    OURO_STATUS_NO_GATE = 21,
    /**
     * There is nothing to do, or no answer yet: feed tokens first, and step until done.
     */
    OURO_STATUS_NOTHING_IN_FLIGHT = 22,
    /**
     * The logits are not numbers: weights in the file are damaged.
     */
    OURO_STATUS_NOT_A_NUMBER = 23,
    /**
     * The time was up before there was any answer.
     */
    OURO_STATUS_OUT_OF_TIME = 24,
    /**
     * The budget can't pay its own fallback depth.
     */
    OURO_STATUS_BUDGET = 25,
    /**
     * A state that the code rules out; please report it.
     */
    OURO_STATUS_INTERNAL = 26,
    /**
     * A kernel computes wrong on this CPU, and is not used.
     */
    OURO_STATUS_KERNEL = 27,
    /**
     * A part of the file is not what its checksum was made of: it is damaged. What was in flight is
     * dropped.
     */
    OURO_STATUS_CHECKSUM = 28,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum ouro_status ouro_status;
#else
typedef int32_t ouro_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What a step did.
 */
enum ouro_work
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * A layer of a loop.
     */
    OURO_WORK_LAYER = 0,
    /**
     * The end of a loop: its norm, and the exit policy.
     */
    OURO_WORK_LOOP = 1,
    /**
     * The output head after a loop.
     */
    OURO_WORK_HEAD = 2,
    /**
     * Nothing is in flight any more: `ouro_answer` tells the next token.
     */
    OURO_WORK_DONE = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum ouro_work ouro_work;
#else
typedef uint32_t ouro_work;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Why a token stopped at its depth.
 */
enum ouro_reason
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * The last loop was reached.
     */
    OURO_REASON_FIXED = 0,
    /**
     * The exit gate's accumulated probability reached the threshold.
     */
    OURO_REASON_GATE = 1,
    /**
     * The likeliest token was probable enough.
     */
    OURO_REASON_CONFIDENCE = 2,
    /**
     * The hidden state hardly moved.
     */
    OURO_REASON_STEP = 3,
    /**
     * The budget had no more for another loop.
     */
    OURO_REASON_BUDGET = 4,
    /**
     * Earlier tokens used the budget up, so this one ran the fallback depth.
     */
    OURO_REASON_FALLBACK = 5,
    /**
     * There was no time for another loop.
     */
    OURO_REASON_DEADLINE = 6,
    /**
     * The second likeliest token was far enough behind.
     */
    OURO_REASON_MARGIN = 7,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum ouro_reason ouro_reason;
#else
typedef uint32_t ouro_reason;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * When a token may stop before the last loop: values of `ouro_settings.exit_policy`.
 */
enum ouro_exit
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * As the file asks, else never.
     */
    OURO_EXIT_FILE = 0,
    /**
     * Never.
     */
    OURO_EXIT_FIXED = 1,
    /**
     * When the exit gate's accumulated probability is at least the threshold.
     */
    OURO_EXIT_Q = 2,
    /**
     * When the likeliest token's probability is at least the threshold.
     */
    OURO_EXIT_CONFIDENCE = 3,
    /**
     * When the two likeliest tokens' probabilities are at least this far apart.
     */
    OURO_EXIT_MARGIN = 4,
    /**
     * When the hidden state changed by at most this share of its norm.
     */
    OURO_EXIT_STEP = 5,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum ouro_exit ouro_exit;
#else
typedef uint32_t ouro_exit;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What tokens are fed as: values of the argument `feed`.
 */
enum ouro_input
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * A prompt, or the first part of one: all its tokens run all loops.
     */
    OURO_INPUT_PROMPT = 0,
    /**
     * One generated token, which stops where the exit policy or the budget says.
     */
    OURO_INPUT_GENERATED = 1,
    /**
     * More of the prompt that was fed last: as a prompt, but the time of its answer runs on. Parts before
     * the last need no answer: `ouro_skip_answer`.
     */
    OURO_INPUT_MORE = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum ouro_input ouro_input;
#else
typedef uint32_t ouro_input;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * How K and V of older positions are shared among loops: values of `ouro_settings.kv_sharing`.
 */
enum ouro_kv_sharing
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * As the file asks, else the last loop's.
     */
    OURO_KV_SHARING_FILE = 0,
    /**
     * Every loop's: the original model, and the most memory.
     */
    OURO_KV_SHARING_PER_LOOP = 1,
    /**
     * The last loop's that a position ran.
     */
    OURO_KV_SHARING_LAST = 2,
    /**
     * The mean over the loops that a position ran.
     */
    OURO_KV_SHARING_AVERAGED = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum ouro_kv_sharing ouro_kv_sharing;
#else
typedef uint32_t ouro_kv_sharing;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * How K and V are stored: values of `ouro_settings.kv_type`.
 */
enum ouro_kv_type
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * 2 bytes a value.
     */
    OURO_KV_TYPE_F16 = 0,
    /**
     * 1 byte a value, and scales.
     */
    OURO_KV_TYPE_INT8 = 1,
    /**
     * 4 bytes a value.
     */
    OURO_KV_TYPE_F32 = 2,
    /**
     * Half a byte a value, and scales.
     */
    OURO_KV_TYPE_INT4 = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum ouro_kv_type ouro_kv_type;
#else
typedef uint32_t ouro_kv_type;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Who speaks: values of `ouro_message.role`.
 */
enum ouro_role
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * The person.
     */
    OURO_ROLE_USER = 0,
    /**
     * Instructions for all of the conversation.
     */
    OURO_ROLE_SYSTEM = 1,
    /**
     * The model.
     */
    OURO_ROLE_ASSISTANT = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum ouro_role ouro_role;
#else
typedef uint32_t ouro_role;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What to make of text that looks like a special token, such as `<|im_end|>`: values of the argument
 * `specials`.
 */
enum ouro_specials
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * It is plain text. For what users and documents say.
     */
    OURO_SPECIALS_PLAIN_TEXT = 0,
    /**
     * It is that token. For templates of one's own.
     */
    OURO_SPECIALS_RECOGNIZE = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum ouro_specials ouro_specials;
#else
typedef uint32_t ouro_specials;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Which checksums are compared, if the file has them: values of `ouro_settings.verify`. What differs is
 * OURO_STATUS_CHECKSUM.
 */
enum ouro_verify
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * That of all before the weights, when the file is opened.
     */
    OURO_VERIFY_METADATA = 0,
    /**
     * That, and those of the weights when a part of them is read for the first time. 4 bytes and a bit of
     * memory for every 4096 bytes of weights; a block buffer must be 8190 bytes larger.
     */
    OURO_VERIFY_WEIGHTS = 1,
    /**
     * None.
     */
    OURO_VERIFY_NEVER = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum ouro_verify ouro_verify;
#else
typedef uint32_t ouro_verify;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * An open model and a conversation with it, in memory that the caller lent to `ouro_open`.
 *
 * One thread uses a handle at a time; different handles have nothing in common.
 */
typedef struct ouro ouro;

/**
 * Reads `len` bytes of the model file from `offset` on into `to`, and returns 0, or any other
 * number if that is not possible; the call in progress then ends with OURO_STATUS_READ. It is called
 * only from inside calls of this library, on the same thread, and must not use the handle.
 */
typedef int32_t (*ouro_read)(void *context, uint64_t offset, void *to, size_t len);

/**
 * Where the model is: a whole GGUF file in memory or in flash that is mapped into memory, or one
 * that a callback reads.
 */
typedef struct ouro_source {
    /**
     * The file's first byte, if it can be read in place; no alignment is asked for, and 16 or more
     * is fastest. NULL if `read` is to be called. The bytes must stay, unchanged, as long as the
     * handle is used.
     */
    const void *bytes;
    /**
     * Length of the file in bytes.
     */
    uint64_t len;
    /**
     * Reads the file where it can't be read in place; else NULL. Everything passes through the
     * block buffer of the settings.
     */
    ouro_read read;
    /**
     * Handed to `read`.
     */
    void *context;
} ouro_source;

/**
 * Microseconds since some fixed moment, never less than before. Called from inside calls of this
 * library, on the same thread; it must not use the handle.
 */
typedef uint64_t (*ouro_now)(void *context);

/**
 * What a handle is made with. Begin with `ouro_settings settings = {0};`: all fields but the first two
 * may stay 0.
 */
typedef struct ouro_settings {
    /**
     * Positions (tokens) in all, prompts and answers together. Decides the memory of K and V.
     */
    uint32_t context;
    /**
     * The most tokens fed at once: the longest prompt. Decides the memory of activations.
     */
    uint32_t prompt;
    /**
     * The most loops of a token; 0: as many as the model was trained with.
     */
    uint32_t max_loops;
    /**
     * The fewest loops of a token; 0: one.
     */
    uint32_t min_loops;
    /**
     * An `ouro_kv_sharing`.
     */
    uint32_t kv_sharing;
    /**
     * An `ouro_kv_type`.
     */
    uint32_t kv_type;
    /**
     * How many of the latest positions keep every loop's K and V; 0: one less than the loops of
     * training, or than `max_loops` if that is more; OURO_NO_KV_WINDOW: none.
     */
    uint32_t kv_window;
    /**
     * An `ouro_exit`.
     */
    uint32_t exit_policy;
    /**
     * The policy's threshold, 0 to 1; of no meaning for OURO_EXIT_FILE and OURO_EXIT_FIXED.
     */
    float exit_threshold;
    /**
     * Bytes of the buffer that the model's bytes pass through; used with a read callback only. At
     * least one row of the widest matrix, and 256; with OURO_VERIFY_WEIGHTS 8190 more.
     */
    uint32_t block_buffer;
    /**
     * The longest word in bytes that text to be encoded may have; 0: 64. Above 64, each byte takes
     * 20 bytes of memory.
     */
    uint32_t longest_word;
    /**
     * The clock, for a budget of time; else NULL.
     */
    ouro_now now_us;
    /**
     * Handed to `now_us`.
     */
    void *now_context;
    /**
     * An `ouro_verify`.
     */
    uint32_t verify;
} ouro_settings;

/**
 * What a handle takes, in bytes of RAM, and what the model is.
 */
typedef struct ouro_plan_t {
    /**
     * All of it: the least that `ouro_open` works with.
     */
    size_t total;
    /**
     * What `ouro_plan` itself needs to find out: never more than `total`, and free again when it
     * returns. If it was lent less, this is the only field with a meaning.
     */
    size_t scratch;
    /**
     * Of the total: the handle itself.
     */
    size_t handle;
    /**
     * Of the total: the buffer that the model's bytes pass through; 0 for a model read in place.
     */
    size_t block_buffer;
    /**
     * Of the total: the checksums of the weights, if they are to be compared.
     */
    size_t checksums;
    /**
     * Of the total: norms, exit gate and the table of matrices.
     */
    size_t model;
    /**
     * Of the total: the tokenizer's index; 0 if the file's tokenizer is not known here.
     */
    size_t tokenizer;
    /**
     * Of the total: K and V of older positions.
     */
    size_t kv;
    /**
     * Of the total: activations, logits, and the scratch for long words.
     */
    size_t activations;
    /**
     * Of the total: what is needed only while opening, beyond what is in use by then.
     */
    size_t opening;
    /**
     * Transformer layers of the stack.
     */
    uint32_t layers;
    /**
     * Loops that the model was trained with.
     */
    uint32_t loops;
    /**
     * Token ids are below this.
     */
    uint32_t vocab;
    /**
     * The most positions that the model was trained with.
     */
    uint32_t trained_context;
} ouro_plan_t;

/**
 * One turn of a conversation.
 */
typedef struct ouro_message {
    /**
     * An `ouro_role`.
     */
    uint32_t role;
    /**
     * What is said, in UTF-8; not terminated.
     */
    const char *text;
    /**
     * Its length in bytes.
     */
    size_t len;
} ouro_message;

/**
 * How far the tokens in flight are.
 */
typedef struct ouro_progress {
    /**
     * What the step did.
     */
    ouro_work kind;
    /**
     * In which loop, counted from 1; when done, the loop that answers.
     */
    uint32_t loops;
    /**
     * In which layer, counted from 1; 0 unless the step was one.
     */
    uint32_t layer;
} ouro_progress;

/**
 * The next token, and how it came to be.
 */
typedef struct ouro_token {
    /**
     * The likeliest token; of equals, the lowest id.
     */
    uint32_t id;
    /**
     * The depth at which it was chosen, in loops.
     */
    uint32_t loops;
    /**
     * Why not deeper.
     */
    ouro_reason reason;
    /**
     * 1 if the token ends the answer, 0 if not.
     */
    uint32_t ends;
} ouro_token;

/**
 * What was done since the handle was opened.
 */
typedef struct ouro_counters_t {
    /**
     * Positions in the cache: tokens of the conversation so far.
     */
    uint64_t position;
    /**
     * Passes through the stack.
     */
    uint64_t passes;
    /**
     * Loops of prompt tokens.
     */
    uint64_t prompt_loops;
    /**
     * Loops of generated tokens.
     */
    uint64_t generated_loops;
    /**
     * Multiplications with accumulation.
     */
    uint64_t macs;
    /**
     * Bytes read from the model, or pointed at where it is read in place.
     */
    uint64_t bytes;
    /**
     * Calls of the read callback.
     */
    uint64_t reads;
} ouro_counters_t;

/**
 * A bucket: what it may give is added with every token, kept up to a bound, and taken by tokens. All
 * zero: no bound.
 */
typedef struct ouro_bucket {
    /**
     * What every token adds.
     */
    uint64_t rate;
    /**
     * The most that is kept from one token to the next, and what there is at the beginning.
     */
    uint64_t burst;
    /**
     * What must be left after a token for the fallback to end; at most the burst.
     */
    uint64_t resume;
} ouro_bucket;

/**
 * What generated tokens may cost. Any n of them take at most burst + n * rate, whatever the exit
 * policy wants; the prompt is known beforehand and is not counted. All zero: no bounds.
 */
typedef struct ouro_budget {
    /**
     * Loops, in thousandths: a rate of 2500 is two and a half loops per token.
     */
    struct ouro_bucket loops;
    /**
     * Bytes read from the model, whole pages where a medium reads no less.
     */
    struct ouro_bucket bytes;
    /**
     * The depth of every token once a bucket was found empty, until it has recovered: at least the
     * fewest loops of the settings, and no more than the rates can pay. 0: one loop.
     */
    uint32_t fallback;
    /**
     * The longest that a generated token may take, in microseconds; needs the clock of the settings.
     * 0: no bound.
     */
    uint64_t token_us;
    /**
     * The longest that a prompt and its answer may take together, in microseconds, from when the prompt,
     * or its first part, is fed. 0: no bound.
     */
    uint64_t answer_us;
} ouro_budget;

/**
 * An amount of work.
 */
typedef struct ouro_cost {
    /**
     * Loops of all tokens together.
     */
    uint64_t loops;
    /**
     * Times that the output head is computed.
     */
    uint64_t heads;
    /**
     * Multiplications with accumulation.
     */
    uint64_t macs;
    /**
     * Bytes read from the model.
     */
    uint64_t bytes;
} ouro_cost;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Tells how much memory `ouro_open` will need for this model and these settings.
 *
 * `memory` (aligned to OURO_ALIGN) is scratch for the time of the call: the memory meant for
 * `ouro_open` is always large enough. Where that is not known yet, begin with NULL and 0: as long as
 * the answer is OURO_STATUS_MEMORY, call again with `plan->scratch` bytes, twice at most.
 *
 * Firmware can call this once on the workstation, and set aside `total` bytes; sizes differ between
 * machines of 32 and of 64 bits.
 */
ouro_status ouro_plan(const struct ouro_source *source,
                      const struct ouro_settings *settings,
                      void *memory,
                      size_t size,
                      struct ouro_plan_t *plan);

/**
 * Opens a model in `memory`, which begins at a multiple of OURO_ALIGN and has at least
 * `ouro_plan_t.total` bytes; all of it is the handle's until it is used for something else. There is
 * nothing to close.
 *
 * `*handle` is set to the handle, which is `memory` itself. After an error only `ouro_explain` takes
 * it; it is NULL if the memory can't even hold the error.
 */
ouro_status ouro_open(const struct ouro_source *source,
                      const struct ouro_settings *settings,
                      void *memory,
                      size_t size,
                      struct ouro **handle);

/**
 * Turns text (UTF-8, `len` bytes) into token ids, to be fed. Nothing is added before or after.
 *
 * Writes up to `capacity` ids and sets `*count` to their number. If there is no room for all, the
 * answer is OURO_STATUS_BUFFER and `*count` the room that is needed; no text has more ids than bytes.
 * `specials` is an `ouro_specials`.
 */
ouro_status ouro_encode(struct ouro *handle,
                        const char *text,
                        size_t len,
                        uint32_t specials,
                        uint32_t *ids,
                        size_t capacity,
                        size_t *count);

/**
 * Turns messages into token ids in the ChatML format, up to the point where the assistant speaks.
 * What looks like a special token in a message is plain text.
 *
 * `is_reply` is 0 for the beginning of a conversation, and 1 for messages that follow an answer which
 * ended by itself (`ouro_token.ends`). Ids, capacity and count are as for `ouro_encode`. The model's
 * file may have a template of its own which says more; this is plain ChatML.
 */
ouro_status ouro_encode_chat(struct ouro *handle,
                             const struct ouro_message *messages,
                             size_t message_count,
                             uint32_t is_reply,
                             uint32_t *ids,
                             size_t capacity,
                             size_t *count);

/**
 * The text that became certain with this token of an answer, in whole characters: those that the
 * token ends in the middle of come with a later one.
 *
 * Writes UTF-8 and a NUL behind it to `text`, and sets `*len` to the length without the NUL. If
 * `capacity` is too small, the answer is OURO_STATUS_BUFFER, `*len` is the length that it would have
 * had, and the call can be repeated with at least `*len + 1` bytes. To be called once for every token of an answer, in
 * order; a token that ends it has no part in its text.
 */
ouro_status ouro_token_text(struct ouro *handle,
                            uint32_t id,
                            char *text,
                            size_t capacity,
                            size_t *len);

/**
 * Ends an answer's text: U+FFFD for a character that never came to its end, else nothing. Otherwise
 * as `ouro_token_text`.
 */
ouro_status ouro_end_text(struct ouro *handle, char *text, size_t capacity, size_t *len);

/**
 * What was wrong with the last call on this handle, as a sentence that says what was found, what was
 * expected and what to do; empty after a call that went well. Takes what `ouro_open` set `*handle` to,
 * also after an error. Text, capacity and len are as for `ouro_token_text`, but as much of the text
 * as there is room for is written in any case.
 */
ouro_status ouro_explain(const struct ouro *handle,
                         char *text,
                         size_t capacity,
                         size_t *len);

/**
 * Puts `count` tokens in flight, after those of the conversation so far; `feed` is an `ouro_input`.
 * Nothing is computed yet: `ouro_step` does. What was in flight before and is not done is dropped,
 * and that is how a prompt or a token is given up.
 */
ouro_status ouro_feed(struct ouro *handle, const uint32_t *ids, size_t count, uint32_t feed);

/**
 * Says that nobody will ask for the answer to what was just fed. For all parts of a prompt but the last: the
 * output head is not computed for them then, and `ouro_answer` and `ouro_logits` give
 * OURO_STATUS_NOTHING_IN_FLIGHT after them. For a generated token, after a step, or with nothing in flight,
 * this changes nothing.
 */
ouro_status ouro_skip_answer(struct ouro *handle);

/**
 * Does one bounded piece of work on what is in flight, one layer of one loop at most, and returns:
 * step until `progress->kind` is OURO_WORK_DONE, and do other things between steps as you like.
 *
 * After an error what was in flight is dropped, and the conversation is as it was before it was fed.
 */
ouro_status ouro_step(struct ouro *handle,
                      struct ouro_progress *progress);

/**
 * Tells the next token, the likeliest one, once a step was done with what was in flight. To go on,
 * feed it as OURO_INPUT_GENERATED.
 */
ouro_status ouro_answer(struct ouro *handle, struct ouro_token *token);

/**
 * Tells where the next token's logits are, one for each of `*count` ids, for who wants to choose it
 * otherwise than by the likeliest. They are valid until the next call.
 */
ouro_status ouro_logits(struct ouro *handle, const float **logits, size_t *count);

/**
 * Forgets the conversation, so that another can begin.
 */
ouro_status ouro_clear(struct ouro *handle);

/**
 * Tells what was done so far.
 */
ouro_status ouro_counters(struct ouro *handle, struct ouro_counters_t *counters);

/**
 * Bounds what is generated from the next feed on. The budget stays as it was after an error.
 */
ouro_status ouro_set_budget(struct ouro *handle, const struct ouro_budget *budget);

/**
 * Tells the most that a prompt of `prompt` tokens, in as few feeds as the settings allow, and then
 * `generated` tokens fed one by one, can cost from here on. What is computed never exceeds it: with instructions per multiplication, or bytes
 * per second of the flash, that is the worst-case time.
 */
ouro_status ouro_worst_case(struct ouro *handle,
                            uint32_t prompt,
                            uint32_t generated,
                            struct ouro_cost *cost);

/**
 * Runs the prompt `ids` and 16 tokens after it in a fixed way, and writes the SHA-256 of all logits to
 * `digest`, which has room for 32 bytes. `ouro hash --tokens IDS` prints the same on the workstation:
 * firmware that compares the two knows that its arithmetic is right.
 *
 * The handle is to be one of its own, opened with these settings, else the answer is
 * OURO_STATUS_SETTING: `context` is `count` + 16, `prompt` is `count`, `kv_sharing`
 * OURO_KV_SHARING_LAST, `kv_type` OURO_KV_TYPE_INT8, and everything else that decides memory or depth
 * is 0. `logits` is scratch for `logits_count` values, at least `ouro_plan_t.vocab`. The conversation is
 * forgotten and the budget lifted. It takes as long as an answer of 16 tokens.
 */
ouro_status ouro_hash(struct ouro *handle,
                      const uint32_t *ids,
                      size_t count,
                      float *logits,
                      size_t logits_count,
                      uint8_t *digest);

/**
 * Whether the CPU's fast kernels compute right, as was found when the first handle was opened.
 * OURO_STATUS_KERNEL if one does not: it is not used, and a slower one with the right results stands in for
 * it. `ouro_explain` then tells which it is, and at what it failed.
 */
ouro_status ouro_check_kernels(struct ouro *handle);

/**
 * A few words for a status, in English; never NULL, whatever `status` is. The text is part of the
 * program and is never freed.
 */
const char *ouro_status_text(int32_t status);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* OURO_H */
