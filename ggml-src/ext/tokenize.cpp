// Tokenising any text in time linear in its length and in constant native stack, with upstream's results.
//
// Of upstream's two hazards, the pre-tokenizers' regular expressions are dealt with in hooks/regex_split.h. The other is how
// special tokens are cut out of the text: a walk along a list for every match, quadratic in their number. Long texts are
// therefore cut here, by the same rule (longest special token first, leftmost match first), and upstream is given the pieces
// between: after a special token it starts afresh in any case, so that the pieces tokenize as they do within the whole.
#include "guard.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace {

// Below this many bytes upstream cuts out the special tokens itself: at most a few million steps.
constexpr size_t DIRECT = 4096;

constexpr int32_t ROOM = 16; // tokens that upstream may add to a piece of text beside one per byte

struct special {
    llama_token token;
    std::string text;
    int32_t attributes;
    int32_t next; // the special token of the same text that comes after this one, or -1
};

struct node {
    int32_t child;
    int32_t sibling;
    int32_t special; // ends here, or -1
    char byte;
};

// A run of bytes, or a special token.
struct fragment {
    size_t begin;
    size_t end;
    llama_token token;
};

bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

// Length of the character that begins at i as upstream decodes it (any continuation bytes will do), or 0 where it throws.
size_t character(std::string_view text, size_t i) {
    const uint8_t lead = uint8_t(text[i]);
    const size_t length = lead < 0x80 ? 1 : lead < 0xc0 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf8 ? 4 : 0;
    if (length > text.size() - i) {
        return 0;
    }
    for (size_t k = 1; k < length; k++) {
        if ((uint8_t(text[i + k]) & 0xc0) != 0x80) {
            return 0;
        }
    }
    const bool beyond_unicode = lead > 0xf4 || (lead == 0xf4 && length == 4 && uint8_t(text[i + 1]) > 0x8f);
    return beyond_unicode ? 0 : length;
}

// Upstream replaces a byte that begins no character by U+FFFD, with an exception for each; the same without exceptions. Beyond
// U+10FFFF, where its exception gets out, the bytes are replaced as well. False, and no copy, if there is nothing to replace.
bool replace_damage(std::string_view text, std::string & clean) {
    size_t i = 0;
    size_t n = 0;
    while (i < text.size() && (n = character(text, i)) > 0) {
        i += n;
    }
    if (i == text.size()) {
        return false;
    }
    clean.reserve(text.size() + 64);
    clean.assign(text.substr(0, i));
    while (i < text.size()) {
        n = character(text, i);
        if (n > 0) {
            clean.append(text, i, n);
            i += n;
        } else {
            clean.append("\xef\xbf\xbd");
            i++;
        }
    }
    return true;
}

std::string text_of(const llama_vocab * vocab, llama_token token, enum llama_vocab_type type) {
    if (type == LLAMA_VOCAB_TYPE_RWKV || type == LLAMA_VOCAB_TYPE_TEST) {
        return llama_vocab_get_text(vocab, token); // their pieces are unescaped or made up
    }
    char stack[64];
    int32_t n = llama_token_to_piece(vocab, token, stack, sizeof(stack), 0, true);
    if (n >= 0) {
        return std::string(stack, size_t(n));
    }
    std::string text(size_t(-n), '\0');
    n = llama_token_to_piece(vocab, token, &text[0], int32_t(text.size()), 0, true);
    text.resize(size_t(std::max(n, 0)));
    return text;
}

} // namespace

struct pl_tokenizer {
    const llama_vocab * vocab;
    std::vector<special> specials; // in the order in which upstream looks for them
    std::vector<node> nodes;
    std::array<int32_t, 256> roots;
    std::vector<llama_token> before; // what add_special adds
    std::vector<llama_token> after;
    bool decodes = false; // tokenizes characters, not bytes
    std::string refusal; // why this vocabulary tokenizes nothing, or ""
    std::string refusal_of_special;

