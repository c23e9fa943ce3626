/*
 * panama-llama's own native layer over llama.cpp, in plain C: what Java calls where llama.h alone would not be safe.
 *
 * Guards. A Java downcall has no catch frame, so a C++ exception would end the process. pl_X calls llama_X (or ggml_X) with the same
 * arguments, structs passed by value as pointers to const, and turns exceptions and failed assertions into *err. err is never NULL
 * and is reset by every call. Threads: as the guarded function.
 */
#ifndef PANAMA_LLAMA_H
#define PANAMA_LLAMA_H

#include "llama.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#    if defined(PL_BUILD)
#        define PL_API __declspec(dllexport)
#    else
#        define PL_API __declspec(dllimport)
#    endif
#else
#    define PL_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- errors ------------------------------------------------------------------------------------------------------------------ */

enum pl_code {
    PL_OK            = 0,
    PL_EXCEPTION     = -100, /* a C++ exception; the message is its what() */
    PL_OUT_OF_MEMORY = -101, /* std::bad_alloc or a failed buffer allocation that upstream threw */
    PL_ASSERTION     = -102, /* a GGML_ASSERT; the objects of the call are in an unknown state: only free them */
    PL_FAILED        = -103, /* NULL, false or a nonzero code without an exception; the message is what upstream logged */
    PL_BAD_ARGUMENT  = -104, /* refused before upstream saw it */
};

struct pl_error {
    int32_t code; /* enum pl_code */
    char    message[1020]; /* UTF-8, NUL-terminated, cut if longer */
};

/* ---- start-up ---------------------------------------------------------------------------------------------------------------- */

/* Initialises llama.cpp and the abort hook, once per process. Back ends built as loadable modules are taken from module_dir, which
 * may be NULL when there are none. PL_FAILED when no CPU back end is there afterwards; otherwise the message says what was logged of
 * others that are of no use here, for instance why a driver could not be opened. */
PL_API int32_t pl_backend_init(const char * module_dir, struct pl_error * err);

/* One row per struct (field NULL, offset 0) and one per field, of every struct that the bindings describe. */
struct pl_abi_entry {
    const char * structure;
    const char * field;
    size_t       size;   /* bytes */
    size_t       offset; /* bytes */
};

PL_API const struct pl_abi_entry * pl_abi_table(size_t * n);

/* FNV-1a over the table: names with their NUL, then size and offset as 8 bytes little-endian. Equal to the one of the bindings unless
 * something differs. */
PL_API uint64_t pl_abi_fingerprint(void);

/* Release of llama.cpp that this library was compiled against, as llama_version() names it. */
PL_API const char * pl_abi_version(void);

/* ---- log --------------------------------------------------------------------------------------------------------------------- */

/* A whole line without its end, from any thread. The sink must not throw and must not call back into this library. */
typedef void (*pl_log_sink)(int32_t level /* enum ggml_log_level */, const char * line, void * user_data);

/* Sends upstream's log to sink from min_level on; NULL drops it. Set before the first model is loaded. */
PL_API void pl_log_set(pl_log_sink sink, void * user_data, int32_t min_level);

/* ---- flags: what Java and a running native call tell each other without upcalls ------------------------------------------------ */

struct pl_flags {
    int32_t cancel;   /* written by Java, nonzero ends the call at the next check */
    float   progress; /* written by the load, 0 to 1 */
};

/* For llama_context_params.abort_callback with a struct pl_flags as its data: checked between graph nodes. */
PL_API bool pl_abort_callback(void * flags);
/* For llama_model_params.progress_callback with a struct pl_flags as its data. */
PL_API bool pl_progress_callback(float progress, void * flags);

/* ---- models ------------------------------------------------------------------------------------------------------------------ */

/* One path, or all parts of a split model in order. */
PL_API struct llama_model * pl_model_load(const char * const * paths, size_t n_paths, const struct llama_model_params * params,
                                          struct pl_error * err);
