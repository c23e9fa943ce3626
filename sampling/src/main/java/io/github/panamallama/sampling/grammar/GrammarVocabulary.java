package io.github.panamallama.sampling.grammar;

import io.github.panamallama.runtime.Vocabulary;
import io.github.panamallama.sampling.automaton.TokenTable;
import java.util.Arrays;
import java.util.Collections;
import java.util.Map;
import java.util.WeakHashMap;

/**
 * A vocabulary prepared for grammars: what each token adds to the text in bytes, laid out for finding all tokens that a grammar allows.
 * Takes about 150 bytes per token and a fraction of a second to make; one per vocabulary is enough. Immutable, safe for any number
 * of threads.
 *
 * <p>Tokens that are no text (control tokens, unknown, unused, those without bytes) are allowed only where a grammar names them, and
 * end-of-generation tokens where the text may end.
 */
public final class GrammarVocabulary {
    private static final Map<Vocabulary, GrammarVocabulary> KNOWN = Collections.synchronizedMap(new WeakHashMap<>());

    private final TokenTable table;
    private final byte[][] spellings;
    private final boolean[] ends;
    private final int[] endOfGeneration;

    private GrammarVocabulary(byte[][] pieces, byte[][] spellings, int[] endOfGeneration) {
        table = new TokenTable(pieces);
        this.spellings = spellings;
        this.endOfGeneration = endOfGeneration;
        ends = new boolean[pieces.length];
        for (int token : endOfGeneration) {
            ends[token] = true;
        }
    }

    /** Of a model's vocabulary; made once, and kept as long as the model's. */
    public static GrammarVocabulary of(Vocabulary vocabulary) {
        var known = KNOWN.get(vocabulary);
        if (known == null) {
            int n = vocabulary.size();
            if (n == 0) {
                throw new GrammarException("the model has no vocabulary, so that no grammar can be applied to its tokens");
            }
            var pieces = new byte[n][];
            var spellings = new byte[n][];
            for (int t = 0; t < n; t++) {
                spellings[t] = vocabulary.bytes(t);
                boolean text = !vocabulary.isControl(t) && !vocabulary.isUnknown(t) && !vocabulary.isUnused(t)
                        && !vocabulary.isEndOfGeneration(t);
                pieces[t] = text ? spellings[t] : null;
            }
            known = new GrammarVocabulary(pieces, spellings, vocabulary.endOfGeneration());
            KNOWN.put(vocabulary, known);
        }
        return known;
    }

    /**
     * Of tokens given by their bytes.
     *
     * @param pieces          bytes by token; null or empty for tokens that are no text
     * @param endOfGeneration tokens that end the text, whatever their bytes
     * @throws IllegalArgumentException if there are no tokens, or one of {@code endOfGeneration} is not among them
     */
    public static GrammarVocabulary of(byte[][] pieces, int... endOfGeneration) {
        if (pieces.length == 0) {
            throw new IllegalArgumentException("a vocabulary has at least one token");
        }
        var text = new byte[pieces.length][];
        var spellings = new byte[pieces.length][];
        for (int t = 0; t < pieces.length; t++) {
            spellings[t] = pieces[t] == null ? new byte[0] : pieces[t].clone();
            text[t] = spellings[t];
        }
        for (int token : endOfGeneration) {
            if (token < 0 || token >= pieces.length) {
                throw new IllegalArgumentException("end-of-generation token " + token + " is outside the vocabulary of " + pieces.length);
            }
            text[token] = null;
        }
        return new GrammarVocabulary(text, spellings, endOfGeneration.clone());
    }

    /** Tokens. */
    public int size() {
        return spellings.length;
    }

    /** The bytes that {@code token} adds to the text; empty for those that are no text. A new array. */
    public byte[] bytes(int token) {
        return table.piece(token).clone();
    }

    /** Whether {@code token} ends the text. */
    public boolean isEndOfGeneration(int token) {
        return ends[token];
    }

    TokenTable table() {
        return table;
    }

    int[] endOfGeneration() {
        return endOfGeneration;
    }

    /** How a token is spelled, also one that is no text; not to be changed. */
    byte[] spelling(int token) {
        return spellings[token];
    }

    /** The token spelled so, one that is no text before one that is; -1 if there is none. */
    int find(byte[] spelling) {
        int found = -1;
        for (int t = 0; t < spellings.length; t++) {
            if (Arrays.equals(spellings[t], spelling)) {
                if (table.piece(t).length == 0) {
                    return t;
                }
                found = found < 0 ? t : found;
            }
        }
        return found;
    }
}
