package io.github.panamallama.sampling;

import io.github.panamallama.runtime.Candidates;
import io.github.panamallama.runtime.ContextFullException;
import io.github.panamallama.runtime.DecodeCancelledException;
import io.github.panamallama.runtime.Row;
import io.github.panamallama.runtime.Sequence;
import io.github.panamallama.runtime.TokenDecoder;
import io.github.panamallama.runtime.Vocabulary;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.Iterator;
import java.util.NoSuchElementException;
import java.util.function.IntFunction;
import java.util.function.IntPredicate;
import java.util.function.Supplier;

/**
 * The plain generation loop: evaluate, sample, accept, until a stop condition holds.
 *
 * <p>Use it as a cursor ({@link #advance}, {@link #token}, {@link #text}), which allocates nothing per token beside new text, or as an
 * iterator. A token is evaluated when the next one is asked for, so the last one never is: the sequence ends up one token shorter than
 * what was accepted by the sampler. Tokens that the sampler is forced to ({@link Sampler#forced}) wait until a row is needed and are
 * evaluated together, unless log-probabilities are wanted. One caller at a time; {@link #cancel} may come from any thread. Closing it
 * leaves the sequence open.
 */
public final class Generator implements Iterator<GeneratedToken>, AutoCloseable {
    private final Branch branch;
    private final Row row;
    private final Sampler sampler;
    private final IntPredicate endOfGeneration;
    private final IntFunction<String> decode;
    private final Supplier<String> decodeRest;
    private final StopStrings.Matcher stops;
    private final int maxTokens;
    private final int alternatives;
    private final Candidates scratch;
    private final Row untouched;    // the row before the sampler, where log-probabilities are wanted

    private int[] prompt;           // null once evaluated
    private int[] pending = new int[8];    // chosen and not yet evaluated
    private int pendingCount;
    private final StringBuilder constrainedText;    // null without a constraint, as the next one
    private int[] constrainedTokens;
    private int generated;
    private int token = -1;
    private String text = "";
    private LogProbs logProbs;
    private boolean looked;         // the iterator has advanced and not yet given the element out
    private FinishReason finish;
    private volatile boolean cancelled;

    /**
     * A generation behind {@code sequence}, after {@code prompt}, which the first {@link #advance} evaluates.
     *
     * @param prompt  tokens to evaluate first, at least one
     * @param sampler hears of the prompt and of each generated token, not of what the sequence held before
     */
    public static Generator over(Sequence sequence, int[] prompt, Sampler sampler, GeneratorOptions options) {
        if (prompt.length == 0) {
            throw new IllegalArgumentException("nothing to go on from: the prompt has no tokens");
        }
        var engine = sequence.engine();
        return over(Branch.of(sequence), prompt, engine.newRow(), sampler, engine.model().vocabulary(), options);
    }

    /**
     * A generation after {@code prompt}, which the first {@link #advance} evaluates.
     *
     * @param prompt     tokens to evaluate first; if empty, {@code row} already holds the logits after what {@code branch} holds
     * @param row        {@code [n_vocab]}, the generation's own until it ends
     * @param sampler    hears of the prompt and of each generated token, not of what {@code branch} held before
     * @param vocabulary of the model that {@code branch} evaluates
     */
    public static Generator over(Branch branch, int[] prompt, Row row, Sampler sampler, Vocabulary vocabulary, GeneratorOptions options) {
        return over(branch, prompt, row, sampler, vocabulary, vocabulary.decoder(), options);
    }

    /** As above, with a decoder of the caller's, for instance one that spells control tokens. */
    public static Generator over(Branch branch, int[] prompt, Row row, Sampler sampler, Vocabulary vocabulary, TokenDecoder decoder,
            GeneratorOptions options) {
        if (row.size() != vocabulary.size()) {
            throw new IllegalArgumentException("a row of " + row.size() + " tokens does not fit a vocabulary of " + vocabulary.size());
        }
        return new Generator(branch, prompt, row, sampler, vocabulary::isEndOfGeneration, decoder::push, decoder::flush, options);
    }

    Generator(Branch branch, int[] prompt, Row row, Sampler sampler, IntPredicate endOfGeneration, IntFunction<String> decode,
            Supplier<String> decodeRest, GeneratorOptions options) {
        this.branch = branch;
        this.prompt = prompt.clone();
        this.row = row;
        this.sampler = sampler;
        this.endOfGeneration = endOfGeneration;
        this.decode = decode;
        this.decodeRest = decodeRest;
        stops = options.stopStrings().matcher();
        maxTokens = options.maxTokens();
        alternatives = options.logProbs();
        boolean wanted = alternatives != GeneratorOptions.NO_LOG_PROBS;
        scratch = wanted ? new Candidates(Math.max(1, Math.min(alternatives, row.size()))) : null;
        untouched = wanted ? new Row(row.size()) : null;
        boolean constrained = sampler instanceof ConstrainedSampler;
        constrainedText = constrained ? new StringBuilder() : null;
        constrainedTokens = constrained ? new int[16] : null;
    }