PL_API void    pl_model_free(struct llama_model * model);
PL_API int32_t pl_model_save(const struct llama_model * model, const char * path, struct pl_error * err);
PL_API int32_t pl_model_quantize(const char * path_in, const char * path_out, const struct llama_model_quantize_params * params,
                                 struct pl_error * err);

/* Points a weight at other data of the same shape, which the caller keeps until the model is freed or the weight points elsewhere. Only
 * for weights in the machine's memory and in the layout of the file, and while no context uses the model. */
PL_API int32_t pl_model_set_weight(struct llama_model * model, const char * name, int32_t type, const void * data, struct pl_error * err);

/* Whether blocks are sound, as a load with check_tensors asks; the message says which one is not. */
PL_API int32_t pl_validate_blocks(int32_t type, const void * data, uint64_t bytes, struct pl_error * err);

/* Bytes on one device. */
struct pl_memory_use {
    char     device[64];
    int32_t  host;    /* nonzero: the machine's own memory */
    uint64_t model;   /* weights */
    uint64_t copied;  /* of model: in the processor's own layouts, so in memory even when the file is mapped */
    uint64_t context; /* KV cache and recurrent state */
    uint64_t compute; /* scratch buffers of the graph, outputs */
    uint64_t free;    /* as the back end reports it, 0 if it does not */
    uint64_t total;
};

/* What pl_model_load and pl_context_new with these parameters would take, by upstream's own planning and without allocating it.
 * Writes up to n_max entries, the host first; returns how many there are, or a negative code. context may be NULL: the model alone. */
PL_API int32_t pl_memory_estimate(const char * const * paths, size_t n_paths, const struct llama_model_params * params,
                                  const struct llama_context_params * context, uint32_t spare_layers, struct pl_memory_use * out,
                                  int32_t n_max, struct pl_error * err);

/* The same of a context that exists. */
PL_API int32_t pl_memory_used(const struct llama_context * ctx, struct pl_memory_use * out, int32_t n_max, struct pl_error * err);

/* ---- devices ----------------------------------------------------------------------------------------------------------------- */

/* Bytes; 0 where the back end does not say. */
PL_API int32_t pl_device_memory(ggml_backend_dev_t device, uint64_t * free, uint64_t * total, struct pl_error * err);

/* The devices of ggml's RPC server at host:port. They are not registered: no model uses them unless it is told to. A server that does
 * not answer makes this wait for long, so ask it first. Returns how many there are, or a negative code. */
PL_API int32_t pl_rpc_devices(const char * endpoint, ggml_backend_dev_t * devices, int32_t n_max, struct pl_error * err);

/* Serves the devices of this machine (device NULL: the first accelerator, else the CPU) at host:port, host being an address; returns
 * only when that fails. Clients are trusted: a malformed request ends the process. */
PL_API int32_t pl_rpc_serve(const char * endpoint, ggml_backend_dev_t device, int32_t n_threads, struct pl_error * err);

/* ---- adapters ---------------------------------------------------------------------------------------------------------------- */

PL_API struct llama_adapter_lora * pl_adapter_lora_init(struct llama_model * model, const char * path, struct pl_error * err);
PL_API void    pl_adapter_lora_free(struct llama_adapter_lora * adapter);
PL_API int32_t pl_set_adapters_lora(struct llama_context * ctx, struct llama_adapter_lora ** adapters, size_t n_adapters, float * scales,
                                    struct pl_error * err);
PL_API int32_t pl_set_adapter_cvec(struct llama_context * ctx, const float * data, size_t len, int32_t n_embd, int32_t il_start,
                                   int32_t il_end, struct pl_error * err);

/* Banks: adapters chosen per sequence and position, and mixed in one batch. A bank belongs to one context and to the thread that
 * decodes with it; its weights stay the caller's and must outlive the sequences that use them. See ext/adapters.cpp. */
struct pl_adapters;

