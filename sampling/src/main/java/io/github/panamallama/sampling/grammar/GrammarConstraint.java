package io.github.panamallama.sampling.grammar;

import io.github.panamallama.sampling.Constraint;
import io.github.panamallama.sampling.ConstraintException;
import io.github.panamallama.sampling.TokenMask;
import io.github.panamallama.sampling.automaton.Endings;
import io.github.panamallama.sampling.automaton.Recogniser;
import io.github.panamallama.sampling.automaton.TokenTable;
import io.github.panamallama.sampling.automaton.Triggers;
import java.nio.charset.StandardCharsets;
import java.util.ArrayDeque;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * Holds tokens to a grammar. Its state is the accepted tokens and nothing else; forking copies a reference. What tokens may follow is
 * exact: those with which some text of the grammar goes on, byte by byte, wherever they cut characters.
 */
public final class GrammarConstraint implements Constraint {
    private static final int MAX_FORCED = 4096;

    private final Grammar grammar;
    private final GrammarVocabulary vocabulary;
    private final TokenTable table;
    private CompiledGrammar compiled;
    private Sleep sleep;       // null if the grammar is always awake
    private Step step;
    private TokenMask own;     // filled for the current step, or null
    private TokenMask spare;

    /**
     * After one more token.
     *
     * @param state the recogniser's, or -1 - the trigger state while the grammar sleeps
     */
    private record Step(int state, boolean ended, int token, Step before) {}

    /** The triggers of a lazy grammar, and where each leads. */
    static final class Sleep {
        private final Triggers texts;
        private final int[] awakeByText;
        private final int[] tokens;
        private final int[] awakeByToken;
        final Map<Integer, Integer> worst = new HashMap<>();

        Sleep(Grammar grammar, CompiledGrammar compiled, GrammarVocabulary vocabulary) {
            var recogniser = compiled.recogniser;
            var ofText = grammar.triggers().stream().filter(t -> t.text() != null).toList();
            var bytes = ofText.stream().map(t -> t.text().getBytes(StandardCharsets.UTF_8)).toList();
            texts = new Triggers(bytes);
            awakeByText = new int[bytes.size()];
            for (int i = 0; i < awakeByText.length; i++) {
                awakeByText[i] = ofText.get(i).included() ? push(recogniser, recogniser.start(), bytes.get(i)) : recogniser.start();
                if (awakeByText[i] == Recogniser.DEAD) {
                    throw new GrammarException("no text of the grammar begins with its trigger \"" + ofText.get(i).text()
                            + "\"; let the grammar begin with it, or use Trigger.after");
                }
            }
            var ofToken = grammar.triggers().stream().filter(t -> t.text() == null).toList();
            tokens = ofToken.stream().mapToInt(Trigger::token).toArray();
            awakeByToken = new int[tokens.length];
            for (int i = 0; i < tokens.length; i++) {
                if (tokens[i] >= vocabulary.size() || vocabulary.isEndOfGeneration(tokens[i])) {
                    throw new GrammarException("trigger token " + tokens[i] + (tokens[i] >= vocabulary.size()
                            ? " is outside the vocabulary of " + vocabulary.size() : " ends the generation"));
                }
                int start = recogniser.start();
                awakeByToken[i] = !ofToken.get(i).included() ? start : recogniser.takesToken(start, tokens[i])
                        ? recogniser.pushToken(start, tokens[i]) : push(recogniser, start, vocabulary.spelling(tokens[i]));
                if (awakeByToken[i] == Recogniser.DEAD) {
                    throw new GrammarException("no text of the grammar begins with its trigger, token " + tokens[i]
                            + "; let the grammar begin with it, or use Trigger.after");
                }
            }
        }

        int awakeBy(int token) {
            for (int i = 0; i < tokens.length; i++) {
                if (tokens[i] == token) {
                    return awakeByToken[i];
                }
            }
            return Recogniser.DEAD;
        }
    }

