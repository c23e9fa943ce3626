#pragma once

#include "panama_llama.h"

namespace pl {

// One file, or all parts of a split model in order; NULL on failure.
llama_model * load(const char * const * paths, size_t n_paths, const llama_model_params & params);

} // namespace pl