/* One adapted matrix of one adapter: y += scale * B (A x). Of a token embedding the row of A that belongs to the token takes the
 * place of A x. */
struct pl_adapter_part {
    const char * tensor; /* the base weight, for instance blk.0.attn_q.weight */
    const void * a;      /* [experts][rank] rows of the input's width; of an embedding [n_vocab] rows of rank */
    const void * b;      /* [experts][rank] rows of the output's width: the transpose of what a GGUF file holds */
    int32_t a_type;      /* enum ggml_type */
    int32_t b_type;
    int32_t embedding;   /* nonzero for the lookup of token embeddings */
    int32_t rank;
    int64_t inputs;
    int64_t outputs;
    int64_t experts;     /* 1 without */
    float   scale;       /* alpha / rank */
};

/* Looks at the graph of the context's model, which takes some milliseconds. operations: nonzero to adapt weights in host memory as those
 * on devices are, by operations of ggml. */
PL_API struct pl_adapters * pl_adapters_new(struct llama_context * ctx, int32_t operations, struct pl_error * err);
PL_API void    pl_adapters_free(struct pl_adapters * adapters);
/* Makes an adapter resident. Fails, and changes nothing, when the graph has no place for one of its parts. */
PL_API int32_t pl_adapters_put(struct pl_adapters * adapters, int32_t slot, const struct pl_adapter_part * parts, int32_t n_parts,
                               struct pl_error * err);
/* Set 0 is the empty one. Slots are resident ones; the set is applied in this order. */
PL_API int32_t pl_adapters_define(struct pl_adapters * adapters, int32_t set, const int32_t * slots, const float * scales, int32_t n,
                                  struct pl_error * err);
/* The sets of a sequence id: from[i] is the first position under sets[i]; ascending. Positions before the first are under set 0. */
PL_API int32_t pl_adapters_assign(struct pl_adapters * adapters, llama_seq_id seq, const llama_pos * from, const int32_t * sets, int32_t n,
                                  struct pl_error * err);
/* Index of the first weight that is NaN or infinite, -1 when all are finite. */
PL_API int64_t pl_weights_first_not_finite(const void * data, int32_t type, int64_t columns, int64_t rows, struct pl_error * err);
/* Any type to F16, [rows][columns]; what is too large becomes infinite. */
PL_API int32_t pl_weights_to_f16(const void * src, int32_t type, int64_t columns, int64_t rows, void * dst, struct pl_error * err);
/* dst[columns][rows] from src[rows][columns], for types without blocks. */
PL_API int32_t pl_weights_transpose(const void * src, int32_t type, int64_t columns, int64_t rows, void * dst, struct pl_error * err);

/* ---- layer plans and taps --------------------------------------------------------------------------------------------------- */

/* Which blocks run, and what is read of them. Belongs to one context and to the thread that decodes with it. See ext/layers.cpp. */
struct pl_layers;

PL_API struct pl_layers * pl_layers_new(struct llama_context * ctx, struct pl_error * err);
PL_API void    pl_layers_free(struct pl_layers * layers);
/* Plans: per block how often it runs, 0 to leave it out, -1 for its keys and values alone, -2 for its attention alone, -3 for its
 * feed-forward part alone; NULL for the model as it is. Checking builds the graph once, fails where it can't be done, and changes
 * nothing; only checked plans may be used, from the next decode on. */
PL_API int32_t pl_layers_check(struct pl_layers * layers, const int8_t * actions, int32_t n, struct pl_error * err);
PL_API int32_t pl_layers_use(struct pl_layers * layers, const int8_t * actions, int32_t n, struct pl_error * err);
/* What is read from the next decode on: norms of all blocks; the output of blocks, -1 for the embedding; the input of weights. */
PL_API int32_t pl_layers_tap(struct pl_layers * layers, bool norms, const int32_t * hidden, int32_t n_hidden, const char * const * weights,
                             int32_t n_weights, struct pl_error * err);