    GrammarConstraint(Grammar grammar, GrammarVocabulary vocabulary) {
        this.grammar = grammar;
        this.vocabulary = vocabulary;
        table = vocabulary.table();
        compiled = grammar.compiled(vocabulary);
        sleep = sleep();
        step = first();
    }

    private GrammarConstraint(GrammarConstraint other) {
        grammar = other.grammar;
        vocabulary = other.vocabulary;
        table = other.table;
        compiled = other.compiled;
        sleep = other.sleep;
        step = other.step;
    }

    private Sleep sleep() {
        return grammar.triggers().isEmpty() ? null : compiled.locked(() -> compiled.sleep(grammar, vocabulary));
    }

    private Step first() {
        return new Step(sleep == null ? compiled.recogniser.start() : -1 - Triggers.START, false, -1, null);
    }

    /** Takes new automata once the old ones are full, and reads the accepted tokens again. */
    private void refresh() {
        if (!compiled.full()) {
            return;
        }
        var fresh = grammar.compiled(vocabulary);
        if (fresh == compiled) {
            return;
        }
        var tokens = new ArrayDeque<Integer>();
        for (var s = step; s.before != null; s = s.before) {
            tokens.push(s.token);
        }
        compiled = fresh;
        sleep = sleep();
        step = first();
        compiled.locked(() -> {
            for (int token : tokens) {
                step = vocabulary.isEndOfGeneration(token) ? new Step(step.state, true, token, step)
                        : new Step(after(step.state, token), false, token, step);
            }
            if (compiled.full()) {
                compiled.recogniser.grow(); // a long text needs it all
            }
            return null;
        });
    }

    @Override
    public TokenMask mask() {
        if (own != null) {
            return own;
        }
        refresh();
        var mask = spare != null ? spare : new TokenMask(vocabulary.size());
        spare = mask;
        if (step.ended) {
            mask.clear();
        } else {
            compiled.locked(() -> {
                if (step.state < 0) {
                    var bits = sleep.texts.mask(-1 - step.state, table, compiled.recogniser, sleep.awakeByText);
                    System.arraycopy(bits, 0, mask.words(), 0, bits.length);
                    for (int token : sleep.tokens) {
                        mask.set(token);
                    }
                } else {
                    compiled.masks(vocabulary).fill(step.state, mask.words());
                }
                return null;
            });
        }
        own = mask;
        return mask;
    }

    @Override
    public boolean allows(int token) {
        if (token < 0 || token >= vocabulary.size() || step.ended) {
            return false;
        }
        if (own != null) {
            return own.get(token);
        }
        if (vocabulary.isEndOfGeneration(token)) {
            return complete();
        }
        refresh();
        return compiled.locked(() -> after(step.state, token)) != Recogniser.DEAD;
    }

    @Override
    public void accept(int token) {
        if (token < 0 || token >= vocabulary.size()) {
            throw new ConstraintException("token " + token + " is outside the vocabulary of " + vocabulary.size());
        }
        if (step.ended) {
            throw new ConstraintException("token " + token + " after the end of the text");
        }
        refresh();
        if (vocabulary.isEndOfGeneration(token)) {
            if (!complete()) {
                throw new ConstraintException("the text can't end after " + tail() + ": " + expectation());
            }
            step = new Step(step.state, true, token, step);
        } else {
            int next = compiled.locked(() -> after(step.state, token));
            if (next == Recogniser.DEAD) {
                throw new ConstraintException("token " + token + " " + quoted(vocabulary.spelling(token)) + " is not allowed after "
                        + tail() + ": " + expectation());
            }
            step = new Step(next, false, token, step);
        }
        own = null;
    }