    explicit pl_tokenizer(const llama_vocab * vocab) : vocab(vocab) {
        roots.fill(-1);
        const auto type = llama_vocab_type(vocab);
        const int32_t n = llama_vocab_n_tokens(vocab);
        if (type == LLAMA_VOCAB_TYPE_NONE || n == 0) {
            refusal = "the model has no vocabulary";
            return;
        }
        decodes = type == LLAMA_VOCAB_TYPE_BPE || type == LLAMA_VOCAB_TYPE_WPM || type == LLAMA_VOCAB_TYPE_PLAMO2;
        std::vector<llama_token> order;
        std::vector<std::string> texts;
        for (llama_token token = 0; token < n; token++) {
            if (llama_vocab_get_attr(vocab, token) &
                (LLAMA_TOKEN_ATTR_CONTROL | LLAMA_TOKEN_ATTR_USER_DEFINED | LLAMA_TOKEN_ATTR_UNKNOWN)) {
                order.push_back(int32_t(texts.size()));
                texts.push_back(text_of(vocab, token, type));
                specials.push_back({token, "", int32_t(llama_vocab_get_attr(vocab, token)), -1});
            }
        }
        // The same algorithm on the same keys as upstream's: ties between equally long texts fall the same way.
        std::sort(order.begin(), order.end(), [&](llama_token a, llama_token b) { return texts[size_t(a)].size() > texts[size_t(b)].size(); });
        std::vector<special> sorted;
        for (const llama_token i : order) {
            sorted.push_back(specials[size_t(i)]);
            sorted.back().text = texts[size_t(i)];
        }
        specials = std::move(sorted);
        for (size_t i = 0; i < specials.size(); i++) {
            insert(int32_t(i));
        }

        switch (type) {
            case LLAMA_VOCAB_TYPE_SPM:
            case LLAMA_VOCAB_TYPE_BPE:
            case LLAMA_VOCAB_TYPE_UGM:
                if (llama_vocab_get_add_bos(vocab)) {
                    add(before, llama_vocab_bos(vocab), "BOS");
                }
                if (llama_vocab_get_add_eos(vocab)) {
                    add(after, llama_vocab_eos(vocab), "EOS");
                }
                break;
            case LLAMA_VOCAB_TYPE_WPM:
                add(before, llama_vocab_bos(vocab), "BOS");
                add(after, llama_vocab_sep(vocab), "SEP");
                break;
            default:
                break;
        }
        if (type == LLAMA_VOCAB_TYPE_RWKV) {
            require_single_bytes(n);
        }
    }

    void add(std::vector<llama_token> & to, llama_token token, const char * name) {
        if (token == LLAMA_TOKEN_NULL) {
            refusal_of_special = std::string("the vocabulary asks for a ") + name + " token and has none; tokenize without special tokens";
        } else {
            to.push_back(token);
        }
    }

    // Upstream's walk does not end on a byte that begins tokens and is none.
    void require_single_bytes(int32_t n) {
        std::array<bool, 256> begins{};
        std::array<bool, 256> single{};
        char piece[1024];
        for (llama_token token = 0; token < n; token++) {
            const int32_t length = llama_token_to_piece(vocab, token, piece, sizeof(piece), 0, true);
            if (length > 0) {
                begins[uint8_t(piece[0])] = true;
                single[uint8_t(piece[0])] |= length == 1;
            }
        }
        for (size_t byte = 0; byte < 256; byte++) {
            if (begins[byte] && !single[byte]) {
                refusal = "the vocabulary has tokens that begin with byte " + std::to_string(byte) + " and no token of that byte alone";
                return;
            }
        }
    }

