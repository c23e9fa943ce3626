package io.github.panamallama.runtime;

/** What a fork under other adapters, or with another plan, takes over of its parent's KV cache. */
public enum CacheReuse {
    /** Only what both evaluate alike; the rest is evaluated again with the next append. */
    EXACT,
    /**
     * The parent's keys and values as they are, although the child's adapters or plan would have given others: nothing is evaluated again,
     * and the logits differ from an exact evaluation. What was taken over stays what it was, also after it was evicted and computed again.
     */
    APPROXIMATE
}
