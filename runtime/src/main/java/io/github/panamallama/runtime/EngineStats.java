package io.github.panamallama.runtime;

/**
 * What an {@link Engine} has done and holds.
 *
 * @param steps         native calls that evaluated a batch
 * @param decodeNanos   time in them and in drafts of an MTP head, in nanoseconds; the rest of a call's time is spent in Java or waiting
 * @param evaluated     tokens evaluated, those that had to be evaluated again included
 * @param reused        tokens that a fork or a checkpoint saved from evaluation
 * @param evictions     times that an idle sequence lost its cells to another
 * @param preemptions   times that a waiting sequence lost its cells to an older one
 * @param sequenceIds   native sequence ids in use
 * @param cells         cells of the KV cache in use; cells that forks share count once for each
 */
public record EngineStats(
        long steps, long decodeNanos, long evaluated, long reused, long evictions, long preemptions, int sequenceIds, long cells) {
}
