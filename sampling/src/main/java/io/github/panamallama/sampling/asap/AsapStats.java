package io.github.panamallama.sampling.asap;

/**
 * What sampling has cost and learned.
 *
 * @param draws     texts drawn with learning
 * @param rows      tokens evaluated, prompt included
 * @param batches   calls that evaluated them
 * @param nodes     positions in the trie
 * @param bytes     memory of the trie, estimated
 * @param evictions nodes forgotten for want of memory
 * @param deadEnds  walks that ended where no token was allowed
 */
public record AsapStats(long draws, long rows, long batches, long nodes, long bytes, long evictions, long deadEnds) {
}