    /** The state after a token that does not end the text. */
    private int after(int state, int token) {
        var recogniser = compiled.recogniser;
        var piece = table.piece(token);
        if (state >= 0) {
            int byText = piece.length == 0 ? Recogniser.DEAD : push(recogniser, state, piece);
            return recogniser.hasTokens(state) ? recogniser.union(byText, recogniser.pushToken(state, token)) : byText;
        }
        int woken = sleep.awakeBy(token);
        if (woken != Recogniser.DEAD) {
            return woken;
        }
        if (piece.length == 0) {
            return -1 - Triggers.START; // no trigger spans it
        }
        int at = -1 - state;
        for (int i = 0; i < piece.length; i++) {
            at = sleep.texts.next(at, piece[i]);
            int fired = sleep.texts.fired(at);
            if (fired >= 0) {
                return push(recogniser, sleep.awakeByText[fired], Arrays.copyOfRange(piece, i + 1, piece.length));
            }
        }
        return -1 - at;
    }

    private static int push(Recogniser recogniser, int state, byte[] bytes) {
        for (byte b : bytes) {
            state = recogniser.push(state, b);
        }
        return state;
    }

    @Override
    public void rollback(int tokens) {
        if (tokens < 0) {
            throw new IllegalArgumentException("cannot take back " + tokens + " tokens");
        }
        var to = step;
        for (int i = 0; i < tokens; i++) {
            if (to.before == null) {
                throw new IllegalArgumentException("cannot take back " + tokens + " tokens, only " + i + " were accepted");
            }
            to = to.before;
        }
        step = to;
        own = tokens == 0 ? own : null;
    }

    @Override
    public GrammarConstraint fork() {
        return new GrammarConstraint(this);
    }

    @Override
    public boolean complete() {
        return step.ended || step.state < 0 || compiled.locked(() -> compiled.recogniser.isComplete(step.state));
    }

    @Override
    public boolean ended() {
        return step.ended;
    }

    /** Whether a lazy grammar still waits for its trigger. */
    public boolean asleep() {
        return step.state < 0;
    }

    /**
     * The text that must follow, whatever tokens it is made of: as long as exactly one byte may come next and the text may not end.
     * Cut at a whole character; empty if there is a choice.
     */
    @Override
    public String forcedText() {
        refresh();
        if (step.ended || step.state < 0) {
            return "";
        }
        return compiled.locked(() -> {
            var bytes = new byte[MAX_FORCED];
            int n = 0;
            int whole = 0;
            int missing = 0; // bytes of the current character
            for (int state = step.state; n < MAX_FORCED; n++) {
                int b = compiled.recogniser.onlyByte(state);
                if (b < 0) {
                    break;
                }
                bytes[n] = (byte) b;
                missing = (b & 0xc0) == 0x80 ? missing - 1 : b < 0x80 ? 0 : b < 0xe0 ? 1 : b < 0xf0 ? 2 : 3;
                if (missing < 0) {
                    break; // within a character that tokens before have begun
                }
                whole = missing == 0 ? n + 1 : whole;
                state = compiled.recogniser.push(state, b);
            }
            return new String(bytes, 0, whole, StandardCharsets.UTF_8);
        });
    }

    // ---- the way to an end

    /**
     * The same constraint for texts of at most {@code tokens} more tokens, the one that ends the generation not counted: before the room is
     * used up, only tokens are allowed after which the text can still be ended. What it never refuses is one short way to an end from where
     * it stands; of the long texts that would just fit it may refuse some. This one stays as it is.
     *
     * @throws ConstraintException if no text was found that fits; the shortest one is looked for part by part, so that in rare grammars a
     *                             shorter one exists
     */
    public Constraint within(int tokens) {
        return new EndingConstraint(fork(), tokens);
    }

    static final int NEVER = Endings.NEVER;

    /** Tokens with which the text can be ended. */
    int endingCost() {
        refresh();
        return step.ended || step.state < 0 ? 0 : compiled.locked(() -> compiled.endings(vocabulary).cost(step.state));
    }

    /** After any one token, a way to an end is known of at most so many tokens. */
    int endingWorst() {
        refresh();
        return compiled.locked(() -> {
            var endings = compiled.endings(vocabulary);
            return step.state >= 0 ? endings.worst(step.state) : sleep.worst.computeIfAbsent(step.state, state -> {
                int worst = 0;
                for (int token = 0; token < vocabulary.size(); token++) {
                    int next = after(state, token);
                    worst = next > 0 ? Math.max(worst, endings.cost(next)) : worst;
                }
                return worst;
            });
        });
    }

