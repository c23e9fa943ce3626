// How many sequence ids a batch really uses. Upstream checks every batch against the square of the ids that a unified cache may
// hold, 256 of them: some 35 us per decode. patches/batch-ids.patch lowers the bound to what the batch names.
#pragma once

#include "llama.h"

#include <cstdint>

namespace pl {

// One more than the largest id, at most limit; an id beyond the limit keeps it, so that upstream's own check still sees it.
inline uint32_t batch_ids(const llama_batch & batch, uint32_t limit) {
    int64_t largest = 0;
    for (int32_t i = 0; batch.seq_id != nullptr && i < batch.n_tokens; i++) {
        const int32_t n = batch.n_seq_id != nullptr ? batch.n_seq_id[i] : 1;
        for (int32_t s = 0; s < n; s++) {
            largest = batch.seq_id[i][s] > largest ? batch.seq_id[i][s] : largest;
        }
    }
    return largest + 1 < limit ? uint32_t(largest + 1) : limit;
}

} // namespace pl