    /**
     * Generates the next token, and evaluates what came before it.
     *
     * @return false if the generation has ended; {@link #finishReason} says why
     * @throws ContextFullException if not even the prompt fits
     * @throws IncompleteException  if the context is full and the sampler's constraint does not let the text end there
     */
    public boolean advance() {
        looked = false;
        if (finish != null) {
            refuseIncomplete();
            return false;
        }
        boolean done = false;
        try {
            boolean more = step();
            done = true;
            return more;
        } finally {
            if (!done && finish != FinishReason.CONTEXT_FULL) {
                finish = FinishReason.FAILED;
            }
        }
    }

    private void refuseIncomplete() {
        if (finish == FinishReason.CONTEXT_FULL && constrainedText != null && !sampler.mayEnd()) {
            throw new IncompleteException(Arrays.copyOf(constrainedTokens, generated), constrainedText.toString());
        }
    }

    private boolean step() {
        if (cancelled) {
            return end(FinishReason.CANCELLED);
        }
        int forced = prompt == null && untouched == null ? sampler.forced() : -1;
        try {
            if (forced < 0) {
                evaluate();
            }
        } catch (DecodeCancelledException e) {
            return end(FinishReason.CANCELLED);
        } catch (ContextFullException e) {
            if (generated == 0) {
                throw e;
            }
            boolean more = end(FinishReason.CONTEXT_FULL);
            if (constrainedText != null) {
                constrainedText.append(text);
            }
            if (!more) {
                refuseIncomplete();
            }
            return more;
        }
        if (cancelled) {
            return end(FinishReason.CANCELLED);
        }

        if (untouched != null) {
            MemorySegment.copy(row.segment(), 0, untouched.segment(), 0, row.segment().byteSize());
        }
        token = forced >= 0 ? forced : sampler.sample(row);
        sampler.accept(token);
        if (pendingCount == pending.length) {
            pending = Arrays.copyOf(pending, 2 * pendingCount);
        }
        pending[pendingCount++] = token;
        generated++;
        logProbs = untouched == null ? null : LogProbs.of(untouched, token, Math.min(alternatives, scratch.capacity()), scratch);

        if (endOfGeneration.test(token)) {
            text = rest();
            finish = FinishReason.STOP;
            return true;
        }
        text = stops.push(decode.apply(token));
        if (stops.matched()) {
            finish = FinishReason.STOP_STRING;
        } else if (generated >= maxTokens) {
            text += rest();
            finish = FinishReason.LENGTH;
        } else if (branch.full()) {
            text += rest();
            finish = FinishReason.CONTEXT_FULL;
        }
        if (constrainedText != null) {
            constrainedText.append(text);
            if (constrainedTokens.length < generated) {
                constrainedTokens = Arrays.copyOf(constrainedTokens, 2 * generated);
            }
            constrainedTokens[generated - 1] = token;
        }
        return true;
    }

    private void evaluate() {
        if (prompt == null) {
            if (pendingCount == 1) {
                branch.append(pending[0], row);
            } else {
                branch.append(Arrays.copyOf(pending, pendingCount), row);
            }
            pendingCount = 0;
            return;
        }
        if (prompt.length > 0) {
            branch.append(prompt, row);
            for (int t : prompt) {
                sampler.acceptPrompt(t);
            }
        }
        prompt = null;
    }

    /** What decoder and matcher still hold; they are empty afterwards. */
    private String rest() {
        String rest = stops.push(decodeRest.get());
        return stops.matched() ? rest : rest + stops.flush();
    }

    /** Ends without a token; true if text was held back that can be shown now. */
    private boolean end(FinishReason reason) {
        finish = reason;
        token = -1;
        logProbs = null;
        text = rest();
        return !text.isEmpty();
    }

    /** The token of the last {@link #advance}, -1 if it had only text to release. */
    public int token() {
        return token;
    }

    /** The text that the last {@link #advance} released, see {@link GeneratedToken#text}. */
    public String text() {
        return text;
    }

    /** The log-probabilities of the token of the last {@link #advance}, null if not asked for. */
    public LogProbs logProbs() {
        return logProbs;
    }

    /** Tokens generated so far. */
    public int generated() {
        return generated;
    }

    /** Why the generation ended, null while it goes on. */
    public FinishReason finishReason() {
        return finish;
    }

    /** The stop string that ended the text, null if none did. */
    public String stopString() {
        return stops.stop();
    }

    @Override
    public boolean hasNext() {
        if (!looked) {
            looked = advance();
        }
        return looked;
    }

    @Override
    public GeneratedToken next() {
        if (!hasNext()) {
            throw new NoSuchElementException("the generation has ended: " + finish);
        }
        looked = false;
        return new GeneratedToken(token, text, logProbs);
    }

    /** Ends the generation within one decode step, from any thread; it finishes as {@link FinishReason#CANCELLED}. */
    public void cancel() {
        cancelled = true;
        branch.cancel();
    }

    /** Ends the generation without another token. The sequence stays open. */
    @Override
    public void close() {
        if (finish == null) {
            finish = FinishReason.CANCELLED;
        }
    }
}