    /** Adds the tokens after which a way to an end of at most {@code tokens} is known. */
    void endingNear(int tokens, TokenMask into) {
        refresh();
        compiled.locked(() -> {
            var endings = compiled.endings(vocabulary);
            if (step.state >= 0) {
                endings.near(step.state, tokens, into.words());
            } else {
                for (int token = 0; token < vocabulary.size(); token++) {
                    int next = after(step.state, token);
                    if (next < 0 || next > 0 && endings.cost(next) <= tokens) {
                        into.set(token);
                    }
                }
            }
            return null;
        });
    }

    /** Tokens to an end that were known before the last token was taken, where the state after it may know none as short. */
    int[] endingWayFromBefore() {
        refresh();
        return compiled.locked(() -> compiled.endings(vocabulary).way(step.before.state, step.token));
    }

    /** The tokens that {@link #endingCost} counts. */
    int[] endingWay() {
        refresh();
        return step.ended || step.state < 0 ? new int[0] : compiled.locked(() -> compiled.endings(vocabulary).way(step.state));
    }

    boolean isEnd(int token) {
        return vocabulary.isEndOfGeneration(token);
    }

    /** Adds the tokens that end the generation. */
    void keepEnds(TokenMask into) {
        for (int token : vocabulary.endOfGeneration()) {
            into.set(token);
        }
    }

    private record State(Object compiled, int state, boolean ended) {}

    @Override
    public Object state() {
        return new State(compiled, step.state, step.ended);
    }

    // ---- messages

    /** The end of the text so far. */
    private String tail() {
        var parts = new ArrayDeque<byte[]>();
        int length = 0;
        var s = step;
        for (; s.before != null && length < 60; s = s.before) {
            var piece = vocabulary.spelling(s.token);
            parts.push(piece);
            length += piece.length;
        }
        if (length == 0) {
            return "the beginning";
        }
        var bytes = new byte[length];
        int n = 0;
        for (var part : parts) {
            System.arraycopy(part, 0, bytes, n, part.length);
            n += part.length;
        }
        return (s.before != null ? "..." : "") + quoted(bytes);
    }

    private static String quoted(byte[] bytes) {
        return '"' + new String(bytes, StandardCharsets.UTF_8).replace("\\", "\\\\").replace("\"", "\\\"").replace("\n", "\\n") + '"';
    }

    private String expectation() {
        return compiled.locked(() -> {
            if (step.state < 0) {
                return "it wakes the grammar and goes on as that does not allow";
            }
            var recogniser = compiled.recogniser;
            if (recogniser.isCut(step.state)) {
                return "the text nests as deep as the limit of " + recogniser.limits().depth() + " allows";
            }
            var expected = new StringBuilder();
            int listed = 0;
            int more = 0;
            for (int b = 0; b < 256; b++) {
                if (recogniser.isLive(step.state, b)) {
                    if (listed < 8) {
                        expected.append(listed++ == 0 ? "" : ", ").append(b > 32 && b < 127 ? "\"" + (char) b + "\""
                                : String.format("byte 0x%02x", b));
                    } else {
                        more++;
                    }
                }
            }
            if (recogniser.hasTokens(step.state)) {
                expected.append(listed++ == 0 ? "" : ", ").append("a token that the grammar names");
            }
            if (recogniser.isComplete(step.state)) {
                expected.append(listed++ == 0 ? "" : ", ").append("the end");
            }
            return "expected " + expected + (more > 0 ? " and " + more + " more" : "");
        });
    }

    @Override
    public String toString() {
        return "after " + tail();
    }

    /** For tests: tokens accepted. */
    List<Integer> tokens() {
        var tokens = new ArrayDeque<Integer>();
        for (var s = step; s.before != null; s = s.before) {
            tokens.push(s.token);
        }
        return List.copyOf(tokens);
    }
}
