package io.github.panamallama.sampling.strategy;

import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.Vocabulary;
import io.github.panamallama.runtime.WholeFile;
import io.github.panamallama.sampling.track.Fingerprint;
import java.io.BufferedInputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.EOFException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;

/**
 * Which tokens tend to follow which two: for each pair up to {@value #SUCCESSORS} successors with weights. Weights start as relative
 * frequencies and grow with use up to {@value #CAP}; they rank, they are no probabilities. When the table is full, the pairs that were
 * used least recently go. Not safe for use by several threads at once; many {@link #overlay overlays} may share a table that nobody
 * changes any more.
 */
public final class TrigramTable {
    /** Successors kept per pair. */
    public static final int SUCCESSORS = 12;
    /** Largest weight. */
    public static final float CAP = 3;
    /** What each occurrence adds. */
    public static final float INCREMENT = 0.04f;

    private static final int DEFAULT_PAIRS = 1 << 20;
    private static final long FREE = -1;
    private static final int MAGIC = 0x504c5447;    // PLTG
    private static final int VERSION = 2;

    private final byte[] vocabulary;    // fingerprint
    private final int vocabularySize;
    private final int maxPairs;
    private final TrigramTable below;    // read only, null for none
    private long clock;
    private int size;
    private long[] keys;
    private long[] used;
    private int[] tokens;
    private float[] weights;

    private TrigramTable(byte[] vocabulary, int vocabularySize, int maxPairs, TrigramTable below) {
        this.vocabulary = vocabulary;
        this.vocabularySize = vocabularySize;
        this.maxPairs = maxPairs;
        this.below = below;
        allocate(64);
    }

    private void allocate(int slots) {
        keys = new long[slots];
        Arrays.fill(keys, FREE);
        used = new long[slots];
        tokens = new int[slots * SUCCESSORS];
        Arrays.fill(tokens, -1);
        weights = new float[slots * SUCCESSORS];
        size = 0;
    }

    /** A table that knows nothing, for at most about a million pairs (110 MB when full). */
    public static TrigramTable empty(Vocabulary vocabulary) {
        return empty(vocabulary, DEFAULT_PAIRS);
    }

    /** @param maxPairs at least 16 */
    public static TrigramTable empty(Vocabulary vocabulary, int maxPairs) {
        return empty(Fingerprint.of(vocabulary), vocabulary.size(), maxPairs);
    }

    static TrigramTable empty(byte[] fingerprint, int vocabularySize, int maxPairs) {
        if (maxPairs < 16) {
            throw new IllegalArgumentException("maxPairs must be at least 16, got " + maxPairs);
        }
        return new TrigramTable(fingerprint, vocabularySize, maxPairs, null);
    }

    /**
     * A table of relative frequencies.
     *
     * @param texts tokenised; the best successors of each pair are kept
     */
    public static TrigramTable of(Vocabulary vocabulary, Iterable<int[]> texts) {
        return of(Fingerprint.of(vocabulary), vocabulary.size(), DEFAULT_PAIRS, texts);
    }

    static TrigramTable of(byte[] fingerprint, int vocabularySize, int maxPairs, Iterable<int[]> texts) {
        var table = empty(fingerprint, vocabularySize, maxPairs);
        var counts = new HashMap<Long, Map<Integer, Integer>>();
        for (int[] text : texts) {
            for (int i = 0; i + 2 < text.length; i++) {
                table.check(text[i]);
                table.check(text[i + 1]);
                table.check(text[i + 2]);
                counts.computeIfAbsent(key(text[i], text[i + 1]), k -> new HashMap<>()).merge(text[i + 2], 1, Integer::sum);
            }
        }
        counts.forEach((key, successors) -> {
            double total = successors.values().stream().mapToInt(Integer::intValue).sum();
            successors.entrySet().stream()
                    .sorted(Map.Entry.<Integer, Integer>comparingByValue().reversed().thenComparing(Map.Entry.comparingByKey()))
                    .limit(SUCCESSORS)
                    .forEach(e -> table.put(table.slotFor(key), e.getKey(), (float) (e.getValue() / total)));
        });
        return table;
    }

    /** An empty table that looks into this one for pairs it has not changed itself. This one must not be changed any more. */
    public TrigramTable overlay() {
        return new TrigramTable(vocabulary, vocabularySize, maxPairs, this);
    }

