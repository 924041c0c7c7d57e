/* Bad input of every kind: each is a status, and a good call works right after it. Runs on the host and
 * on the boards. */
#include "bad_input.h"

#define SIZE_HUGE ((size_t)-1)

static unsigned failures, checks;

static void number(unsigned long long value) {
    char digits[21];
    char *first = digits + sizeof digits - 1;
    *first = '\0';
    do {
        *--first = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    print(first);
}

static void expect(const char *what, ouro_status found, ouro_status expected) {
    checks++;
    if (found != expected) {
        failures++;
        print(what);
        print(": ");
        print(ouro_status_text(found));
        print(", expected ");
        print(ouro_status_text(expected));
        print("\n");
    }
}

static void expect_true(const char *what, int holds) {
    checks++;
    if (!holds) {
        failures++;
        print(what);
        print(": does not hold\n");
    }
}

/* Everything a test needs. */
struct fixture {
    ouro_source source;
    ouro_settings settings;
    ouro_plan_t plan;
    unsigned char *memory;
    size_t size;
    ouro *handle;
};

static void open_again(struct fixture *f) {
    expect("open", ouro_open(&f->source, &f->settings, f->memory, f->plan.total, &f->handle), OURO_STATUS_OK);
}

static ouro_status run(ouro *handle, ouro_token *token) {
    ouro_progress progress;
    ouro_status status;
    do {
        status = ouro_step(handle, &progress);
    } while (status == OURO_STATUS_OK && progress.kind != OURO_WORK_DONE);
    return status == OURO_STATUS_OK ? ouro_answer(handle, token) : status;
}

/* The first token after a fixed prompt. */
static ouro_status first_token(ouro *handle, ouro_token *token) {
    static const uint32_t ids[3] = {5, 40, 7};
    ouro_status status = ouro_feed(handle, ids, 3, OURO_INPUT_PROMPT);
    return status == OURO_STATUS_OK ? run(handle, token) : status;
}

static void memory_to_the_byte(struct fixture *f) {
    ouro_plan_t plan;
    char text[160];
    size_t len;
    ouro_token token;
    expect("plan without memory", ouro_plan(&f->source, &f->settings, NULL, 0, &plan), OURO_STATUS_MEMORY);
    expect_true("it tells the scratch", plan.scratch > 0 && plan.scratch <= f->plan.scratch);
    expect("plan with what it asks for", ouro_plan(&f->source, &f->settings, f->memory, f->plan.scratch, &plan),
           OURO_STATUS_OK);
    expect_true("the same plan", plan.total == f->plan.total);
    expect("one byte less", ouro_plan(&f->source, &f->settings, f->memory, f->plan.scratch - 1, &plan),
           OURO_STATUS_MEMORY);
    expect_true("the parts are the whole",
                plan.scratch <= f->plan.total &&
                    f->plan.total == f->plan.handle + f->plan.block_buffer + f->plan.checksums + f->plan.model + f->plan.tokenizer +
                                         f->plan.kv + f->plan.activations + f->plan.opening);

    /* What lies behind the memory stays as it is. */
    f->memory[f->plan.total] = 0xA5;
    open_again(f);
    expect("a token in just enough", first_token(f->handle, &token), OURO_STATUS_OK);
    expect_true("nothing behind it was touched", f->memory[f->plan.total] == 0xA5);

    expect("a byte too small", ouro_open(&f->source, &f->settings, f->memory, f->plan.total - 1, &f->handle),
           OURO_STATUS_MEMORY);
    expect_true("it can be explained", f->handle != NULL);
    expect("explain", ouro_explain(f->handle, text, sizeof text, &len), OURO_STATUS_OK);
    expect_true("a sentence", len > 20 && text[len] == '\0');
    expect("explain in 5 bytes", ouro_explain(f->handle, text, 5, &len), OURO_STATUS_BUFFER);
    expect_true("cut", text[3] != '\0' && text[4] == '\0' && len > 20);
    expect("it is not open", ouro_clear(f->handle), OURO_STATUS_HANDLE);
    for (size_t size = 0; size < f->plan.total; size += 997) {
        ouro_status status = ouro_open(&f->source, &f->settings, f->memory, size, &f->handle);
        expect("too small", status, OURO_STATUS_MEMORY);
    }
    open_again(f);
}

static void pointers_and_lengths(struct fixture *f) {
    ouro_plan_t plan;
    ouro *handle = f->handle;
    ouro_token token;
    ouro_progress progress;
    ouro_cost cost;
    ouro_counters_t counters;
    ouro_budget budget = {0};
    uint32_t ids[8] = {1, 2, 3};
    size_t count;
    char text[16];
    float logits[4];
    unsigned char digest[32];
    const float *found;
    ouro_message message = {OURO_ROLE_USER, "hi", 2};
    ouro_source source = f->source;
    const ouro_source *misaligned = (const ouro_source *)((uintptr_t)&source + 1);

    expect("plan: no source", ouro_plan(NULL, &f->settings, f->memory, f->size, &plan), OURO_STATUS_NULL_POINTER);
    expect("plan: no settings", ouro_plan(&source, NULL, NULL, 0, &plan), OURO_STATUS_NULL_POINTER);
    expect("plan: no plan", ouro_plan(&source, &f->settings, NULL, 0, NULL), OURO_STATUS_NULL_POINTER);
    expect("plan: no memory", ouro_plan(&source, &f->settings, NULL, 64, &plan), OURO_STATUS_NULL_POINTER);
    expect("plan: misaligned", ouro_plan(misaligned, &f->settings, NULL, 0, &plan), OURO_STATUS_MISALIGNED);
    expect("open: no source", ouro_open(NULL, &f->settings, f->memory, f->size, &f->handle), OURO_STATUS_NULL_POINTER);
    expect("open: no settings", ouro_open(&source, NULL, f->memory, f->size, &f->handle), OURO_STATUS_NULL_POINTER);
    expect("open: no memory", ouro_open(&source, &f->settings, NULL, f->size, &f->handle), OURO_STATUS_NULL_POINTER);
    expect_true("no handle", f->handle == NULL);
    expect("open: no handle", ouro_open(&source, &f->settings, f->memory, f->size, NULL), OURO_STATUS_NULL_POINTER);
    expect("open: misaligned", ouro_open(&source, &f->settings, f->memory + 4, f->size - 4, &f->handle),
           OURO_STATUS_MISALIGNED);
    expect("open: 0 bytes", ouro_open(&source, &f->settings, f->memory, 0, &f->handle), OURO_STATUS_MEMORY);
    expect("open: SIZE_MAX", ouro_open(&source, &f->settings, f->memory, SIZE_HUGE, &f->handle), OURO_STATUS_LENGTH);
    source.len = 0;
    expect("a model of 0 bytes", ouro_open(&source, &f->settings, f->memory, f->size, &f->handle), OURO_STATUS_LENGTH);
    source.len = (uint64_t)-1;
    expect("a model without end", ouro_plan(&source, &f->settings, NULL, 0, &plan), OURO_STATUS_LENGTH);
    source = f->source;
    source.bytes = NULL;
    expect("no model", ouro_plan(&source, &f->settings, NULL, 0, &plan), OURO_STATUS_NULL_POINTER);
    source.bytes = f->memory;
    source.len = 64;
    expect("a model in the memory", ouro_open(&source, &f->settings, f->memory, f->size, &f->handle),
           OURO_STATUS_OVERLAP);
    open_again(f);
    handle = f->handle;

    ouro *wrong[] = {NULL, (ouro *)((uintptr_t)handle + 4), (ouro *)(f->memory + f->plan.handle)};
    const ouro_status refusal[] = {OURO_STATUS_NULL_POINTER, OURO_STATUS_MISALIGNED, OURO_STATUS_HANDLE};
    for (int i = 0; i < 3; i++) {
        ouro *h = wrong[i];
        expect("encode: handle", ouro_encode(h, "a", 1, 0, ids, 8, &count), refusal[i]);
        expect("chat: handle", ouro_encode_chat(h, &message, 1, 0, ids, 8, &count), refusal[i]);
        expect("text: handle", ouro_token_text(h, 1, text, 16, &count), refusal[i]);
        expect("end: handle", ouro_end_text(h, text, 16, &count), refusal[i]);
        expect("explain: handle", ouro_explain(h, text, 16, &count), refusal[i]);
        expect("feed: handle", ouro_feed(h, ids, 3, OURO_INPUT_PROMPT), refusal[i]);
        expect("skip: handle", ouro_skip_answer(h), refusal[i]);
        expect("step: handle", ouro_step(h, &progress), refusal[i]);
        expect("answer: handle", ouro_answer(h, &token), refusal[i]);
        expect("logits: handle", ouro_logits(h, &found, &count), refusal[i]);
        expect("clear: handle", ouro_clear(h), refusal[i]);
        expect("counters: handle", ouro_counters(h, &counters), refusal[i]);
        expect("budget: handle", ouro_set_budget(h, &budget), refusal[i]);
        expect("worst: handle", ouro_worst_case(h, 1, 1, &cost), refusal[i]);
        expect("kernels: handle", ouro_check_kernels(h), refusal[i]);
        expect("hash: handle", ouro_hash(h, ids, 3, logits, 4, digest), refusal[i]);
    }

    expect("kernels", ouro_check_kernels(handle), OURO_STATUS_OK);
    expect("step without tokens", ouro_step(handle, &progress), OURO_STATUS_NOTHING_IN_FLIGHT);
    expect("answer without tokens", ouro_answer(handle, &token), OURO_STATUS_NOTHING_IN_FLIGHT);
    expect("feed: null", ouro_feed(handle, NULL, 3, OURO_INPUT_PROMPT), OURO_STATUS_NULL_POINTER);
    expect("feed: 0", ouro_feed(handle, ids, 0, OURO_INPUT_PROMPT), OURO_STATUS_LENGTH);
    expect("feed: SIZE_MAX", ouro_feed(handle, ids, SIZE_HUGE, OURO_INPUT_PROMPT), OURO_STATUS_LENGTH);
    expect("feed: misaligned", ouro_feed(handle, (uint32_t *)((uintptr_t)ids + 1), 1, OURO_INPUT_PROMPT),
           OURO_STATUS_MISALIGNED);
    expect("feed: as what?", ouro_feed(handle, ids, 1, 7), OURO_STATUS_SETTING);
    ids[0] = f->plan.vocab;
    expect("no such token", ouro_feed(handle, ids, 1, OURO_INPUT_PROMPT), OURO_STATUS_TOKEN);
    ids[0] = 1;
    expect("encode: null", ouro_encode(handle, NULL, 3, 0, ids, 8, &count), OURO_STATUS_NULL_POINTER);
    expect("encode: SIZE_MAX", ouro_encode(handle, "a", SIZE_HUGE, 0, ids, 8, &count), OURO_STATUS_LENGTH);
    expect("encode: nothing", ouro_encode(handle, NULL, 0, 0, NULL, 0, &count), OURO_STATUS_OK);
    expect("encode: no room", ouro_encode(handle, "stop belt7", 10, 0, NULL, 0, &count), OURO_STATUS_BUFFER);
    expect_true("room asked for", count > 0 && count <= 10);
    expect("encode: no ids", ouro_encode(handle, "stop belt7", 10, 0, NULL, 8, &count), OURO_STATUS_NULL_POINTER);
    expect("encode: room of SIZE_MAX", ouro_encode(handle, "a", 1, 0, ids, SIZE_HUGE, &count), OURO_STATUS_LENGTH);
    expect("encode: no count", ouro_encode(handle, "a", 1, 0, ids, 8, NULL), OURO_STATUS_NULL_POINTER);
    expect("encode: specials", ouro_encode(handle, "a", 1, 9, ids, 8, &count), OURO_STATUS_SETTING);
    expect("encode: not UTF-8", ouro_encode(handle, "a\xFF", 2, 0, ids, 8, &count), OURO_STATUS_NOT_UTF8);
    expect("chat: no messages", ouro_encode_chat(handle, &message, 0, 0, ids, 8, &count), OURO_STATUS_LENGTH);
    expect("chat: SIZE_MAX", ouro_encode_chat(handle, &message, SIZE_HUGE, 0, ids, 8, &count), OURO_STATUS_LENGTH);
    expect("chat: null", ouro_encode_chat(handle, NULL, 1, 0, ids, 8, &count), OURO_STATUS_NULL_POINTER);
    message.role = 3;
    expect("chat: who?", ouro_encode_chat(handle, &message, 1, 0, ids, 8, &count), OURO_STATUS_SETTING);
    message.role = OURO_ROLE_USER;
    message.text = NULL;
    expect("chat: no text", ouro_encode_chat(handle, &message, 1, 0, ids, 8, &count), OURO_STATUS_NULL_POINTER);
    expect("step: null", ouro_step(handle, NULL), OURO_STATUS_NULL_POINTER);
    expect("counters: null", ouro_counters(handle, NULL), OURO_STATUS_NULL_POINTER);
    expect("budget: null", ouro_set_budget(handle, NULL), OURO_STATUS_NULL_POINTER);
    expect("worst: null", ouro_worst_case(handle, 1, 1, NULL), OURO_STATUS_NULL_POINTER);
    expect("text: no room", ouro_token_text(handle, 60, text, 0, &count), OURO_STATUS_BUFFER);
    expect("text: null", ouro_token_text(handle, 60, NULL, 16, &count), OURO_STATUS_NULL_POINTER);
    expect("text: SIZE_MAX", ouro_token_text(handle, 60, text, SIZE_HUGE, &count), OURO_STATUS_LENGTH);
    expect("text: no length", ouro_token_text(handle, 60, text, 16, NULL), OURO_STATUS_NULL_POINTER);
    expect("text: no such token", ouro_token_text(handle, 1000000, text, 16, &count), OURO_STATUS_TOKEN);
    expect("hash: other settings", ouro_hash(handle, ids, 3, logits, 4, digest), OURO_STATUS_SETTING);
    expect("a good one after all", first_token(handle, &token), OURO_STATUS_OK);
    expect("answer: null", ouro_answer(handle, NULL), OURO_STATUS_NULL_POINTER);
    expect("logits: null", ouro_logits(handle, NULL, &count), OURO_STATUS_NULL_POINTER);
    expect_true("a status that is none has words too", ouro_status_text((ouro_status)-5) != NULL);
}

static void settings_out_of_range(struct fixture *f) {
    static const struct {
        const char *what;
        uint32_t context, prompt, max_loops, min_loops, kv_sharing, kv_type, kv_window, exit_policy;
        float threshold;
    } CASES[] = {
        {"no context", 0, 4, 0, 0, 0, 0, 0, 0, 0},
        {"no prompt", 16, 0, 0, 0, 0, 0, 0, 0, 0},
        {"prompt beyond the context", 16, 17, 0, 0, 0, 0, 0, 0, 0},
        {"too many loops", 16, 4, 256, 0, 0, 0, 0, 0, 0},
        {"fewest beyond the most", 16, 4, 2, 3, 0, 0, 0, 0, 0},
        {"KV sharing", 16, 4, 0, 0, 4, 0, 0, 0, 0},
        {"KV type", 16, 4, 0, 0, 0, 4, 0, 0, 0},
        {"policy", 16, 4, 0, 0, 0, 0, 0, 6, 0},
        {"threshold", 16, 4, 0, 0, 0, 0, 0, OURO_EXIT_MARGIN, 1.5f},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        ouro_settings settings = {0};
        settings.context = CASES[i].context;
        settings.prompt = CASES[i].prompt;
        settings.max_loops = CASES[i].max_loops;
        settings.min_loops = CASES[i].min_loops;
        settings.kv_sharing = CASES[i].kv_sharing;
        settings.kv_type = CASES[i].kv_type;
        settings.kv_window = CASES[i].kv_window;
        settings.exit_policy = CASES[i].exit_policy;
        settings.exit_threshold = CASES[i].threshold;
        expect(CASES[i].what, ouro_open(&f->source, &settings, f->memory, f->size, &f->handle), OURO_STATUS_SETTING);
    }
    ouro_settings endless = f->settings;
    endless.context = UINT32_MAX;
    expect("an endless context", ouro_open(&f->source, &endless, f->memory, f->size, &f->handle), OURO_STATUS_MEMORY);

    open_again(f);
    ouro_budget budget = {0};
    budget.fallback = 2;
    budget.loops.rate = 1999;
    expect("a rate below the fallback", ouro_set_budget(f->handle, &budget), OURO_STATUS_BUDGET);
    budget.loops.rate = 2000;
    budget.loops.resume = 1;
    expect("it never resumes", ouro_set_budget(f->handle, &budget), OURO_STATUS_SETTING);
    budget.loops.resume = 0;
    budget.token_us = 5;
    expect("time without a clock", ouro_set_budget(f->handle, &budget), OURO_STATUS_SETTING);
    budget.token_us = 0;
    expect("a good budget", ouro_set_budget(f->handle, &budget), OURO_STATUS_OK);

    uint32_t ids[32];
    size_t count;
    expect("a long word", ouro_encode(f->handle, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", 72,
                                      0, ids, 32, &count),
           OURO_STATUS_WORD);
    for (size_t i = 0; i < 32; i++) {
        ids[i] = 1;
    }
    expect("two tokens as one", ouro_feed(f->handle, ids, 2, OURO_INPUT_GENERATED), OURO_STATUS_LENGTH);
    expect("a long prompt", ouro_feed(f->handle, ids, f->settings.prompt + 1, OURO_INPUT_PROMPT), OURO_STATUS_PROMPT);
    for (uint32_t fed = 0; fed + f->settings.prompt <= f->settings.context; fed += f->settings.prompt) {
        ouro_token token;
        expect("a part", ouro_feed(f->handle, ids, f->settings.prompt, OURO_INPUT_PROMPT), OURO_STATUS_OK);
        expect("run", run(f->handle, &token), OURO_STATUS_OK);
    }
    expect("beyond the context", ouro_feed(f->handle, ids, 1, OURO_INPUT_GENERATED), OURO_STATUS_CONTEXT);
}

/* Nobody asks for the answers to parts before the last, and what comes later is the same. */
static void parts_without_an_answer(struct fixture *f) {
    static const uint32_t ids[5] = {5, 40, 7, 9, 3};
    ouro_token answer[2], token[2];
    ouro_counters_t counters[2];
    const float *logits;
    size_t count;
    for (int skips = 0; skips < 2; skips++) {
        open_again(f);
        expect("the first part", ouro_feed(f->handle, ids, 3, OURO_INPUT_PROMPT), OURO_STATUS_OK);
        if (skips) {
            expect("skip", ouro_skip_answer(f->handle), OURO_STATUS_OK);
        }
        ouro_status asked = skips ? OURO_STATUS_NOTHING_IN_FLIGHT : OURO_STATUS_OK;
        expect("an answer", run(f->handle, &answer[skips]), asked);
        expect("logits", ouro_logits(f->handle, &logits, &count), asked);
        expect("counters", ouro_counters(f->handle, &counters[skips]), OURO_STATUS_OK);
        expect("the last part", ouro_feed(f->handle, ids + 3, 2, OURO_INPUT_MORE), OURO_STATUS_OK);
        expect("its answer", run(f->handle, &answer[skips]), OURO_STATUS_OK);
        expect("nothing is in flight", ouro_skip_answer(f->handle), OURO_STATUS_OK);
        expect("it stays", ouro_answer(f->handle, &answer[skips]), OURO_STATUS_OK);
        expect("a token", ouro_feed(f->handle, &answer[skips].id, 1, OURO_INPUT_GENERATED), OURO_STATUS_OK);
        expect("a token's is not skipped", ouro_skip_answer(f->handle), OURO_STATUS_OK);
        expect("the next", run(f->handle, &token[skips]), OURO_STATUS_OK);
    }
    expect_true("no output head", counters[1].macs < counters[0].macs && counters[1].passes == counters[0].passes);
    expect_true("the same answer", answer[0].id == answer[1].id && answer[0].loops == answer[1].loops);
    expect_true("the same token", token[0].id == token[1].id && token[0].loops == token[1].loops);
}

static ouro_status open_copy(struct fixture *f, const unsigned char *bytes, size_t len) {
    ouro_source source = {0};
    source.bytes = bytes;
    source.len = len;
    return ouro_open(&source, &f->settings, f->memory, f->size, &f->handle);
}

/* Where `text` first is in the model. */
static size_t find(const unsigned char *bytes, size_t len, const char *text) {
    for (size_t at = 0; at < len; at++) {
        size_t same = 0;
        while (text[same] != '\0' && at + same < len && bytes[at + same] == (unsigned char)text[same]) {
            same++;
        }
        if (text[same] == '\0') {
            return at;
        }
    }
    return 0;
}

static void damaged_models(struct fixture *f, const unsigned char *model, size_t len, unsigned char *copy) {
    for (size_t i = 0; i < len; i++) {
        copy[i] = model[i];
    }
    expect("the copy", open_copy(f, copy, len), OURO_STATUS_OK);
    static const struct {
        const char *what, *at;
        size_t behind;
        ouro_status expected;
    } CASES[] = {
        {"magic", "GGUF", 0, OURO_STATUS_MODEL},
        {"version", "GGUF", 4, OURO_STATUS_MODEL},
        {"number of tensors", "GGUF", 15, OURO_STATUS_MODEL},
        {"length of a key", "general.architecture", (size_t)-2, OURO_STATUS_MODEL},
        {"name of a tensor", "blk.1.attn_q.weight", 4, OURO_STATUS_CHECKSUM},
        {"key of the loops", "ouro.num_loops", 6, OURO_STATUS_CHECKSUM},
        {"a number", "ouro.attention.layer_norm_rms_epsilon", 41, OURO_STATUS_CHECKSUM},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        size_t at = find(model, len, CASES[i].at) + CASES[i].behind;
        copy[at] = (unsigned char)~copy[at];
        ouro_status found = open_copy(f, copy, len);
        /* A count that grew may reach past the end. */
        if (!(found == OURO_STATUS_TRUNCATED && CASES[i].expected == OURO_STATUS_MODEL)) {
            expect(CASES[i].what, found, CASES[i].expected);
        }
        copy[at] = model[at];
    }
    /* The last page may be padding. */
    for (size_t cut = 4096; cut < len; cut += len / 23) {
        ouro_status found = open_copy(f, copy, len - cut);
        expect_true("a truncated model", found == OURO_STATUS_TRUNCATED || found == OURO_STATUS_MODEL);
    }
    open_again(f);
}

/* A bit of the weights that flips is noticed where that is asked for, and only there. */
static void rotten_weights(struct fixture *f, const unsigned char *model, size_t len, unsigned char *copy) {
    struct fixture rotten = *f;
    ouro_token expected, token;
    char text[160];
    size_t text_len, in_the_stack = len / 2;
    expect("in place", first_token(f->handle, &expected), OURO_STATUS_OK);
    for (size_t i = 0; i < len; i++) {
        copy[i] = model[i];
    }
    rotten.source.bytes = copy;
    rotten.settings.verify = 3;
    expect("verify what?", ouro_plan(&rotten.source, &rotten.settings, f->memory, f->size, &rotten.plan),
           OURO_STATUS_SETTING);
    rotten.settings.verify = OURO_VERIFY_WEIGHTS;
    expect("plan", ouro_plan(&rotten.source, &rotten.settings, f->memory, f->size, &rotten.plan), OURO_STATUS_OK);
    expect_true("memory for checksums", rotten.plan.checksums > len / 4096 * 4 && f->plan.checksums == 0);
    expect("a byte too small",
           ouro_open(&rotten.source, &rotten.settings, f->memory, rotten.plan.total - 1, &rotten.handle),
           OURO_STATUS_MEMORY);
    open_again(&rotten);
    expect("nothing is rotten", first_token(rotten.handle, &token), OURO_STATUS_OK);
    expect_true("the same token", token.id == expected.id && token.loops == expected.loops);

    copy[in_the_stack] ^= 1;
    open_again(&rotten);
    for (int i = 0; i < 2; i++) {
        expect("a rotten weight", first_token(rotten.handle, &token), OURO_STATUS_CHECKSUM);
        expect("explain", ouro_explain(rotten.handle, text, sizeof text, &text_len), OURO_STATUS_OK);
        expect_true("with what is wrong", find((unsigned char *)text, text_len, "another checksum") > 0);
    }
    copy[in_the_stack] ^= 1;
    expect("it was the bus", first_token(rotten.handle, &token), OURO_STATUS_OK);
    expect_true("the right token", token.id == expected.id && token.loops == expected.loops);

    copy[in_the_stack] ^= 1;
    rotten.settings.verify = OURO_VERIFY_METADATA;
    open_again(&rotten);
    expect("it is not looked at", first_token(rotten.handle, &token), OURO_STATUS_OK);
    copy[in_the_stack] ^= 1;

    size_t in_the_metadata = find(model, len, "ouro.attention.layer_norm_rms_epsilon") + 41;
    copy[in_the_metadata] ^= 1;
    rotten.settings.verify = OURO_VERIFY_NEVER;
    open_again(&rotten);
    copy[in_the_metadata] ^= 1;
    open_again(f);
}

/* A flash that fails after some reads. */
struct flash {
    const unsigned char *bytes;
    unsigned long reads, fails_at;
    ouro *handle;
    ouro_status reentered;
};

static int32_t read_flash(void *context, uint64_t offset, void *to, size_t len) {
    struct flash *flash = context;
    const unsigned char *from = flash->bytes + (size_t)offset;
    if (flash->handle != NULL) {
        flash->reentered = ouro_clear(flash->handle);
    }
    if (++flash->reads == flash->fails_at) {
        return 5;
    }
    for (size_t i = 0; i < len; i++) {
        ((unsigned char *)to)[i] = from[i];
    }
    return 0;
}

static void failing_flash(struct fixture *f, const unsigned char *model) {
    struct flash flash = {model, 0, 0, NULL, OURO_STATUS_OK};
    ouro_source source = {0};
    ouro_settings settings = f->settings;
    ouro_plan_t plan;
    ouro_token expected, token;
    char text[160];
    size_t len;
    expect("in place", first_token(f->handle, &expected), OURO_STATUS_OK);

    source.len = f->source.len;
    source.read = read_flash;
    source.context = &flash;
    settings.block_buffer = 255;
    expect("a tiny block buffer", ouro_plan(&source, &settings, f->memory, f->size, &plan), OURO_STATUS_SETTING);
    settings.block_buffer = 4096;
    source.bytes = model;
    expect("two places for one model", ouro_plan(&source, &settings, f->memory, f->size, &plan), OURO_STATUS_SETTING);
    source.bytes = NULL;
    expect("plan", ouro_plan(&source, &settings, f->memory, f->size, &plan), OURO_STATUS_OK);
    expect("open a byte too small", ouro_open(&source, &settings, f->memory, plan.total - 1, &f->handle),
           OURO_STATUS_MEMORY);
    flash.reads = 0;
    expect("open", ouro_open(&source, &settings, f->memory, plan.total, &f->handle), OURO_STATUS_OK);
    unsigned long opening = flash.reads;
    flash.reads = 0;
    expect("through the buffer", first_token(f->handle, &token), OURO_STATUS_OK);
    expect_true("the same token", token.id == expected.id && token.loops == expected.loops);
    unsigned long prompt = flash.reads;

    settings.verify = OURO_VERIFY_WEIGHTS;
    expect("no room for the ends of pieces", ouro_open(&source, &settings, f->memory, f->size, &f->handle),
           OURO_STATUS_SETTING);
    settings.block_buffer = 4096 + 8190;
    expect("with room", ouro_open(&source, &settings, f->memory, f->size, &f->handle), OURO_STATUS_OK);
    expect("compared", first_token(f->handle, &token), OURO_STATUS_OK);
    expect_true("the same token compared", token.id == expected.id && token.loops == expected.loops);
    settings.verify = OURO_VERIFY_METADATA;
    settings.block_buffer = 4096;

    for (unsigned long at = 1; at <= opening; at += opening / 5 + 1) {
        flash.reads = 0;
        flash.fails_at = at;
        expect("fails while opening", ouro_open(&source, &settings, f->memory, plan.total, &f->handle), OURO_STATUS_READ);
        expect("explain", ouro_explain(f->handle, text, sizeof text, &len), OURO_STATUS_OK);
        expect_true("with the callback's code", find((unsigned char *)text, len, "code 5") > 0);
    }
    flash.fails_at = 0;
    expect("open", ouro_open(&source, &settings, f->memory, plan.total, &f->handle), OURO_STATUS_OK);
    for (unsigned long at = 1; at <= prompt; at += prompt / 5 + 1) {
        flash.reads = 0;
        flash.fails_at = at;
        expect("fails in mid-token", first_token(f->handle, &token), OURO_STATUS_READ);
        expect("nothing is in flight", ouro_answer(f->handle, &token), OURO_STATUS_NOTHING_IN_FLIGHT);
        expect("again", first_token(f->handle, &token), OURO_STATUS_OK);
        expect_true("the same token again", token.id == expected.id && token.loops == expected.loops);
        expect("clear", ouro_clear(f->handle), OURO_STATUS_OK);
    }
    flash.fails_at = 0;
    flash.handle = f->handle;
    expect("calls from inside the callback", first_token(f->handle, &token), OURO_STATUS_OK);
    expect("they are refused", flash.reentered, OURO_STATUS_BUSY);
    open_again(f);
}

/* Time that passes with every look at it. */
static uint64_t ticking(void *context) {
    uint64_t *now = context;
    return *now += 1000;
}

static void out_of_time(struct fixture *f) {
    uint64_t now = 0;
    ouro_settings settings = f->settings;
    ouro_budget budget = {0};
    ouro_token token;
    settings.now_us = ticking;
    settings.now_context = &now;
    expect("open", ouro_open(&f->source, &settings, f->memory, f->size, &f->handle), OURO_STATUS_OK);
    budget.answer_us = 5;
    expect("a budget of time", ouro_set_budget(f->handle, &budget), OURO_STATUS_OK);
    expect("no time for the prompt", first_token(f->handle, &token), OURO_STATUS_OUT_OF_TIME);
    budget.answer_us = 0;
    expect("no bound", ouro_set_budget(f->handle, &budget), OURO_STATUS_OK);
    expect("works again", first_token(f->handle, &token), OURO_STATUS_OK);
    open_again(f);
}

int bad_input(const unsigned char *model, size_t len, unsigned char *copy, unsigned char *memory, size_t size) {
    struct fixture f = {0};
    f.source.bytes = model;
    f.source.len = len;
    f.settings.context = 16;
    f.settings.prompt = 4;
    f.memory = memory;
    f.size = size;
    expect("plan", ouro_plan(&f.source, &f.settings, memory, size, &f.plan), OURO_STATUS_OK);
    if (failures > 0 || f.plan.total >= size) {
        return 1;
    }
    memory_to_the_byte(&f);
    pointers_and_lengths(&f);
    settings_out_of_range(&f);
    parts_without_an_answer(&f);
    open_again(&f);
    failing_flash(&f, model);
    out_of_time(&f);
    damaged_models(&f, model, len, copy);
    rotten_weights(&f, model, len, copy);
    number(checks - failures);
    print(" checks passed, ");
    number(failures);
    print(" failed\n");
    return failures > 0;
}
