package io.github.panamallama.sampling.strategy;

/** One row, one token, as {@link StrategyOptions#sampling} says: greedy or drawn. */
public record Plain() implements Strategy {
}