    /** Pairs held, those of a table below not counted. */
    public int size() {
        return size;
    }

    /** Bytes of the arrays. */
    public long memory() {
        return keys.length * (16L + 8 * SUCCESSORS);
    }

    /** Adds {@value #INCREMENT} to the weight of {@code c} after {@code a} and {@code b}. */
    public void reinforce(int a, int b, int c) {
        check(a);
        check(b);
        check(c);
        int slot = slotFor(key(a, b));
        int at = find(slot, c);
        put(slot, c, Math.min(CAP, (at < 0 ? 0 : weights[at]) + INCREMENT));
    }

    /** Reinforces every tri-gram of a run of tokens. */
    public void reinforce(int[] run, int from, int to) {
        for (int i = from; i + 2 < to; i++) {
            reinforce(run[i], run[i + 1], run[i + 2]);
        }
    }

    /** The weight of {@code c} after {@code a} and {@code b}, 0 if unknown. */
    public float weight(int a, int b, int c) {
        for (var table = this; table != null; table = table.below) {
            int slot = table.slot(key(a, b));
            if (slot >= 0) {
                int at = table.find(slot, c);
                return at < 0 ? 0 : table.weights[at];
            }
        }
        return 0;
    }

    /** Copies the successors of a pair. Returns how many there are. */
    int successors(int a, int b, int[] intoTokens, float[] intoWeights) {
        for (var table = this; table != null; table = table.below) {
            int slot = table.slot(key(a, b));
            if (slot >= 0) {
                if (table == this) {
                    used[slot] = ++clock;
                }
                int n = 0;
                for (int i = slot * SUCCESSORS; n < SUCCESSORS && table.tokens[i] >= 0; i++, n++) {
                    intoTokens[n] = table.tokens[i];
                    intoWeights[n] = table.weights[i];
                }
                return n;
            }
        }
        return 0;
    }

    void requireVocabulary(byte[] fingerprint) {
        if (!Arrays.equals(vocabulary, fingerprint)) {
            throw new LlamaException("the tri-gram table was made with another vocabulary than this model's; make one from this model's tokens");
        }
    }

    private void check(int token) {
        if (token < 0 || token >= vocabularySize) {
            throw new IllegalArgumentException("token " + token + " is outside the vocabulary of " + vocabularySize);
        }
    }

    private static long key(int a, int b) {
        return (long) a << 32 | b;
    }

    private int find(int slot, int token) {
        for (int i = slot * SUCCESSORS; i < (slot + 1) * SUCCESSORS && tokens[i] >= 0; i++) {
            if (tokens[i] == token) {
                return i;
            }
        }
        return -1;
    }

    /** Sets a weight; in a full row the lightest successor goes. */
    private void put(int slot, int token, float weight) {
        int lightest = slot * SUCCESSORS;
        for (int i = slot * SUCCESSORS; i < (slot + 1) * SUCCESSORS; i++) {
            if (tokens[i] < 0 || tokens[i] == token) {
                tokens[i] = token;
                weights[i] = weight;
                return;
            }
            lightest = weights[i] < weights[lightest] ? i : lightest;
        }
        tokens[lightest] = token;
        weights[lightest] = weight;
    }

    private int home(long key) {
        long h = key * 0x9e3779b97f4a7c15L;
        return (int) (h >>> 40) & keys.length - 1;
    }

    private int slot(long key) {
        int i = home(key);
        while (keys[i] != FREE) {
            if (keys[i] == key) {
                return i;
            }
            i = i + 1 & keys.length - 1;
        }
        return -1;
    }

    /** The slot of a pair, made if it is missing: with what the table below has. */
    private int slotFor(long key) {
        int found = slot(key);
        if (found >= 0) {
            used[found] = ++clock;
            return found;
        }
        if (size >= maxPairs) {
            rebuild(keys.length, oldestQuarter());
        } else if (2 * (size + 1) > keys.length) {
            rebuild(2 * keys.length, Long.MIN_VALUE);
        }
        int slot = insert(key);
        for (var table = below; table != null; table = table.below) {
            int theirs = table.slot(key);
            if (theirs >= 0) {
                System.arraycopy(table.tokens, theirs * SUCCESSORS, tokens, slot * SUCCESSORS, SUCCESSORS);
                System.arraycopy(table.weights, theirs * SUCCESSORS, weights, slot * SUCCESSORS, SUCCESSORS);
                break;
            }
        }
        used[slot] = ++clock;
        return slot;
    }