/* Floats per token of a vector: the hidden ones first, then the inputs of weights. Of a weight of experts the input that all see, or
 * those of the experts that are used, one after the other. */
PL_API int64_t pl_layers_tap_width(struct pl_layers * layers, int32_t index);
/* How many experts the weight of this vector has, and how many of them a token uses; 0 where it is no weight of experts. */
PL_API int32_t pl_layers_tap_experts(struct pl_layers * layers, int32_t index);
PL_API int32_t pl_layers_tap_used(struct pl_layers * layers, int32_t index);
/* Of token i of the last batch [1 + blocks][3], the embedding first: norm of the output, norm of the difference, cosine; NaN where the
 * block did not evaluate the token. */
PL_API void    pl_layers_norms(struct pl_layers * layers, int32_t token, float * dst);
/* Copies a vector of token i of the last batch; false where it was not computed. */
PL_API bool    pl_layers_vector(struct pl_layers * layers, int32_t index, int32_t token, float * dst);
/* Copies which experts [used] token i of the last batch uses; false where that was not computed, or the vector is no weight of experts'. */
PL_API bool    pl_layers_chosen(struct pl_layers * layers, int32_t index, int32_t token, int32_t * dst);

/* As pl_decode, with adapters and layer plans of this context; either may be NULL. */
PL_API int32_t pl_hooked_decode(struct llama_context * ctx, struct pl_adapters * adapters, struct pl_layers * layers,
                                const struct llama_batch * batch, struct pl_error * err);

/* ---- contexts ---------------------------------------------------------------------------------------------------------------- */

/* spare_layers: of the KV cache, for plans that run blocks again. */
PL_API struct llama_context * pl_context_new(struct llama_model * model, const struct llama_context_params * params,
                                             uint32_t spare_layers, struct pl_error * err);

/* Threads that stay with a context: one pool for single rows and, if its size differs, another for batches. */
struct pl_threads;

struct pl_thread_options {
    int32_t n_threads;        /* of a single row, 1 to GGML_MAX_N_THREADS */
    int32_t n_threads_batch;
    int32_t poll;             /* 0 sleeps between graphs, 100 spins; upstream's tools use 50 */
    int32_t priority;         /* enum ggml_sched_priority; above normal the system may refuse */
    int32_t niceness;         /* 0 to 19, added to the process's; of no effect where threads have none of their own */
    bool    strict;           /* one processor for each thread instead of all of them for all */
    const int32_t * cpus;     /* numbers of the processors that threads may run on; n_cpus = 0 for any */
    int32_t n_cpus;
};

/* With priority, niceness or processors given, what the context evaluates runs on threads of its own alone: callers of pl_decode and
 * pl_encode wait, and keep their own settings. */
PL_API struct pl_threads * pl_threads_attach(struct llama_context * ctx, const struct pl_thread_options * options, struct pl_error * err);

/* Evaluates with fewer threads of the pools, or with all again. */
PL_API void pl_threads_use(const struct pl_threads * threads, struct llama_context * ctx, int32_t n_threads, int32_t n_threads_batch);

/* Lets a second context compute with the same pools, which must outlive it; never while the first one computes. */
PL_API int32_t pl_threads_share(const struct pl_threads * threads, struct llama_context * ctx, struct pl_error * err);

/* Lets another thread of the system have this core, if one wants it. Java's Thread.yield does not for a virtual thread. */
PL_API void pl_yield(void);

/* Frees the context, then its threads; either may be NULL. */
PL_API void pl_context_free(struct llama_context * ctx, struct pl_threads * threads);

/* Upstream's codes: 0 ok, 1 no free cells (context unchanged), 2 cancelled (evaluated parts stay), -1 bad batch, below -1 fatal; or a
 * pl_code. With any but 0 the message says what upstream logged. */
PL_API int32_t pl_encode(struct llama_context * ctx, const struct llama_batch * batch, struct pl_error * err);
PL_API int32_t pl_decode(struct llama_context * ctx, const struct llama_batch * batch, struct pl_error * err);
PL_API int32_t pl_synchronize(struct llama_context * ctx, struct pl_error * err);

