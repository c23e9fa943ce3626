// Guards over vocabularies and upstream's built-in chat templates.
#include "guard.hpp"

extern "C" {

int32_t pl_token_to_piece(const llama_vocab * vocab, llama_token token, char * buf, int32_t length, int32_t lstrip, bool special,
                          pl_error * err) {
    return pl::guard_code(err, [&] { return llama_token_to_piece(vocab, token, buf, length, lstrip, special); });
}

int32_t pl_detokenize(const llama_vocab * vocab, const llama_token * tokens, int32_t n_tokens, char * text, int32_t text_len_max,
                      bool remove_special, bool unparse_special, pl_error * err) {
    return pl::guard_code(err, [&] { return llama_detokenize(vocab, tokens, n_tokens, text, text_len_max, remove_special, unparse_special); });
}

int32_t pl_chat_apply_template(const char * tmpl, const llama_chat_message * chat, size_t n_msg, bool add_ass, char * buf, int32_t length,
                               pl_error * err) {
    return pl::guard_code(err, [&] { return llama_chat_apply_template(tmpl, chat, n_msg, add_ass, buf, length); });
}

} // extern "C"