    private int insert(long key) {
        int i = home(key);
        while (keys[i] != FREE) {
            i = i + 1 & keys.length - 1;
        }
        keys[i] = key;
        size++;
        return i;
    }

    private long oldestQuarter() {
        var times = new long[size];
        int n = 0;
        for (int i = 0; i < keys.length; i++) {
            if (keys[i] != FREE) {
                times[n++] = used[i];
            }
        }
        Arrays.sort(times);
        return times[size / 4];
    }

    /** Keeps what was used after {@code than}. */
    private void rebuild(int slots, long than) {
        var oldKeys = keys;
        var oldUsed = used;
        var oldTokens = tokens;
        var oldWeights = weights;
        allocate(slots);
        for (int i = 0; i < oldKeys.length; i++) {
            if (oldKeys[i] != FREE && oldUsed[i] > than) {
                int slot = insert(oldKeys[i]);
                used[slot] = oldUsed[i];
                System.arraycopy(oldTokens, i * SUCCESSORS, tokens, slot * SUCCESSORS, SUCCESSORS);
                System.arraycopy(oldWeights, i * SUCCESSORS, weights, slot * SUCCESSORS, SUCCESSORS);
            }
        }
    }

    /**
     * Writes the table, without the one below.
     *
     * @throws LlamaException if the file can't be written; what was there before is there still
     */
    public void save(Path file) {
        WholeFile.write(file, "the tri-gram table", to -> {
            var out = new DataOutputStream(to);
            out.writeInt(MAGIC);
            out.writeInt(VERSION);
            out.writeInt(vocabulary.length);
            out.write(vocabulary);
            out.writeInt(maxPairs);
            out.writeInt(size);
            for (int i = 0; i < keys.length; i++) {
                if (keys[i] != FREE) {
                    out.writeLong(keys[i]);
                    for (int j = i * SUCCESSORS; j < (i + 1) * SUCCESSORS; j++) {
                        out.writeInt(tokens[j]);
                        out.writeFloat(weights[j]);
                    }
                }
            }
        });
    }

    /**
     * Reads a table.
     *
     * @throws LlamaException if it is of another vocabulary, or no table
     */
    public static TrigramTable load(Path file, Vocabulary vocabulary) {
        return load(file, Fingerprint.of(vocabulary), vocabulary.size());
    }

    static TrigramTable load(Path file, byte[] fingerprint, int vocabularySize) {
        try (var in = new DataInputStream(new BufferedInputStream(Files.newInputStream(file)))) {
            if (in.readInt() != MAGIC || in.readInt() != VERSION || in.readInt() != fingerprint.length) {
                throw new LlamaException(file + " is no tri-gram table of this version");
            }
            byte[] theirs = in.readNBytes(fingerprint.length);
            var table = empty(theirs, vocabularySize, in.readInt());
            table.requireVocabulary(fingerprint);
            int pairs = in.readInt();
            if (pairs < 0 || pairs > table.maxPairs || pairs > Files.size(file) / (8 + 8 * SUCCESSORS)) {
                throw new LlamaException(file + " says " + pairs + " pairs, more than it has room for");
            }
            for (int i = 0; i < pairs; i++) {
                long key = in.readLong();
                table.check((int) (key >>> 32));
                table.check((int) key);
                int slot = table.slotFor(key);
                for (int j = 0; j < SUCCESSORS; j++) {
                    int token = in.readInt();
                    float weight = in.readFloat();
                    if (token >= 0) {
                        table.check(token);
                    }
                    if (!(weight >= 0 && weight <= CAP)) {
                        throw new LlamaException(file + ": pair " + i + " has a weight of " + weight + "; weights are 0 to " + CAP);
                    }
                    table.tokens[slot * SUCCESSORS + j] = token < 0 ? -1 : token;
                    table.weights[slot * SUCCESSORS + j] = weight;
                }
            }
            return table;
        } catch (EOFException e) {
            throw new LlamaException(file + " ends before its table does", e);
        } catch (IllegalArgumentException e) {
            throw new LlamaException(file + ": " + e.getMessage(), e);
        } catch (IOException e) {
            throw new LlamaException("can't read the tri-gram table " + file + ": " + LlamaException.reason(e), e);
        }
    }
}
