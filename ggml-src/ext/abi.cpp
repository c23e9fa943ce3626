// Sizes and offsets as this compiler sees them; the loader compares them with the layouts of the bindings.
#include "panama_llama.h"

#include <cstddef>
#include <initializer_list>

namespace {

#define PL_STRUCT(type) { #type, nullptr, sizeof(struct type), 0 },
#define PL_TYPEDEF(type) { #type, nullptr, sizeof(type), 0 },
#define PL_FIELD(type, name) { #type, #name, sizeof(((struct type *) nullptr)->name), offsetof(struct type, name) },
#define PL_TYPEDEF_FIELD(type, name) { #type, #name, sizeof(((type *) nullptr)->name), offsetof(type, name) },

const pl_abi_entry table[] = {
#include "abi.inc"
};

} // namespace

extern "C" const pl_abi_entry * pl_abi_table(size_t * n) {
    *n = sizeof(table) / sizeof(table[0]);
    return table;
}

extern "C" uint64_t pl_abi_fingerprint(void) {
    uint64_t hash = 0xcbf29ce484222325u;
    const auto add = [&](unsigned char byte) { hash = (hash ^ byte) * 0x100000001b3u; };
    for (const pl_abi_entry & row : table) {
        for (const char * text : { row.structure, row.field == nullptr ? "" : row.field }) {
            for (; *text != '\0'; text++) {
                add((unsigned char) *text);
            }
            add(0);
        }
        for (uint64_t number : { (uint64_t) row.size, (uint64_t) row.offset }) {
            for (int shift = 0; shift < 64; shift += 8) {
                add((unsigned char) (number >> shift));
            }
        }
    }
    return hash;
}

extern "C" const char * pl_abi_version(void) {
    return llama_version();
}
