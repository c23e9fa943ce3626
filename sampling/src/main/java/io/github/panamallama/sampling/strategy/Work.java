package io.github.panamallama.sampling.strategy;

import java.util.Map;

/**
 * What a decoding has cost so far.
 *
 * @param rows          tokens evaluated by the model, prompt included
 * @param batches       calls that evaluated them
 * @param helperRows    tokens evaluated by a second model: the draft model, the model itself under other plans, or the small one of two; 0
 *                      without one
 * @param helperBatches calls that evaluated those
 * @param events        what the strategy counts, by name; each strategy's page lists its own
 */
public record Work(long rows, long batches, long helperRows, long helperBatches, Map<String, Long> events) {
    public Work {
        events = Map.copyOf(events);
    }

    /** How often something happened, 0 for what never did. */
    public long count(String event) {
        return events.getOrDefault(event, 0L);
    }
}