/* Copy one row to dst: the logits [n_vocab] or embedding [n] of batch entry i, or the pooled embedding [n] of a sequence. */
PL_API int32_t pl_get_logits(struct llama_context * ctx, int32_t i, float * dst, int32_t n_vocab, struct pl_error * err);
PL_API int32_t pl_get_embeddings(struct llama_context * ctx, int32_t i, float * dst, int32_t n, struct pl_error * err);
PL_API int32_t pl_get_embeddings_seq(struct llama_context * ctx, llama_seq_id seq_id, float * dst, int32_t n, struct pl_error * err);

/* ---- multi-token prediction (MTP): heads of a model that guess the token after the next ---------------------------------------------- */

/* From the next decode on the context keeps hidden states [llama_model_n_embd_out]: of all tokens of a batch, in the order in which they
 * are evaluated, or only of those whose logits are wanted. A context of the type LLAMA_CONTEXT_TYPE_MTP reads them as llama_batch.embd,
 * each beside the token that comes after it. */
PL_API int32_t pl_nextn_keep(struct llama_context * ctx, bool outputs_only, struct pl_error * err);
/* Copies one to dst: of token i of the last batch, or of batch entry i if only those of outputs are kept. */
PL_API int32_t pl_get_nextn(struct llama_context * ctx, int32_t i, float * dst, int32_t n, struct pl_error * err);

/* ---- memory of a context: its KV cache or recurrent state ----------------------------------------------------------------------- */

PL_API int32_t   pl_memory_clear(llama_memory_t mem, bool data, struct pl_error * err);
PL_API bool      pl_memory_seq_rm(llama_memory_t mem, llama_seq_id seq_id, llama_pos p0, llama_pos p1, struct pl_error * err);
PL_API int32_t   pl_memory_seq_cp(llama_memory_t mem, llama_seq_id src, llama_seq_id dst, llama_pos p0, llama_pos p1, struct pl_error * err);
PL_API int32_t   pl_memory_seq_keep(llama_memory_t mem, llama_seq_id seq_id, struct pl_error * err);
PL_API int32_t   pl_memory_seq_add(llama_memory_t mem, llama_seq_id seq_id, llama_pos p0, llama_pos p1, llama_pos delta, struct pl_error * err);
PL_API llama_pos pl_memory_seq_pos_min(llama_memory_t mem, llama_seq_id seq_id, struct pl_error * err);
PL_API llama_pos pl_memory_seq_pos_max(llama_memory_t mem, llama_seq_id seq_id, struct pl_error * err);

/* ---- state ------------------------------------------------------------------------------------------------------------------- */

/* Sizes and counts in bytes; 0 is upstream's failure and comes with PL_FAILED. */
PL_API size_t pl_state_get_size(struct llama_context * ctx, struct pl_error * err);
PL_API size_t pl_state_get_data(struct llama_context * ctx, uint8_t * dst, size_t size, struct pl_error * err);
PL_API size_t pl_state_set_data(struct llama_context * ctx, const uint8_t * src, size_t size, struct pl_error * err);
PL_API size_t pl_state_seq_get_size(struct llama_context * ctx, llama_seq_id seq_id, llama_state_seq_flags flags, struct pl_error * err);
PL_API size_t pl_state_seq_get_data(struct llama_context * ctx, uint8_t * dst, size_t size, llama_seq_id seq_id,
                                    llama_state_seq_flags flags, struct pl_error * err);
PL_API size_t pl_state_seq_set_data(struct llama_context * ctx, const uint8_t * src, size_t size, llama_seq_id seq_id,
                                    llama_state_seq_flags flags, struct pl_error * err);

/* ---- text -------------------------------------------------------------------------------------------------------------------- */

