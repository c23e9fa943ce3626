package io.github.panamallama.sampling;

import io.github.panamallama.bindings.LlamaH;
import io.github.panamallama.bindings.llama_logit_bias;
import io.github.panamallama.bindings.llama_token_data;
import io.github.panamallama.bindings.llama_token_data_array;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/** llama.cpp's own samplers in the order of the options, as its common/sampling.cpp puts them together. */
final class UpstreamChain implements AutoCloseable {
    private final Arena arena = Arena.ofConfined();
    private final MemorySegment chain = LlamaH.llama_sampler_chain_init(LlamaH.llama_sampler_chain_default_params(arena));
    private int selected;

    /**
     * @param vocabularySize rows have that many logits
     * @param vocab          a native vocabulary, where breakers or infill need it; else NULL
     */
    UpstreamChain(SamplerOptions options, int vocabularySize, MemorySegment vocab, int seed) {
        var bias = llama_logit_bias.allocateArray(Math.max(1, options.logitBias().size()), arena);
        int b = 0;
        for (var entry : options.logitBias().entrySet()) {
            var slot = llama_logit_bias.asSlice(bias, b++);
            llama_logit_bias.token(slot, entry.getKey());
            llama_logit_bias.bias(slot, entry.getValue());
        }
        add(LlamaH.llama_sampler_init_logit_bias(vocabularySize, b, bias));
        if (options.mirostat() != null) {
            add(LlamaH.llama_sampler_init_temp(options.temperature()));
            add(LlamaH.llama_sampler_init_mirostat_v2(seed, options.mirostat().tau(), options.mirostat().eta()));
            return;
        }
        for (var step : options.order()) {
            add(switch (step) {
                case PENALTIES -> LlamaH.llama_sampler_init_penalties(vocabularySize, options.penaltyLastN(),
                        options.repetitionPenalty(), options.frequencyPenalty(), options.presencePenalty());
                case DRY -> dry(options.dry(), vocab);
                case TOP_N_SIGMA -> LlamaH.llama_sampler_init_top_n_sigma(options.topNSigma());
                case TOP_K -> LlamaH.llama_sampler_init_top_k(options.topK());
                case TYPICAL_P -> LlamaH.llama_sampler_init_typical(options.typicalP(), 0);
                case TOP_P -> LlamaH.llama_sampler_init_top_p(options.topP(), 0);
                case MIN_P -> LlamaH.llama_sampler_init_min_p(options.minP(), 0);
                case XTC -> options.xtc() == null ? LlamaH.llama_sampler_init_xtc(0, 1, 0, seed)
                        : LlamaH.llama_sampler_init_xtc(options.xtc().probability(), options.xtc().threshold(), 0, seed);
                case TEMPERATURE -> options.dynamicTemperature() == null ? LlamaH.llama_sampler_init_temp_ext(options.temperature(), 0, 1)
                        : LlamaH.llama_sampler_init_temp_ext(options.temperature(), options.dynamicTemperature().range(),
                                options.dynamicTemperature().exponent());
                case INFILL -> LlamaH.llama_sampler_init_infill(vocab);
            });
        }
        add(LlamaH.llama_sampler_init_dist(seed));
    }

    private MemorySegment dry(SamplerOptions.Dry dry, MemorySegment vocab) {
        if (dry == null) {
            return LlamaH.llama_sampler_init_dry(vocab, 0, 1, 0, 0, MemorySegment.NULL, 0);
        }
        var breakers = arena.allocate(ValueLayout.ADDRESS, Math.max(1, dry.breakers().size()));
        for (int i = 0; i < dry.breakers().size(); i++) {
            breakers.setAtIndex(ValueLayout.ADDRESS, i, arena.allocateFrom(dry.breakers().get(i)));
        }
        return LlamaH.llama_sampler_init_dry(vocab, dry.multiplier(), dry.base(), dry.allowedLength(), dry.lastN(), breakers,
                dry.breakers().size());
    }

    private void add(MemorySegment sampler) {
        LlamaH.llama_sampler_chain_add(chain, sampler);
    }

    void accept(int... tokens) {
        for (int token : tokens) {
            LlamaH.llama_sampler_accept(chain, token);
        }
    }

    /** {@code [n_vocab]} probabilities of what is left. */
    double[] apply(float[] logits) {
        try (var scratch = Arena.ofConfined()) {
            var data = llama_token_data.allocateArray(logits.length, scratch);
            for (int t = 0; t < logits.length; t++) {
                var slot = llama_token_data.asSlice(data, t);
                llama_token_data.id(slot, t);
                llama_token_data.logit(slot, logits[t]);
            }
            var array = llama_token_data_array.allocate(scratch);
            llama_token_data_array.data(array, data);
            llama_token_data_array.size(array, logits.length);
            llama_token_data_array.selected(array, -1);
            LlamaH.llama_sampler_apply(chain, array);

            var p = new double[logits.length];
            long size = llama_token_data_array.size(array);
            var kept = llama_token_data_array.data(array).reinterpret(size * llama_token_data.sizeof());
            for (int i = 0; i < size; i++) {
                var slot = llama_token_data.asSlice(kept, i);
                p[llama_token_data.id(slot)] = llama_token_data.p(slot);
            }
            selected = llama_token_data.id(llama_token_data.asSlice(kept, llama_token_data_array.selected(array)));
            return p;
        }
    }

    /** The token that the last {@link #apply} drew. */
    int selected() {
        return selected;
    }

    @Override
    public void close() {
        LlamaH.llama_sampler_free(chain);
        arena.close();
    }
}
