#include "answer.h"

/* The longest prompt in tokens. */
#define PROMPT 96

static const char *const REASONS[] = {"fixed",  "gate",     "confidence", "step",
                                      "budget", "fallback", "deadline",   "margin"};

static size_t length(const char *text) {
    size_t len = 0;
    while (text[len] != '\0') {
        len++;
    }
    return len;
}

void print_number(unsigned long long number) {
    char digits[21];
    char *first = digits + sizeof digits - 1;
    *first = '\0';
    do {
        *--first = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    print(first);
}

int failed(const char *what, ouro_status status, const ouro *handle) {
    char text[256];
    size_t len;
    print("error: ");
    print(what);
    print(": ");
    print(ouro_status_text(status));
    ouro_status explained = handle == NULL ? OURO_STATUS_HANDLE : ouro_explain(handle, text, sizeof text, &len);
    if (explained == OURO_STATUS_OK || explained == OURO_STATUS_BUFFER) {
        print(": ");
        print(text);
    }
    print("\n");
    return 1;
}

/* Steps until the next token is known. Between two steps a firmware does whatever else it has to. */
static ouro_status next_token(ouro *handle, ouro_token *token) {
    ouro_progress progress;
    do {
        ouro_status status = ouro_step(handle, &progress);
        if (status != OURO_STATUS_OK) {
            return status;
        }
    } while (progress.kind != OURO_WORK_DONE);
    return ouro_answer(handle, token);
}

static void report_token(const ouro_token *token) {
    print("token ");
    print_number(token->id);
    print(": ");
    print_number(token->loops);
    print(" loops, ");
    print(REASONS[token->reason]);
    print("\n");
}

static void report_number(const char *name, unsigned long long number) {
    print(name);
    print(": ");
    print_number(number);
    print("\n");
}

static void report_plan(const ouro_plan_t *plan) {
    report_number("RAM, handle", plan->handle);
    report_number("RAM, block buffer", plan->block_buffer);
    report_number("RAM, checksums", plan->checksums);
    report_number("RAM, model", plan->model);
    report_number("RAM, tokenizer", plan->tokenizer);
    report_number("RAM, K and V", plan->kv);
    report_number("RAM, activations", plan->activations);
    report_number("RAM, for opening", plan->opening);
    report_number("RAM, all", plan->total);
}

/* Generates, and keeps the text and the tokens' depths for the end, so that the text stays together. */
static int generate(ouro *handle, unsigned max_new) {
    static ouro_token tokens[256];
    unsigned count = 0;
    ouro_status status;
    char text[64];
    size_t len;
    if (max_new > sizeof tokens / sizeof *tokens) {
        max_new = sizeof tokens / sizeof *tokens;
    }
    while (count < max_new) {
        ouro_token *token = &tokens[count];
        status = next_token(handle, token);
        if (status != OURO_STATUS_OK) {
            return failed("step", status, handle);
        }
        count++;
        if (token->ends || count == max_new) {
            break;
        }
        status = ouro_token_text(handle, token->id, text, sizeof text, &len);
        if (status != OURO_STATUS_OK) {
            return failed("text", status, handle);
        }
        print(text);
        status = ouro_feed(handle, &token->id, 1, OURO_INPUT_GENERATED);
        if (status != OURO_STATUS_OK) {
            return failed("feed", status, handle);
        }
    }
    print("\n");
    for (unsigned i = 0; i < count; i++) {
        report_token(&tokens[i]);
    }
    return 0;
}

int answer(const ouro_source *source, const ouro_settings *settings, void *memory, size_t size,
           const char *prompt, unsigned max_new) {
    ouro_plan_t plan;
    ouro *handle = NULL;
    ouro_status status = ouro_plan(source, settings, memory, size, &plan);
    if (status != OURO_STATUS_OK) {
        return failed("plan", status, NULL);
    }
    status = ouro_open(source, settings, memory, size, &handle);
    if (status != OURO_STATUS_OK) {
        return failed("open", status, handle);
    }

    ouro_message message = {OURO_ROLE_USER, prompt, length(prompt)};
    uint32_t ids[PROMPT];
    size_t count;
    status = ouro_encode_chat(handle, &message, 1, 0, ids, PROMPT, &count);
    if (status != OURO_STATUS_OK) {
        return failed("encode", status, handle);
    }
    ouro_cost most;
    status = ouro_worst_case(handle, (uint32_t)count, max_new, &most);
    if (status != OURO_STATUS_OK) {
        return failed("worst case", status, handle);
    }
    status = ouro_feed(handle, ids, count, OURO_INPUT_PROMPT);
    if (status != OURO_STATUS_OK) {
        return failed("feed", status, handle);
    }
    if (generate(handle, max_new) != 0) {
        return 1;
    }

    ouro_counters_t done;
    status = ouro_counters(handle, &done);
    if (status != OURO_STATUS_OK) {
        return failed("counters", status, handle);
    }
    report_number("MACs", done.macs);
    report_number("MACs at most", most.macs);
    report_number("bytes read", done.bytes);
    report_plan(&plan);
    status = ouro_check_kernels(handle);
    if (status != OURO_STATUS_OK) {
        failed("kernels", status, handle); /* the answer is right all the same, and was slower */
    }
    return 0;
}