/* Counts; a negative result without an error is minus the room needed, INT32_MIN an overflow. */
PL_API int32_t pl_token_to_piece(const struct llama_vocab * vocab, llama_token token, char * buf, int32_t length, int32_t lstrip,
                                 bool special, struct pl_error * err);
PL_API int32_t pl_detokenize(const struct llama_vocab * vocab, const llama_token * tokens, int32_t n_tokens, char * text,
                             int32_t text_len_max, bool remove_special, bool unparse_special, struct pl_error * err);
/* Bytes of the whole text, which may be more than length; -1 for a template that upstream does not know. */
PL_API int32_t pl_chat_apply_template(const char * tmpl, const struct llama_chat_message * chat, size_t n_msg, bool add_ass, char * buf,
                                      int32_t length, struct pl_error * err);

/* ---- vocabularies ------------------------------------------------------------------------------------------------------------ */

/* Beside the bits of enum llama_token_attr. */
enum { PL_TOKEN_END_OF_GENERATION = 1 << 16 };

/* Pieces as upstream's token_to_piece gives them with special tokens spelled out: token t's bytes end at ends[t] and begin where those
 * of t - 1 end. Writes what fits into capacity bytes; returns the bytes of all. ends holds n_tokens entries. */
PL_API int64_t pl_vocab_pieces(const struct llama_vocab * vocab, int32_t * ends, char * bytes, int64_t capacity, struct pl_error * err);

/* Per token enum llama_token_attr and PL_TOKEN_END_OF_GENERATION; 0 for a model without vocabulary. */
PL_API int32_t pl_vocab_attributes(const struct llama_vocab * vocab, int32_t * attributes, struct pl_error * err);

/* Tokenizes any bytes as llama_tokenize would, in time linear in their number and less than 64 KiB of stack. Belongs to the vocabulary's
 * model and must be freed before it. Any number of threads may tokenize with one. */
struct pl_tokenizer;

PL_API struct pl_tokenizer * pl_tokenizer_new(const struct llama_vocab * vocab, struct pl_error * err);
PL_API void pl_tokenizer_free(struct pl_tokenizer * tokenizer);
/* Counts; a negative result without an error is minus the room needed. PL_BAD_ARGUMENT: this vocabulary cannot do that, the message
 * says why. */
PL_API int32_t pl_tokenizer_tokenize(const struct pl_tokenizer * tokenizer, const char * text, int32_t text_len, llama_token * tokens,
                                     int32_t n_tokens_max, bool add_special, bool parse_special, struct pl_error * err);

/* ---- rows: the logits of one position, n floats ------------------------------------------------------------------------------- */

/* Pure functions of their arguments, safe from any thread; none of them logs, throws or keeps a pointer. Ties go to the lowest
 * token id. Results do not depend on the instruction set: sums run over sixteen fixed lanes, products and sums are not fused.
 *
 * A row is refused, and nothing is written, when
 *   a logit is NaN or +infinity:  functions of type int32_t return PL_ROW_BAD_LOGIT - i, where i is its index; double ones NaN
 *   every logit is -infinity:     PL_ROW_EMPTY; double ones return -infinity
 *   scratch memory is lacking:    PL_ROW_OUT_OF_MEMORY
 * Single tokens at -infinity are excluded ones: they are never selected. */

#define PL_ROW_EMPTY (-1)
#define PL_ROW_BAD_LOGIT (-2)
#define PL_ROW_OUT_OF_MEMORY INT32_MIN

/* The token with the largest logit. */
PL_API int32_t pl_row_argmax(const float * row, int32_t n);

/* ln(sum exp(logit)), the softmax denominator in nats. */
PL_API double pl_row_log_sum_exp(const float * row, int32_t n);

/* -sum p ln p of the row's softmax, in nats. */
PL_API double pl_row_entropy(const float * row, int32_t n);

/* The k largest logits, largest first; fewer if fewer are above -infinity. Returns how many. */
PL_API int32_t pl_row_top_k(const float * row, int32_t n, int32_t k, int32_t * tokens, float * logits);