    void insert(int32_t index) {
        const std::string & text = specials[size_t(index)].text;
        if (text.empty()) {
            return;
        }
        int32_t at = roots[uint8_t(text[0])];
        if (at < 0) {
            at = roots[uint8_t(text[0])] = int32_t(nodes.size());
            nodes.push_back({-1, -1, -1, text[0]});
        }
        for (size_t i = 1; i < text.size(); i++) {
            int32_t child = nodes[size_t(at)].child;
            while (child >= 0 && nodes[size_t(child)].byte != text[i]) {
                child = nodes[size_t(child)].sibling;
            }
            if (child < 0) {
                child = int32_t(nodes.size());
                nodes.push_back({-1, nodes[size_t(at)].child, -1, text[i]});
                nodes[size_t(at)].child = child;
            }
            at = child;
        }
        if (nodes[size_t(at)].special < 0) {
            nodes[size_t(at)].special = index;
        } else {
            int32_t last = nodes[size_t(at)].special;
            while (specials[size_t(last)].next >= 0) {
                last = specials[size_t(last)].next;
            }
            specials[size_t(last)].next = index;
        }
    }

    bool wanted(const special & s, bool parse_special) const {
        return parse_special || !(s.attributes & (LLAMA_TOKEN_ATTR_CONTROL | LLAMA_TOKEN_ATTR_UNKNOWN));
    }

    // Which special tokens occur in the text at all, in their order.
    std::vector<int32_t> occurring(std::string_view text, bool parse_special) const {
        std::vector<bool> seen(specials.size());
        for (size_t i = 0; i < text.size(); i++) {
            int32_t at = roots[uint8_t(text[i])];
            for (size_t j = i; at >= 0;) {
                const node & here = nodes[size_t(at)];
                if (here.special >= 0) {
                    seen[size_t(here.special)] = true;
                }
                if (++j == text.size()) {
                    break;
                }
                at = here.child;
                while (at >= 0 && nodes[size_t(at)].byte != text[j]) {
                    at = nodes[size_t(at)].sibling;
                }
            }
        }
        std::vector<int32_t> found;
        for (size_t i = 0; i < seen.size(); i++) {
            if (!seen[i]) {
                continue;
            }
            int32_t index = int32_t(i);
            while (index >= 0 && !wanted(specials[size_t(index)], parse_special)) {
                index = specials[size_t(index)].next;
            }
            if (index >= 0) {
                found.push_back(index);
            }
        }
        std::sort(found.begin(), found.end());
        return found;
    }

    std::vector<fragment> cut(std::string_view text, bool parse_special) const {
        std::vector<fragment> fragments;
        if (!text.empty()) {
            fragments.push_back({0, text.size(), LLAMA_TOKEN_NULL});
        }
        for (const int32_t index : occurring(text, parse_special)) {
            const special & s = specials[size_t(index)];
            std::vector<fragment> next;
            next.reserve(fragments.size() + 2);
            for (const fragment & whole : fragments) {
                if (whole.token != LLAMA_TOKEN_NULL) {
                    next.push_back(whole);
                    continue;
                }
                size_t begin = whole.begin;
                while (begin < whole.end) {
                    const size_t match = text.substr(0, whole.end).find(s.text, begin);
                    if (match == std::string_view::npos) {
                        next.push_back({begin, whole.end, LLAMA_TOKEN_NULL});
                        break;
                    }
                    size_t left = match;
                    if (s.attributes & LLAMA_TOKEN_ATTR_LSTRIP) {
                        while (left > begin && is_space(text[left - 1])) {
                            left--;
                        }
                    }
                    if (left > begin) {
                        next.push_back({begin, left, LLAMA_TOKEN_NULL});
                    }
                    next.push_back({match, match + s.text.size(), s.token});
                    begin = match + s.text.size();
                    if (s.attributes & LLAMA_TOKEN_ATTR_RSTRIP) {
                        while (begin < whole.end && is_space(text[begin])) {
                            begin++;
                        }
                    }
                }
            }
            fragments = std::move(next);
        }
        return fragments;
    }

