package io.github.panamallama.sampling.grammar;

import io.github.panamallama.sampling.ConstraintException;
import io.github.panamallama.sampling.automaton.Endings;
import io.github.panamallama.sampling.automaton.LeftRecursionException;
import io.github.panamallama.sampling.automaton.LimitException;
import io.github.panamallama.sampling.automaton.Masks;
import io.github.panamallama.sampling.automaton.NodePool;
import io.github.panamallama.sampling.automaton.Recogniser;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.WeakHashMap;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Supplier;

/** One grammar's automata and what was found out about them so far. Everything within the lock. */
final class CompiledGrammar {
    final Recogniser recogniser;
    private final NodePool pool;
    private final GrammarOptions options;
    private final ReentrantLock lock = new ReentrantLock();
    private final Map<GrammarVocabulary, Masks> masks = new WeakHashMap<>();
    private final Map<GrammarVocabulary, Endings> endings = new WeakHashMap<>();

    private final Map<GrammarVocabulary, Map<List<Trigger>, GrammarConstraint.Sleep>> sleeps = new WeakHashMap<>();

    CompiledGrammar(NodePool pool, int root, GrammarOptions options) {
        this.pool = pool;
        this.options = options;
        recogniser = new Recogniser(pool, root, new Recogniser.Limits(options.depth(), options.readings(), options.states()));
        if (recogniser.start() == Recogniser.DEAD) {
            throw new GrammarException("the grammar matches no text at all, not even the empty one; expected a rule that can come to an end");
        }
    }

    boolean full() {
        return recogniser.full();
    }

    Masks masks(GrammarVocabulary vocabulary) {
        return masks.computeIfAbsent(vocabulary, v -> new Masks(recogniser, pool.regexes(), v.table(), v.endOfGeneration(),
                options.maskTime().toNanos()));
    }

    Endings endings(GrammarVocabulary vocabulary) {
        return endings.computeIfAbsent(vocabulary, v -> new Endings(recogniser, pool, v.table()));
    }

    GrammarConstraint.Sleep sleep(Grammar grammar, GrammarVocabulary vocabulary) {
        return sleeps.computeIfAbsent(vocabulary, _ -> new HashMap<>())
                .computeIfAbsent(grammar.triggers(), _ -> new GrammarConstraint.Sleep(grammar, this, vocabulary));
    }

    <T> T locked(Supplier<T> work) {
        lock.lock();
        try {
            return work.get();
        } catch (LimitException | LeftRecursionException e) {
            throw new ConstraintException(e.getMessage());
        } finally {
            lock.unlock();
        }
    }
}
