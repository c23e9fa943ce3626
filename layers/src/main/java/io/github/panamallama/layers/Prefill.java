package io.github.panamallama.layers;

/** What a router's decision means for the prompt that it was made by. A router is trained for one of the two. */
public enum Prefill {
    /**
     * The prompt runs under the plan as well. The routers decide in the order of the blocks, each by the state that the blocks before it
     * leave behind as decided: the prompt is evaluated again, under the plan so far, after each decision that changes it. Exact: the
     * cache is what a model of the chosen blocks computes.
     */
    SKIP,
    /**
     * The prompt runs through the whole model once, and only what is generated behind it leaves blocks out. Cheaper to decide, but keys
     * and values of the prompt then come from a deeper path than those of the tokens that follow
     * ({@link io.github.panamallama.runtime.CacheReuse#APPROXIMATE}).
     */
    FULL
}