    void append(std::string_view text, bool parse_special, std::vector<llama_token> & out) const {
        std::string clean;
        if (decodes && replace_damage(text, clean)) {
            text = clean;
        }
        const size_t size = out.size();
        out.resize(size + text.size() + ROOM);
        int32_t n = llama_tokenize(vocab, text.data(), int32_t(text.size()), out.data() + size, int32_t(out.size() - size), false, parse_special);
        if (n == INT32_MIN) {
            throw std::length_error("more than 2^31 tokens");
        }
        if (n < 0) {
            out.resize(size + size_t(-n));
            n = llama_tokenize(vocab, text.data(), int32_t(text.size()), out.data() + size, -n, false, parse_special);
        }
        out.resize(size + size_t(n));
    }

    std::vector<llama_token> tokenize(std::string_view text, bool add_special, bool parse_special) const {
        std::vector<llama_token> out;
        if (add_special) {
            out = before;
        }
        if (!text.empty() && text.size() <= DIRECT) {
            append(text, parse_special, out);
        } else {
            for (const fragment & f : cut(text, parse_special)) {
                if (f.token != LLAMA_TOKEN_NULL) {
                    out.push_back(f.token);
                } else {
                    append(text.substr(f.begin, f.end - f.begin), parse_special, out);
                }
            }
        }
        if (add_special) {
            out.insert(out.end(), after.begin(), after.end());
        }
        return out;
    }
};

extern "C" {

pl_tokenizer * pl_tokenizer_new(const llama_vocab * vocab, pl_error * err) {
    return pl::guard<pl_tokenizer *>(err, nullptr, [&] { return new pl_tokenizer(vocab); });
}

void pl_tokenizer_free(pl_tokenizer * tokenizer) {
    delete tokenizer;
}

int32_t pl_tokenizer_tokenize(const pl_tokenizer * tokenizer, const char * text, int32_t text_len, llama_token * tokens,
                              int32_t n_tokens_max, bool add_special, bool parse_special, pl_error * err) {
    return pl::guard_code(err, [&]() -> int32_t {
        const std::string & refusal = tokenizer->refusal.empty() && add_special ? tokenizer->refusal_of_special : tokenizer->refusal;
        if (!refusal.empty()) {
            pl::fail(err, PL_BAD_ARGUMENT, refusal.c_str());
            return PL_BAD_ARGUMENT;
        }
        const auto result = tokenizer->tokenize(std::string_view(text, size_t(text_len)), add_special, parse_special);
        if (result.size() > size_t(n_tokens_max)) {
            return -int32_t(result.size());
        }
        if (!result.empty()) {
            memcpy(tokens, result.data(), result.size() * sizeof(llama_token));
        }
        return int32_t(result.size());
    });
}

int64_t pl_vocab_pieces(const llama_vocab * vocab, int32_t * ends, char * bytes, int64_t capacity, pl_error * err) {
    return pl::guard<int64_t>(err, -1, [&]() -> int64_t {
        const int32_t n = llama_vocab_n_tokens(vocab);
        const bool none = llama_vocab_type(vocab) == LLAMA_VOCAB_TYPE_NONE;
        int64_t total = 0;
        for (llama_token token = 0; token < n; token++) {
            if (!none) {
                const int32_t room = int32_t(std::clamp<int64_t>(capacity - total, 0, INT32_MAX));
                const int32_t length = llama_token_to_piece(vocab, token, room > 0 ? bytes + total : nullptr, room, 0, true);
                total += length < 0 ? -int64_t(length) : length;
            }
            if (total > INT32_MAX) {
                throw std::length_error("the pieces of the vocabulary take more than 2 GiB");
            }
            ends[token] = int32_t(total);
        }
        return total;
    });
}

int32_t pl_vocab_attributes(const llama_vocab * vocab, int32_t * attributes, pl_error * err) {
    return pl::guard_void(err, [&] {
        const int32_t n = llama_vocab_n_tokens(vocab);
        const bool none = llama_vocab_type(vocab) == LLAMA_VOCAB_TYPE_NONE;
        for (llama_token token = 0; token < n; token++) {
            attributes[token] = none ? 0 : int32_t(llama_vocab_get_attr(vocab, token)) | (llama_vocab_is_eog(vocab, token) ? PL_TOKEN_END_OF_GENERATION : 0);
        }
    });
}

} // extern "C"