/* Every token whose logit is larger than threshold, by ascending id. Returns how many there are; only the first capacity are written. */
PL_API int32_t pl_row_above(const float * row, int32_t n, float threshold, int32_t capacity, int32_t * tokens, float * logits);

/* Replaces the logits by softmax(logit / temperature), temperature > 0. Returns 0. */
PL_API int32_t pl_row_softmax(float * row, int32_t n, float temperature);

/* Truncates in llama.cpp's order and draws:
 *   top_k        the k most likely tokens; <= 0 or >= n keeps all
 *   top_p        of those the shortest prefix, most likely first, whose softmax mass reaches top_p; >= 1 keeps all
 *   min_p        of those the ones with at least min_p times the largest probability; <= 0 keeps all
 *   temperature  softmax(logit / temperature) over what is left; <= 0 takes the most likely token
 *   u            in [0, 1): the token, by ascending id, at which the cumulated probability first exceeds u */
PL_API int32_t pl_row_sample(const float * row, int32_t n, int32_t top_k, float top_p, float min_p, float temperature, double u);

/* The distribution that pl_row_sample draws from, by ascending id. Returns the number of tokens, at most n (or top_k, if smaller and > 0);
 * only the first capacity are written. */
PL_API int32_t pl_row_distribution(const float * row, int32_t n, int32_t top_k, float top_p, float min_p, float temperature,
                                   int32_t capacity, int32_t * tokens, float * probabilities);

/* Chains of samplers in any order. What a step needs is in n, a, b, c:
 *   NOTHING      skipped
 *   TOP_K        n tokens, at least 1
 *   TOP_P        mass a
 *   MIN_P        a times the largest probability, above 0
 *   TYPICAL      mass a of the tokens whose surprise is nearest to the entropy
 *   TOP_N_SIGMA  within a standard deviations of the largest logit, above 0
 *   XTC          of the tokens with a probability of at least a only the least likely stays
 *   TEMPERATURE  a; with b > 0 from a - b to a + b by the normalised entropy to the power of c; 0 keeps the best token
 *   MIROSTAT     surprise of at most a bits, the best in any case (second version)
 *   CHANGES      logit = (logit > 0 ? logit / a : logit * a) - minus, of the tokens in changes
 *   INFILL       end of text where that is likely enough, else the likely ones with common beginnings made one */
enum pl_row_step_kind {
    PL_ROW_NOTHING, PL_ROW_TOP_K, PL_ROW_TOP_P, PL_ROW_MIN_P, PL_ROW_TYPICAL, PL_ROW_TOP_N_SIGMA, PL_ROW_XTC, PL_ROW_TEMPERATURE,
    PL_ROW_MIROSTAT, PL_ROW_CHANGES, PL_ROW_INFILL
};

struct pl_row_change {
    float   minus;
    int32_t token;
};

/* What tokens stand for: the bytes of token t end at ends[t] and begin where those of t - 1 end; ending[t] is nonzero for tokens that
 * end a text, of which end is the usual one. */
struct pl_row_pieces {
    const int32_t * ends;
    const uint8_t * bytes;
    const uint8_t * ending;
    int32_t end;
};

struct pl_row_step {
    int32_t kind;
    int32_t n; /* of CHANGES: how many */
    float   a;
    float   b;
    float   c;
    const struct pl_row_change * changes; /* each token once */
    const struct pl_row_pieces * pieces;
};

/* As pl_row_sample and pl_row_distribution. Tokens at -infinity have no chance, but count where upstream's samplers count them. */
PL_API int32_t pl_row_chain_sample(const float * row, int32_t n, const struct pl_row_step * steps, int32_t n_steps, double u);
PL_API int32_t pl_row_chain_distribution(const float * row, int32_t n, const struct pl_row_step * steps, int32_t n_steps, int32_t capacity,
                                         int32_t * tokens, float * probabilities);

#ifdef __cplusplus
}
#endif

#endif
